//! Between the snapshot and the speaker: what may be announced now, and what became of it.
//!
//! The plan says what may be announced; this file holds an address back until every listener on it is
//! open (bind, then announce) and remembers which addresses the speaker still has, so that listeners
//! outlive them (withdraw, then unbind). Which node of a group announces an address is the speaker's
//! affair: here it is told what this node could do, and the listeners of all those addresses stay open,
//! so that an address is served the moment it comes. An address that another node took over lingers
//! until its last connection has ended; [`Vips::heard`] and [`Vips::let_go`] are the two ends of that.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::{Problem, Severity},
};
use gatehouse_vip::{
    Problem as VipProblem, RoutedAddresses, Speaker, SpeakerEvent, SpeakerOptions, SpeakerStatus,
    VipPlan,
};

use super::heartbeats::Heartbeats;
use crate::{compile::ListenerPlan, listeners::Listeners};

/// How long an address lingers at least: a neighbour that missed the first announcement of the new owner
/// goes on sending here until the second, 1.1 s later. Routers need less for a withdrawal.
const LINGER_AT_LEAST: Duration = Duration::from_millis(1200);
/// Between the first and the second look at an address without connections: one may have been queued.
const SURE: Duration = Duration::from_millis(120);

/// Refusals that an address meets, but that say what this host cannot do for any address.
const OF_NODE: [&str; 3] = ["ArpNotStrict", "ConnectionsCut", "RelayFailed"];

/// The addresses of this node.
pub(crate) struct Vips {
    speaker: Arc<Speaker>,
    node: ObjectRef,
    /// What has been wrong with this node since its start.
    node_problems: Vec<Problem>,
    heartbeats: Heartbeats,
    applied: VipPlan,
    /// What the nodes of the group know of addresses that routers lead here.
    routed: RoutedAddresses,
    /// Addresses on an interface by our doing, and announced.
    held: BTreeMap<IpAddr, String>,
    lingering: BTreeMap<IpAddr, Lingering>,
    refused: BTreeMap<IpAddr, VipProblem>,
}

/// An address that other nodes have taken over.
#[derive(Debug)]
pub(crate) struct Lingering {
    since: Instant,
    /// Since when no connection is left on it.
    empty: Option<Instant>,
    /// The speaker knows that it may let go.
    told: bool,
}

/// What an event of the speaker means for the connections on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// It is served here: they may stay.
    Here,
    /// It is served elsewhere: they are to leave.
    Away,
    /// It is gone, and with it everything that was still open.
    Gone,
}

impl Vips {
    /// Starts the speaker's thread. `problems` are those of the node that are known already.
    pub(crate) fn start(
        options: SpeakerOptions,
        problems: Vec<Problem>,
        events: impl Fn(SpeakerEvent) + Send + 'static,
    ) -> std::io::Result<Self> {
        Ok(Self {
            node: ObjectRef::new("Node", ObjectKey::new("", &*options.node)),
            node_problems: problems,
            heartbeats: Heartbeats::default(),
            speaker: Arc::new(Speaker::start(options, events)?),
            applied: VipPlan::default(),
            routed: RoutedAddresses::default(),
            held: BTreeMap::new(),
            lingering: BTreeMap::new(),
            refused: BTreeMap::new(),
        })
    }

    /// For those who show what the speaker knows, as long as it runs.
    pub(crate) fn speaker(&self) -> Weak<Speaker> {
        Arc::downgrade(&self.speaker)
    }

    /// Hands the speaker what may be announced of the plan.
    pub(crate) fn apply(&mut self, plan: &VipPlan, plans: &[ListenerPlan], listeners: &Listeners) {
        let allowed = served(plan, plans, |plan| listeners.is_open(plan));
        self.refused.retain(|vip, _| allowed.vips.contains_key(vip));
        if allowed != self.applied {
            self.applied = allowed.clone();
            self.speaker.apply(allowed);
        }
    }

    /// Takes note of what the speaker did; says what it means for the connections on the address.
    pub(crate) fn heard(&mut self, event: SpeakerEvent, now: Instant) -> Option<(IpAddr, Moved)> {
        match event {
            SpeakerEvent::Announced { vip, interface } => {
                tracing::info!(%vip, interface, "announced");
                self.refused.remove(&vip);
                self.held.insert(vip, interface);
                self.lingering.remove(&vip);
                Some((vip, Moved::Here))
            }
            SpeakerEvent::Draining { vip, to } => {
                tracing::info!(%vip, to, "taken over by another node, open connections go on");
                self.held.remove(&vip);
                self.lingering.insert(vip, Lingering::since(now));
                Some((vip, Moved::Away))
            }
            // About addresses that routers lead here.
            SpeakerEvent::Relayed { .. } => None,
            SpeakerEvent::Withdrawn { vip } => {
                tracing::info!(%vip, "withdrawn");
                self.held.remove(&vip);
                self.lingering.remove(&vip).map(|_| (vip, Moved::Gone))
            }
            SpeakerEvent::Refused { refusal, .. } if OF_NODE.contains(&refusal.reason) => {
                if self.node_problems.iter().all(|known| known.reason != refusal.reason) {
                    self.node_problems.push(refusal.about(self.node.clone()));
                }
                None
            }
            SpeakerEvent::Cleared { vip } => {
                self.refused.remove(&vip);
                None
            }
            SpeakerEvent::Refused { vip, refusal } => {
                tracing::debug!(%vip, reason = refusal.reason, "{}", refusal.message);
                self.refused.insert(vip, refusal);
                None
            }
        }
    }

