//! Active checks: whether an endpoint works is found out without a request of a client.

use std::{sync::Arc, time::Duration};

/// How the endpoints of an object's backends are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What an endpoint must answer.
    pub kind: CheckKind,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// Longest that one takes.
    pub timeout: Duration,
    /// So many failures in a row, and it gets no requests as long as others can have them.
    pub fall: u32,
    /// So many successes in a row, and it gets requests again.
    pub rise: u32,
}

/// What an endpoint must answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CheckKind {
    /// It accepts a connection.
    #[default]
    Tcp,
    /// A status of 200 to 399 to a GET.
    Http {
        /// Path and query.
        path: Arc<str>,
        /// `Host`; none: the address.
        host: Option<Arc<str>>,
    },
    /// `SERVING` in the protocol `grpc.health.v1`.
    Grpc {
        /// The service that is asked for; empty: the whole server.
        service: Arc<str>,
    },
}
