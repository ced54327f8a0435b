//! How long to wait before something that failed is tried again.

use std::time::Duration;

use tokio::time::sleep;

/// The first pause.
const FIRST: Duration = Duration::from_millis(200);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(10);

/// Pauses that grow while there is no success, each longer by chance by up to a half, so that nodes which
/// failed together do not come back together.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
}

impl Pause {
    /// Waits once more.
    pub(super) async fn wait(&mut self) {
        let pause = self.next();
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

    fn next(&mut self) -> Duration {
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
        let mut milliseconds = || (0..8).map(|_| pause.next().as_millis()).collect::<Vec<_>>();
        assert_eq!(milliseconds(), [200, 400, 800, 1600, 3200, 6400, 10000, 10000]);
        assert!(pause.is_long());
        pause.reset();
        assert!(!pause.is_long());
        assert_eq!(pause.next(), FIRST);
    }
}
