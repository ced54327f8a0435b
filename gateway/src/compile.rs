//! Objects in, one consistent world out: routes, certificates, addresses, listeners, problems.
//!
//! [`compile`] is pure: the same objects and the same node give the same result, on every node and after
//! every restart. It cannot fail as a whole; an object that makes no sense yields a [`Problem`] on that
//! object and changes nothing else. The previous result only saves work: what did not change keeps its
//! `Arc`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use gatehouse_routes::{
    model::{Scope, ScopeSlot, Transport},
    networks::Networks,
    objects::{ObjectKey, ObjectRef},
    options::{Options, Place},
    problem::Problem,
};
use gatehouse_vip::{Exclusion, PoolUsage, Quarantined, VipPlan, bgp::BgpPlan};
use serde::Serialize;
use serde_json::Value;

use crate::{
    source::Kind,
    state::ClusterState,
    tls::{
        backends::BackendTlsTable,
        certs::{self, CertCache, CertTable},
        client_certificates::ClientTrustTable,
        handshakes::Handshakes,
        profile::Profile,
    },
};

mod addresses;
mod gateways;
mod group;
mod l4;
mod slices;
mod source_ranges;
mod status;

pub(crate) use gateways::may_be_ours;
pub use group::{GroupPlan, GroupSecret};
pub use l4::{
    Affinities, Certs, ClientAffinity, Forwarding, Kept, KernelPlan, L4Address, L4Plan, L4Port,
    L4Stats, Named, ServicePort, Watched, of_new_clients,
};
pub use status::statuses;
pub(crate) use status::{Statuses, load_balancer, pool as pool_status};

/// What the result depends on besides the objects.
#[derive(Clone, Debug, Default)]
pub struct NodeContext {
    /// Name of this node.
    pub node: String,
    /// Its labels, where no Node object of that name says otherwise.
    pub labels: BTreeMap<String, String>,
    /// The TLS that clients may speak as the command line says it.
    pub tls: Arc<Profile>,
    /// Settings that routing depends on.
    pub options: Options,
    /// Plain clear-text addresses (`--http`).
    pub http: Vec<SocketAddr>,
    /// Plain TLS addresses (`--https`).
    pub https: Vec<SocketAddr>,
    /// Addresses that Services without a cluster behind them held before (the state file). With one, the
    /// record is the status of the Service.
    pub recorded: BTreeMap<ObjectKey, Vec<IpAddr>>,
    /// Addresses that were let go a short while ago, and who may have them again already.
    pub quarantined: Quarantined,
    /// Who had which endpoint in the process before this one.
    pub affinities: Affinities,
    /// Addresses of pools that hosts outside use.
    pub occupied: BTreeSet<IpAddr>,
    /// The one `spec.loadBalancerClass` whose Services are served (`--load-balancer-class`). `None`: those
    /// without a class and those of class `gatehouse.io/vip`.
    pub load_balancer_class: Option<String>,
    /// Where `spec.externalIPs` may be (`--external-ips`).
    pub external_ips: Networks,
    /// Announce from here even if the Node object says that load balancers are to leave it out.
    pub ignore_exclude_label: bool,
    /// The Service whose addresses go into the status of Ingresses and Routes (`--publish-service`).
    pub publish_service: Option<ObjectKey>,
    /// `routerCanonicalHostname` in the status of Routes (`--router-canonical-hostname`).
    pub canonical_hostname: Option<String>,
    /// Where the key of the group is, if the command line has none (`--group-secret`).
    pub group_secret: Option<GroupSecret>,
}

/// What this node may do about addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Deals addresses out: one node of a cluster, or every node that has only its own manifests.
    /// A Service keeps what is recorded, then what it was dealt before; one that has neither gets a new one.
    /// In a cluster an address counts once it is recorded, here as everywhere.
    Allocate,
    /// Takes recorded addresses, and those alone. A Service without one waits: that is no problem, it is
    /// the other node's turn.
    Follow,
}

