//! Puts together what `Speaker::status` shows: what the group knows, and what this node does.
//!
//! The driver tells a [`Publisher`] what happens and asks it now and then for a [`SpeakerStatus`].
//! Nothing is decided by it. Pure, though it lives with the speaker.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::warn;

use crate::{
    kernel::turn::StatusPace,
    l2::{
        group::{GroupStatus, MemberFacts, Role, VipFacts},
        local_state::LocalState,
        speaker::{MemberStatus, SpeakerCounters, SpeakerStatus, VipStatus},
        vips::Action,
    },
    links::Links,
    problem::Problem,
};

/// Between two that show different addresses: a thousand may move at once.
const INTERVAL: Duration = Duration::from_millis(100);
/// Between two that show other numbers and members.
const COUNTERS_INTERVAL: Duration = Duration::from_secs(1);
/// How long nodes may serve different Services on an address: a change takes a moment to reach all.
const ODDS_GRACE: Duration = Duration::from_secs(5);
/// How many addresses and nodes a refusal lists.
const LISTED: usize = 4;

/// What happened since the last status.
#[derive(Debug)]
pub(super) struct Publisher {
    node: String,
    in_group: bool,
    roles: BTreeMap<IpAddr, Role>,
    counters: SpeakerCounters,
    /// Links without a socket for heartbeats.
    deaf: Vec<Problem>,
    /// Neighbours that claim addresses are not heard.
    blind: Option<Problem>,
    /// There is no fence around addresses.
    unfenced: Option<Problem>,
    /// Addresses on which other nodes serve others than this one, and since when.
    at_odds: BTreeMap<IpAddr, (Instant, BTreeSet<String>)>,
    pace: StatusPace,
    /// The addresses as shown last, and what they were reckoned from; `None`: that has changed.
    vips: Arc<BTreeMap<IpAddr, VipStatus>>,
    revision: Option<u64>,
}

impl Publisher {
    pub(super) fn new(node: String, in_group: bool, now: Instant) -> Self {
        Self {
            node,
            in_group,
            roles: BTreeMap::new(),
            counters: SpeakerCounters::default(),
            deaf: Vec::new(),
            blind: None,
            unfenced: None,
            at_odds: BTreeMap::new(),
            pace: StatusPace::new(INTERVAL, in_group.then_some(COUNTERS_INTERVAL), now),
            vips: Arc::default(),
            revision: None,
        }
    }

    /// The addresses that this node has on a link.
    pub(super) fn held(&self) -> impl Iterator<Item = &IpAddr> {
        let held = |(ip, role)| (role == &Role::Active).then_some(ip);
        self.roles.iter().filter_map(held)
    }

    /// The addresses that only serve open connections any more.
    pub(super) fn draining(&self) -> Vec<IpAddr> {
        let draining = |(ip, role): (&IpAddr, _)| (role == &Role::Draining).then_some(*ip);
        self.roles.iter().filter_map(draining).collect()
    }

    /// What is on the interfaces has changed.
    pub(super) fn holds(&mut self, ip: IpAddr, role: Option<Role>) {
        let before = match role {
            Some(role) => self.roles.insert(ip, role),
            None => self.roles.remove(&ip),
        };
        let holds = |role: Option<Role>| role == Some(Role::Active);
        self.counters.transitions += u64::from(holds(before) != holds(role));
        (self.pace.changed, self.revision) = (true, None);
    }

    /// An action has been carried out.
    pub(super) fn acted(&mut self, action: &Action) {
        let announced = matches!(action, Action::Announce { .. });
        self.counters.announcements += u64::from(announced);
        if !announced && !matches!(action, Action::Renew { .. }) {
            self.revision = None;
        }
    }

    /// The owner hears of something.
    pub(super) fn happened(&mut self) {
        (self.pace.changed, self.revision) = (true, None);
    }

    /// These links have no socket for heartbeats; whether there are any.
    pub(super) fn deaf(&mut self, failures: Vec<(String, io::Error)>) -> bool {
        let refusals = failures.into_iter().map(|(interface, error)| {
            Problem::refused(
                "HeartbeatFailed",
                "",
                format!("no heartbeats on {interface}: {error}"),
                "give the process CAP_NET_RAW, and leave the group's UDP port to it",
            )
        });
        let deaf: Vec<_> = refusals.collect();
        if deaf != self.deaf {
            deaf.iter().for_each(|refusal| warn!("{refusal}"));
            self.deaf = deaf;
            self.pace.changed = true;
        }
        !self.deaf.is_empty()
    }

    /// Whether neighbours that claim addresses can be heard; true if not.
    pub(super) fn blind(&mut self, outcome: io::Result<()>) -> bool {
        let blind = outcome.err().map(|error| {
            Problem::noted(
                "NeighboursUnheard",
                "",
                format!("strangers that use addresses are not noticed: {error}"),
                "give the process CAP_NET_RAW",
            )
        });
        if blind != self.blind {
            blind.iter().for_each(|refusal| warn!("{refusal}"));
            self.blind = blind;
            self.pace.changed = true;
        }
        self.blind.is_some()
    }

    /// Whether there is a fence around addresses.
    pub(super) fn unfenced(&mut self, refusal: Option<Problem>) {
        if refusal != self.unfenced {
            refusal.iter().for_each(|refusal| warn!("{refusal}"));
            self.unfenced = refusal;
            self.pace.changed = true;
        }
    }

    /// Whether it is time for a status.
    pub(super) fn due(&self, now: Instant) -> bool {
        self.pace.due(now)
    }

