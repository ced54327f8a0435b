//! What a group shows of itself: `gatehouse status`, metrics, the admin page.
//!
//! Reckoned from the state of [`Group`] when it is asked for; changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use serde::{Serialize, Serializer};

use super::{Group, address::Address, election::Priority, link::Link, member::Member};

/// What a [`Group`] shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupStatus {
    pub(crate) draining: bool,
    /// Nothing is claimed yet, because members may not have been heard yet.
    pub(crate) listening: bool,
    /// The others, by link and node.
    pub(crate) members: Vec<MemberFacts>,
    pub(crate) vips: BTreeMap<IpAddr, VipFacts>,
    /// Names that two live nodes have, this one included.
    pub(crate) duplicate_nodes: Vec<String>,
    pub(crate) counters: Counters,
}

/// One of the others, on one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberFacts {
    pub(crate) node: String,
    /// Where its last datagram came from.
    pub(crate) address: SocketAddr,
    pub(crate) link: u32,
    pub(crate) draining: bool,
    pub(crate) serving: bool,
    /// How many addresses it holds.
    pub(crate) holds: usize,
    pub(crate) state: MemberState,
}

/// Whether a member counts; the first is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberState {
    /// This node hears the member, and the member hears this node.
    Alive,
    /// This node hears the member, which has not proved that it hears this node.
    Unproven,
    /// This node has not heard the member for a while.
    Dead,
}

impl MemberState {
    /// All states, the best first.
    pub const ALL: [Self; 3] = [Self::Alive, Self::Unproven, Self::Dead];

    /// The word for it in `gatehouse status`, `/status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Unproven => "unproven",
            Self::Dead => "dead",
        }
    }
}

impl Serialize for MemberState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One address, as this node sees the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VipFacts {
    /// The node that holds it.
    pub(crate) owner: Option<String>,
    /// The nodes that could hold it, best first.
    pub(crate) eligible: Vec<String>,
    /// Nodes that would serve others on it than this one.
    pub(crate) at_odds: BTreeSet<String>,
}

/// Datagrams since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) sent: u64,
    /// Accepted ones.
    pub(crate) received: u64,
    /// By reason, CamelCase.
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

impl Group {
    /// What `gatehouse status` shows.
    pub(crate) fn status(&self, now: Instant) -> GroupStatus {
        let ips: BTreeSet<IpAddr> = self
            .links
            .values()
            .flat_map(Link::members)
            .filter(|(_, member)| member.alive)
            .flat_map(|(_, member)| member.table.iter())
            .filter_map(|(ip, entry)| entry.on_link().then_some(ip))
            .chain(self.addresses.keys().copied())
            .collect();
        let vips = ips.into_iter().map(|ip| (ip, self.vip_facts(ip))).collect();
        GroupStatus { vips, ..self.overview(now) }
    }

    /// The same without the addresses, which may be thousands.
    pub(crate) fn overview(&self, now: Instant) -> GroupStatus {
        GroupStatus {
            draining: self.header.draining,
            listening: self.links.values().any(Link::listening),
            members: self.member_facts(now),
            vips: BTreeMap::new(),
            duplicate_nodes: self.duplicate_nodes(),
            counters: self.counters.clone(),
        }
    }

    /// Another number when what [`status`](Self::status) says of an address may be different.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    fn vip_facts(&self, ip: IpAddr) -> VipFacts {
        let mut eligible: Vec<(Priority, &str)> = Vec::new();
        let mut holders: Vec<(Priority, &str)> = Vec::new();
        if let Some(address) = self.addresses.get(&ip) {
            let link = self.links.get(&address.link());
            let priority = link.map(|link| address.priority(link, &self.header));
            let own = priority.map(|priority| (priority, &*self.header.node));
            eligible.extend(own.filter(|(priority, _)| priority.fit()));
            holders.extend(own.filter(|_| address.active()));
        }
        let mut at_odds = BTreeSet::new();
        let tenants = self.addresses.get(&ip).and_then(Address::tenants);
        let members = self.links.values().flat_map(Link::members);
        for (incarnation, member) in members.filter(|(_, member)| member.alive) {
            let Some((entry, rank)) = member.table.get(ip) else { continue };
            if entry.eligible && tenants.is_some_and(|tenants| tenants != entry.tenants) {
                at_odds.insert(member.node.to_string());
            }
            let priority = Priority::new(member.fit(ip), entry.merit(), *rank, *incarnation);
            let other = (priority, &*member.node);
            eligible.extend(priority.fit().then_some(other));
            holders.extend(entry.active.then_some(other));
        }
        eligible.sort_unstable();
        let owner = holders.into_iter().min().map(|(_, node)| node.to_owned());
        VipFacts {
            owner,
            eligible: eligible.into_iter().map(|(_, node)| node.to_owned()).collect(),
            at_odds,
        }
    }

    fn member_facts(&self, now: Instant) -> Vec<MemberFacts> {
        // Of the lives of one node only the last counts, unless two are alive.
        let mut members: BTreeMap<(&str, u32, bool), Vec<&Member>> = BTreeMap::new();
        for (index, link) in &self.links {
            for (_, member) in link.members() {
                let key = (&*member.node, *index, member.alive);
                members.entry(key).or_default().push(member);
            }
        }
        let lives = members.iter().filter(|((node, link, alive), _)| {
            *alive || !members.contains_key(&(*node, *link, true))
        });
        let shown = lives.flat_map(|((_, link, alive), lives)| {
            let latest = lives.iter().max_by_key(|member| member.heard_at());
            let all: Vec<_> =
                if *alive { lives.iter().collect() } else { latest.into_iter().collect() };
            all.into_iter().map(|member| self.facts_of(*link, member, now))
        });
        shown.collect()
    }

    fn facts_of(&self, link: u32, member: &Member, now: Instant) -> MemberFacts {
        let state = match (member.alive, member.heard(now, &self.timing)) {
            (true, _) => MemberState::Alive,
            (false, true) => MemberState::Unproven,
            (false, false) => MemberState::Dead,
        };
        let holds = member.table.iter().filter(|(_, entry)| entry.active).count();
        MemberFacts {
            node: member.node.to_string(),
            address: member.address,
            link,
            draining: member.draining,
            serving: member.serving,
            holds: if member.alive { holds } else { 0 },
            state,
        }
    }

    /// A node that has just been restarted has two lives for a moment; two nodes have them for
    /// longer.
    fn duplicate_nodes(&self) -> Vec<String> {
        let mut duplicates = BTreeSet::new();
        for link in self.links.values() {
            let mut lives: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
            for (_, member) in link.members().filter(|(_, member)| member.alive) {
                lives.entry(&member.node).or_default().push(member);
            }
            for (node, mut lives) in lives {
                lives.sort_by_key(|member| member.proven);
                let since = lives.last().and_then(|youngest| youngest.proven);
                let others = &lives[..lives.len() - 1];
                let heard = |elder: &&Member| {
                    since.is_some_and(|since| elder.heard_at() > since + self.timing.dead)
                };
                if node == &*self.header.node || others.iter().any(heard) {
                    duplicates.insert(node.to_owned());
                }
            }
        }
        duplicates.into_iter().collect()
    }
}
