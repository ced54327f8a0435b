//! Services that the kernel passes on: keeps its table as the configuration says, and knows what it has counted.
//!
//! The compiler thread calls this between opening listeners and announcing addresses: an address that the kernel forwards
//! on is announced when its rules stand. A change takes a few milliseconds. Which rules there are is
//! decided in `compile`, what they are made of in [`gatehouse_vip::forwarding`].
//!
//! Two processes of one node have one table. While the predecessor has the addresses it has the table, too; then it is the
//! successor's, which leaves it alone if it would make the same one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use gatehouse_vip::{
    ForwardingTable,
    forwarding::{Endpoint, Group, Rules, Totals, Traffic, Transport},
};
use serde::{Deserialize, Serialize};

use crate::{
    compile::KernelPlan,
    process::ProcessProblems,
    upstream::health::{self, Health},
};

/// Between two tries of what the kernel refused, and between two looks at what it has counted.
const AGAIN: Duration = Duration::from_secs(2);
/// Between two counts of open connections: more often than an address is drained at least, as all that is tracked is read.
const COUNT: Duration = Duration::from_millis(500);
/// What is wrong with the table.
const REFUSED: &str = "KernelForwarding";
/// What is wrong with the host's settings.
const OFF: &str = "ForwardingOff";

/// What the kernel does for one group of ports of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelFact {
    /// Namespace and name.
    pub service: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Addresses with ports that are forwarded.
    pub ports: usize,
    /// Endpoints among which connections are spread: without those whose checks fail.
    pub endpoints: usize,
    /// What has been counted since the table stands, restarts included where they leave it.
    pub connections: u64,
    /// Bytes from clients, IP headers included.
    pub bytes_in: u64,
    /// Bytes to clients, IP headers included.
    pub bytes_out: u64,
}

/// What a table was made of.
struct Applied {
    plan: Arc<KernelPlan>,
    /// Which endpoints were left out, in the order of the plan.
    down: Vec<bool>,
    rules: Rules,
}

/// Which of the endpoints that are watched fail their checks.
fn down(plan: &KernelPlan) -> Vec<bool> {
    let all = plan.watched.values().flatten();
    all.map(|endpoint| health::of(&endpoint.stats) == Health::Down).collect()
}

/// The rules without the endpoints that are down. A group of which nothing would be left keeps all: checks may be wrong, and
/// nothing is lost by trying.
fn without(plan: &KernelPlan, down: &[bool]) -> Rules {
    let mut rules = plan.rules.clone();
    let mut down = down.iter();
    for (name, watched) in &plan.watched {
        let gone: Vec<Endpoint> = watched
            .iter()
            .zip(&mut down)
            .filter(|(_, down)| **down)
            .map(|(it, _)| it.endpoint)
            .collect();
        if let Some(group) = rules.groups.get_mut(name)
            && group.endpoints.iter().any(|endpoint| !gone.contains(endpoint))
        {
            group.endpoints.retain(|endpoint| !gone.contains(endpoint));
        }
    }
    rules
}

/// The kernel's table and what this process knows of it.
pub(crate) struct KernelForwarding {
    table: ForwardingTable,
    problems: ProcessProblems,
    /// A stop leaves the table behind.
    leave: bool,
    /// A predecessor on this node has it.
    waits: bool,
    /// What stands.
    applied: Option<Applied>,
    /// Addresses of which nothing is forwarded any more, while the table stays without rules: connections that it has
    /// begun to forward go on as long as there is one that changes destinations.
    ending: BTreeSet<IpAddr>,
    totals: Totals,
    /// The last try or look.
    looked: Option<Instant>,
    /// When open connections were counted, and how many there were by address, if the kernel said so.
    open: Option<(Instant, Option<BTreeMap<IpAddr, usize>>)>,
}

