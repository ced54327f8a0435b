//! Passive checks: an endpoint whose answers to clients are failures gets no requests for a while.
//!
//! Only where an object asks for it: an answer of 500 says as much of the request as of the endpoint, so that one
//! client could take endpoints away from all others. The share bounds what may be taken away.

use std::{num::NonZeroU32, time::Duration};

/// When endpoints are ejected for their answers, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// So many failures in a row, over all data threads.
    pub errors: Option<NonZeroU32>,
    /// The part of answers that must be none.
    pub success: Option<SuccessRate>,
    /// How long the first time; it doubles with each request after it that fails as well, up to [`LONGEST`].
    pub time: Duration,
    /// Percent of a backend's endpoints that may be ejected for their answers; one of several always may, the last
    /// one never.
    pub share: u8,
}

/// How long the first ejection takes, where nobody says.
pub const TIME: Duration = Duration::from_secs(30);

/// Longest time of an ejection, unless the first one is longer.
pub const LONGEST: Duration = Duration::from_secs(300);

/// What part of an endpoint's answers must be no failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SuccessRate {
    /// Percent.
    pub percent: u8,
    /// Over which time.
    pub interval: Duration,
    /// Fewer requests in that time say nothing.
    pub requests: NonZeroU32,
}

impl Ejection {
    /// Endpoints of so many that may be ejected at one time.
    pub fn most(&self, endpoints: usize) -> usize {
        let share = endpoints * usize::from(self.share.min(100)) / 100;
        share.max(1).min(endpoints.saturating_sub(1))
    }

    /// Whether an answer of this status is a failure of the endpoint's. What a server has not built
    /// (501, 505) is no fault of one endpoint.
    pub fn is_failure(status: u16) -> bool {
        matches!(status, 500..=599) && !matches!(status, 501 | 505)
    }
}

impl SuccessRate {
    /// Whether an endpoint with so many requests, and so many failures among them, is below it.
    pub fn is_missed(&self, requests: u64, failures: u64) -> bool {
        requests >= self.requests.get().into()
            && requests.saturating_sub(failures) * 100 < requests * u64::from(self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_endpoints_may_go_but_never_the_last_one() {
        let most = |share, endpoints| {
            Ejection { errors: None, success: None, time: LONGEST, share }.most(endpoints)
        };
        for (share, endpoints, expected) in [
            (50, 10, 5),
            (50, 3, 1),
            (10, 3, 1),
            (0, 3, 1),
            (100, 3, 2),
            (200, 3, 2),
            (50, 2, 1),
            (50, 1, 0),
            (50, 0, 0),
        ] {
            assert_eq!(most(share, endpoints), expected, "{share} % of {endpoints}");
        }
    }

    #[test]
    fn few_requests_say_nothing_and_the_rate_itself_is_enough() {
        let rate = SuccessRate {
            percent: 90,
            interval: Duration::from_secs(10),
            requests: NonZeroU32::new(20).unwrap(),
        };
        for (requests, failures, missed) in [
            (19, 19, false),
            (20, 2, false),
            (20, 3, true),
            (1_000, 100, false),
            (1_000, 101, true),
            (0, 0, false),
        ] {
            assert_eq!(rate.is_missed(requests, failures), missed, "{failures} of {requests}");
        }
        for (status, failure) in [
            (200, false),
            (404, false),
            (499, false),
            (500, true),
            (501, false),
            (503, true),
            (505, false),
            (600, false),
        ] {
            assert_eq!(Ejection::is_failure(status), failure, "{status}");
        }
    }
}
