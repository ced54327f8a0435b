//! Names of `ExternalName` Services, resolved when a request needs them.
//!
//! Each worker remembers the addresses that the one [`Resolver`] of the process told it; a request waits only
//! for a name that this worker does not know, or no longer.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use gatehouse_routes::{endpoints, model::ExternalName};

use crate::worker::{clock::Tick, context::Worker};

pub(crate) mod resolver;
mod table;

use resolver::Resolver;

/// Most names remembered per worker.
const MAX_NAMES: usize = 4_096;

/// What one worker knows of names.
pub(crate) struct Names {
    resolver: Resolver,
    known: RefCell<HashMap<Arc<str>, Known>>,
}

struct Known {
    until: Tick,
    addresses: Arc<[IpAddr]>,
}

impl Names {
    pub(crate) fn new(resolver: Resolver) -> Self {
        Self { resolver, known: RefCell::default() }
    }

    /// The address of the name whose `turn` it is; another one than `failed` if there is one.
    ///
    /// Addresses that an EndpointSlice may not name either (link-local, multicast …) are left out.
    ///
    /// `None`: the name has no address, or no name server answered within the resolver's deadline.
    pub(crate) async fn pick(
        &self,
        worker: &Worker,
        name: &ExternalName,
        turn: u32,
        failed: Option<SocketAddr>,
    ) -> Option<SocketAddr> {
        let choose = |addresses: &[IpAddr]| choose(addresses, name, turn, failed);
        // Within the borrow: all workers count what they clone of these addresses on one cache line.
        if let Some(known) = self.known.borrow().get(&name.host)
            && worker.now() < known.until
        {
            return choose(&known.addresses);
        }
        choose(&self.ask(worker, &name.host).await)
    }

    async fn ask(&self, worker: &Worker, host: &Arc<str>) -> Arc<[IpAddr]> {
        let answer = self.resolver.resolve(host).await;
        let keep = Tick::try_from(answer.keep.as_millis()).unwrap_or(Tick::MAX);
        let now = worker.now();
        let addresses = Arc::clone(&answer.addresses);
        let mut names = self.known.borrow_mut();
        if names.len() >= MAX_NAMES {
            names.retain(|_, known| now < known.until);
        }
        if names.len() < MAX_NAMES {
            let until = now.saturating_add(keep);
            names.insert(Arc::clone(host), Known { until, addresses: answer.addresses });
        }
        addresses
    }
}

fn choose(
    addresses: &[IpAddr],
    name: &ExternalName,
    turn: u32,
    failed: Option<SocketAddr>,
) -> Option<SocketAddr> {
    let allowed = || {
        let allowed = addresses.iter().filter(|ip| is_allowed(**ip, name.loopback));
        allowed.map(|ip| SocketAddr::new(*ip, name.port))
    };
    let others = || allowed().filter(|address| Some(*address) != failed);
    match others().count() {
        0 => allowed().next(),
        count => others().nth(turn as usize % count),
    }
}

fn is_allowed(ip: IpAddr, loopback: bool) -> bool {
    endpoints::refusal(ip).is_none() || (loopback && ip.is_loopback())
}
