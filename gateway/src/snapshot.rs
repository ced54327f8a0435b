//! The one configuration that is live, and how data threads hold on to it.
//!
//! The compiler thread publishes; everybody else reads. A snapshot is immutable; what counts at run time
//! hangs on handles inside it (`routes::stats`). The last reference to a retired snapshot must not be
//! dropped by a data thread (a table of 10 000 hosts takes 12 ms to drop), so [`Live`] keeps retired
//! snapshots until only it refers to them, and its caller frees them on the compiler thread.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    ops::Deref,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use gatehouse_routes::{
    action::Forward,
    filter::error_pages::ErrorPages,
    model::{BackendTable, Scope, ScopeSlot},
    networks::Networks,
    passthrough::{PassThrough, PassThroughTable},
    table::RouteTable,
};

use crate::{
    compile::{Compiled, L4Address, L4Plan, Protocol},
    tls::{
        backends::BackendTlsTable, certs::CertTable, client_certificates::ClientTrustTable,
        handshakes::Handshakes,
    },
};

/// What the listeners of one scope serve.
#[derive(Debug)]
pub struct GatewaySnapshot {
    /// Their rules.
    pub routes: Arc<RouteTable>,
    /// Their certificates.
    pub certs: Arc<CertTable>,
    /// The server names whose TLS is passed on.
    passthrough: Arc<PassThroughTable>,
    /// The clients that they let in; `None`: everybody.
    sources: Option<Arc<Networks>>,
    /// Where they serve TLS.
    https: Box<[SocketAddr]>,
}

impl GatewaySnapshot {
    /// The port that serves TLS beside a listener on an address: on the same address if there is one.
    pub fn https_port(&self, ip: IpAddr) -> Option<u16> {
        let same = self.https.iter().find(|https| https.ip() == ip);
        let any = || self.https.iter().find(|https| https.ip().is_unspecified());
        same.or_else(any).or_else(|| self.https.first()).map(SocketAddr::port)
    }

    /// Whether TLS of any server name is passed on.
    pub fn passes_through(&self) -> bool {
        !self.passthrough.is_empty()
    }

    /// What TLS of a canonical server name is passed on to; `None`: it is terminated.
    pub fn passed_through(&self, name: &str) -> Option<&Arc<PassThrough>> {
        self.passthrough.find(name, &self.routes)
    }

    /// Where TLS that is passed on goes.
    pub(crate) fn all_passed_through(&self) -> impl Iterator<Item = &Forward> {
        self.passthrough.iter().filter_map(|pass| pass.forward.as_ref())
    }

    /// Whether they serve clients of this address.
    pub fn lets_in(&self, client: IpAddr) -> bool {
        self.sources.as_ref().is_none_or(|sources| sources.contains(client))
    }

    /// The namespace that a canonical host belongs to: that of its first rule.
    pub fn owner(&self, host: &str) -> Option<&str> {
        let host = self.routes.host_for(host)?;
        host.rules().next().map(|rule| &*rule.object.key.namespace)
    }
}

/// One generation of the configuration: addresses, listeners, routes, backends, certificates.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts publications, from 1; 0 is the empty world before the first one.
    pub generation: u64,
    /// By `ScopeSlot`; `None` where the scope is away.
    pub gateways: Box<[Option<GatewaySnapshot>]>,
    /// Backends of all rules of all scopes.
    pub backends: Arc<BackendTable>,
    /// How TLS to them is done.
    pub backend_tls: BackendTlsTable,
    /// Whom hosts believe that ask for certificates of clients.
    pub client_trust: ClientTrustTable,
    /// What is agreed on in handshakes with clients.
    pub handshakes: Handshakes,
    /// Connections and datagrams that are passed on to them, by transport and address.
    pub l4: Arc<L4Plan>,
    /// What this was made from; `None` before the first publication.
    pub compiled: Option<Arc<Compiled>>,
}

impl Snapshot {
    /// The world before anything is known.
    pub fn empty() -> Self {
        Self {
            generation: 0,
            gateways: Box::default(),
            backends: Arc::default(),
            backend_tls: BackendTlsTable::default(),
            client_trust: ClientTrustTable::default(),
            handshakes: Handshakes::default(),
            l4: Arc::default(),
            compiled: None,
        }
    }

