//! When an address that is drained may go: not before its last connection has ended for sure.
//!
//! `l2` has one [`DrainTimer`] for each address that another node has taken over, `draining` one for each
//! that routers lead elsewhere. Pure: the caller says what time it is and how many connections are left.

use std::time::{Duration, Instant};

/// How long an address is drained at least: a neighbour that missed the first announcement of the new
/// owner goes on sending here until the second, 1.1 s later. Routers need less for a withdrawal.
const AT_LEAST: Duration = Duration::from_millis(1200);
/// Between the first and the second look at an address without connections: one may have been queued.
const SURE: Duration = Duration::from_millis(120);

/// The time of one address that connections are to leave.
#[derive(Debug)]
pub(super) struct DrainTimer {
    since: Instant,
    /// Since when no connection is left on it.
    empty: Option<Instant>,
    ended: bool,
}

impl DrainTimer {
    /// Draining begins.
    pub(super) fn since(since: Instant) -> Self {
        Self { since, empty: None, ended: false }
    }

    /// For how long the address has been drained.
    pub(super) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Whether [`ends`](Self::ends) has been true.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// True once: when the address may go. `left` counts its connections; `None` while that is not known.
    pub(super) fn ends(&mut self, left: Option<usize>, now: Instant) -> bool {
        if left != Some(0) {
            self.empty = None;
            return false;
        }
        let empty = *self.empty.get_or_insert(now);
        let may = self.lasted(now) >= AT_LEAST && now.saturating_duration_since(empty) >= SURE;
        may && !std::mem::replace(&mut self.ended, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_let_go_once_when_its_last_connection_has_ended_for_sure() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut address = DrainTimer::since(start);
        assert!(!address.ends(Some(1), at(2_000)), "a connection is open");
        assert!(!address.ends(Some(0), at(2_100)), "one may still be queued");
        assert!(!address.ends(Some(1), at(2_200)), "it was");
        assert!(!address.ends(Some(0), at(2_300)));
        assert!(!address.ends(None, at(2_400)), "not known is not none");
        assert!(!address.ends(Some(0), at(2_500)));
        assert!(address.ends(Some(0), at(2_620)));
        assert!(!address.ends(Some(0), at(2_700)), "told once is enough");
    }

    #[test]
    fn a_neighbour_that_missed_the_first_announcement_is_served_until_the_second() {
        let start = Instant::now();
        let mut address = DrainTimer::since(start);
        let times = (0..30).map(|step| start + Duration::from_millis(50) * step);
        let gone = times.into_iter().position(|now| address.ends(Some(0), now));
        assert_eq!(gone, Some(24), "1.2 s");
    }
}
