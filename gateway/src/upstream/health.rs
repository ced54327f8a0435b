//! What is known against an endpoint: when it gets no requests, and when it is tried again.
//!
//! Connects count for every endpoint. Whether an endpoint accepts them is its own doing, while a request that ends
//! badly may be the doing of one client, who could take endpoints away from all others by it: answers count only
//! where an object asks for it (`outliers`).
//!
//! [`Health`] is the state, pure: time is an argument. All workers share it as one word per endpoint
//! (`EndpointStats::health`, which compiles carry over by address), that a request reads and only a change
//! writes. `pick` asks it, `connect` tells it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gatehouse_routes::stats::EndpointStats;

use crate::worker::clock::Tick;

/// How often the pause doubles at most: 64 first ones.
const DOUBLED: u8 = 6;
/// Pauses that are counted at most.
const MOST_PAUSES: u8 = 127;

/// What the last connects say of an endpoint. Times are those of all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing speaks against it.
    #[default]
    Good,
    /// A connect to it takes long: until then others are preferred, so that not every request waits for the
    /// same answer.
    Slow { until: Tick },
    /// It gets no requests as long as others can have them. The next trial is due then, after so many pauses.
    Ejected { pauses: u8, due: Tick },
    /// Its answers were failures. It gets no requests as long as others can have them. The next is due then, after
    /// so many pauses: one that says whether it is well again.
    Failing { pauses: u8, due: Tick },
    /// Its checks fail. It gets no requests as long as others can have them, and only a check changes that.
    Down,
}

impl Health {
    /// A request's connect has failed. `pause`: how long an endpoint is left alone at first.
    fn failed(self, now: Tick, pause: Tick) -> Self {
        match self {
            Self::Good | Self::Slow { .. } => Self::Ejected { pauses: 1, due: now + pause },
            // It began before, or nothing better is left; trials decide.
            Self::Ejected { .. } | Self::Failing { .. } | Self::Down => self,
        }
    }

    /// A request's connect takes long, and ends within `time`.
    fn slow(self, now: Tick, time: Tick) -> Self {
        match self {
            Self::Good | Self::Slow { .. } => Self::Slow { until: now + time },
            Self::Ejected { .. } | Self::Failing { .. } | Self::Down => self,
        }
    }

    /// A connect has succeeded, which says nothing of answers or of checks.
    fn connected(self) -> Self {
        match self {
            Self::Good | Self::Slow { .. } | Self::Ejected { .. } => Self::Good,
            Self::Failing { .. } | Self::Down => self,
        }
    }

    /// Too many answers were failures.
    fn answers_failed(self, now: Tick, pause: Tick) -> Self {
        match self {
            Self::Good | Self::Slow { .. } => Self::Failing { pauses: 1, due: now + pause },
            Self::Ejected { .. } | Self::Failing { .. } | Self::Down => self,
        }
    }

    /// The state while one request finds out about answers, within `time`, if that is due.
    fn probe(self, now: Tick, time: Tick) -> Option<Self> {
        match self {
            Self::Failing { pauses, due } if due <= now => {
                Some(Self::Failing { pauses, due: now + time })
            }
            _ => None,
        }
    }

    /// That request has been answered well, or failed: then the next pause is twice as long.
    fn probed(self, well: bool, now: Tick, pause: Pause) -> Self {
        match self {
            Self::Failing { .. } if well => Self::Good,
            Self::Failing { pauses, .. } => {
                let time = (pause.first << pauses.min(DOUBLED)).min(pause.longest.max(pause.first));
                let pauses = pauses.saturating_add(1).min(MOST_PAUSES);
                Self::Failing { pauses, due: now + time }
            }
            // Checks have come to a result meanwhile.
            other => other,
        }
    }

    /// The state while a trial is made that takes `time` at most, if one is due.
    fn trial(self, now: Tick, time: Tick) -> Option<Self> {
        match self {
            Self::Ejected { pauses, due } if due <= now => {
                Some(Self::Ejected { pauses, due: now + time })
            }
            _ => None,
        }
    }

    /// The trial has failed: the next pause is twice as long.
    fn trial_failed(self, now: Tick, pause: Tick) -> Self {
        match self {
            Self::Ejected { pauses, .. } => {
                let due = now + (pause << pauses.min(DOUBLED));
                Self::Ejected { pauses: pauses.saturating_add(1).min(MOST_PAUSES), due }
            }
            // A request's connect has succeeded meanwhile.
            other => other,
        }
    }

