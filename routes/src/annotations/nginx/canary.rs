//! Rows of canaries.

use super::honoured;
use crate::annotations::{
    table::Annotation,
    value::{
        CANARY, CANARY_COOKIE, CANARY_HEADER, CANARY_PATTERN, CANARY_TOTAL, CANARY_VALUE,
        CANARY_WEIGHT,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    honoured(
        "canary",
        CANARY,
        "false",
        "Take requests of the Ingress of this namespace that has the same host, path and pathType.",
    ),
    honoured(
        "canary-by-cookie",
        CANARY_COOKIE,
        "",
        "Cookie that chooses the canary (`always`) or not (`never`).",
    ),
    honoured(
        "canary-by-header",
        CANARY_HEADER,
        "",
        "Header that chooses the canary (`always`) or not (`never`).",
    ),
    honoured(
        "canary-by-header-pattern",
        CANARY_PATTERN,
        "",
        "Expression for that header's value instead, if no value is given.",
    ),
    honoured(
        "canary-by-header-value",
        CANARY_VALUE,
        "",
        "Value of that header that chooses the canary instead.",
    ),
    honoured(
        "canary-weight",
        CANARY_WEIGHT,
        "0",
        "Requests of canary-weight-total that the canary gets of all others.",
    ),
    honoured("canary-weight-total", CANARY_TOTAL, "100", "What the weight is of."),
];
