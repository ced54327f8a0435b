//! Requests of a router for all routes again (RFC 2918), answered at most once a second.
//!
//! [`session`](super::session) asks here, so that a router cannot keep this end busy with the
//! smallest of messages.

use std::time::{Duration, Instant};

use super::peer::Families;

/// From answer to answer.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a router has asked for on one session.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    wanted: Families,
    answered: Option<Instant>,
}

impl Refreshes {
    /// Notes that the router wants all routes of this family, if it is one of those agreed on.
    pub(super) fn ask(&mut self, afi: u16, agreed: Families) {
        let mut asked = Families::default();
        asked.add(afi);
        asked = asked.and(agreed);
        self.wanted.v4 |= asked.v4;
        self.wanted.v6 |= asked.v6;
    }

    /// Families whose routes are to be sent now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Families> {
        let rested = self.answered.is_none_or(|last| last + INTERVAL <= now);
        if !rested || self.wanted.is_empty() {
            return None;
        }
        self.answered = Some(now);
        Some(std::mem::take(&mut self.wanted))
    }

    /// When [`Self::due`] has something to say.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.answered.filter(|_| !self.wanted.is_empty()).map(|last| last + INTERVAL)
    }
}
