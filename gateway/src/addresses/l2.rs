//! The addresses that this node may hold on a link: what the L2 speaker is to have, and what became of it.
//!
//! Which node of a group holds an address is the speaker's affair: it is told what this node could hold.
//! An address that another node has taken over is drained: it stays usable here until its last connection
//! has ended. So does one whose Services have lost their last endpoint, and that stays announced: no other node takes it
//! over, so that its clients go on asking where it is. Pure: `super` talks to the speaker, `state` asks for both.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::{Problem, Severity},
};
use gatehouse_vip::{LocalState, Problem as VipProblem, SpeakerEvent, SpeakerStatus, Vip, VipPlan};

use super::{
    Change, Changes, drain_timer::DrainTimer, heartbeats::Heartbeats, open::Open,
    problems::of_services,
};

/// Refusals that an address meets, but that say what this host cannot do for any address.
const OF_NODE: [&str; 3] = ["ArpNotStrict", "ConnectionsCut", "RelayFailed"];

/// How long an address stays after its connections were cut: their clients are told from it.
const CUT: Duration = Duration::from_secs(1);

/// The addresses of this node's links.
#[derive(Debug)]
pub(super) struct L2Addresses {
    node: ObjectRef,
    /// What has been wrong with this node since its start.
    node_problems: Vec<Problem>,
    heartbeats: Heartbeats,
    /// For how long connections on an address without endpoints are served.
    limit: Duration,
    applied: VipPlan,
    /// Addresses on an interface by our doing, and announced.
    held: BTreeMap<IpAddr, String>,
    draining: BTreeMap<IpAddr, DrainTimer>,
    /// Announced addresses that are planned no more for lack of endpoints.
    idling: BTreeMap<IpAddr, Idling>,
    refused: BTreeMap<IpAddr, VipProblem>,
}

/// An announced address whose Services have no endpoint.
#[derive(Debug)]
struct Idling {
    timer: DrainTimer,
    /// Its connections have been told to end.
    cut: bool,
}

