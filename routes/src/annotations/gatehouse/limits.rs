//! Rows of how limits for each client count, and what clients are told of them.

use super::ROUTED;
use crate::annotations::{
    table::Annotation,
    value::{CONNECTIONS_STATUS, LIMIT_BY, LIMIT_SCOPE, LIMIT_SHOWN, LIMIT_STATUS},
};

pub(super) const ROWS: &[Annotation] = &[
    Annotation::honoured(
        "limit-by",
        ROUTED,
        LIMIT_BY,
        "address",
        "What limits tell clients apart by: `address`, `header:NAME`, `cookie:NAME`, or `claim:NAME` of the token that \
         `jwt-…` verifies (dots lead into objects), which is counted after authentication. A request without that field, \
         cookie or claim is counted by its address.",
    )
    .protecting(),
    Annotation::honoured(
        "limit-connections-status",
        ROUTED,
        CONNECTIONS_STATUS,
        "",
        "Status of what is too much for limit-connections, that of limit-status if it is not given.",
    ),
    Annotation::honoured(
        "limit-headers",
        ROUTED,
        LIMIT_SHOWN,
        "false",
        "Whether answers tell clients of their limits, in the fields `RateLimit-Policy` and `RateLimit`.",
    ),
    Annotation::honoured(
        "limit-scope",
        ROUTED,
        LIMIT_SCOPE,
        "node",
        "Where limits of rates count: on each `node` for itself, or on all nodes of the `group` together ([how exactly]\
         (limits.md)). Limits of requests under way are always the node's.",
    )
    .protecting(),
    Annotation::honoured(
        "limit-status",
        ROUTED,
        LIMIT_STATUS,
        "",
        "Status of what is too much, 400 to 599; 429 if it is not given.",
    ),
];
