//! When a request that one endpoint has failed goes on to the next.

use std::time::Duration;

/// What becomes of a request that an endpoint has failed.
///
/// A request that an endpoint may have seen is sent again only if that does no harm: its method may be repeated
/// (RFC 9110 §9.2.2), and it has no body, or one that was read in whole first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Which failures are for another endpoint to mend.
    pub on: Failures,
    /// Endpoints that get the request at most; 0: all there are. `None`: the process's bound.
    pub tries: Option<u32>,
    /// How long the request may go from one to the next; zero: as long as it takes. `None`: the process's bound.
    pub time: Option<Duration>,
    /// How many requests may be at it at one time.
    pub budget: Budget,
}

/// How many of the requests that wait for a backend's answer may be on another endpoint than their first, where those
/// fail as well: retries must not be what keeps a backend down. Requests that no endpoint has got so far do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Percent of all that wait; 0: no more than the minimum, also where second tries are answered.
    pub percent: u8,
    /// So many in any case, on each data thread.
    pub minimum: u32,
}

impl Default for Budget {
    /// As with Envoy's budgets.
    fn default() -> Self {
        Self { percent: 20, minimum: 3 }
    }
}

impl Budget {
    /// Whether one more request may be tried again where so many wait, itself included, and so many of them are
    /// second tries.
    pub fn admits(self, waiting: u32, again: u32) -> bool {
        let share = u64::from(waiting) * u64::from(self.percent) / 100;
        u64::from(again) < share.max(self.minimum.into())
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { on: Failures::ERROR, tries: None, time: None, budget: Budget::default() }
    }
}

/// A set of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures(u16);

impl Failures {
    /// None: the first endpoint has the last word.
    pub const NONE: Self = Self(0);
    /// No connection, also not in time, or one that ended without an answer. What holds without a word.
    pub const ERROR: Self = Self(1);
    /// No answer in time.
    pub const TIMEOUT: Self = Self(1 << 1);
    /// An answer that is none.
    pub const INVALID: Self = Self(1 << 2);
    /// Methods that should not be repeated are, all the same.
    pub const NON_IDEMPOTENT: Self = Self(1 << 3);
    /// Statuses that can stand for a failure.
    const STATUSES: [u16; 7] = [500, 502, 503, 504, 403, 404, 429];

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Answers of this status; `None` where a status cannot stand for a failure.
    pub fn status(status: u16) -> Option<Self> {
        let at = Self::STATUSES.iter().position(|known| *known == status)?;
        Some(Self(1 << (8 + at)))
    }

    /// Whether answers of this status are in.
    #[inline]
    pub fn has_status(self, status: u16) -> bool {
        self.0 >> 8 != 0 && Self::status(status).is_some_and(|failure| self.has(failure))
    }
}
