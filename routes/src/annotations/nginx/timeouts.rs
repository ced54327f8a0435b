//! Rows of times and tries.

use super::honoured;
use crate::annotations::{
    table::Annotation,
    value::{CONNECT_TIMEOUT, NEXT_TIME, NEXT_TRIES, NEXT_UPSTREAM, PAUSE_TIMEOUT, SEND_TIMEOUT},
};

pub(super) const ROWS: &[Annotation] = &[
    honoured(
        "proxy-connect-timeout",
        CONNECT_TIMEOUT,
        "",
        "How long a connection to an endpoint may take: seconds, or a time such as `500ms`.",
    ).tuning(),
    honoured(
        "proxy-next-upstream",
        NEXT_UPSTREAM,
        "",
        "Failures after which another endpoint is tried; a request of a method that should not be \
         repeated, or whose body passes as it comes, only if no endpoint has seen it (`non_idempotent`: any method).",
    ).tuning()
    .but("a request with a body that passes as it comes goes on only if no endpoint has seen it; without a word, no answer in time is 504 at once"),
    honoured(
        "proxy-next-upstream-timeout",
        NEXT_TIME,
        "",
        "How long other endpoints are tried, in seconds; `0`: as long as it takes.",
    ).tuning(),
    honoured(
        "proxy-next-upstream-tries",
        NEXT_TRIES,
        "",
        "How many endpoints get a request at most; `0`: all there are.",
    ).tuning(),
    honoured(
        "proxy-read-timeout",
        PAUSE_TIMEOUT,
        "",
        "How long the backend may be silent (504), and nothing move in a WebSocket: seconds, or a time such as \
         `1h`.",
    ).tuning(),
    honoured(
        "proxy-send-timeout",
        SEND_TIMEOUT,
        "",
        "How long the backend may take nothing of a request's body (504): seconds, or a time such as `5m`.",
    ).tuning(),
];
