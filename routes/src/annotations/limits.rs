//! What annotations say about how much a client may do.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use crate::{
    filter::{Filter, Pace, connection_limit::ConnectionLimit, rate_limit::RateLimit},
    networks::Networks,
    objects::ObjectRef,
};

/// Limits for each client, part by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(super) per_second: Option<u32>,
    pub(super) per_minute: Option<u32>,
    pub(super) burst: u32,
    pub(super) exempt: Networks,
    /// Requests at once.
    pub(super) connections: Option<u32>,
    /// Bytes per second of an answer.
    pub(super) pace: Option<u64>,
    /// Bytes of it that leave at once.
    pub(super) pace_after: u64,
    pub(super) routes: RouteLimits,
}

/// Limits as OpenShift's router has them: none counts unless they are switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteLimits {
    pub(super) on: bool,
    /// Requests within 10 s.
    pub(super) requests: Option<u32>,
    /// Connections within 3 s.
    pub(super) connections: Option<u32>,
}

impl Limits {
    /// The limits of an object. Its versions share them: counting goes on when it changes.
    pub(super) fn filters(&self, object: &ObjectRef) -> impl Iterator<Item = Filter> {
        let connections = self.connections.map(|limit| {
            let (scope, exempt) = (scope(object, 0), self.exempt.clone());
            Filter::Connections(Arc::new(ConnectionLimit { scope, limit, exempt }))
        });
        let after = self.pace_after;
        let pace = self.pace.map(|bytes_per_second| Filter::Pace(Pace { bytes_per_second, after }));
        let routes = Some(self.routes).filter(|routes| routes.on).unwrap_or_default();
        let all_at_once = |count: Option<u32>| count.map(|count| (count, count.saturating_sub(1)));
        let by_factor =
            |count: Option<u32>| count.map(|count| (count, count.saturating_mul(self.burst)));
        let limits = [
            (by_factor(self.per_second), 1, false),
            (by_factor(self.per_minute), 60, false),
            (all_at_once(routes.requests), 10, false),
            (all_at_once(routes.connections), 3, true),
        ];
        let rates = limits.into_iter().filter_map(move |(limit, seconds, connections)| {
            let (count, burst) = limit?;
            let scope = scope(object, seconds);
            Some(Filter::RateLimit(Arc::new(RateLimit {
                scope,
                connections,
                interval: Duration::from_secs(seconds) / count,
                burst,
                exempt: self.exempt.clone(),
            })))
        });
        rates.chain(connections).chain(pace)
    }
}

/// What tells a limit of an object from all others, the same for all its versions.
fn scope(object: &ObjectRef, which: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (object, which).hash(&mut hasher);
    hasher.finish()
}
