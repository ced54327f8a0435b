//! What both drivers do in every turn beside their own work: ask whether the data path works, and publish
//! a status, neither too often nor too seldom.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Whether the data path works; asked on a speaker's thread several times a second: do not block.
/// While it is false, this node is not eligible for any address, and routers hear of none.
pub type Health = Arc<dyn Fn() -> bool + Send + Sync>;

/// The least wait after a turn in which nothing happened: a deadline that does not go away must not
/// take a whole core.
pub(crate) const LEAST_WAIT: Duration = Duration::from_millis(1);

/// Between two questions whether the data path works.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

/// Asks from time to time whether the data path works.
pub(crate) struct HealthPoll {
    /// `None`: it always works.
    health: Option<Health>,
    at: Instant,
}

impl HealthPoll {
    pub(crate) fn new(health: Option<Health>, now: Instant) -> Self {
        Self { health, at: now }
    }

    /// The answer, if it is time to ask.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<bool> {
        let health = self.health.as_ref().filter(|_| now >= self.at)?;
        self.at = now + HEALTH_INTERVAL;
        Some(health())
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.health.as_ref().map(|_| self.at)
    }
}

/// When to publish a status.
#[derive(Debug)]
pub(crate) struct StatusPace {
    /// What is shown has changed since the last one.
    pub(crate) changed: bool,
    published: Instant,
    /// Between two that show a change.
    interval: Duration,
    /// Between any two; `None`: there is one only after a change.
    anyway: Option<Duration>,
}

impl StatusPace {
    /// The first one is due after `interval`.
    pub(crate) fn new(interval: Duration, anyway: Option<Duration>, now: Instant) -> Self {
        Self { changed: true, published: now, interval, anyway }
    }

    pub(crate) fn due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// A status shows everything until now.
    pub(crate) fn published(&mut self, now: Instant) {
        (self.changed, self.published) = (false, now);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.changed {
            true => Some(self.published + self.interval),
            false => self.anyway.map(|anyway| self.published + anyway),
        }
    }
}