    /// Texts of errors where no object has its own.
    pub fn error_pages(&self) -> Option<&ErrorPages> {
        self.compiled.as_ref()?.routes.error_pages.as_deref()
    }

    /// The snapshot of a compile.
    pub fn new(generation: u64, compiled: Arc<Compiled>) -> Self {
        let mut gateways = Vec::new();
        // In one order, as the compile says.
        for (table, (_, certs)) in compiled.routes.tables.iter().zip(&compiled.certs) {
            let at = table.slot.0 as usize;
            if gateways.len() <= at {
                gateways.resize_with(at + 1, || None);
            }
            let listeners = compiled.listeners.iter().filter(|plan| plan.slot == table.slot);
            let https = listeners.filter(|plan| plan.protocol == Protocol::Https);
            gateways[at] = Some(GatewaySnapshot {
                routes: Arc::clone(&table.routes),
                certs: Arc::clone(certs),
                passthrough: Arc::clone(&table.passthrough),
                sources: match &table.scope {
                    Scope::Gateway(service) => compiled.source_ranges.get(service).cloned(),
                    Scope::Plain => None,
                },
                https: https.map(|plan| plan.address).collect(),
            });
        }
        Self {
            generation,
            gateways: gateways.into(),
            backends: Arc::clone(&compiled.routes.backends),
            backend_tls: compiled.backend_tls.clone(),
            client_trust: compiled.client_trust.clone(),
            handshakes: compiled.handshakes.clone(),
            l4: Arc::clone(&compiled.l4),
            compiled: Some(compiled),
        }
    }

    /// Whether a TCP port of a Service chooses by the server name of TLS.
    pub(crate) fn chooses_by_name(&self, address: SocketAddr) -> bool {
        let port = self.l4.get(&L4Address::tcp(address));
        port.is_some_and(|port| port.names.is_some())
    }

    /// What the listeners of a scope serve; `None` if the scope is away.
    pub fn gateway(&self, slot: ScopeSlot) -> Option<&GatewaySnapshot> {
        self.gateways.get(slot.0 as usize)?.as_ref()
    }
}

/// The live snapshot.
#[derive(Debug)]
pub struct Live {
    current: ArcSwap<Snapshot>,
    generation: AtomicU64,
}

impl Default for Live {
    fn default() -> Self {
        Self { current: ArcSwap::from_pointee(Snapshot::empty()), generation: AtomicU64::new(0) }
    }
}

impl Live {
    /// Makes a snapshot the live one and returns the retired one, which the caller must keep until nobody
    /// else refers to it.
    pub fn publish(&self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let generation = snapshot.generation;
        let retired = self.current.swap(snapshot);
        self.generation.store(generation, Ordering::Release);
        retired
    }

    /// The live snapshot, for threads that ask rarely.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

/// One data thread's cheap way to the live snapshot.
///
/// An `Arc` that all workers clone for every request would be one contended cache line; this clones an `Rc`
/// of the thread's own and looks at the shared one only when the generation moved.
pub struct LocalLive {
    live: Arc<Live>,
    cached: RefCell<Pinned>,
}

/// A request's hold on the snapshot it was routed with.
#[derive(Clone)]
#[expect(
    clippy::redundant_allocation,
    reason = "the Rc is this thread's own count, so that workers do not share one"
)]
pub struct Pinned(Rc<Arc<Snapshot>>);

impl Deref for Pinned {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl LocalLive {
    /// A view of `live` for the calling thread.
    pub fn new(live: Arc<Live>) -> Self {
        let cached = RefCell::new(Pinned(Rc::new(live.current())));
        Self { live, cached }
    }

    /// The live snapshot. Called at least once a second, so that an idle thread keeps no old world alive.
    pub fn pin(&self) -> Pinned {
        if self.live.generation.load(Ordering::Acquire) != self.cached.borrow().generation {
            self.cached.replace(Pinned(Rc::new(self.live.current())));
        }
        self.cached.borrow().clone()
    }
}

#[cfg(test)]
mod tests;
