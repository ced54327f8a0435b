//! Connections to endpoints: opened, kept and reused by one worker alone.

pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod h2;
pub(crate) mod health;
pub(crate) mod interim;
pub(crate) mod key;
pub(crate) mod names;
pub(crate) mod permit;
pub(crate) mod pick;
pub(crate) mod pool;
pub(crate) mod request_body;
mod stream;
mod turns;

use gatehouse_routes::model::BackendSlot;

use crate::{
    upstream::{
        names::{Names, resolver::Resolver},
        pool::Pool,
        turns::Turns,
    },
    worker::clock::Tick,
};

/// What one worker knows of the endpoints that it forwards to.
pub(crate) struct Upstreams {
    pub(crate) pool: Pool,
    pub(crate) names: Names,
    turns: Turns,
}

impl Upstreams {
    /// `worker` counts the data threads from zero.
    pub(crate) fn new(worker: usize, resolver: Resolver) -> Self {
        let (names, turns) = (Names::new(resolver), Turns::new(worker));
        Self { pool: Pool::default(), names, turns }
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
    }
}
