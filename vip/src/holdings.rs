//! Which VIPs this node holds on which interface, and what has to be done next.
//!
//! The speaker owns one [`Holdings`]: it tells it the plan ([`want`](Holdings::want)), what the
//! kernel shows ([`see`](Holdings::see)), carries out the actions of [`due`](Holdings::due) and
//! reports each by [`done`](Holdings::done). Pure: time is an argument, nothing is sent from here.
//! Every address stands for itself: one that fails never holds up another.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::burst::Burst;
use crate::links::{Link, Links, Mac, OnLink, Origin};
use crate::plan::{Interfaces, Step, VipPlan, diff};
use crate::refusal::Refusal;
use crate::speaker::SpeakerEvent;

/// Until something that is not permitted is tried again: somebody has to change something first.
const DENIED_RETRY: Duration = Duration::from_secs(30);
/// Until anything else that failed is tried again.
const FAILED_RETRY: Duration = Duration::from_secs(5);
/// From adding an address to adding it again when another program keeps removing it.
const RESTORE_INTERVAL: Duration = Duration::from_secs(1);

/// Something to do to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Take the address off.
    Delete { ip: IpAddr, index: u32 },
    /// Put the address on, as a host address.
    Add { ip: IpAddr, index: u32 },
    /// Tell the neighbours.
    Announce { ip: IpAddr, index: u32, mac: Mac },
}

/// Why an action failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// What the kernel says.
    pub(crate) message: String,
}

/// What can be made of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The process lacks a capability.
    Denied,
    /// The address is there already.
    Exists,
    /// The address or its interface is no longer there.
    Gone,
    /// Anything else.
    Other,
}

/// All addresses that are planned or not yet withdrawn.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    plan: VipPlan,
    links: Links,
    vips: BTreeMap<IpAddr, Holding>,
    events: Vec<SpeakerEvent>,
}

#[derive(Debug)]
struct Holding {
    /// Where it may be; `None`: it has to go.
    wanted: Option<Interfaces>,
    place: Option<Place>,
    /// Nothing is tried before.
    not_before: Option<Instant>,
    /// The reason that was reported last, so that it is not reported again.
    told: Option<&'static str>,
}

/// An interface that has the address.
#[derive(Debug)]
struct Place {
    index: u32,
    name: String,
    /// Whether it is ours to delete. Not so if it is the node's own address.
    ours: bool,
    since: Instant,
    carrier: bool,
    /// `None` on links without ARP and NDP.
    burst: Option<Burst>,
    announced: bool,
}

impl Holdings {
    /// Takes over a plan; an equal one changes nothing.
    pub(crate) fn want(&mut self, plan: VipPlan) {
        for step in diff(&self.plan, &plan) {
            match step {
                Step::Withdraw(ip) => {
                    if let Some(holding) = self.vips.get_mut(&ip) {
                        holding.rewish(None);
                    }
                }
                Step::Change(ip, vip) | Step::Announce(ip, vip) => {
                    self.vips.entry(ip).or_insert_with(Holding::new).rewish(Some(vip.interfaces));
                }
            }
        }
        self.plan = plan;
    }

    /// Takes over what the kernel shows, after everything that was done so far.
    pub(crate) fn see(&mut self, links: Links, now: Instant) {
        self.links = links;
        for (ip, holding) in &mut self.vips {
            let Some(place) = &mut holding.place else { continue };
            if !self.links.has(place.index, *ip) {
                // Somebody took it away, or the interface went. It comes back, but not in a race
                // with a program that keeps removing it.
                holding.not_before = Some(place.since + RESTORE_INTERVAL);
                holding.place = None;
                continue;
            }
            let Some(link) = self.links.link(place.index) else { continue };
            if link.mac.is_none() {
                place.burst = None;
            } else if link.carrier && !place.carrier {
                // Behind the cable may be another switch, which has not heard of the address.
                place.burst = Some(Burst::start(now));
            }
            place.carrier = link.carrier;
        }
    }