impl KernelForwarding {
    /// Nothing is touched before [`apply`](Self::apply). `leave`: `--leave-kernel-rules`. `waits`: a predecessor has the
    /// addresses until [`succeed`](Self::succeed).
    pub(crate) fn new(leave: bool, waits: bool, problems: ProcessProblems) -> Self {
        let table = ForwardingTable::default();
        let (applied, ending, totals) = (None, BTreeSet::new(), Totals::new());
        Self { table, problems, leave, waits, applied, ending, totals, looked: None, open: None }
    }

    /// The predecessor is gone.
    pub(crate) fn succeed(&mut self) {
        self.waits = false;
    }

    /// Makes the table as wanted, and looks from time to time whether it still is. Does nothing if there is nothing to do.
    pub(crate) fn apply(&mut self, wanted: &Arc<KernelPlan>, now: Instant) {
        if self.waits {
            return;
        }
        let down = down(wanted);
        let is_it = |it: &Applied| Arc::ptr_eq(&it.plan, wanted) && it.down == down;
        let stands = self.applied.as_ref().is_some_and(is_it);
        if stands && wanted.rules.is_empty() {
            return self.end(now);
        }
        if stands && (!self.has_rested(now) || self.look(now)) {
            return;
        }
        // What is new is tried at once.
        self.looked = Some(now);
        let rules = without(wanted, &down);
        match self.change(&rules) {
            Ok(()) => {
                self.applied = Some(Applied { plan: Arc::clone(wanted), down, rules });
                self.problems.clear(REFUSED);
            }
            Err(error) => self.problems.error(
                REFUSED,
                "",
                format!("Services are not forwarded by the kernel as they should be: {error}"),
                "see what it says; gatehouse.io/forwarding: gateway needs nothing of the kernel",
            ),
        }
    }

    /// Whether [`apply`](Self::apply) is to be called though the configuration is not new: to try again, to look, or
    /// because endpoints have gone down or come back.
    pub(crate) fn has_work(&self, now: Instant) -> bool {
        let idle =
            self.ending.is_empty() && self.applied.as_ref().is_some_and(|it| it.rules.is_empty());
        let turned = || self.applied.as_ref().is_some_and(|it| down(&it.plan) != it.down);
        !self.waits && !idle && (self.has_rested(now) || turned())
    }

    fn has_rested(&self, now: Instant) -> bool {
        self.looked.is_none_or(|looked| now >= looked + AGAIN)
    }

    fn change(&mut self, wanted: &Rules) -> io::Result<()> {
        if wanted.is_empty() {
            self.problems.clear(OFF);
            self.totals.clear();
            if !self.is_ours() {
                // What a process before this one has left is gone, if this one may do that.
                let _ = self.table.remove();
                return Ok(());
            }
            let gone = self.applied.iter().flat_map(|applied| applied.rules.ports.keys());
            self.ending = gone.map(|(ip, ..)| *ip).collect();
            return self.change_table(wanted);
        }
        self.ending.clear();
        match self.table.let_through(wanted) {
            Ok(()) => self.problems.clear(OFF),
            Err(error) => {
                let hint = "or let the process forward: gatehouse.io/forwarding: gateway";
                self.problems.error(OFF, "", error.to_string(), hint);
            }
        }
        self.change_table(wanted)
    }

    /// From then on flows of datagrams go where the rules say, also those to ports that are not forwarded any more.
    fn change_table(&mut self, wanted: &Rules) -> io::Result<()> {
        self.table.apply(wanted)?;
        let mut flows = wanted.clone();
        for port in self.applied.iter().flat_map(|applied| applied.rules.ports.keys()) {
            // A group without endpoints.
            flows.ports.entry(*port).or_default();
        }
        self.table.flush_datagrams(&flows).map(drop)
    }

    /// Removes the table without rules once nothing is left that it has forwarded.
    fn end(&mut self, now: Instant) {
        if self.ending.is_empty() || !self.has_rested(now) {
            return;
        }
        self.looked = Some(now);
        match self.table.open(&self.ending) {
            Ok(open) if open.is_empty() => {
                if self.table.remove().is_ok() {
                    self.ending.clear();
                }
            }
            Ok(_) => {
                if !self.look(now)
                    && let Err(error) = self.table.apply(&Rules::default())
                {
                    tracing::warn!(%error, "connections that the kernel passes on break off");
                }
            }
            Err(error) => tracing::debug!(%error, "connections cannot be counted"),
        }
    }

