//! When an address is announced: at once, then a few times more, so that a lost frame costs little.
//!
//! The same for ARP and NDP, and the same as MetalLB does: five repetitions, 1.1 s apart (RFC 4861
//! §7.2.6 asks that unsolicited advertisements be more than a second apart). More often only while
//! the kernel of a dead node may still answer for the address. Pure; the owner of an address keeps
//! one [`Announcements`] per address and asks it for the next deadline; one [`Pace`] for all of them keeps
//! the announcements of a thousand addresses from leaving in one rush.

use std::time::{Duration, Instant};

/// Repetitions after the first announcement.
const REPEATS: u8 = 5;
/// From announcement to announcement.
const INTERVAL: Duration = Duration::from_millis(1100);
/// The same while a dead node may answer: a neighbour that got the answer of the dead node gets the right one within this.
const CONTESTED_INTERVAL: Duration = Duration::from_millis(100);
/// How long a dead node may answer: the lifetime that its kernel grants its addresses (2 s), and the
/// second by which kernels are late.
const CONTESTED: Duration = Duration::from_secs(3);

/// What [`Pace`] counts in.
const SLOT: Duration = Duration::from_millis(10);
/// First announcements in a slot: 1 000 addresses move within 100 ms, and the queue of a network card
/// (1 000 frames by default) does not overflow.
const FIRST_PER_SLOT: u32 = 100;
/// Repetitions in a slot: with two frames for each address, 2 000 frames in a second.
const REPEATS_PER_SLOT: u32 = 10;

/// The announcements that are still to be made of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announcements {
    contested_until: Option<Instant>,
    left: u8,
    next: Instant,
}

/// Spreads what is due at the same moment for many addresses.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    first: Lane,
    contested: Lane,
    repeats: Lane,
}

#[derive(Debug, Default)]
struct Lane {
    start: Option<Instant>,
    used: u32,
}

impl Announcements {
    /// The first one is due now, or as soon as those of other addresses allow.
    pub(crate) fn start(now: Instant, pace: &mut Pace) -> Self {
        Self { contested_until: None, left: 1 + REPEATS, next: pace.first(now) }
    }

    /// The same, with many announcements before the usual ones.
    pub(crate) fn contested(now: Instant, pace: &mut Pace) -> Self {
        Self { contested_until: Some(now + CONTESTED), ..Self::start(now, pace) }
    }

    /// When the next announcement is due; `None` after the last one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (self.left > 0).then_some(self.next)
    }

    /// Whether an announcement is due.
    pub(crate) fn due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Asks for an announcement at `at`, beside what is still to come.
    pub(crate) fn again(&mut self, at: Instant) {
        self.next = if self.left == 0 { at } else { self.next.min(at) };
        self.left = self.left.max(1);
    }

    /// Notes that an announcement has been made, or tried.
    pub(crate) fn made(&mut self, now: Instant, pace: &mut Pace) {
        // From now, not from when it was due: a late one must not be chased by the next.
        if self.contested_until.is_some_and(|until| now < until) {
            self.next = pace.contested.slot(now + CONTESTED_INTERVAL, REPEATS_PER_SLOT);
            return;
        }
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            self.next = pace.repeats.slot(now + INTERVAL, REPEATS_PER_SLOT);
        }
    }
}

impl Pace {
    /// When something may be sent for the first time that is due at `at`.
    pub(crate) fn first(&mut self, at: Instant) -> Instant {
        self.first.slot(at, FIRST_PER_SLOT)
    }
}

impl Lane {
    /// The earliest moment from `at` on that is not taken by `capacity` others.
    fn slot(&mut self, at: Instant, capacity: u32) -> Instant {
        match self.start {
            Some(start) if at < start + SLOT => {
                if self.used >= capacity {
                    self.start = Some(start + SLOT);
                    self.used = 0;
                }
            }
            _ => {
                self.start = Some(at);
                self.used = 0;
            }
        }
        self.used += 1;
        self.start.map_or(at, |start| start.max(at))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// When all of them announce, in milliseconds, each at its deadlines.
    fn times(mut all: Vec<Announcements>, start: Instant, pace: &mut Pace) -> Vec<u128> {
        let mut made = Vec::new();
        while let Some((deadline, announcements)) = all
            .iter_mut()
            .filter_map(|announcements| Some((announcements.deadline()?, announcements)))
            .min_by_key(|(deadline, _)| *deadline)
        {
            assert!(!announcements.due(deadline - Duration::from_nanos(1)));
            assert!(announcements.due(deadline));
            announcements.made(deadline, pace);
            made.push((deadline - start).as_millis());
        }
        made
    }

    #[test]
    fn an_address_is_announced_at_once_and_five_times_more_at_1100_ms() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let announcements = Announcements::start(start, &mut pace);
        let made = times(vec![announcements], start, &mut pace);
        assert_eq!(made, [0, 1100, 2200, 3300, 4400, 5500]);
    }

    #[test]
    fn a_contested_address_is_announced_every_100_ms_for_3_s_and_then_as_usual() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let announcements = Announcements::contested(start, &mut pace);
        let made = times(vec![announcements], start, &mut pace);
        let often: Vec<_> = (0..=30).map(|tenth| tenth * 100).collect();
        assert_eq!(made[..31], often);
        assert_eq!(made[31..], [4100, 5200, 6300, 7400, 8500]);
    }

    #[test]
    fn a_late_announcement_is_not_chased_by_the_next() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let mut announcements = Announcements::start(start, &mut pace);
        let late = start + Duration::from_secs(9);
        announcements.made(late, &mut pace);
        assert_eq!(announcements.deadline(), Some(late + INTERVAL));
    }

    #[test]
    fn one_more_announcement_can_be_asked_for_during_and_after_the_burst() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let mut announcements = Announcements::start(start, &mut pace);
        announcements.made(start, &mut pace);
        let soon = start + Duration::from_millis(300);
        announcements.again(soon);
        assert_eq!(announcements.deadline(), Some(soon));
        times(vec![announcements], start, &mut pace);
        announcements.left = 0;
        announcements.again(soon);
        assert_eq!(times(vec![announcements], start, &mut pace), [300]);
    }

    #[test]
    fn a_thousand_addresses_are_announced_within_100_ms_and_then_a_thousand_in_a_second() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let all = (0..1000).map(|_| Announcements::contested(start, &mut pace)).collect();
        let made = times(all, start, &mut pace);
        assert_eq!(made[..1000].iter().max(), Some(&90));
        let mut by_second = BTreeMap::<_, usize>::new();
        for at in &made[1000..] {
            *by_second.entry((at - 100) / 1000).or_default() += 1;
        }
        assert!(by_second.values().all(|count| *count <= 1000), "{by_second:?}");
    }
}