    /// Three bits for the state, seven for the count, the rest for the time.
    fn word(self) -> u64 {
        let (state, count, time) = match self {
            Self::Good => return 0,
            Self::Slow { until } => (1, 0, until),
            Self::Ejected { pauses, due } => (2, pauses, due),
            Self::Down => (3, 0, 0),
            Self::Failing { pauses, due } => (4, pauses, due),
        };
        state << STATE | u64::from(count) << COUNT | time & TIME
    }

    fn of_word(word: u64) -> Self {
        let (count, time) = ((word >> COUNT) as u8 & MOST_PAUSES, word & TIME);
        match word >> STATE {
            0 => Self::Good,
            1 => Self::Slow { until: time },
            2 => Self::Ejected { pauses: count, due: time },
            3 => Self::Down,
            _ => Self::Failing { pauses: count, due: time },
        }
    }
}

/// How long an endpoint whose answers fail is left alone: at first, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) first: Tick,
    pub(crate) longest: Tick,
}

const STATE: u32 = 61;
const COUNT: u32 = 54;
const TIME: u64 = (1 << COUNT) - 1;

/// The health of an endpoint now.
pub(crate) fn of(stats: &EndpointStats) -> Health {
    Health::of_word(stats.health.load(Relaxed))
}

/// Why the endpoint gets no requests as long as others can have them, in a word; `None`: it gets them.
pub(crate) fn why_ejected(stats: &EndpointStats) -> Option<&'static str> {
    match of(stats) {
        Health::Good | Health::Slow { .. } => None,
        Health::Ejected { .. } => Some("connects"),
        Health::Failing { .. } => Some("answers"),
        Health::Down => Some("checks"),
    }
}

/// A request's connect takes long, and ends within `time`.
pub(super) fn connect_slow(stats: &EndpointStats, now: Tick, time: Tick) {
    change(&stats.health, |health| Some(health.slow(now, time)));
}

/// A connect has succeeded. True if the endpoint was ejected.
pub(super) fn connected(stats: &EndpointStats) -> bool {
    if stats.health.load(Relaxed) == 0 {
        return false;
    }
    let before = change(&stats.health, |health| Some(health.connected()));
    matches!(before, Some(Health::Ejected { .. }))
}

/// A request's connect has failed. True if the endpoint is ejected for it.
pub(super) fn connect_failed(stats: &EndpointStats, now: Tick, pause: Tick) -> bool {
    let before = change(&stats.health, |health| Some(health.failed(now, pause)));
    let after = before.map(|before| before.failed(now, pause));
    let ejected = before != after && matches!(after, Some(Health::Ejected { .. }));
    if ejected {
        stats.ejections.fetch_add(1, Relaxed);
    }
    ejected
}

/// Too many answers were failures. True if the endpoint is ejected for it.
pub(super) fn answers_failed(stats: &EndpointStats, now: Tick, pause: Pause) -> bool {
    let before = change(&stats.health, |health| Some(health.answers_failed(now, pause.first)));
    let ejected = matches!(before, Some(Health::Good | Health::Slow { .. }));
    if ejected {
        stats.ejections.fetch_add(1, Relaxed);
    }
    ejected
}

/// True if a request is due that finds out about answers, which is then the caller's to send, within `time`.
pub(super) fn takes_probe(stats: &EndpointStats, now: Tick, time: Tick) -> bool {
    change(&stats.health, |health| health.probe(now, time)).is_some()
}

/// How that request ended. True if the endpoint gets requests again.
pub(super) fn probed(stats: &EndpointStats, well: bool, now: Tick, pause: Pause) -> bool {
    let before = change(&stats.health, |health| Some(health.probed(well, now, pause)));
    well && matches!(before, Some(Health::Failing { .. }))
}

/// Checks have come to a result; what requests had found out is past.
pub(super) fn checked(stats: &EndpointStats, well: bool) {
    if !well {
        stats.ejections.fetch_add(1, Relaxed);
    }
    let health = if well { Health::Good } else { Health::Down };
    stats.health.store(health.word(), Relaxed);
}

/// True if a trial is due, which is then the caller's to make, within `time`.
pub(crate) fn takes_trial(stats: &EndpointStats, now: Tick, time: Tick) -> bool {
    change(&stats.health, |health| health.trial(now, time)).is_some()
}

/// The trial has failed.
pub(crate) fn trial_failed(stats: &EndpointStats, now: Tick, pause: Tick) {
    change(&stats.health, |health| Some(health.trial_failed(now, pause)));
}

/// Changes the state if there is another one; returns what it was.
fn change(word: &AtomicU64, next: impl Fn(Health) -> Option<Health>) -> Option<Health> {
    let changed =
        word.fetch_update(Relaxed, Relaxed, |word| Some(next(Health::of_word(word))?.word()));
    changed.ok().map(Health::of_word)
}

#[cfg(test)]
mod tests;
