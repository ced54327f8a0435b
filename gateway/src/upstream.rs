//! Connections to endpoints: opened, kept and reused by one worker alone.

pub(crate) mod bound;
pub(crate) mod budget;
pub(crate) mod checks;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod copies;
pub(crate) mod discard;
mod flood;
pub(crate) mod frames;
pub(crate) mod gates;
pub(crate) mod h2;
pub(crate) mod health;
pub(crate) mod interim;
pub(crate) mod issuers;
pub(crate) mod joined;
pub(crate) mod key;
pub(crate) mod loads;
pub(crate) mod names;
pub(crate) mod outliers;
pub(crate) mod permit;
pub(crate) mod pick;
pub(crate) mod pool;
mod remembered;
pub(crate) mod request_body;
pub(crate) mod sessions;
mod stream;
pub(crate) mod tls_failures;
mod turns;

use std::{io, rc::Rc};

use gatehouse_routes::model::BackendSlot;

use crate::{
    tls::backends::outside::LocalWays,
    upstream::{
        budget::Budgets,
        copies::Copies,
        gates::{Gates, LocalGates},
        issuers::{Issuers, LocalIssuers},
        loads::Loads,
        names::{Names, resolver::Resolver},
        pool::Pool,
        sessions::Sessions,
        tls_failures::TlsFailures,
        turns::Turns,
    },
    worker::clock::Tick,
};

/// What all workers know together of the endpoints that they forward to.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) resolver: Resolver,
    pub(crate) gates: Gates,
    pub(crate) issuers: Issuers,
    pub(crate) tls_failures: TlsFailures,
}

impl Known {
    /// Nothing yet; names are resolved from now on.
    ///
    /// # Errors
    /// There is no thread for that.
    pub(crate) fn start() -> io::Result<Self> {
        let resolver = Resolver::start()?;
        let (issuers, gates) = (Issuers::new(resolver.clone()), Gates::default());
        Ok(Self { resolver, gates, issuers, tls_failures: TlsFailures::default() })
    }
}

/// What one worker knows of them.
pub(crate) struct Upstreams {
    pub(crate) pool: Pool,
    pub(crate) names: Names,
    pub(crate) issuers: LocalIssuers,
    pub(crate) outside: LocalWays,
    pub(crate) loads: Loads,
    pub(crate) sessions: Sessions,
    pub(crate) gates: LocalGates,
    pub(crate) copies: Rc<Copies>,
    pub(crate) budgets: Budgets,
    pub(crate) tls_failures: TlsFailures,
    turns: Turns,
}

impl Upstreams {
    /// `worker` counts the data threads from zero.
    pub(crate) fn new(worker: usize, known: Known) -> Self {
        let Known { resolver, gates, issuers, tls_failures } = known;
        let (names, turns) = (Names::new(resolver), Turns::new(worker));
        Self {
            pool: Pool::default(),
            names,
            issuers: LocalIssuers::new(issuers),
            outside: LocalWays::default(),
            loads: Loads::default(),
            sessions: Sessions::default(),
            gates: LocalGates::new(gates),
            copies: Rc::default(),
            budgets: Budgets::default(),
            tls_failures,
            turns,
        }
    }

    /// The next position in the round of a backend's endpoints.
    pub(crate) fn turn(&self, slot: BackendSlot) -> u32 {
        self.turns.of_endpoints(slot)
    }

    /// Lets go of connections that the endpoint closed or no request used for `ttl`, and of what no rule has
    /// any more.
    pub(crate) fn sweep(&self, now: Tick, ttl: Tick) {
        self.pool.sweep(now, ttl);
        self.turns.forget();
        self.loads.forget();
        self.sessions.forget();
        self.gates.forget();
    }
}