    /// What has to be done now: deletions first, then the rest by address.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let (links, events) = (&self.links, &mut self.events);
        self.vips.retain(|ip, holding| {
            if holding.not_before.is_some_and(|not_before| now < not_before) {
                return true;
            }
            holding.not_before = None;
            holding.leave_if_misplaced(*ip, links);
            match (&holding.wanted, &holding.place) {
                (None, None) => {
                    events.push(SpeakerEvent::Withdrawn { vip: *ip });
                    return false;
                }
                (Some(_), None) => actions.extend(holding.settle(*ip, links, events, now)),
                _ => {}
            }
            actions.extend(holding.next(*ip, links, now));
            true
        });
        actions.sort_by_key(|action| !matches!(action, Action::Delete { .. }));
        actions
    }

    /// Takes note of what came of an action.
    pub(crate) fn done(&mut self, action: &Action, outcome: Result<(), Failure>, now: Instant) {
        let (Action::Delete { ip, index }
        | Action::Add { ip, index }
        | Action::Announce { ip, index, .. }) = *action;
        let Some(holding) = self.vips.get_mut(&ip) else { return };
        let kind = outcome.as_ref().err().map(|failure| failure.kind);
        match (action, kind) {
            (Action::Add { .. }, None | Some(FailureKind::Exists)) => {
                self.links.added(index, ip);
                if let Some(link) = self.links.link(index) {
                    holding.arrive(ip, link, true, &mut self.events, now);
                }
            }
            (Action::Delete { .. }, None | Some(FailureKind::Gone)) => {
                self.links.deleted(index, ip);
                holding.place = None;
                holding.told = None;
            }
            (Action::Announce { .. }, _) => {
                if let Some(place) = &mut holding.place {
                    if let Some(burst) = &mut place.burst {
                        burst.made(now);
                    }
                    if !std::mem::replace(&mut place.announced, true) {
                        let interface = place.name.clone();
                        self.events.push(SpeakerEvent::Announced { vip: ip, interface });
                    }
                }
            }
            (_, Some(FailureKind::Denied)) => holding.not_before = Some(now + DENIED_RETRY),
            (_, Some(_)) => holding.not_before = Some(now + FAILED_RETRY),
        }
        if let Some(refusal) = outcome.err().and_then(|why| refusal(action, &self.links, &why)) {
            holding.tell(ip, refusal, &mut self.events);
        }
    }

    /// When [`due`](Self::due) has something to do if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let next = |holding: &Holding| {
            let burst = holding.place.as_ref().and_then(|place| place.burst?.deadline());
            // Nothing is done before `not_before`, not even an announcement.
            holding.not_before.or(burst)
        };
        self.vips.values().filter_map(next).min()
    }

    /// How many addresses are on an interface by our doing.
    pub(crate) fn held(&self) -> usize {
        self.vips
            .values()
            .filter(|holding| holding.place.as_ref().is_some_and(|place| place.ours))
            .count()
    }

    /// What has happened since the last call.
    pub(crate) fn events(&mut self) -> Vec<SpeakerEvent> {
        std::mem::take(&mut self.events)
    }
}

impl Holding {
    fn new() -> Self {
        Self { wanted: None, place: None, not_before: None, told: None }
    }

    /// A new wish is tried at once, whatever failed before.
    fn rewish(&mut self, wanted: Option<Interfaces>) {
        self.wanted = wanted;
        self.not_before = None;
        self.told = None;
    }

    /// Lets go of an address that is not ours to delete where it is not wanted.
    fn leave_if_misplaced(&mut self, ip: IpAddr, links: &Links) {
        let stays = |place: &Place| place.ours || self.wanted_at(place, ip, links);
        if !self.place.as_ref().is_some_and(stays) {
            self.place = None;
        }
    }

