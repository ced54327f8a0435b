//! What one node does right now, for its operator: the admin page `/status` and `gatehouse status`.
//!
//! `pages` fills a [`NodeStatus`] for each request; the page is its JSON. The command reads that page
//! of a running node ([`run`]) and prints it for people or passes it on. Nothing is decided here, and
//! nothing in it is secret.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use gatehouse_routes::problem::{Problem, Severity};
use gatehouse_vip::{PoolUsage, SpeakerCounters, SpeakerStatus, VipPlan};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{Output, Probe, StatusArgs},
    l4::kernel::KernelFact,
    shares::SharesStatus,
    source::kube::health::Facts,
    status::Leader,
};

mod ask;
mod protected;
mod routers;
mod table;

pub use super::l4::L4Row;
pub use protected::ProtectedRow;
pub(crate) use protected::rows as protected_rows;
pub use routers::{RoutedRow, RouterRow};
pub(crate) use routers::{routed_rows, router_rows};

/// What one node does right now. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// Version of the process.
    pub version: String,
    /// Generation of the configuration that is served; 0: none yet.
    pub generation: u64,
    /// What it waits for before it is ready; empty: ready.
    pub waiting: Vec<String>,
    /// The API server, if that is where its objects come from.
    pub source: Option<SourceRow>,
    /// The node that allocates addresses and writes statuses, if one does and there is an API server.
    pub leader: Option<LeaderRow>,
    /// Whether it is handing its addresses over.
    pub draining: bool,
    /// Why it announces no address at all; none: it may.
    pub excluded: Option<String>,
    /// Every address that it may announce.
    pub vips: Vec<VipRow>,
    /// The other nodes of its group, once for each link they are heard on.
    pub members: Vec<MemberRow>,
    /// Heartbeats sent, heartbeats received, and datagrams refused by reason.
    pub datagrams: BTreeMap<String, u64>,
    /// The limits that nodes of its group share, if some count and there is a group.
    pub shares: Option<SharesRow>,
    /// BGP Identifier of the node, where a BGPPeer names no other one.
    pub router_id: String,
    /// The routers that are told of addresses by BGP.
    pub routers: Vec<RouterRow>,
    /// Every address that they are to hear of.
    pub routed: Vec<RoutedRow>,
    /// Sockets for clients.
    pub listeners: Vec<ListenerRow>,
    /// What goes through the ports of Services that it forwards.
    pub l4: Vec<L4Row>,
    /// What the kernel passes on.
    pub kernel: Vec<KernelFact>,
    /// Endpoints that get no requests, as long as their Service has others, because they accept no connections or their checks fail.
    pub ejected: Vec<EjectedRow>,
    /// What clients have to show before paths answer.
    pub protected: Vec<ProtectedRow>,
    /// How full the pools are.
    pub pools: Vec<PoolRow>,
    /// Everything that is wrong.
    pub problems: Vec<ProblemRow>,
}

/// How things stand with the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceRow {
    /// Why what it told may be out of date; none: it is not.
    pub stale: Option<String>,
    /// Kinds that it does not know.
    pub missing: Vec<String>,
    /// Objects by kind.
    pub objects: BTreeMap<String, usize>,
}

/// The node that allocates addresses and writes statuses, as the Lease last said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaderRow {
    /// Its name.
    pub node: String,
    /// It is the process that answers.
    pub here: bool,
    /// Since when, in RFC 3339.
    pub since: Option<String>,
}

/// One virtual address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipRow {
    /// The address.
    pub address: IpAddr,
    /// The Services served on it, as namespace/name.
    pub services: Vec<String>,
    /// The node that holds it, as far as this one knows.
    pub owner: Option<String>,
    /// What this node does with it: `holding`, `lingering` (open connections only), `probing`, `standby`,
    /// `blocked` (it could not hold it) or `held back` (no Service on it has all its listeners open).
    pub here: String,
    /// Where it is, or would be, on this node.
    pub interface: Option<String>,
    /// The nodes that could hold it, the rightful owner first.
    pub eligible: Vec<String>,
}

