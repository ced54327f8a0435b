//! A small group on one link, for tests that say what happens step by step.

#![allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]

use super::super::{wire::Incarnation, *};

pub(in crate::l2::group) const LINK: u32 = 2;
const SECRET: &[u8] = b"a secret of the group tests";

/// node-2 is first for it, then node-1, then node-3: the order of their hashes.
const VIP: &str = "192.0.2.8";

pub(in crate::l2::group) fn key() -> GroupKey {
    GroupKey::new(SECRET).unwrap()
}

pub(in crate::l2::group) fn vip() -> IpAddr {
    VIP.parse().unwrap()
}

pub(in crate::l2::group) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Nodes on one link without loss or delay; time passes in steps of 10 ms. What a node claims it
/// holds at the next step, if its role is not set otherwise.
pub(in crate::l2::group) struct Lab {
    pub(in crate::l2::group) now: Instant,
    pub(in crate::l2::group) nodes: BTreeMap<String, Node>,
    /// One way.
    pub(in crate::l2::group) cut: BTreeSet<(String, String)>,
    /// Every datagram ever sent: from, bytes.
    pub(in crate::l2::group) recorded: Vec<(String, Vec<u8>)>,
    /// Instant, node, decision.
    pub(in crate::l2::group) decided: Vec<(u64, String, Decision)>,
    /// Instant, node, and whether another node serves the address: it may be withdrawn from routers.
    pub(in crate::l2::group) departed: Vec<(u64, String, bool)>,
    start: Instant,
}

pub(in crate::l2::group) struct Node {
    pub(in crate::l2::group) group: Group,
    address: SocketAddr,
    pub(in crate::l2::group) runs: bool,
    pub(in crate::l2::group) obeys: bool,
    /// What it passes on, if it obeys.
    pub(in crate::l2::group) forwardings: Vec<Forwarding>,
}

impl Lab {
    pub(in crate::l2::group) fn new() -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            recorded: Vec::new(),
            decided: Vec::new(),
            departed: Vec::new(),
        }
    }

    pub(in crate::l2::group) fn with(nodes: &[&str]) -> Self {
        let mut lab = Self::new();
        for node in nodes {
            lab.start(node, 1);
        }
        lab
    }

    /// A new life of a node, which offers the address.
    pub(in crate::l2::group) fn start(&mut self, name: &str, life: u8) {
        self.start_as(name, name, life, Some(GroupKey::new(SECRET).unwrap()));
    }

    pub(in crate::l2::group) fn start_as(
        &mut self,
        host: &str,
        name: &str,
        life: u8,
        key: Option<GroupKey>,
    ) {
        let octet = host.as_bytes()[host.len() - 1];
        let incarnation: Incarnation = [octet, life, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5];
        let mut group =
            Group::new(name.to_owned(), key, incarnation, Vec::new(), Timing::default(), self.now);
        group.links(BTreeMap::from([(LINK, facts(octet))]), self.now);
        group.offers(offers(0), self.now);
        let address = SocketAddr::from(([192, 0, 2, octet], 7471));
        let node = Node { group, address, runs: true, obeys: true, forwardings: Vec::new() };
        self.nodes.insert(host.to_owned(), node);
    }

    pub(in crate::l2::group) fn group(&mut self, node: &str) -> &mut Group {
        &mut self.nodes.get_mut(node).unwrap().group
    }

    pub(in crate::l2::group) fn node(&mut self, node: &str) -> &mut Node {
        self.nodes.get_mut(node).unwrap()
    }

    pub(in crate::l2::group) fn set_role(&mut self, node: &str, role: Option<Role>) {
        let now = self.now;
        self.group(node).role(vip(), role, now);
    }

    pub(in crate::l2::group) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += ms(10);
            self.step();
        }
    }

    pub(in crate::l2::group) fn step(&mut self) {
        let (now, at) = (self.now, (self.now - self.start).as_millis() as u64);
        let mut datagrams = Vec::new();
        for (name, node) in self.nodes.iter_mut().filter(|(_, node)| node.runs) {
            for (ip, decision) in node.group.decisions(now) {
                if node.obeys {
                    let role = match &decision {
                        Decision::Claim { .. } => Some(Role::Active),
                        Decision::Release { drain_to: Some(_) } => Some(Role::Draining),
                        Decision::Release { drain_to: None } => None,
                    };
                    node.group.role(ip, role, now);
                }
                self.decided.push((at, name.clone(), decision));
            }
            if let Some(forwardings) = node.group.forwardings().filter(|_| node.obeys) {
                node.group.forwardings_stand(&forwardings, now);
                node.forwardings = forwardings.all;
            }
            for (_, elsewhere) in node.group.departures(now) {
                self.departed.push((at, name.clone(), elsewhere));
            }
            let sent = node.group.transmit(now);
            datagrams.extend(sent.into_iter().map(|it| (name.clone(), node.address, it.bytes)));
        }
        for (from, address, bytes) in datagrams {
            for (to, node) in self.nodes.iter_mut().filter(|(_, node)| node.runs) {
                if !self.cut.contains(&(from.clone(), to.clone())) {
                    node.group.receive(&bytes, address, LINK, now);
                }
            }
            self.recorded.push((from, bytes));
        }
    }

    /// What has been decided since the last call, without the times.
    pub(in crate::l2::group) fn decided(&mut self) -> Vec<(String, Decision)> {
        self.decided.drain(..).map(|(_, node, decision)| (node, decision)).collect()
    }

    /// When the next decision is made.
    pub(in crate::l2::group) fn until_decision(&mut self, node: &str) -> Duration {
        let from = self.now;
        for _ in 0..10_000 {
            self.pass(ms(10));
            if self.decided.iter().any(|(_, decider, _)| decider == node) {
                break;
            }
        }
        self.now - from
    }

    pub(in crate::l2::group) fn refused(&mut self, node: &str, reason: &str) -> u64 {
        let now = self.now;
        self.group(node).status(now).counters.refused.get(reason).copied().unwrap_or(0)
    }

    pub(in crate::l2::group) fn owner(&mut self, seen_by: &str) -> Option<String> {
        let now = self.now;
        self.group(seen_by).status(now).vips.get(&vip()).and_then(|vip| vip.owner.clone())
    }
}

pub(in crate::l2::group) fn facts(octet: u8) -> LinkFacts {
    LinkFacts {
        mac: [2, 0, 0, 0, 0, octet],
        v4: Some(Ipv4Addr::new(192, 0, 2, octet)),
        v6: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, octet.into())),
    }
}

pub(in crate::l2::group) fn offers(preference: u32) -> BTreeMap<IpAddr, Offer> {
    [(vip(), Offer { link: LINK, preference, tenants: 0, partial: false })].into()
}

pub(in crate::l2::group) fn claim(probe: bool, contested: bool) -> Decision {
    Decision::Claim { probe, contested, from: None }
}

pub(in crate::l2::group) fn take_from(node: &str) -> Decision {
    let LinkFacts { v4, v6, .. } = facts(node.as_bytes()[node.len() - 1]);
    let from = Some(OldOwner { node: node.to_owned(), link: LINK, v4, v6 });
    Decision::Claim { probe: false, contested: false, from }
}

pub(in crate::l2::group) fn release(drain_to: Option<&str>) -> Decision {
    Decision::Release { drain_to: drain_to.map(str::to_owned) }
}

pub(in crate::l2::group) fn all(decisions: Vec<(&str, Decision)>) -> Vec<(String, Decision)> {
    decisions.into_iter().map(|(node, decision)| (node.to_owned(), decision)).collect()
}