    /// Notes that an interface has the address. Without ARP and NDP, that is all there is to do.
    fn arrive(
        &mut self,
        ip: IpAddr,
        link: &Link,
        ours: bool,
        events: &mut Vec<SpeakerEvent>,
        now: Instant,
    ) {
        let burst = link.mac.map(|_| Burst::start(now));
        if burst.is_none() {
            events.push(SpeakerEvent::Announced { vip: ip, interface: link.name.clone() });
        }
        self.told = None;
        self.place = Some(Place {
            index: link.index,
            name: link.name.clone(),
            ours,
            since: now,
            carrier: link.carrier,
            announced: burst.is_none(),
            burst,
        });
    }

    fn wanted_at(&self, place: &Place, ip: IpAddr, links: &Links) -> bool {
        self.wanted.as_ref().is_some_and(|allowed| links.fits(place.index, ip, allowed))
    }

    /// Finds a place: adopts the address where it is already, else asks to add it.
    fn settle(
        &mut self,
        ip: IpAddr,
        links: &Links,
        events: &mut Vec<SpeakerEvent>,
        now: Instant,
    ) -> Option<Action> {
        let allowed = self.wanted.as_ref()?;
        let link = match links.home(ip, allowed) {
            Ok(link) => link,
            Err(refusal) => {
                self.tell(ip, refusal, events);
                return None;
            }
        };
        let index = link.index;
        let host = OnLink::host(index, ip);
        let mut entries = links.on(index, ip).peekable();
        if entries.peek().is_none() {
            return Some(Action::Add { ip, index });
        }
        // A host address without a foreign mark is what a predecessor that was killed leaves.
        let ours = entries.any(|(entry, origin)| entry == host && origin != Origin::Foreign);
        self.arrive(ip, link, ours, events, now);
        None
    }

    /// The next thing to do to an address that is on an interface.
    fn next(&self, ip: IpAddr, links: &Links, now: Instant) -> Option<Action> {
        let place = self.place.as_ref()?;
        let index = place.index;
        if !self.wanted_at(place, ip, links) {
            return Some(Action::Delete { ip, index });
        }
        let link = links.link(index)?;
        let mac = link.mac.filter(|_| place.burst.is_some_and(|burst| burst.due(now)))?;
        Some(Action::Announce { ip, index, mac })
    }

    /// Reports a refusal, once for each reason.
    fn tell(&mut self, vip: IpAddr, refusal: Refusal, events: &mut Vec<SpeakerEvent>) {
        if self.told.replace(refusal.reason) != Some(refusal.reason) {
            events.push(SpeakerEvent::Refused { vip, refusal });
        }
    }
}

/// What a failure means for whoever wants the address; `None`: nothing.
fn refusal(action: &Action, links: &Links, failure: &Failure) -> Option<Refusal> {
    let name = |index: &u32| links.link(*index).map_or("?", |link| link.name.as_str());
    let Failure { kind, message } = failure;
    let (reason, what) = match (action, kind) {
        (Action::Add { .. }, FailureKind::Exists) | (Action::Delete { .. }, FailureKind::Gone) => {
            return None;
        }
        (Action::Add { ip, index }, FailureKind::Denied) => {
            ("NotPermitted", format!("{ip} cannot be added to {}: {message}", name(index)))
        }
        (Action::Add { ip, index }, _) => {
            ("AddressFailed", format!("{ip} cannot be added to {}: {message}", name(index)))
        }
        (Action::Delete { ip, index }, _) => {
            ("WithdrawFailed", format!("{ip} cannot be removed from {}: {message}", name(index)))
        }
        (Action::Announce { ip, index, .. }, _) => {
            let what = format!("{ip} is on {} but cannot be announced: {message}", name(index));
            ("AnnouncementFailed", what)
        }
    };
    let hint = match kind {
        FailureKind::Denied => "give the process CAP_NET_ADMIN and CAP_NET_RAW",
        _ => "",
    };
    Some(match action {
        Action::Announce { .. } => Refusal::warning(reason, "", what, hint),
        _ => Refusal::error(reason, "", what, hint),
    })
}

#[cfg(test)]
#[path = "holdings_tests.rs"]
mod tests;
