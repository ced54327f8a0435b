//! Rows of what follows when answers of endpoints are failures.

use super::ROUTED;
use crate::annotations::{
    table::Annotation,
    value::{
        EJECT_ERRORS, EJECT_INTERVAL, EJECT_REQUESTS, EJECT_SHARE, EJECT_SUCCESS_RATE, EJECT_TIME,
        RETRY_BUDGET, RETRY_MINIMUM,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    Annotation::honoured(
        "eject-errors",
        ROUTED,
        EJECT_ERRORS,
        "",
        "Failures in a row (5xx but 501 and 505, no answer, no connection) after which an endpoint is ejected.",
    ).tuning(),
    Annotation::honoured(
        "eject-interval",
        ROUTED,
        EJECT_INTERVAL,
        "",
        "Over which time eject-success-rate counts: seconds, or a time such as `1m`; 10 s if it is not given.",
    ).tuning(),
    Annotation::honoured(
        "eject-requests",
        ROUTED,
        EJECT_REQUESTS,
        "",
        "Requests in that time below which the rate of an endpoint says nothing, 20 if it is not given.",
    ).tuning(),
    Annotation::honoured(
        "eject-share",
        ROUTED,
        EJECT_SHARE,
        "",
        "Percent of a Service's endpoints that may be ejected for their answers, 50 if it is not given; one of \
         several always may, the last one never.",
    ).tuning(),
    Annotation::honoured(
        "eject-success-rate",
        ROUTED,
        EJECT_SUCCESS_RATE,
        "",
        "Percent: an endpoint of whose answers a smaller part is no failure is ejected.",
    ).tuning(),
    Annotation::honoured(
        "eject-time",
        ROUTED,
        EJECT_TIME,
        "",
        "How long an endpoint is ejected for its answers at first, 30 s if it is not given. Then one request \
         tries it; if that fails the next time is twice as long, 5 min at most.",
    ).tuning(),
    Annotation::honoured(
        "retry-budget",
        ROUTED,
        RETRY_BUDGET,
        "",
        "Percent of a Service's requests that wait for an answer which may be second tries where second tries \
         fail as well, 20 if it is not given; 100: any number, 0: `retry-budget-minimum` alone.",
    ).tuning(),
    Annotation::honoured(
        "retry-budget-minimum",
        ROUTED,
        RETRY_MINIMUM,
        "",
        "Second tries at one time that each data thread may have in any case, 3 if it is not given.",
    ).tuning(),
];