    /// Whether the table stands as it was made; reads what it has counted.
    fn look(&mut self, now: Instant) -> bool {
        self.looked = Some(now);
        let totals = self.table.totals();
        match totals.and_then(|totals| Ok((self.table.stands(&totals)?, totals))) {
            Ok((true, totals)) => {
                self.totals = totals;
                true
            }
            Ok((false, _)) => {
                tracing::warn!(
                    "another program has removed the table of nf_tables or some of it; it is made anew"
                );
                self.table.forget();
                false
            }
            Err(_) => false,
        }
    }

    /// Counts what is open, from time to time while an address is `draining`.
    pub(crate) fn count_open(&mut self, draining: bool, now: Instant) {
        if !draining {
            self.open = None;
        } else if self.open.as_ref().is_none_or(|(counted, _)| now >= *counted + COUNT) {
            let ports = self.applied.iter().flat_map(|applied| applied.rules.ports.keys());
            let ips: BTreeSet<IpAddr> =
                ports.map(|(ip, ..)| ip).chain(&self.ending).copied().collect();
            let open = if ips.is_empty() { Ok(BTreeMap::new()) } else { self.table.open(&ips) };
            let open =
                open.inspect_err(|error| tracing::warn!(%error, "connections cannot be counted"));
            self.open = Some((now, open.ok()));
        }
    }

    /// TCP connections that are open on an address that is draining, as of the last count; `None` while that is not known.
    pub(crate) fn left(&self, ip: IpAddr) -> Option<usize> {
        let (_, open) = self.open.as_ref()?;
        Some(open.as_ref()?.get(&ip).copied().unwrap_or_default())
    }

    /// Whether connections to an address are forwarded as the configuration says.
    pub(crate) fn serves(&self, ip: IpAddr, wanted: &KernelPlan) -> bool {
        let of = |rules: &Rules| rules.ports.keys().any(|(known, ..)| *known == ip);
        self.waits || !of(&wanted.rules) || self.applied.as_ref().is_some_and(|it| of(&it.rules))
    }

    /// Whether this process has made a table, and not removed it.
    fn is_ours(&self) -> bool {
        !self.ending.is_empty() || self.applied.as_ref().is_some_and(|it| !it.rules.is_empty())
    }

    /// What the kernel does, by Service.
    pub(crate) fn facts(&self) -> Vec<KernelFact> {
        let Some(Applied { rules: applied, .. }) = &self.applied else { return Vec::new() };
        let mut ports: BTreeMap<&str, usize> = BTreeMap::new();
        applied.ports.values().for_each(|name| *ports.entry(name).or_default() += 1);
        let fact = |(name, group): (&Arc<str>, &Group)| {
            let Traffic { connections, bytes_in, bytes_out } =
                self.totals.get(&**name).copied().unwrap_or_default();
            // service/NAMESPACE/NAME/PORT/…
            let service: Vec<&str> = name.split('/').skip(1).take(2).collect();
            let tcp = group.transport == Transport::Tcp;
            KernelFact {
                service: service.join("/"),
                protocol: if tcp { "tcp" } else { "udp" }.to_owned(),
                family: if group.v6 { "ipv6" } else { "ipv4" }.to_owned(),
                ports: ports.get(&**name).copied().unwrap_or_default(),
                endpoints: group.endpoints.len(),
                connections,
                bytes_in,
                bytes_out,
            }
        };
        applied.groups.iter().map(fact).collect()
    }

    /// Removes the table, unless it is to stay.
    pub(crate) fn stop(&mut self) {
        if self.is_ours()
            && !self.leave
            && let Err(error) = self.table.remove()
        {
            tracing::warn!(%error, "the table of nf_tables is left behind");
        }
    }
}
