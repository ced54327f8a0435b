//! Rows of checks of endpoints.

use super::PASSED_ON;
use crate::annotations::{
    table::Annotation,
    value::{
        CHECK, CHECK_FALL, CHECK_HOST, CHECK_INTERVAL, CHECK_PATH, CHECK_RISE, CHECK_SERVICE,
        CHECK_TIMEOUT,
    },
};

/// Has endpoints checked.
pub const HEALTH_CHECK: Annotation = Annotation::honoured(
    "health-check",
    PASSED_ON,
    CHECK,
    "",
    "How endpoints are checked: `tcp` (they accept a connection), `http` (200 to 399 to a GET) or `grpc` (`SERVING` in grpc.health.v1). Of a Service the endpoints of its TCP ports are asked; the first such port speaks for UDP ports.",
).tuning();

pub(super) const ROWS: &[Annotation] = &[
    HEALTH_CHECK,
    Annotation::honoured(
        "health-check-healthy",
        PASSED_ON,
        CHECK_RISE,
        "",
        "Successes in a row after which an endpoint gets requests again, 2 if it is not given.",
    ).tuning(),
    Annotation::honoured(
        "health-check-host",
        PASSED_ON,
        CHECK_HOST,
        "",
        "Host of a check by http; without, the address.",
    ).tuning(),
    Annotation::honoured(
        "health-check-interval",
        PASSED_ON,
        CHECK_INTERVAL,
        "",
        "From one check to the next: seconds, or a time such as `500ms`; 5 s if it is not given.",
    ).tuning(),
    Annotation::honoured(
        "health-check-path",
        PASSED_ON,
        CHECK_PATH,
        "",
        "Path of a check by http, `/` if it is not given.",
    ).tuning(),
    Annotation::honoured(
        "health-check-service",
        PASSED_ON,
        CHECK_SERVICE,
        "",
        "Service that a check by grpc asks for; without, the server.",
    ).tuning(),
    Annotation::honoured(
        "health-check-timeout",
        PASSED_ON,
        CHECK_TIMEOUT,
        "",
        "How long a check may take; without, as long as the interval, 2 s at least and 5 s at most.",
    ).tuning(),
    Annotation::honoured(
        "health-check-unhealthy",
        PASSED_ON,
        CHECK_FALL,
        "",
        "Failures in a row after which an endpoint gets no request while others can have it, 3 if it is not given.",
    ).tuning(),
];
