//! The interface that has an address, and what this node tells the neighbours there.
//!
//! A `VipState` has one while its address is on a link. Pure.

use std::time::{Duration, Instant};

use crate::{
    l2::announce::{Announcements, Pace},
    links::{Link, Mac},
};

/// From one answer to a member that announces an address that is held here to the next.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);
/// From one defence against a stranger to the next: `DEFEND_INTERVAL` of RFC 5227 §1.1.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Until a stranger that is not heard any more is forgotten.
const QUIET: Duration = Duration::from_secs(60);

/// The interface that has the address.
#[derive(Debug)]
pub(super) struct Placement {
    pub(super) index: u32,
    pub(super) name: String,
    /// Whether it is ours to delete. Not so if it is the node's own address.
    pub(super) ours: bool,
    pub(super) since: Instant,
    carrier: bool,
    pub(super) mac: Option<Mac>,
    /// `None` on links without ARP and NDP.
    pub(super) announcements: Option<Announcements>,
    pub(super) announced: bool,
    /// The last answer to a member, made or to be made.
    answered: Option<Instant>,
    /// The last defence against a stranger.
    defended: Option<Instant>,
    /// When the last stranger is forgotten.
    pub(super) quiet_at: Option<Instant>,
}

impl Placement {
    /// An interface that has the address from now on.
    pub(super) fn new(
        link: &Link,
        ours: bool,
        contested: bool,
        pace: &mut Pace,
        now: Instant,
    ) -> Self {
        let mut placement = Self {
            index: link.index,
            name: link.name.clone(),
            ours,
            since: now,
            carrier: link.carrier,
            mac: link.mac,
            announcements: None,
            announced: link.mac.is_none(),
            answered: None,
            defended: None,
            quiet_at: None,
        };
        placement.announce(contested, pace, now);
        placement
    }

    /// Begins to announce the address, anew if need be. Without ARP and NDP, no neighbour needs to hear of it.
    pub(super) fn announce(&mut self, contested: bool, pace: &mut Pace, now: Instant) {
        let start = if contested { Announcements::contested } else { Announcements::start };
        self.announcements = self.mac.map(|_| start(now, pace));
    }

    /// Takes over what the interface is like now; true if the address is announced anew, as behind the
    /// cable may be another switch, which has not heard of it, or it has another Ethernet address.
    pub(super) fn see(&mut self, link: &Link, pace: &mut Pace, now: Instant) -> bool {
        let anew = link.carrier && (!self.carrier || self.mac != link.mac);
        (self.carrier, self.mac) = (link.carrier, link.mac);
        self.name.clone_from(&link.name);
        if anew || link.mac.is_none() {
            self.announce(false, pace, now);
            self.announced &= link.mac.is_none();
        }
        anew
    }

    /// Announces the address once more, because a member did: the last word is the holder's, and the
    /// group decides which of the two that is.
    pub(super) fn answer(&mut self, now: Instant) {
        if self.answered.is_some_and(|answered| now < answered) {
            return; // one is on its way
        }
        let at = self.answered.map_or(now, |answered| now.max(answered + ANSWER_INTERVAL));
        self.answered = Some(at);
        self.again(at);
    }

    /// Announces the address once more, because a stranger uses it. It is never given up to one: it has
    /// to be well known and stable, for which RFC 5227 §2.4 (c) lets a host defend indefinitely.
    pub(super) fn defend(&mut self, now: Instant) {
        self.quiet_at = Some(now + QUIET);
        if self.defended.is_none_or(|defended| now >= defended + DEFEND_INTERVAL) {
            self.defended = Some(now);
            self.again(now);
        }
    }

    fn again(&mut self, at: Instant) {
        if let Some(announcements) = &mut self.announcements {
            announcements.again(at);
        }
    }
}
