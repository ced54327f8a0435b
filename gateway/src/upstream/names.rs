//! Names of `ExternalName` Services, resolved when a request needs them.
//!
//! Each worker remembers the addresses that the one [`Resolver`] of the process told it; a request waits only
//! for a name that this worker does not know, or no longer.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc, sync::Arc};

use gatehouse_routes::{
    endpoints,
    model::{Endpoint, ExternalName},
    transport::Speaks,
};

use crate::worker::{clock::Tick, context::Worker};

pub(crate) mod registry;
pub(crate) mod resolver;
mod table;

use resolver::Resolver;

/// Most names remembered per worker.
const MAX_NAMES: usize = 4_096;

/// What one worker knows of names.
pub(crate) struct Names {
    resolver: Resolver,
    known: RefCell<HashMap<Arc<str>, Vec<Known>>>,
}

/// What is known of a name for one port.
struct Known {
    port: u16,
    speaks: Speaks,
    loopback: bool,
    until: Tick,
    endpoints: Named,
}

/// The addresses of a name. Counted by this thread alone, as no two workers should share a count.
type Named = Rc<[Rc<Endpoint>]>;

impl Names {
    pub(crate) fn new(resolver: Resolver) -> Self {
        Self { resolver, known: RefCell::default() }
    }

    /// The addresses of the name. Those that an EndpointSlice may not name either (link-local, multicast …) are
    /// left out.
    ///
    /// Empty: the name has no address, or no name server answered within the resolver's deadline.
    pub(crate) async fn endpoints(&self, worker: &Worker, name: &ExternalName) -> Named {
        if let Some(known) = self.known.borrow().get(&name.host)
            && let Some(known) = known.iter().find(|known| known.is_for(name))
            && worker.now() < known.until
        {
            return Rc::clone(&known.endpoints);
        }
        self.ask(worker, name).await
    }

    async fn ask(&self, worker: &Worker, name: &ExternalName) -> Named {
        let answer = self.resolver.resolve(&name.host).await;
        let keep = Tick::try_from(answer.keep.as_millis()).unwrap_or(Tick::MAX);
        let now = worker.now();
        let allowed = answer
            .addresses
            .iter()
            .filter(|ip| endpoints::refusal(**ip).is_none() || (name.loopback && ip.is_loopback()));
        let endpoints: Named = allowed
            .map(|ip| {
                let address = SocketAddr::new(*ip, name.port);
                let stats = self.resolver.endpoints().of(&name.host, address);
                Rc::new(Endpoint { address, speaks: name.speaks, stats })
            })
            .collect();
        let mut names = self.known.borrow_mut();
        if names.len() >= MAX_NAMES {
            names.retain(|_, known| known.iter().any(|known| now < known.until));
        }
        if names.len() < MAX_NAMES {
            let known = names.entry(Arc::clone(&name.host)).or_default();
            known.retain(|known| now < known.until && !known.is_for(name));
            known.push(Known {
                port: name.port,
                speaks: name.speaks,
                loopback: name.loopback,
                until: now.saturating_add(keep),
                endpoints: Rc::clone(&endpoints),
            });
        }
        endpoints
    }
}

impl Known {
    fn is_for(&self, name: &ExternalName) -> bool {
        (self.port, self.speaks, self.loopback) == (name.port, name.speaks, name.loopback)
    }
}
