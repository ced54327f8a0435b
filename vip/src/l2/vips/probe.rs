//! Asking the link before an address is put on it, and keeping away from it after a refusal.
//!
//! One [`Probing`] for each address that is being asked for, one [`Block`] for each that could not be
//! put on the link. Pure; an address owns both.

use std::time::{Duration, Instant};

use crate::l2::announce::Pace;

/// Probes before an address is used: as many as in RFC 5227 §1.1 (`PROBE_NUM`); RFC 4862 asks for one.
const PROBES: u8 = 3;
/// From probe to probe, and from the last one to the use of the address. RFC 5227 takes 1 to 2 s and a
/// random delay before, for hosts of a whole site that boot together behind bridges that may not
/// forward yet. VIPs live on wired links, whose hosts answer within a millisecond or never; their
/// owners are few, have their link up already, and an unserved address costs more than a lost probe.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// Until an address that a stranger uses is tried again, at first; doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The same, at most.
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// Until something that happened, and is over, is no longer complained of.
const COMPLAINT: Duration = Duration::from_secs(60);
/// Until an address that may be tried again, and is not, counts as one that nothing is known against.
const FORGIVEN: Duration = Duration::from_secs(5);

/// The probes that are still to be sent for an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probing {
    /// The interface that is asked.
    pub(super) index: u32,
    left: u8,
    next: Instant,
}

/// What is to be done about an address that is being probed for.
pub(super) enum Step {
    /// Send a probe.
    Ask,
    /// Wait for an answer until then.
    Wait(Instant),
    /// No neighbour has answered.
    Free,
}

impl Probing {
    pub(super) fn start(index: u32, now: Instant, pace: &mut Pace) -> Self {
        Self { index, left: PROBES, next: pace.first(now) }
    }

    pub(super) fn step(&self, now: Instant) -> Step {
        match self.left {
            _ if now < self.next => Step::Wait(self.next),
            0 => Step::Free,
            _ => Step::Ask,
        }
    }

    /// Notes that a probe has been sent, or tried.
    pub(super) fn sent(&mut self, now: Instant) {
        self.left = self.left.saturating_sub(1);
        self.next = now + PROBE_INTERVAL;
    }
}

/// Whether an address is kept away from, and what is remembered of that afterwards.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block {
    until: Option<Instant>,
    backoff: Duration,
    forgiven_at: Option<Instant>,
}

impl Block {
    /// Keeps away because a stranger has the address; how long.
    pub(super) fn used(&mut self, now: Instant) -> Duration {
        self.backoff = (self.backoff * 2).clamp(FIRST_BACKOFF, LAST_BACKOFF);
        self.failed(now + self.backoff);
        self.backoff
    }

    /// Keeps away because the address could not be added.
    pub(super) fn failed(&mut self, until: Instant) {
        (self.until, self.forgiven_at) = (Some(until), None);
    }

    /// Remembers for a while that something has gone wrong, without keeping away.
    pub(super) fn complain(&mut self, now: Instant) {
        self.forgiven_at = Some(now + COMPLAINT);
    }

    pub(super) fn is_active(&self) -> bool {
        self.until.is_some()
    }

    /// Ends the time of keeping away, if it is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            (self.until, self.forgiven_at) = (None, Some(now + FORGIVEN));
        }
    }

    /// True once, when the address may have been tried again for a while, and was not.
    pub(super) fn forgive(&mut self, now: Instant) -> bool {
        let forgiven = self.forgiven_at.is_some_and(|at| at <= now);
        if forgiven {
            *self = Self::default();
        }
        forgiven
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until.or(self.forgiven_at)
    }
}
