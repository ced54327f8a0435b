//! Three gateways on a link share two addresses; one of them is struck. What clients notice, who answers
//! for the addresses afterwards, and what is left in the kernel.
//!
//! Real processes in network namespaces ([`gatehouse_testbed::lan`]). Needs root, iproute2, nftables,
//! tcpdump, arping, ndisc6, curl and util-linux; fails without them. How long an outage lasts is measured
//! by `make bench-failover`; here the shorter of two is bounded, generously, because a test machine is busy.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod death;
mod kernel;
mod partition;
mod planned;
mod stranger;
mod upgrade;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    group::{NAME, Options, Site, VIPS},
    prober::{Outage, Pace, Prober, failures, outage},
    wait,
};

/// The binary that cargo built for these tests.
const GATEHOUSE: &str = env!("CARGO_BIN_EXE_gatehouse");
/// Clients are served when all attempts of this span were answered.
const QUIET: Duration = Duration::from_millis(500);
/// One of a few outages of the same sort is shorter, even on a busy machine: by heartbeats, and not because
/// something in the kernel has expired. Half a second is the aim on a quiet one.
const BOUND: Duration = Duration::from_secs(5);
/// Sites at one time: three gateways that must be on time within a third of a second each.
const SITES: usize = 2;

/// How many sites there are.
static OPEN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A site, and its turn: with too many at a time the machine would look like a dead node.
struct Bed {
    site: Site,
    /// Who owned the addresses first: those that the order of the nodes prefers.
    homes: [usize; VIPS.len()],
    _turn: Turn,
}

struct Turn;

impl Turn {
    fn take() -> Self {
        let (count, ended) = &OPEN;
        let count = count.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count =
            ended.wait_while(count, |open| *open >= SITES).unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (count, ended) = &OPEN;
        *count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ended.notify_one();
    }
}

fn options() -> Options {
    Options::new(GATEHOUSE)
}

impl Bed {
    /// A site without any gateway running yet.
    fn empty(options: &Options) -> Self {
        let turn = Turn::take();
        Self { site: Site::new(options).unwrap(), homes: Default::default(), _turn: turn }
    }

    /// A site whose addresses are owned and served.
    fn start(options: &Options) -> Self {
        let mut bed = Self::empty(options);
        for node in &mut bed.site.nodes {
            node.start().unwrap();
        }
        bed.homes = bed.settle();
        bed
    }

    /// Waits until all nodes run and every address is back where it was first.
    fn whole(&mut self) {
        for node in self.site.nodes.iter_mut().filter(|node| !node.runs()) {
            node.start().unwrap();
        }
        let whole = wait::look_for(3 * wait::LIMIT, || (self.settle() == self.homes).then_some(()));
        assert!(whole.is_some(), "all is as before:\n{}", self.site.describe());
    }

    /// The owners of the two addresses, when they do not change any more.
    fn settle(&mut self) -> [usize; VIPS.len()] {
        self.site.settle().unwrap()
    }

    /// The owner of one address, when nothing changes any more.
    fn owner(&mut self, vip: IpAddr) -> usize {
        self.settle()[usize::from(vip.is_ipv6())]
    }

    /// A client of this address that is being served.
    fn client(&self, vip: IpAddr) -> Prober {
        let prober =
            Prober::start(&self.site.client, SocketAddr::new(vip, 80), NAME, Pace::TESTING)
                .unwrap();
        let served = prober.wait_quiet(Instant::now(), QUIET);
        assert!(served, "{vip} is served:\n{}", self.site.describe());
        prober
    }

    /// What the client saw of something that happened at `event`, when it is served again.
    fn outage(&self, client: &Prober, event: Instant) -> Outage {
        let served = client.wait_quiet(event, QUIET);
        assert!(served, "served again:\n{}", self.site.describe());
        client.settle(Instant::now());
        outage(&client.attempts(), event)
    }

    /// Nothing that happened since `event` has cost this client a request.
    fn assert_unnoticed(&self, client: &Prober, event: Instant, what: &str) {
        client.settle(Instant::now());
        let failures = failures(&client.attempts(), event);
        assert!(failures.is_empty(), "{what}:\n{failures}{}", self.site.describe());
    }

    /// The MAC addresses that answer the client host's question for this address, once one does.
    fn answering(&self, vip: IpAddr) -> BTreeSet<String> {
        let ask = || Some(self.site.client.who_has(vip).unwrap());
        wait::look(|| ask().filter(|macs| !macs.is_empty())).unwrap_or_default()
    }

    /// Nobody but this node answers for the address, and it is on nobody else's link.
    fn assert_sole_owner(&self, vip: IpAddr, node: usize) {
        self.site.wait_holders(vip, &[node]).unwrap();
        let mac = self.site.nodes[node].host.mac();
        let text = || self.site.describe();
        assert_eq!(self.answering(vip), BTreeSet::from([mac]), "answers for {vip}:\n{}", text());
    }
}

/// Clients were served again in the end each time, and at least once soon.
fn assert_short(outages: &[Outage], what: &str) {
    let soon = outages.iter().any(|outage| outage.lasted.is_some_and(|lasted| lasted < BOUND));
    let always = outages.iter().all(|outage| outage.lasted.is_some());
    assert!(soon && always, "{what}: {outages:?}");
}