impl L2Addresses {
    /// `limit`: for how long connections on an address without endpoints are served. `problems` are those of the node
    /// that are known already.
    pub(super) fn new(node: &str, limit: Duration, problems: Vec<Problem>) -> Self {
        Self {
            node: ObjectRef::new("Node", ObjectKey::new("", node)),
            node_problems: problems,
            heartbeats: Heartbeats::default(),
            limit,
            applied: VipPlan::default(),
            held: BTreeMap::new(),
            draining: BTreeMap::new(),
            idling: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// What the speaker is to have of the plan, if that has changed: the addresses that are `open`, and those on which
    /// connections wait for their end. Says what that means for the connections on addresses that come or go.
    pub(super) fn apply(
        &mut self,
        plan: &VipPlan,
        open: &Open,
        now: Instant,
    ) -> (Option<VipPlan>, Changes) {
        let mut allowed = plan.clone();
        allowed.vips.retain(|vip, _| open.addresses.contains(vip));
        for (ip, vip) in &mut allowed.vips {
            vip.partial = open.partial.contains(ip);
        }
        let changes = self.keep_open(&mut allowed, open, now);
        self.refused.retain(|vip, _| allowed.vips.contains_key(vip));
        if allowed == self.applied {
            return (None, changes);
        }
        self.applied = allowed.clone();
        (Some(allowed), changes)
    }

    /// Has addresses without endpoints stay in the plan until their connections have ended. Should another node find
    /// endpoints first, it comes before this one.
    fn keep_open(&mut self, allowed: &mut VipPlan, open: &Open, now: Instant) -> Changes {
        let mut changes = Changes::new();
        self.idling.retain(|ip, _| {
            let returned = allowed.vips.contains_key(ip);
            if returned {
                changes.insert(*ip, Change::Active);
            }
            !returned
        });
        for (ip, vip) in &self.applied.vips {
            let lacks = open.without_endpoint.contains(ip) && !allowed.vips.contains_key(ip);
            if !lacks || !self.held.contains_key(ip) {
                continue;
            }
            let idling = self.idling.entry(*ip).or_insert_with(|| {
                tracing::info!(vip = %ip, "no endpoint is left, open connections go on");
                changes.insert(*ip, Change::Draining);
                Idling { timer: DrainTimer::since(now), cut: false }
            });
            let lasted = idling.timer.lasted(now);
            if idling.timer.ended() || lasted >= self.limit + CUT {
                continue;
            }
            if lasted >= self.limit && !std::mem::replace(&mut idling.cut, true) {
                changes.insert(*ip, Change::Gone);
            }
            allowed.vips.insert(*ip, Vip { partial: true, ..vip.clone() });
        }
        changes
    }

    /// Takes note of what the speaker did; says what it means for the connections on the address.
    pub(super) fn heard(&mut self, event: SpeakerEvent, now: Instant) -> Option<(IpAddr, Change)> {
        match event {
            SpeakerEvent::Announced { vip, interface } => {
                tracing::info!(%vip, interface, "announced");
                self.refused.remove(&vip);
                self.held.insert(vip, interface);
                self.draining.remove(&vip);
                return Some((vip, Change::Active));
            }
            SpeakerEvent::Draining { vip, to } => {
                tracing::info!(%vip, to, "taken over by another node, open connections go on");
                self.held.remove(&vip);
                self.idling.remove(&vip);
                self.draining.insert(vip, DrainTimer::since(now));
                return Some((vip, Change::Draining));
            }
            SpeakerEvent::Withdrawn { vip } => {
                tracing::info!(%vip, "withdrawn");
                self.held.remove(&vip);
                let idled = self.idling.remove(&vip).is_some();
                let drained = self.draining.remove(&vip).is_some();
                return (idled || drained).then_some((vip, Change::Gone));
            }
            SpeakerEvent::Refused { refusal, .. } if OF_NODE.contains(&refusal.reason) => {
                if self.node_problems.iter().all(|known| known.reason != refusal.reason) {
                    self.node_problems.push(refusal.about(self.node.clone()));
                }
            }
            SpeakerEvent::Refused { vip, refusal } => {
                tracing::debug!(%vip, reason = refusal.reason, "{}", refusal.message);
                self.refused.insert(vip, refusal);
            }
            SpeakerEvent::Cleared { vip } => {
                self.refused.remove(&vip);
            }
            // About an address that routers lead here: `state` passes it to `bgp`.
            SpeakerEvent::Forwarded { .. } => {}
        }
        None
    }

    /// The draining addresses that have no connection left, each once. `left` counts them; `None` while
    /// that is not known.
    pub(super) fn drained(
        &mut self,
        left: impl Fn(IpAddr) -> Option<usize>,
        now: Instant,
    ) -> Vec<IpAddr> {
        let ended = self.draining.iter_mut().filter_map(|(vip, timer)| {
            timer.ends(left(*vip), now).then(|| {
                tracing::debug!(%vip, "no connection is left");
                *vip
            })
        });
        ended.collect()
    }

    /// Whether something is to be done about an address without endpoints: its connections have all ended, or have had
    /// the time that they may have.
    pub(super) fn idled(&mut self, left: impl Fn(IpAddr) -> Option<usize>, now: Instant) -> bool {
        let applied = &self.applied.vips;
        let kept = self.idling.iter_mut().filter(|(ip, _)| applied.contains_key(*ip));
        let over = kept.map(|(ip, Idling { timer, cut })| {
            let limit = if *cut { self.limit + CUT } else { self.limit };
            timer.ends(left(*ip), now) || timer.lasted(now) >= limit
        });
        // Each is looked at.
        over.fold(false, |any, one| any | one)
    }

    /// Whether some address without endpoints waits for its connections to end.
    pub(super) fn is_idling(&self) -> bool {
        self.idling.keys().any(|ip| self.applied.vips.contains_key(ip))
    }

    /// Whether some address of another node waits for its connections to end.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.values().any(|timer| !timer.ended())
    }

    /// Addresses that another node has taken over and that are still usable here.
    pub(super) fn draining(&self) -> Arc<[IpAddr]> {
        self.draining.keys().copied().collect()
    }

    /// True while the address is wanted or still on an interface.
    pub(super) fn holds(&self, vip: &IpAddr) -> bool {
        self.applied.vips.contains_key(vip)
            || self.held.contains_key(vip)
            || self.draining.contains_key(vip)
    }

    /// Announced addresses and their interfaces.
    pub(super) fn held(&self) -> &BTreeMap<IpAddr, String> {
        &self.held
    }

    /// The speaker's refusals, as problems of the Services that hold the addresses, and what concerns the
    /// whole node.
    pub(super) fn problems(&mut self, status: &SpeakerStatus, now: Instant) -> Vec<Problem> {
        let mut problems = self.heartbeats.problems(&status.counters.refused, &self.node, now);
        problems.extend(self.node_problems.iter().cloned());
        problems.extend(status.problems.iter().map(|open| open.clone().about(self.node.clone())));
        for (vip, refusal) in &self.refused {
            let claims = self.applied.vips.get(vip).map(|vip| &*vip.claims).unwrap_or_default();
            if let Some(refusal) = in_the_group(status, vip, refusal) {
                problems.extend(of_services(claims, &refusal));
            }
        }
        problems
    }
}

/// What a refusal of this node means where another one serves the address: nothing if it passes, a
/// warning if this node can never stand in.
fn in_the_group(status: &SpeakerStatus, vip: &IpAddr, refusal: &VipProblem) -> Option<VipProblem> {
    let known = status.vips.get(vip);
    let elsewhere = known.and_then(|vip| vip.owner.as_ref()).is_some_and(|it| *it != status.node);
    let blocked = known.is_some_and(|vip| vip.here == LocalState::Blocked);
    match (elsewhere, blocked) {
        (false, _) => Some(refusal.clone()),
        (true, true) => Some(VipProblem { severity: Severity::Warning, ..refusal.clone() }),
        (true, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_vip::VipStatus;

    use super::*;

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
        assert_eq!(severity(None, LocalState::Blocked), Some(true));
        assert_eq!(severity(Some("a"), LocalState::Holding), Some(true));
        assert_eq!(
            severity(Some("b"), LocalState::Blocked),
            Some(false),
            "this node can never stand in"
        );
        assert_eq!(severity(Some("b"), LocalState::Standby), None);
    }
}
