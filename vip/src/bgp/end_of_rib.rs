//! When a router hears that it has all routes (RFC 4724 §4.1).
//!
//! A router that has kept the routes of a node which restarts forgets, at the End-of-RIB, those that it
//! has not heard again. So it must not come before the node has got its addresses back. The BGP speaker
//! keeps one [`EndOfRib`] for each session that is up. Pure.

use std::time::{Duration, Instant};

/// Longest wait for addresses. Far less than a router waits by itself for a node that restarts, so that
/// what the node does not announce any more is forgotten in time; far more than ten thousand addresses
/// take.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether a session still owes its router the End-of-RIB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EndOfRib {
    /// By when it is due in any case; `None`: it was sent, or the router did not ask for it.
    by: Option<Instant>,
}

impl EndOfRib {
    /// For a session that has come up now. `asked`: the router knows what it means.
    pub(crate) fn new(asked: bool, now: Instant) -> Self {
        Self { by: asked.then(|| now + LONGEST) }
    }

    /// Whether it is to be said now, and not again. `complete`: the router has got all routes that it
    /// will hear of for the time being.
    pub(crate) fn due(&mut self, complete: bool, now: Instant) -> bool {
        self.by.take_if(|by| complete || *by <= now).is_some()
    }

    /// When [`due`](Self::due) is to be asked at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.by
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]
mod tests {
    use super::*;
    use crate::bgp::open::RESTART_SECONDS;

    #[test]
    fn it_is_said_once_when_everything_has_been_told() {
        let start = Instant::now();
        let mut end = EndOfRib::new(true, start);
        assert!(!end.due(false, start));
        assert!(
            !end.due(false, start + LONGEST - Duration::from_millis(1)),
            "addresses are missing"
        );
        assert!(end.due(true, start + Duration::from_secs(2)));
        assert_eq!(end.deadline(), None);
        assert!(!end.due(true, start + LONGEST * 2), "it has been said");
    }

    #[test]
    fn it_does_not_wait_longer_than_routers_keep_stale_routes() {
        let start = Instant::now();
        let mut end = EndOfRib::new(true, start);
        let by = end.deadline().unwrap();
        assert!(by - start <= Duration::from_secs(RESTART_SECONDS.into()) / 4);
        assert!(end.due(false, by));
        assert!(!end.due(true, by), "it has been said");
    }

    #[test]
    fn a_router_that_does_not_know_it_hears_none() {
        let start = Instant::now();
        let mut end = EndOfRib::new(false, start);
        assert_eq!(end.deadline(), None);
        assert!(!end.due(true, start + LONGEST));
    }
}
