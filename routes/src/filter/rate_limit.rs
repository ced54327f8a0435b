//! How many requests a client may send.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use super::limit_key::LimitKey;
use crate::networks::Networks;

/// A limit for each client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Tells this limit from all others; the same for every version of the object that sets it.
    pub scope: u64,
    /// What tells clients apart.
    pub by: LimitKey,
    /// Where it counts.
    pub reach: LimitScope,
    /// Connections are counted, by the first request of each that comes here, instead of requests.
    pub connections: bool,
    /// Time between two requests at the full rate.
    pub interval: Duration,
    /// Requests that may come before their time.
    pub burst: u32,
    /// Who is not counted.
    pub exempt: Networks,
    /// Status for requests that are too many.
    pub status: StatusCode,
    /// What clients are told of it, if they are.
    pub shown: Option<Shown>,
}

/// Where a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitScope {
    /// Each node counts for itself.
    #[default]
    Node,
    /// All nodes of the group count together.
    Group,
}

/// A limit in the fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its item of `RateLimit-Policy`.
    pub policy: HeaderValue,
    /// Its name, as items begin with it.
    pub name: &'static str,
    /// Requests of a window.
    pub quota: u32,
}

impl Shown {
    /// A limit of so many requests within so many seconds.
    pub fn new(name: &'static str, quota: u32, seconds: u64) -> Self {
        let text = format!("\"{name}\";q={quota};w={seconds}");
        // Letters, digits, quotes, `;` and `=`.
        let policy = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { policy, name, quota }
    }

    /// Its item of `RateLimit`: how many requests are left at once, and when the quota is whole again.
    pub fn left(&self, left: u32, whole_in: Duration) -> Option<HeaderValue> {
        let seconds = whole_in.as_secs() + u64::from(whole_in.subsec_nanos() > 0);
        let text = format!("\"{}\";r={};t={seconds}", self.name, left.min(self.quota));
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_shown_with_its_quota_and_what_is_left_of_it() {
        let shown = Shown::new("minute", 30, 60);
        assert_eq!(shown.policy, "\"minute\";q=30;w=60");
        let left = |left, millis| shown.left(left, Duration::from_millis(millis)).unwrap();
        assert_eq!(left(7, 1_001), "\"minute\";r=7;t=2");
        assert_eq!(left(150, 0), "\"minute\";r=30;t=0", "the burst is no part of the quota");
    }
}