    /// Tells the speaker which lingering addresses have no connection left. `left` counts them; `None`
    /// while that is not known.
    pub(crate) fn let_go(&mut self, left: impl Fn(IpAddr) -> Option<usize>, now: Instant) {
        for (vip, lingering) in &mut self.lingering {
            if lingering.may_go(left(*vip), now) {
                tracing::debug!(%vip, "no connection is left");
                self.speaker.let_go(*vip);
            }
        }
    }

    /// Whether some address waits for its connections to end.
    pub(crate) fn lingers(&self) -> bool {
        self.lingering.values().any(|lingering| !lingering.told)
    }

    /// Addresses that another node has taken over and that are still usable here.
    pub(crate) fn lingering(&self) -> Arc<[IpAddr]> {
        self.lingering.keys().copied().collect()
    }

    /// True while the address is wanted or still on an interface.
    pub(crate) fn holds(&self, vip: &IpAddr) -> bool {
        self.applied.vips.contains_key(vip)
            || self.held.contains_key(vip)
            || self.lingering.contains_key(vip)
    }

    /// Announced addresses and their interfaces.
    pub(crate) fn held(&self) -> &BTreeMap<IpAddr, String> {
        &self.held
    }

    /// The speaker's refusals, as problems of the Services that hold the addresses, and what concerns the
    /// whole node.
    pub(crate) fn problems(&mut self, now: Instant) -> Vec<Problem> {
        let status = self.speaker.status();
        let refused = &status.counters.refused;
        let mut problems = self.heartbeats.problems(refused, &self.node, now);
        problems.extend(self.node_problems.iter().cloned());
        problems.extend(status.problems.iter().map(|open| open.clone().about(self.node.clone())));
        problems.extend(self.service_problems(&status));
        problems
    }

    fn service_problems(&self, status: &SpeakerStatus) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (vip, refusal) in &self.refused {
            let Some(refusal) = in_the_group(status, vip, refusal) else { continue };
            let claims = self.applied.vips.get(vip).map(|vip| &*vip.claims).unwrap_or_default();
            let services: BTreeSet<Arc<str>> =
                claims.iter().map(|claim| Arc::clone(&claim.0)).collect();
            for service in services {
                let (namespace, name) = service.split_once('/').unwrap_or(("", &service));
                let object = ObjectRef::new("Service", ObjectKey::new(namespace, name));
                problems.push(refusal.clone().about(object));
            }
        }
        problems
    }

    /// Tells the nodes of the group which addresses routers lead here.
    pub(crate) fn routed(&mut self, routed: RoutedAddresses) {
        if routed != self.routed {
            self.routed = routed.clone();
            self.speaker.routed(routed);
        }
    }

    /// As [`Self::routed`]; waits until they pass on what is open on those that are leaving.
    pub(crate) fn relayed(&self, routed: RoutedAddresses, timeout: Duration) -> bool {
        self.speaker.routed_and_wait(routed, timeout)
    }

    /// Hands every address to the nodes that can take it; false if some move had not ended in time.
    pub(crate) fn hand_over(&self, timeout: Duration) -> bool {
        self.speaker.hand_over_and_wait(timeout)
    }

    /// Withdraws everything; true if the kernel and the neighbours know in time.
    pub(crate) fn withdraw(&self, timeout: Duration) -> bool {
        self.speaker.withdraw_all_and_wait(timeout)
    }
}

impl Lingering {
    pub(crate) fn since(since: Instant) -> Self {
        Self { since, empty: None, told: false }
    }

    /// For how long it has lingered.
    pub(crate) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Whether the speaker is to be told, now and not before, that the address may go.
    pub(crate) fn may_go(&mut self, left: Option<usize>, now: Instant) -> bool {
        if left != Some(0) {
            self.empty = None;
            return false;
        }
        let empty = *self.empty.get_or_insert(now);
        let may =
            self.lasted(now) >= LINGER_AT_LEAST && now.saturating_duration_since(empty) >= SURE;
        may && !std::mem::replace(&mut self.told, true)
    }
}

