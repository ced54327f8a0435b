//! Finds the router on a link that has no addresses of its own (BGP unnumbered), and lets the router find
//! this node: Router Discovery, RFC 4861 §6.
//!
//! The BGP speaker runs one [`Discovery`] for each interface with an unnumbered peer: hands in
//! what was heard and which router the session is with, sends what [`Discovery::tick`] returns, and asks
//! which router to dial.
//! Sans-IO: no clock, no socket, chance only from the seed. It installs nothing: neither addresses nor
//! routes follow from what is heard here.

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use crate::bgp::jitter::Jitter;

pub(crate) mod message;

use message::Kind;

/// Between advertisements without a session, at the most; a quarter less at the least. The shortest that
/// RFC 4861 §6.2.1 allows.
const ADVERTISE_SOON: Duration = Duration::from_secs(4);
/// The same, with a session: as often as FRR does.
const ADVERTISE: Duration = Duration::from_secs(10);
/// `MIN_DELAY_BETWEEN_RAS` and `MAX_RA_DELAY_TIME` (RFC 4861 §10).
pub(crate) const BETWEEN_ADVERTISEMENTS: Duration = Duration::from_secs(3);
const ANSWER_DELAY: Duration = Duration::from_millis(500);
/// `MAX_RTR_SOLICITATION_DELAY`, `RTR_SOLICITATION_INTERVAL`, `MAX_RTR_SOLICITATIONS` (RFC 4861 §10).
const SOLICIT_DELAY: Duration = Duration::from_secs(1);
const SOLICIT_INTERVAL: Duration = Duration::from_secs(4);
const SOLICITATIONS: u32 = 3;
/// After those the pause doubles (RFC 7559), but not beyond this: the session waits for an answer.
const SOLICIT_SELDOM: Duration = Duration::from_secs(60);
/// The longest pause that a router may make between advertisements (RFC 4861 §6.2.1): one that has been
/// silent for longer is gone.
const LIFETIME: Duration = Duration::from_secs(1800);
/// A router that leaves so many solicitations unanswered makes room for one that answers.
const UNANSWERED: u32 = 2;
/// One is expected; of the others enough are kept to say what is wrong.
pub(crate) const ROUTERS: usize = 4;

/// Finds the router on one link.
#[derive(Clone, Debug)]
pub(crate) struct Discovery {
    /// This node's address on the link, from which it speaks.
    own: Ipv6Addr,
    jitter: Jitter,
    advertised: Option<Instant>,
    advertise_at: Instant,
    /// Since the session was there last.
    solicitations: u32,
    solicit_at: Option<Instant>,
    /// In the order in which they were heard first.
    routers: Vec<Router>,
    /// The router that the session is with.
    session: Option<Ipv6Addr>,
}

/// A host that sends router advertisements.
#[derive(Clone, Copy, Debug)]
struct Router {
    address: Ipv6Addr,
    heard: Instant,
    /// Solicitations since then.
    unanswered: u32,
}

impl Discovery {
    /// Begins on a link where this node has the link-local address `own`. `seed` should differ from link
    /// to link.
    pub(crate) fn new(own: Ipv6Addr, seed: u64, now: Instant) -> Self {
        let mut jitter = Jitter::new(seed);
        let solicit_at = Some(now + jitter.percent(SOLICIT_DELAY, 0, 100));
        Self {
            own,
            jitter,
            advertised: None,
            advertise_at: now,
            solicitations: 0,
            solicit_at,
            routers: Vec::new(),
            session: None,
        }
    }

    /// Takes note of a message that has passed [`message::parse`].
    pub(crate) fn heard(&mut self, from: Ipv6Addr, kind: Kind, now: Instant) {
        if from == self.own {
            return;
        }
        match kind {
            Kind::Solicitation => {
                // One answer for all routers that ask meanwhile (RFC 4861 §6.2.6).
                let soon = now + self.jitter.percent(ANSWER_DELAY, 0, 100);
                self.advertise_at = self.advertise_at.min(soon.max(self.earliest(now)));
            }
            Kind::Advertisement => self.heard_router(from, now),
        }
    }

