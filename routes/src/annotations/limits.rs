//! What annotations say about how much a client may do.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use http::StatusCode;

use crate::{
    filter::{
        Filter, Pace,
        connection_limit::ConnectionLimit,
        limit_key::LimitKey,
        rate_limit::{LimitScope, RateLimit, Shown},
    },
    networks::Networks,
    objects::ObjectRef,
};

/// Name of the limit that counts connections.
const CONNECTIONS: &str = "connections";

/// Tells the limit of all nodes from those that are named by their seconds.
const GROUP: u64 = u64::MAX;

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
    /// What tells clients apart.
    pub(super) by: LimitKey,
    /// Statuses for what is too much.
    pub(super) status: Option<StatusCode>,
    pub(super) connections_status: Option<StatusCode>,
    /// Clients are told of the limits.
    pub(super) shown: bool,
    /// Where rates count.
    pub(super) reach: LimitScope,
    pub(super) group: GroupLimit,
}

/// A limit of all nodes together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupLimit {
    /// Requests within a window, all of which may come at once.
    pub(super) count: Option<u32>,
    pub(super) window: Duration,
    pub(super) by: LimitKey,
    pub(super) exempt: Networks,
}

/// Limits as OpenShift's router has them: none counts unless they are switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteLimits {
    pub(super) on: bool,
    /// Requests within 10 s.
    pub(super) requests: Option<u32>,
    /// Connections within 3 s.
    pub(super) connections: Option<u32>,
    /// Requests at once.
    pub(super) at_once: Option<u32>,
}

impl Limits {
    /// Whether clients are told apart by what their tokens say.
    pub(crate) fn need_tokens(&self) -> bool {
        self.by.needs_authentication()
    }

    /// The limits of an object. Its versions share them: counting goes on when it changes.
    pub(super) fn filters(&self, object: &ObjectRef) -> impl Iterator<Item = Filter> {
        let too_many = StatusCode::TOO_MANY_REQUESTS;
        let status = self.status.unwrap_or(too_many);
        let routes = Some(self.routes).filter(|routes| routes.on).unwrap_or_default();
        let at_once = self.connections.into_iter().chain(routes.at_once).min();
        let connections = at_once.map(|limit| {
            Filter::Connections(Arc::new(ConnectionLimit {
                scope: scope(object, 0),
                by: self.by.clone(),
                limit,
                exempt: self.exempt.clone(),
                status: self.connections_status.unwrap_or(status),
            }))
        });
        let after = self.pace_after;
        let pace = self.pace.map(|bytes_per_second| Filter::Pace(Pace { bytes_per_second, after }));
        let all_at_once = |count: Option<u32>| count.map(|count| (count, count.saturating_sub(1)));
        let by_factor =
            |count: Option<u32>| count.map(|count| (count, count.saturating_mul(self.burst)));
        let limits = [
            (by_factor(self.per_second), 1, "second"),
            (by_factor(self.per_minute), 60, "minute"),
            (all_at_once(routes.requests), 10, "10-seconds"),
            (all_at_once(routes.connections), 3, CONNECTIONS),
        ];
        let rates = limits.into_iter().filter_map(move |(limit, seconds, name)| {
            let (count, burst) = limit?;
            let scope = scope(object, seconds);
            Some(Filter::RateLimit(Arc::new(RateLimit {
                scope,
                by: self.by.clone(),
                reach: self.reach,
                connections: name == CONNECTIONS,
                interval: Duration::from_secs(seconds) / count,
                burst,
                exempt: self.exempt.clone(),
                status,
                shown: self.shown.then(|| Shown::new(name, count, seconds)),
            })))
        });
        let group = self.group.filter(object, status, self.shown);
        rates.chain(group).chain(connections).chain(pace)
    }
}

impl GroupLimit {
    fn filter(&self, object: &ObjectRef, status: StatusCode, shown: bool) -> Option<Filter> {
        let count = self.count?;
        Some(Filter::RateLimit(Arc::new(RateLimit {
            scope: scope(object, GROUP),
            by: self.by.clone(),
            reach: LimitScope::Group,
            connections: false,
            interval: self.window / count,
            burst: count - 1,
            exempt: self.exempt.clone(),
            status,
            shown: shown.then(|| Shown::new("window", count, self.window.as_secs().max(1))),
        })))
    }
}

/// What tells a limit of an object from all others, the same for all its versions.
fn scope(object: &ObjectRef, which: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (object, which).hash(&mut hasher);
    hasher.finish()
}
