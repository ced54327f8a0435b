//! Rows of which backend and which endpoint gets a request.

use super::{INGRESS, PASSED_ON, ROUTED};
use crate::annotations::{
    table::Annotation,
    value::{ALGORITHM, HASH_BY, MAX_CONNECTIONS, MAX_PENDING, PANIC_PERCENT, SLOW_START, WEIGHTS},
};

pub(super) const ROWS: &[Annotation] = &[
    Annotation::honoured(
        "backend-weights",
        INGRESS,
        WEIGHTS,
        "",
        "Services of the namespace that share the requests of every path whose backend is one of them, at the port of \
         that path: `app=80,app-v2=20`.",
    ),
    Annotation::honoured(
        "hash-by",
        ROUTED,
        HASH_BY,
        "",
        "Text with variables of nginx that chooses the endpoint, the same one for the same text.",
    ),
    LOAD_BALANCE,
    Annotation::honoured(
        "max-connections",
        PASSED_ON,
        MAX_CONNECTIONS,
        "0",
        "Requests under way at each endpoint at most, over all threads of the process; further ones wait. Of a Service, and \
         where TLS is passed through: open TCP connections.",
    )
    .protecting(),
    Annotation::honoured(
        "max-pending",
        PASSED_ON,
        MAX_PENDING,
        "",
        "Requests that wait for an endpoint at most, 1024 if it is not given; further ones get 503 at once. Connections that \
         are passed on are reset.",
    ).tuning(),
    Annotation::honoured(
        "panic-threshold",
        ROUTED,
        PANIC_PERCENT,
        "0",
        "Percent: where fewer of all endpoints are fit for requests, all of them get requests.",
    ).tuning(),
    Annotation::honoured(
        "slow-start",
        ROUTED,
        SLOW_START,
        "",
        "For how long the share of a new endpoint grows before it is a full one: seconds, or a time such as \
         `2m`.",
    ).tuning(),
];

/// How the endpoint is chosen.
pub const LOAD_BALANCE: Annotation = Annotation::honoured(
    "load-balance",
    PASSED_ON,
    ALGORITHM,
    "",
    "How the endpoint is chosen: `round-robin` (the default), `least-request`, `least-time`, `random` or \
     `source`. Of a Service that of its TCP connections: `least-request` (`leastconn`) and `least-time` are the one \
     with fewer open connections there.",
)
.tuning();
