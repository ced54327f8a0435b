//! Rows of limits of rate and number.

use super::honoured;
use crate::annotations::{
    table::Annotation,
    value::{
        BURST, CONNECTIONS, GROUP_EXEMPT, GROUP_KEY, GROUP_RATE, GROUP_WINDOW, LIMIT_EXEMPT, PACE,
        PACE_AFTER, RATE_PER_MINUTE, RATE_PER_SECOND,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    honoured(
        "global-rate-limit",
        GROUP_RATE,
        "0",
        "Requests within a window at most, on all nodes of the group together; others get 429.",
    )
    .protecting()
    .but("nodes tell each other what they let through ([how exactly](limits.md)), without memcached"),
    honoured(
        "global-rate-limit-ignored-cidrs",
        GROUP_EXEMPT,
        "",
        "Client networks that global-rate-limit is not for, separated by commas.",
    )
    .protecting(),
    honoured(
        "global-rate-limit-key",
        GROUP_KEY,
        "$remote_addr",
        "What global-rate-limit tells clients apart by: a text with variables of nginx. A request for which all of \
         them are empty is counted by its address.",
    )
    .protecting()
    .but("an IPv6 client is counted as its /64 where the key is $remote_addr"),
    honoured(
        "global-rate-limit-window",
        GROUP_WINDOW,
        "1m",
        "Length of that window.",
    )
    .protecting()
    .but("without it the limit counts within a minute, instead of not at all"),
    honoured(
        "limit-allowlist",
        LIMIT_EXEMPT,
        "",
        "Client networks that no limit is for, separated by commas.",
    )
    .protecting(),
    honoured(
        "limit-burst-multiplier",
        BURST,
        "5",
        "How many times its limit a client may send at once.",
    )
    .protecting(),
    honoured(
        "limit-connections",
        CONNECTIONS,
        "0",
        "Requests of a client address under way at most; others get 429. Each stream of HTTP/2 counts.",
    )
    .protecting(),
    honoured("limit-rate", PACE, "0", "KiB per second of an answer at most.").protecting(),
    honoured(
        "limit-rate-after",
        PACE_AFTER,
        "0",
        "KiB of an answer that leave at once before limit-rate counts.",
    )
    .protecting(),
    honoured(
        "limit-rpm",
        RATE_PER_MINUTE,
        "0",
        "Requests per minute and client address at most; others get 429.",
    )
    .protecting()
    .but("who sends too much gets 429 instead of 503, and an IPv6 client is counted as its /64"),
    honoured(
        "limit-rps",
        RATE_PER_SECOND,
        "0",
        "Requests per second and client address at most; others get 429.",
    )
    .protecting()
    .but("who sends too much gets 429 instead of 503, and an IPv6 client is counted as its /64"),
    honoured(
        "limit-whitelist",
        LIMIT_EXEMPT,
        "",
        "Older name of limit-allowlist; both count.",
    )
    .protecting(),
];
