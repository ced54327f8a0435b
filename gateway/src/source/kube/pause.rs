//! How long to wait before something that failed is tried again.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The first pause.
const FIRST: Duration = Duration::from_millis(200);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(10);
/// For so long nothing has failed, then pauses begin anew: a watch of what does not change hears of no success, though
/// it works.
const WORKS: Duration = Duration::from_secs(60);

/// Pauses that grow while there is no success, each longer by chance by up to a half, so that nodes which
/// failed together do not come back together.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
    /// When the last one was.
    failed: Option<Instant>,
}

impl Pause {
    /// Waits once more.
    pub(super) async fn wait(&mut self) {
        let pause = self.next(Instant::now());
        sleep(pause.mul_f64(1.0 + fastrand::f64() / 2.0)).await;
    }

    /// Whether they have grown to the longest one.
    pub(super) fn is_long(&self) -> bool {
        FIRST.saturating_mul(1 << self.failures.min(10)) >= LONGEST
    }

    /// There was a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    fn next(&mut self, now: Instant) -> Duration {
        if self.failed.replace(now).is_some_and(|failed| now > failed + WORKS) {
            self.reset();
        }
        let pause = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew_after_a_success() {
        let mut pause = Pause::default();
        let mut now = Instant::now();
        let mut milliseconds = || {
            now += Duration::from_secs(12);
            pause.next(now).as_millis()
        };
        let pauses: Vec<_> = (0..8).map(|_| milliseconds()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10000, 10000]);
        assert!(pause.is_long());
        pause.reset();
        assert!(!pause.is_long());
        assert_eq!(pause.next(now), FIRST);
    }

    #[test]
    fn what_has_not_failed_for_a_minute_is_taken_to_work() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        for _ in 0..3 {
            now += Duration::from_secs(300);
            assert_eq!(pause.next(now), FIRST, "a watch that is cut now and then");
            assert_eq!(pause.next(now + FIRST), 2 * FIRST);
        }
    }
}