    fn heard_router(&mut self, from: Ipv6Addr, now: Instant) {
        if let Some(router) = self.routers.iter_mut().find(|router| router.address == from) {
            (router.heard, router.unanswered) = (now, 0);
            return;
        }
        if self.routers.len() < ROUTERS {
            self.routers.push(Router { address: from, heard: now, unanswered: 0 });
            if self.routers.len() > 1 {
                // Is the older one still there?
                self.solicit_again(now);
            }
        }
    }

    /// Whether the session is with a router.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Sets the router that the session is with now; `None` if there is no session.
    pub(crate) fn set_session(&mut self, with: Option<Ipv6Addr>, now: Instant) {
        let before = std::mem::replace(&mut self.session, with);
        if before.is_some() && with.is_none() {
            self.advertise_at = self.earliest(now);
            self.solicit_again(now);
        }
    }

    /// What is to be sent now.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Kind> {
        let mut due = Vec::new();
        let session = self.session;
        self.routers
            .retain(|router| Some(router.address) == session || router.heard + LIFETIME > now);
        if self.advertise_at <= now {
            self.advertised = Some(now);
            let pause = if session.is_some() { ADVERTISE } else { ADVERTISE_SOON };
            self.advertise_at = now + self.jitter.percent(pause, 75, 100);
            due.push(Kind::Advertisement);
        }
        if self.solicit_at.is_some_and(|at| at <= now) {
            self.forget_silent();
            let needed = session.is_none() || self.routers.len() > 1;
            self.solicit_at = needed.then(|| now + self.solicit_pause());
            if needed {
                self.routers.iter_mut().for_each(|router| router.unanswered += 1);
                due.push(Kind::Solicitation);
            }
        }
        due
    }

    /// When [`tick`](Self::tick) is due at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        self.solicit_at.map_or(self.advertise_at, |at| at.min(self.advertise_at))
    }

    /// The router to dial: the one that the session is with, or else the first that was heard.
    pub(crate) fn router(&self) -> Option<Ipv6Addr> {
        self.session.or_else(|| self.routers.first().map(|router| router.address))
    }

    /// All that advertise themselves on the link, where there should be one.
    pub(crate) fn routers(&self) -> impl Iterator<Item = Ipv6Addr> {
        let there = |router: &&Router| {
            Some(router.address) == self.session || router.unanswered < UNANSWERED
        };
        self.routers.iter().filter(there).map(|router| router.address)
    }

    /// A router that does not answer makes room, if there is one that does.
    fn forget_silent(&mut self) {
        let in_session = |router: &Router| Some(router.address) == self.session;
        if self.routers.iter().any(|router| in_session(router) || router.unanswered == 0) {
            let session = self.session;
            self.routers
                .retain(|router| Some(router.address) == session || router.unanswered < UNANSWERED);
        }
    }

    fn solicit_again(&mut self, now: Instant) {
        self.solicitations = 0;
        self.solicit_at = Some(now + self.jitter.percent(SOLICIT_DELAY, 0, 100));
    }

    fn solicit_pause(&mut self) -> Duration {
        self.solicitations = self.solicitations.saturating_add(1);
        let doublings = self.solicitations.saturating_sub(SOLICITATIONS - 1).min(8);
        let pause = SOLICIT_INTERVAL.saturating_mul(1 << doublings).min(SOLICIT_SELDOM);
        // Never earlier than a router may answer that has just advertised itself.
        self.jitter.percent(pause, 100, 110)
    }

    /// Advertisements to all nodes keep their distance (RFC 4861 §6.2.6).
    fn earliest(&self, now: Instant) -> Instant {
        self.advertised.map_or(now, |last| now.max(last + BETWEEN_ADVERTISEMENTS))
    }
}

#[cfg(test)]
mod tests;