/// Another node, as heard on one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// Its name.
    pub node: String,
    /// `alive`, `dead`, or `unproven`: heard, but it has not shown that it hears this node.
    pub state: String,
    /// Where its heartbeats come from.
    pub address: String,
    /// The interface of this node that they come in by.
    pub interface: String,
    /// Addresses that it says it holds.
    pub holds: usize,
    /// Whether its data path works.
    pub serving: bool,
    /// Whether it is handing its addresses over.
    pub draining: bool,
}

/// Limits that count on all nodes of the group together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SharesRow {
    /// The other nodes that take part.
    pub nodes: Vec<String>,
    /// Nodes that took part within the last minute, and are not heard any more.
    pub missing: Vec<String>,
    /// The part of every such limit that this node gives out, in percent; less than 100: it is cut off.
    pub percent: u32,
    /// Clients near a limit that are watched.
    pub watched: usize,
    /// Those of them that other nodes serve as well.
    pub shared: usize,
}

/// One socket for clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerRow {
    /// Address and port.
    pub address: String,
    /// `http`, `https`, `tcp`, `tls` or `udp`.
    pub protocol: String,
    /// Whether it is open.
    pub open: bool,
    /// Why it is not.
    pub error: Option<String>,
}

/// One endpoint that accepts no connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EjectedRow {
    /// Its Service, as namespace/name.
    pub service: String,
    /// Its address and port.
    pub endpoint: String,
    /// What speaks against it: `connects`, `answers` or `checks`.
    #[serde(default)]
    pub why: String,
}

