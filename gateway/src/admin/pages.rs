//! What the admin pages show: everything that is known of this node, put together at each request.
//!
//! `app` makes one [`AdminPages`] of handles to the parts of the process; `admin` gets functions and knows
//! nothing of the parts. Nothing here changes anything.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use gatehouse_routes::{
    problem::{Problem, Severity},
    stats::EndpointStats,
};
use gatehouse_vip::{Exclusion, PoolUsage, VipPlan, bgp::BgpPlan};

use crate::{
    addresses::AddressStatus,
    admin::{
        l4,
        metrics::{AddressFacts, ControlFacts, Metrics, certs},
        server::Admin,
        status::{
            self, EjectedRow, LeaderRow, ListenerRow, NodeStatus, PoolRow, ProblemRow, SharesRow,
            SourceRow,
        },
    },
    controller::{Facts, ListenerFact, Progress},
    plan,
    process::ProcessProblems,
    shares::Shares,
    snapshot::{Live, Snapshot},
    source::{
        files,
        kube::health::{self, Health},
    },
    spool::Spool,
    status::Standing,
    upstream::{health::why_ejected, issuers::Issuers, names::registry::NamedEndpoints},
};

/// What the admin pages are made from.
pub(crate) struct AdminPages {
    pub(crate) node: String,
    pub(crate) live: Arc<Live>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log_dropped: Option<Arc<AtomicU64>>,
    /// What is known of the addresses of names.
    pub(crate) named: NamedEndpoints,
    pub(crate) addresses: AddressStatus,
    /// What is kept of bodies that are read in whole.
    pub(crate) spool: Spool,
    /// What limits the nodes of the group share.
    pub(crate) shares: Shares,
    /// What is known of the keys of tokens.
    pub(crate) issuers: Issuers,
    /// The API server, if that is where the objects come from.
    pub(crate) source: Option<Arc<Health>>,
    /// What is wrong in this process.
    pub(crate) problems: ProcessProblems,
    /// The Lease and the statuses, if there is an API server.
    pub(crate) standing: Option<Arc<Standing>>,
    /// Unique id of the Pod that this process is.
    pub(crate) pod_uid: Option<String>,
}

impl AdminPages {
    /// The pages, for the admin server.
    pub(crate) fn pages(self) -> Admin {
        let pod_uid = self.pod_uid.as_deref().map(Arc::from);
        let shown = Arc::new(self);
        let [metrics, snapshot, status, noted] = std::array::from_fn(|_| Arc::clone(&shown));
        Admin {
            waiting: Arc::new(move || shown.waiting()),
            notes: Arc::new(move || noted.notes()),
            metrics: Arc::new(move || metrics.metrics()),
            snapshot: Arc::new(move || snapshot.snapshot()),
            status: Arc::new(move || status.status()),
            pod_uid,
        }
    }

    /// What a node that is not ready waits for.
    fn waiting(&self) -> Vec<String> {
        let facts = self.progress.facts();
        let mut waiting = waiting(&facts);
        if !facts.published && !facts.stopping {
            waiting.extend(self.source().waiting);
        }
        waiting
    }

    /// What a node that is ready has to say: objects that are not the present ones, or not all of them.
    fn notes(&self) -> Vec<String> {
        let stale = self.source().stale;
        let facts = self.progress.facts();
        let shown = facts
            .problems
            .iter()
            .filter(|problem| of_file(problem) || problem.object == *self.problems.node());
        let stale = stale.iter().map(ToString::to_string);
        stale.chain(shown.map(ToString::to_string)).collect()
    }

    fn source(&self) -> health::Facts {
        self.source.as_ref().map(|source| source.facts()).unwrap_or_default()
    }

    /// Everything that is wrong.
    fn problems(&self, facts: &Facts) -> Vec<Problem> {
        let refused = self.standing.as_ref().map(|standing| standing.problems());
        facts.problems.iter().cloned().chain(refused.into_iter().flatten()).collect()
    }