/// The protocol that a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Clear-text HTTP/1.1.
    Http,
    /// TLS with HTTP/2 or HTTP/1.1.
    Https,
    /// Whatever the client speaks: its bytes are passed on.
    Tcp,
    /// TLS, and within it whatever the client speaks.
    Tls,
    /// Datagrams, which are passed on.
    Udp,
}

impl Protocol {
    /// `http`, `https`, `tcp`, `tls` or `udp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp => "udp",
        }
    }

    /// What its sockets are of.
    pub fn transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Http | Self::Https | Self::Tcp | Self::Tls => Transport::Tcp,
        }
    }
}

/// A socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerPlan {
    /// Address and port.
    pub address: SocketAddr,
    /// Whose rules and certificates it serves.
    pub scope: Scope,
    /// Where a snapshot has them.
    pub slot: ScopeSlot,
    /// What it speaks.
    pub protocol: Protocol,
    /// The address is a virtual one: it may not be on any interface yet.
    pub vip: bool,
}

impl ListenerPlan {
    /// Where it listens: no two listeners have one place.
    pub fn at(&self) -> L4Address {
        L4Address { transport: self.protocol.transport(), address: self.address }
    }
}

/// What a Service got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Assigned {
    /// At most one of each family.
    pub ips: Vec<IpAddr>,
    /// The pool of each of them.
    pub pools: Vec<String>,
}

/// What the allocator means a Service to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dealt {
    /// To be recorded, unless it is.
    pub assigned: Assigned,
    /// What was recorded when it was dealt.
    recorded: Vec<IpAddr>,
}

/// The status that belongs on an object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectStatus {
    /// Which object.
    pub object: ObjectRef,
    /// Its `apiVersion`.
    pub api_version: &'static str,
    /// The value of its `status`, without times.
    pub status: Value,
}

/// All that a set of objects means for this node.
#[derive(Debug)]
pub struct Compiled {
    /// Route tables and backends.
    pub routes: Arc<gatehouse_routes::compile::Compiled>,
    /// Certificates by scope, in the order of `routes.tables`.
    pub certs: Vec<(Scope, Arc<CertTable>)>,
    /// How TLS to backends is done.
    pub backend_tls: BackendTlsTable,
    /// Whom hosts believe that ask for certificates of clients.
    pub client_trust: ClientTrustTable,
    /// What is agreed on in handshakes with clients.
    pub handshakes: Handshakes,
    /// Addresses that this node may announce.
    pub vips: Arc<VipPlan>,
    /// What this node tells its routers.
    pub bgp: Arc<BgpPlan>,
    /// The nodes that share addresses with this one.
    pub group: Arc<GroupPlan>,
    /// Why this node announces nothing at all.
    pub excluded: Option<Exclusion>,
    /// Sockets, plain ones first; the same `Arc` as before if nothing changed.
    pub listeners: Arc<[ListenerPlan]>,
    /// What is passed on, that to Services that are no gateways.
    pub l4: Arc<L4Plan>,
    /// What of it the kernel passes on.
    pub kernel: Arc<KernelPlan>,
    /// The Services that they are of, also while they have no address.
    pub passed_on: BTreeSet<ObjectKey>,
    /// The clients that Services let in, by Service; those that are not here let everybody in.
    pub source_ranges: BTreeMap<ObjectKey, Arc<Networks>>,
    /// Addresses by Service, those that count: of a cluster's Services the recorded ones.
    pub addresses: Arc<BTreeMap<ObjectKey, Assigned>>,
    /// The same, with those that wait to be recorded and without those that are to be given up.
    pub dealt: Arc<BTreeMap<ObjectKey, Dealt>>,
    /// Addresses that the cluster forwards, not this process: no listener is waited for.
    pub forwarded: BTreeSet<IpAddr>,
    /// Addresses of Services passed on here that are announced by no node, for no endpoint is usable.
    pub without_endpoint: BTreeSet<IpAddr>,
    /// How full the usable pools are, oldest first.
    pub pools: Vec<PoolUsage>,
    /// Addresses that nobody holds, but only their former holders may have for now.
    pub quarantined: Quarantined,
    /// Everything that is wrong, sorted by object.
    pub problems: Vec<Problem>,
    /// The Secrets that objects of ours refer to (certificates of Ingresses, passwords of BGPPeers)
    /// and the group's key, whether or not they exist: what a source has to fetch that does not list all of them. The file
    /// source has no use for it. The same `Arc` as before if nothing changed.
    pub wanted_secrets: Arc<BTreeSet<ObjectKey>>,
    /// Those among them that routes do not refer to.
    not_of_routes: BTreeSet<ObjectKey>,
    cert_cache: CertCache,
    deal: Arc<addresses::Deal>,
}

