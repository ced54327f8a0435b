//! When a request that one endpoint has failed goes on to the next.

use std::time::Duration;

/// What becomes of a request that an endpoint has failed.
///
/// A request that an endpoint may have seen is sent again only if that does no harm: without a body, and of a
/// method that may be repeated (RFC 9110 §9.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Which failures are for another endpoint to mend.
    pub on: Failures,
    /// Endpoints that get the request at most; 0: all there are. `None`: the process's bound.
    pub tries: Option<u32>,
    /// How long the request may go from one to the next; zero: as long as it takes. `None`: the process's bound.
    pub time: Option<Duration>,
}

impl Default for Retries {
    fn default() -> Self {
        Self { on: Failures::ERROR, tries: None, time: None }
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