    fn metrics(&self) -> String {
        let facts = self.progress.facts();
        let problems = self.problems(&facts);
        let count = |severity| {
            problems.iter().filter(|problem| problem.severity == severity).count() as u64
        };
        let snapshot = self.live.current();
        let (speaker, bgp) = (self.addresses.l2(), self.addresses.bgp());
        let routed = status::routed_rows(&routed(&snapshot), &bgp).into_iter();
        let routed = routed.filter(|row| row.here == "announced");
        let vips = status::vip_rows(&planned(&snapshot), &speaker).into_iter();
        let facts = ControlFacts {
            generation: snapshot.generation,
            snapshots_alive: facts.snapshots_alive,
            compile: facts.compile,
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            node_problems: self.node_problems(&facts),
            access_log_dropped: self
                .log_dropped
                .as_ref()
                .map_or(0, |dropped| dropped.load(Ordering::Relaxed)),
            ejected: ejected(&snapshot, &self.named).into_keys().collect(),
            reloaded: facts.reloaded,
            reload_successful: !facts.problems.iter().any(of_file),
            certificates: certs::expiries(&snapshot),
            l4: l4::rows(&snapshot),
            failures: counted(&snapshot, |stats| &stats.failures),
            ejections: counted(&snapshot, |stats| &stats.ejections),
            addresses: AddressFacts {
                services: vips.map(|vip| (vip.address, vip.services)).collect(),
                speaker: (*speaker).clone(),
                routed: routed.map(|row| (row.address, row.services)).collect(),
                bgp: (*bgp).clone(),
                pools: pools(&snapshot).to_vec(),
                excluded: excluded(&snapshot).is_some(),
            },
            spool: self.spool.facts(),
            shares: self.shares.status(),
            kernel: facts.kernel,
            source: self.source.as_ref().map(|source| source.facts()),
        };
        self.metrics.render(&facts)
    }

    fn node_problems(&self, facts: &Facts) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for problem in facts.problems.iter().filter(|it| it.object == *self.problems.node()) {
            *counts.entry(problem.reason).or_default() += 1;
        }
        counts
    }

    fn snapshot(&self) -> serde_json::Value {
        let snapshot = self.live.current();
        let facts = self.progress.facts();
        let mut json = match &snapshot.compiled {
            Some(compiled) => plan::snapshot_json(compiled, snapshot.generation),
            None => serde_json::json!({ "generation": 0 }),
        };
        json["listeners"] = serde_json::json!(facts.listeners);
        json["announced"] = serde_json::json!(facts.announced);
        json["problems"] = serde_json::json!(self.problems(&facts));
        json
    }

    fn status(&self) -> String {
        let snapshot = self.live.current();
        let facts = self.progress.facts();
        let (speaker, bgp) = (self.addresses.l2(), self.addresses.bgp());
        let status = NodeStatus {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: snapshot.generation,
            waiting: self.waiting(),
            source: self.source.as_ref().map(|source| SourceRow::from(&source.facts())),
            leader: self.standing.as_ref().and_then(|it| it.leader()).map(LeaderRow::from),
            draining: speaker.draining || bgp.draining,
            excluded: excluded(&snapshot).map(|why| why.to_string()),
            vips: status::vip_rows(&planned(&snapshot), &speaker),
            members: status::member_rows(&speaker),
            datagrams: status::datagrams(&speaker.counters),
            shares: self.shares.status().map(|shares| SharesRow::from(&*shares)),
            router_id: bgp.router_id.clone(),
            routers: status::router_rows(&bgp),
            routed: status::routed_rows(&routed(&snapshot), &bgp),
            listeners: facts.listeners.iter().map(listener_row).collect(),
            l4: l4::rows(&snapshot),
            kernel: facts.kernel.clone(),
            protected: snapshot
                .compiled
                .as_ref()
                .map(|compiled| status::protected_rows(&compiled.routes, &self.issuers.facts()))
                .unwrap_or_default(),
            ejected: ejected(&snapshot, &self.named)
                .into_iter()
                .map(|((service, endpoint), why)| EjectedRow {
                    service,
                    endpoint,
                    why: why.to_owned(),
                })
                .collect(),
            pools: pools(&snapshot).iter().map(PoolRow::from).collect(),
            problems: self.problems(&facts).iter().map(ProblemRow::from).collect(),
        };
        // Numbers, texts and maps with text keys: nothing that JSON could refuse.
        let page = serde_json::to_string_pretty(&status).unwrap_or_else(|error| error.to_string());
        page + "\n"
    }
}

