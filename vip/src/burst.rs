//! When an address is announced: at once, then a few times more, so that a lost frame costs little.
//!
//! The same for ARP and NDP, and the same as MetalLB does: five repetitions, 1.1 s apart (RFC 4861
//! §7.2.6 asks that unsolicited advertisements be more than a second apart). Pure; the owner of an
//! address keeps one per address and asks it for the next deadline.

use std::time::{Duration, Instant};

/// Repetitions after the first announcement.
const REPEATS: u8 = 5;
/// From announcement to announcement.
const INTERVAL: Duration = Duration::from_millis(1100);

/// The announcements that are still to be made of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burst {
    left: u8,
    next: Instant,
}

impl Burst {
    /// A burst whose first announcement is due now.
    pub(crate) fn start(now: Instant) -> Self {
        Self { left: 1 + REPEATS, next: now }
    }

    /// When the next announcement is due; `None` after the last one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (self.left > 0).then_some(self.next)
    }

    /// Whether an announcement is due.
    pub(crate) fn due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Notes that an announcement has been made, or tried.
    pub(crate) fn made(&mut self, now: Instant) {
        self.left = self.left.saturating_sub(1);
        // From now, not from when it was due: a late one must not be chased by the next.
        self.next = now + INTERVAL;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_announced_at_once_and_five_times_more_at_1100_ms() {
        let start = Instant::now();
        let mut burst = Burst::start(start);
        let mut made = Vec::new();
        while let Some(deadline) = burst.deadline() {
            assert!(!burst.due(deadline - Duration::from_nanos(1)));
            assert!(burst.due(deadline));
            burst.made(deadline);
            made.push((deadline - start).as_millis());
        }
        assert_eq!(made, [0, 1100, 2200, 3300, 4400, 5500]);
        assert!(!burst.due(start + Duration::from_secs(3600)));
    }

    #[test]
    fn a_late_announcement_is_not_chased_by_the_next() {
        let start = Instant::now();
        let mut burst = Burst::start(start);
        let late = start + Duration::from_secs(9);
        burst.made(late);
        assert_eq!(burst.deadline(), Some(late + INTERVAL));
    }
}
