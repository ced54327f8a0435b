//! Rows of how limits for each client count, and what clients are told of them.

use super::{ROUTE, ROUTED};
use crate::annotations::{
    table::Annotation,
    value::{
        BURST, CONNECTIONS_STATUS, LIMIT_BY, LIMIT_EXEMPT, LIMIT_SCOPE, LIMIT_SHOWN, LIMIT_STATUS,
        RATE_PER_MINUTE, RATE_PER_SECOND,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    Annotation::honoured(
        "limit-allowlist",
        ROUTE,
        LIMIT_EXEMPT,
        "",
        "Client networks that no limit is for, separated by commas, as ingress-nginx has them.",
    )
    .protecting(),
    Annotation::honoured(
        "limit-burst-multiplier",
        ROUTE,
        BURST,
        "5",
        "How many times its `limit-rps` or `limit-rpm` a client may send at once.",
    )
    .protecting(),
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
    ).tuning(),
    Annotation::honoured(
        "limit-rpm",
        ROUTE,
        RATE_PER_MINUTE,
        "0",
        "Requests per minute and client at most, counted as those of ingress-nginx; others get 429.",
    )
    .protecting(),
    Annotation::honoured(
        "limit-rps",
        ROUTE,
        RATE_PER_SECOND,
        "0",
        "Requests per second and client at most, counted as those of ingress-nginx: one in its turn, and          `limit-burst-multiplier` times as many before it. `rate-limit-connections.rate-http` counts within 10 s instead.",
    )
    .protecting(),
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