impl Compiled {
    /// What objects of ours, and the options, refer to by name.
    pub(crate) fn references(&self) -> impl Iterator<Item = (Kind, &ObjectKey)> + Clone {
        let maps = self.routes.wanted_config_maps.iter().map(|key| (Kind::ConfigMap, key));
        maps.chain(self.wanted_secrets.iter().map(|key| (Kind::Secret, key)))
    }

    /// Why a Service that asks for an address has none, of all that is wrong with it.
    pub(crate) fn unassigned(&self, service: &ObjectKey) -> Option<&Problem> {
        self.deal.unassigned(service)
    }

    /// Whether this node has an address to announce, on links or to routers.
    pub(crate) fn announces(&self, ip: IpAddr) -> bool {
        self.vips.vips.contains_key(&ip) || self.bgp.addresses.contains_key(&ip)
    }

    /// The addresses to remember over a restart.
    pub fn recorded(&self) -> BTreeMap<ObjectKey, Vec<IpAddr>> {
        self.addresses.iter().map(|(key, assigned)| (key.clone(), assigned.ips.clone())).collect()
    }
}

/// Compiles the state. `previous` is the result that is being served, if there is one.
pub fn compile(
    state: &ClusterState,
    node: &NodeContext,
    role: Role,
    previous: Option<&Compiled>,
) -> Compiled {
    let mut builder =
        certs::Builder::new(&state.objects.secrets, previous.map(|previous| &previous.cert_cache));
    let faults = builder.judge_routes(&state.objects);
    let mut problems = Vec::new();
    let place = Place { node: node.node.clone(), zone: addresses::zone(state, node) };
    let options = Options { place, ..node.options.clone() };
    let named = gatehouse_routes::compile::gateways(&state.objects, &node.options);
    let passed_on = l4::services(state, node, &named, &mut problems);
    let slices = slices::Slices::new(state);
    let routes = gatehouse_routes::compile::compile_judged(
        &state.objects,
        &options,
        &faults,
        &l4::asked(&passed_on, (state, &slices), node),
        previous.map(|previous| &*previous.routes),
    );
    problems.extend(routes.problems.iter().cloned());
    problems.extend(state.problems());

    let mut certs = Vec::with_capacity(routes.tables.len());
    for table in &routes.tables {
        let known = previous.and_then(|previous| {
            previous.certs.iter().find(|(scope, _)| *scope == table.scope).map(|(_, known)| known)
        });
        certs.push((table.scope.clone(), builder.table(&table.scope, &table.certs, known)));
    }
    let before = previous.map(|previous| &*previous.l4);
    let secrets = &state.objects.secrets;
    let l4_certs = l4::certs(&passed_on, &mut builder, secrets, before, &mut problems);
    let (cert_cache, cert_problems) = builder.finish();
    problems.extend(cert_problems);
    let known = previous.map(|previous| &previous.backend_tls);
    let backend_tls = BackendTlsTable::of(&routes.backends, &state.objects.secrets, known);
    problems.extend(backend_tls.problems());
    let known = previous.map(|previous| &previous.client_trust);
    let client_trust = ClientTrustTable::of(&routes.tables, known);
    problems.extend(client_trust.problems());
    let known = previous.map(|previous| &previous.handshakes);
    let handshakes = Handshakes::of(&node.tls, routes.tls.as_ref(), &routes.tables, known);
    problems.extend(handshakes.problems());
    problems.extend(status::problems(state, node));

    let gateways = gateways::gateways(state, node, &routes, &mut problems);
    let ours = addresses::Ours {
        gateways: &gateways,
        slices: &slices,
        passed_on: passed_on.iter().map(|service| (service.key, service.named())).collect(),
    };
    let deal = addresses::deal(state, node, role, previous);
    let announced = addresses::announce(state, node, &deal, &ours, &mut problems);
    let mut listeners =
        gateways::listeners(node, &gateways, &routes, &deal.assigned, &mut problems);
    let here = passed_on.iter().map(|service| (service.key, service.service));
    let source_ranges = source_ranges::of(
        gateways.iter().map(|(key, service)| (key, *service)).chain(here),
        |service| deal.assigned.get(service).map_or(&[], |assigned| &assigned.ips),
        previous.map(|previous| &previous.source_ranges),
        &mut problems,
    );
    let served = l4::with_external(&passed_on, node, &deal.assigned, &mut problems);
    let l4 = l4::plan(
        &passed_on,
        &routes.asked,
        (&slices, node),
        &served,
        (&source_ranges, &l4_certs),
        before,
    );
    let kernel = l4::kernel_plan(&l4, &routes.backends, &mut problems);
    // Who has the address and port already keeps it.
    let taken: BTreeSet<_> = listeners.iter().map(ListenerPlan::at).collect();
    listeners.extend(l4::listeners(&l4).filter(|plan| !taken.contains(&plan.at())));
    let group = group::plan(state, node, &mut problems);
    problems.sort_by(|a, b| {
        (&a.object, &a.field, a.reason, &a.message)
            .cmp(&(&b.object, &b.field, b.reason, &b.message))
    });
    problems.dedup();
    let mut not_of_routes = addresses::passwords(state);
    not_of_routes.extend(backend_tls.secrets());
    not_of_routes.extend(l4::secrets(&passed_on).cloned());
    not_of_routes.extend(node.group_secret.iter().map(|secret| secret.object.clone()));

    Compiled {
        wanted_secrets: wanted_secrets(&routes, &not_of_routes, previous),
        not_of_routes,
        group: shared(group, previous.map(|previous| &previous.group)),
        certs,
        backend_tls,
        client_trust,
        handshakes,
        vips: shared(announced.vips, previous.map(|previous| &previous.vips)),
        bgp: shared(announced.bgp, previous.map(|previous| &previous.bgp)),
        listeners: match previous {
            Some(previous) if *previous.listeners == *listeners => Arc::clone(&previous.listeners),
            _ => listeners.into(),
        },
        passed_on: passed_on.iter().map(|service| service.key.clone()).collect(),
        l4: shared(l4, previous.map(|previous| &previous.l4)),
        kernel: shared(kernel, previous.map(|previous| &previous.kernel)),
        source_ranges,
        excluded: announced.excluded,
        addresses: Arc::clone(&deal.assigned),
        dealt: Arc::clone(&deal.dealt),
        forwarded: announced.forwarded,
        without_endpoint: announced.without_endpoint,
        pools: deal.usage.clone(),
        quarantined: deal.allocation.quarantined.clone(),
        deal,
        problems,
        routes: Arc::new(routes),
        cert_cache,
    }
}

/// The Secrets of routes and all others together, the previous `Arc` if they are the same.
fn wanted_secrets(
    routes: &gatehouse_routes::compile::Compiled,
    others: &BTreeSet<ObjectKey>,
    previous: Option<&Compiled>,
) -> Arc<BTreeSet<ObjectKey>> {
    let certs = &routes.wanted_secrets;
    match previous {
        _ if others.is_empty() => Arc::clone(certs),
        Some(previous)
            if Arc::ptr_eq(&previous.routes.wanted_secrets, certs)
                && previous.not_of_routes == *others =>
        {
            Arc::clone(&previous.wanted_secrets)
        }
        _ => Arc::new(certs.union(others).cloned().collect()),
    }
}

/// The previous `Arc` if it holds the same value.
fn shared<T: PartialEq>(value: T, previous: Option<&Arc<T>>) -> Arc<T> {
    match previous {
        Some(previous) if **previous == value => Arc::clone(previous),
        _ => Arc::new(value),
    }
}

#[cfg(test)]
mod tests;