/// Why this node announces no address at all.
fn excluded(snapshot: &Snapshot) -> Option<Exclusion> {
    snapshot.compiled.as_ref().and_then(|compiled| compiled.excluded)
}

/// The addresses that the live configuration plans for this node.
fn planned(snapshot: &Snapshot) -> Arc<VipPlan> {
    snapshot.compiled.as_ref().map(|compiled| Arc::clone(&compiled.vips)).unwrap_or_default()
}

/// What the live configuration plans for the routers of this node.
fn routed(snapshot: &Snapshot) -> Arc<BgpPlan> {
    snapshot.compiled.as_ref().map(|compiled| Arc::clone(&compiled.bgp)).unwrap_or_default()
}

/// Whether a file could not be read, or a part of it.
fn of_file(problem: &Problem) -> bool {
    problem.severity == Severity::Error && problem.object.kind == files::PROBLEM_KIND
}

/// A counter of endpoints, by Service, where it is not 0.
fn counted(
    snapshot: &Snapshot,
    counter: impl Fn(&EndpointStats) -> &AtomicU64,
) -> BTreeMap<(String, String), u64> {
    let mut counts = BTreeMap::new();
    for backend in snapshot.backends.slots.iter().flatten() {
        for endpoint in &backend.endpoints.endpoints {
            let count = counter(&endpoint.stats).load(Ordering::Relaxed);
            if count > 0 {
                let names = (backend.key.service.to_string(), endpoint.address.to_string());
                *counts.entry(names).or_default() += count;
            }
        }
    }
    counts
}

/// Ejected endpoints and their Services. Two rules may name a port of a Service in two ways.
fn ejected(
    snapshot: &Snapshot,
    named: &NamedEndpoints,
) -> BTreeMap<(String, String), &'static str> {
    let backends = snapshot.backends.slots.iter().flatten();
    let endpoints = backends.flat_map(|backend| {
        let set = &backend.endpoints;
        let listed = set.endpoints.iter();
        let mut ejected: Vec<(SocketAddr, &str)> = listed
            .filter_map(|endpoint| Some((endpoint.address, why_ejected(&endpoint.stats)?)))
            .collect();
        if let Some(external) = &set.external {
            let named = named.at(&external.host, external.port).into_iter();
            ejected
                .extend(named.filter_map(|(address, stats)| Some((address, why_ejected(&stats)?))));
        }
        let service = backend.key.service.to_string();
        ejected.into_iter().map(move |(address, why)| ((service.clone(), address.to_string()), why))
    });
    endpoints.collect()
}

fn pools(snapshot: &Snapshot) -> &[PoolUsage] {
    snapshot.compiled.as_ref().map(|compiled| &*compiled.pools).unwrap_or_default()
}

fn listener_row(fact: &ListenerFact) -> ListenerRow {
    ListenerRow {
        address: fact.address.to_string(),
        protocol: fact.protocol.name().to_owned(),
        open: fact.open,
        error: fact.error.clone(),
    }
}

/// What a node that is not ready waits for.
fn waiting(facts: &Facts) -> Vec<String> {
    if facts.stopping {
        return vec!["stopping".to_owned()];
    }
    if !facts.published {
        return vec!["first snapshot".to_owned()];
    }
    let closed = facts.listeners.iter().filter(|listener| !listener.open);
    closed
        .map(|listener| {
            let error = listener.error.as_deref().unwrap_or("not open yet");
            format!("listener {}: {error}", listener.address)
        })
        .collect()
}