/// How full one pool is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolRow {
    /// Its name.
    pub pool: String,
    /// IPv4 addresses in use.
    pub assigned_v4: u128,
    /// IPv6 addresses in use.
    pub assigned_v6: u128,
    /// IPv4 addresses that are free.
    pub available_v4: u128,
    /// IPv6 addresses that are free.
    pub available_v6: u128,
    /// IPv4 addresses that were let go and are not given to others yet.
    pub resting_v4: u128,
    /// IPv6 addresses that were let go and are not given to others yet.
    pub resting_v6: u128,
    /// It gives nothing new.
    pub draining: bool,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemRow {
    /// Kind, namespace and name.
    pub object: String,
    /// `error` or `warning`.
    pub severity: String,
    /// In CamelCase, for programs.
    pub reason: String,
    /// Path of the field within the object.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// The addresses of a plan and what the speaker knows of them, and draining ones that have left the plan.
pub(crate) fn vip_rows(plan: &VipPlan, speaker: &SpeakerStatus) -> Vec<VipRow> {
    let mut rows: BTreeMap<IpAddr, VipRow> = BTreeMap::new();
    for (address, vip) in &plan.vips {
        let mut services: Vec<String> =
            vip.claims.iter().map(|claim| claim.0.to_string()).collect();
        services.dedup();
        let row = VipRow {
            address: *address,
            services,
            owner: None,
            here: "held back".to_owned(),
            interface: None,
            eligible: Vec::new(),
        };
        rows.insert(*address, row);
    }
    for (address, vip) in speaker.vips.iter() {
        let services = rows.remove(address).map(|row| row.services).unwrap_or_default();
        let row = VipRow {
            address: *address,
            services,
            owner: vip.owner.clone(),
            here: vip.here.as_str().to_owned(),
            interface: vip.interface.clone(),
            eligible: vip.eligible.clone(),
        };
        rows.insert(*address, row);
    }
    rows.into_values().collect()
}

/// The other nodes that the speaker knows.
pub(crate) fn member_rows(speaker: &SpeakerStatus) -> Vec<MemberRow> {
    let members = speaker.members.iter().map(|member| MemberRow {
        node: member.node.clone(),
        state: member.state.as_str().to_owned(),
        address: member.address.to_string(),
        interface: member.interface.clone(),
        holds: member.holds,
        serving: member.serving,
        draining: member.draining,
    });
    members.collect()
}

/// Heartbeats and what else came in, by what became of it.
pub(crate) fn datagrams(counters: &SpeakerCounters) -> BTreeMap<String, u64> {
    let refused = counters.refused.iter();
    let refused = refused.map(|(reason, count)| (format!("refused: {reason}"), *count));
    let taken = [("sent".to_owned(), counters.sent), ("received".to_owned(), counters.received)];
    taken.into_iter().chain(refused).collect()
}

impl From<&SharesStatus> for SharesRow {
    fn from(shares: &SharesStatus) -> Self {
        let names = |nodes: &[Arc<str>]| nodes.iter().map(ToString::to_string).collect();
        let SharesStatus { percent, watched, shared, .. } = *shares;
        let (nodes, missing) = (names(&shares.nodes), names(&shares.missing));
        Self { nodes, missing, percent, watched, shared }
    }
}

impl From<&Facts> for SourceRow {
    fn from(facts: &Facts) -> Self {
        Self {
            stale: facts.stale.as_ref().map(ToString::to_string),
            missing: facts.missing.iter().map(|kind| (*kind).to_owned()).collect(),
            objects: facts
                .objects
                .iter()
                .map(|(kind, count)| ((*kind).to_owned(), *count))
                .collect(),
        }
    }
}

impl From<Leader> for LeaderRow {
    fn from(leader: Leader) -> Self {
        let Leader { node, here, since } = leader;
        Self { node, here, since }
    }
}

impl From<&PoolUsage> for PoolRow {
    fn from(usage: &PoolUsage) -> Self {
        let PoolUsage { pool, draining, .. } = usage;
        Self {
            pool: pool.clone(),
            assigned_v4: usage.assigned_v4,
            assigned_v6: usage.assigned_v6,
            available_v4: usage.available_v4,
            available_v6: usage.available_v6,
            resting_v4: usage.quarantined_v4,
            resting_v6: usage.quarantined_v6,
            draining: *draining,
        }
    }
}

impl From<&Problem> for ProblemRow {
    fn from(problem: &Problem) -> Self {
        Self {
            object: problem.object.to_string(),
            severity: match problem.severity {
                Severity::Error => "error".to_owned(),
                Severity::Warning => "warning".to_owned(),
            },
            reason: problem.reason.to_owned(),
            field: problem.field.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        }
    }
}

/// How often a probe asks again if another Pod answers: each time it is one of two.
const PROBES: u32 = 40;
/// Between two of these.
const PROBE_PAUSE: Duration = Duration::from_millis(20);

/// `gatehouse status`: asks a running node and prints to standard output.
///
/// # Errors
/// Nobody listens on the admin address, or it is not the admin address of a gatehouse node, or it does not
/// say yes to a probe.
pub fn run(arguments: &StatusArgs) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;
    if let Some(probe) = arguments.probe {
        probe_pod(arguments.admin, &probe_path(probe, arguments.pod_uid.as_deref()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let page = ask::page(arguments.admin, "/status")?;
    let text = match arguments.output {
        Output::Json => page,
        Output::Table => {
            let status = serde_json::from_str(&page).map_err(|error| {
                anyhow::anyhow!("the answer of {} makes no sense: {error}", arguments.admin)
            })?;
            table::render(&status)
        }
    };
    // A reader that has seen enough, such as `head`, is no error.
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Asks until the Pod answers that is meant: while two processes of a node run, they share the address.
fn probe_pod(admin: SocketAddr, path: &str) -> anyhow::Result<()> {
    let mut answer = ask::page(admin, path);
    for _ in 0..PROBES {
        if !answer.as_ref().is_err_and(|error| error.is::<ask::AnotherPod>()) {
            break;
        }
        std::thread::sleep(PROBE_PAUSE);
        answer = ask::page(admin, path);
    }
    answer.map(drop)
}

/// The page that answers a probe.
fn probe_path(probe: Probe, pod_uid: Option<&str>) -> String {
    let page = match probe {
        Probe::Live => "/healthz",
        Probe::Ready => "/readyz",
    };
    match pod_uid.filter(|uid| !uid.is_empty()) {
        Some(uid) => format!("{page}?pod={uid}"),
        None => page.to_owned(),
    }
}

#[cfg(test)]
mod tests;