/// What a refusal of this node means where another one serves the address: nothing if it passes, a
/// warning if this node can never stand in.
fn in_the_group(status: &SpeakerStatus, vip: &IpAddr, refusal: &VipProblem) -> Option<VipProblem> {
    let known = status.vips.get(vip);
    let elsewhere = known.and_then(|vip| vip.owner.as_ref()).is_some_and(|it| *it != status.node);
    let blocked = known.is_some_and(|vip| vip.here == "blocked");
    match (elsewhere, blocked) {
        (false, _) => Some(refusal.clone()),
        (true, true) => Some(VipProblem { severity: Severity::Warning, ..refusal.clone() }),
        (true, false) => None,
    }
}

/// The virtual addresses on which there are listeners, all of them open.
pub(crate) fn open_addresses(
    plans: &[ListenerPlan],
    is_open: impl Fn(&ListenerPlan) -> bool,
) -> BTreeSet<IpAddr> {
    let mut serves: BTreeMap<IpAddr, bool> = BTreeMap::new();
    for plan in plans.iter().filter(|plan| plan.vip) {
        *serves.entry(plan.address.ip()).or_insert(true) &= is_open(plan);
    }
    serves.into_iter().filter_map(|(ip, serves)| serves.then_some(ip)).collect()
}

/// The part of a plan whose every listener serves; an address without any listener is not announced.
fn served(
    plan: &VipPlan,
    plans: &[ListenerPlan],
    is_open: impl Fn(&ListenerPlan) -> bool,
) -> VipPlan {
    let open = open_addresses(plans, is_open);
    let mut allowed = plan.clone();
    allowed.vips.retain(|vip, _| open.contains(vip));
    allowed
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::model::Scope;
    use gatehouse_vip::{ClaimId, Interfaces, Vip, VipStatus};

    use super::*;
    use crate::compile::Protocol;

    #[test]
    fn an_address_is_held_back_until_every_listener_on_it_is_open() {
        let vip: IpAddr = "192.0.2.1".parse().unwrap();
        let plan = VipPlan {
            vips: BTreeMap::from([(
                vip,
                Vip {
                    claims: vec![ClaimId("a/b".into())],
                    interfaces: Interfaces::Any,
                    preference: 0,
                },
            )]),
        };
        let listener = |port, protocol| ListenerPlan {
            address: (vip, port).into(),
            scope: Scope::Plain,
            protocol,
            vip: true,
        };
        let both = [listener(80, Protocol::Http), listener(443, Protocol::Https)];
        assert_eq!(served(&plan, &both, |_| true), plan);
        assert_eq!(served(&plan, &both, |plan| plan.address.port() == 80), VipPlan::default());
        assert_eq!(served(&plan, &[], |_| true), VipPlan::default());
    }

    #[test]
    fn what_keeps_this_node_from_an_address_is_no_error_while_another_one_serves_it() {
        let vip: IpAddr = "192.0.2.1".parse().unwrap();
        let refusal = VipProblem::refused("NoInterface", "", "no interface", "");
        let severity = |owner: Option<&str>, here| {
            let known = VipStatus {
                owner: owner.map(str::to_owned),
                here,
                interface: None,
                eligible: Vec::new(),
            };
            let vips = BTreeMap::from([(vip, known)]).into();
            let status = SpeakerStatus { node: "a".to_owned(), vips, ..SpeakerStatus::default() };
            in_the_group(&status, &vip, &refusal).map(|refusal| refusal.is_error())
        };
        assert_eq!(severity(None, "blocked"), Some(true));
        assert_eq!(severity(Some("a"), "holding"), Some(true));
        assert_eq!(severity(Some("b"), "blocked"), Some(false), "this node can never stand in");
        assert_eq!(severity(Some("b"), "standby"), None);
    }

    #[test]
    fn an_address_is_let_go_once_when_its_last_connection_has_ended_for_sure() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut address = Lingering::since(start);
        assert!(!address.may_go(Some(1), at(2_000)), "a connection is open");
        assert!(!address.may_go(Some(0), at(2_100)), "one may still be queued");
        assert!(!address.may_go(Some(1), at(2_200)), "it was");
        assert!(!address.may_go(Some(0), at(2_300)));
        assert!(!address.may_go(None, at(2_400)), "not known is not none");
        assert!(!address.may_go(Some(0), at(2_500)));
        assert!(address.may_go(Some(0), at(2_620)));
        assert!(!address.may_go(Some(0), at(2_700)), "told once is enough");
    }

    #[test]
    fn a_neighbour_that_missed_the_first_announcement_is_served_until_the_second() {
        let start = Instant::now();
        let mut address = Lingering::since(start);
        let times = (0..30).map(|step| start + Duration::from_millis(50) * step);
        let gone = times.into_iter().position(|now| address.may_go(Some(0), now));
        assert_eq!(gone, Some(24), "1.2 s");
    }
}