    /// When it is time for a status if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pace.deadline()
    }

    /// Whether what is shown of addresses may have changed since the last status; `revision`: of what the
    /// group says of them.
    pub(super) fn vips_changed(&mut self, revision: u64) -> bool {
        self.revision.replace(revision) != Some(revision)
    }

    /// What is so now. `states`: of each address, what this node does with it, and on which interface;
    /// `None`: all as in the last status, and nothing of addresses is in `group`.
    pub(super) fn status<'a>(
        &mut self,
        group: GroupStatus,
        states: Option<impl Iterator<Item = (IpAddr, LocalState, Option<&'a str>)>>,
        links: &Links,
        now: Instant,
    ) -> SpeakerStatus {
        self.pace.published(now);
        self.counters.sent = group.counters.sent;
        self.counters.received = group.counters.received;
        self.counters.refused = group.counters.refused;
        if let Some(states) = states {
            self.note_odds(&group.vips, now);
            self.vips = Arc::new(self.vips(group.vips, states));
        }
        let name = |index: u32| links.link(index).map(|link| link.name.clone());
        let member = |facts: MemberFacts| MemberStatus {
            interface: name(facts.link).unwrap_or_default(),
            state: facts.state,
            node: facts.node,
            address: facts.address,
            draining: facts.draining,
            serving: facts.serving,
            holds: facts.holds,
        };
        SpeakerStatus {
            node: self.node.clone(),
            draining: group.draining,
            members: group.members.into_iter().map(member).collect(),
            vips: self.vips.clone(),
            counters: self.counters.clone(),
            problems: self.problems(group.duplicate_nodes, now),
        }
    }

    fn vips<'a>(
        &self,
        mut facts: BTreeMap<IpAddr, VipFacts>,
        states: impl Iterator<Item = (IpAddr, LocalState, Option<&'a str>)>,
    ) -> BTreeMap<IpAddr, VipStatus> {
        let vip = |(ip, here, interface): (_, _, Option<&str>)| {
            let VipFacts { mut owner, mut eligible, .. } = facts.remove(&ip).unwrap_or_default();
            if !self.in_group {
                owner = (here == LocalState::Holding).then(|| self.node.clone());
                eligible =
                    (here != LocalState::Blocked).then(|| self.node.clone()).into_iter().collect();
            }
            (ip, VipStatus { owner, here, interface: interface.map(str::to_owned), eligible })
        };
        states.map(vip).collect()
    }

    fn note_odds(&mut self, facts: &BTreeMap<IpAddr, VipFacts>, now: Instant) {
        let at_odds = facts.iter().filter(|(_, facts)| !facts.at_odds.is_empty());
        let noted = at_odds.map(|(ip, facts)| {
            let since = self.at_odds.get(ip).map_or(now, |(since, _)| *since);
            (*ip, (since, facts.at_odds.clone()))
        });
        self.at_odds = noted.collect();
    }

    /// Nodes that dealt out addresses differently.
    fn odds(&self, now: Instant) -> Option<Problem> {
        let lasting = self.at_odds.iter().filter(|(_, (since, _))| now >= *since + ODDS_GRACE);
        let (mut ips, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        for (ip, (_, others)) in lasting {
            ips.insert(ip.to_string());
            nodes.extend(others.iter().cloned());
        }
        (!ips.is_empty()).then(|| {
            Problem::refused(
                "AllocationDiffers",
                "",
                format!("{} would serve other Services on {}", list(&nodes), list(&ips)),
                "give all nodes the same manifests, and Services that live long addresses of their \
                 own choice (metallb.io/loadBalancerIPs)",
            )
        })
    }

    fn problems(&self, duplicates: Vec<String>, now: Instant) -> Vec<Problem> {
        let duplicates = duplicates.into_iter().map(|node| {
            Problem::refused(
                "DuplicateNode",
                "",
                format!("two live nodes of the group are called \"{node}\""),
                "give each node a name of its own (--node)",
            )
        });
        let others = [&self.blind, &self.unfenced].into_iter().flatten().chain(&self.deaf);
        duplicates.chain(others.cloned()).chain(self.odds(now)).collect()
    }
}

fn list(names: &BTreeSet<String>) -> String {
    let some: Vec<_> = names.iter().take(LISTED).map(String::as_str).collect();
    let more = names.len() - some.len();
    let others = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{others}", some.join(", "))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]
mod tests {
    use super::*;

    #[test]
    fn different_allocations_are_a_problem_only_when_they_last() {
        let start = Instant::now();
        let mut publisher = Publisher::new("a".to_owned(), true, start);
        let mut problems = |odds: &[(&str, &[&str])], after: u64| {
            let vip = |(ip, nodes): &(&str, &[&str])| {
                let at_odds = nodes.iter().map(|node| (*node).to_owned()).collect();
                (ip.parse().unwrap(), VipFacts { at_odds, ..VipFacts::default() })
            };
            let vips = odds.iter().map(vip).collect();
            let group = GroupStatus { vips, ..GroupStatus::default() };
            let now = start + Duration::from_secs(after);
            let status = publisher.status(group, Some(std::iter::empty()), &Links::default(), now);
            status.problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>()
        };
        let odds: &[(&str, &[&str])] = &[("192.0.2.1", &["b"])];
        assert!(problems(odds, 0).is_empty());
        assert!(problems(odds, 4).is_empty());
        assert_eq!(problems(odds, 5), ["b would serve other Services on 192.0.2.1"]);
        // Over, and again: the time counts anew.
        assert!(problems(&[], 6).is_empty());
        assert!(problems(odds, 7).is_empty());
        let ips: Vec<_> = (1..=6).map(|host| format!("192.0.2.{host}")).collect();
        let many: Vec<_> = ips.iter().map(|ip| (ip.as_str(), &["b", "c"][..])).collect();
        problems(&many, 8);
        let list = "192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4 and 2 more";
        assert_eq!(problems(&many, 20), [format!("b, c would serve other Services on {list}")]);
    }
}
