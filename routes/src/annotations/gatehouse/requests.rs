//! Rows of what clients may send, and what backends get of it.

use super::{INGRESS, ROUTED};
use crate::annotations::{
    table::Annotation,
    value::{
        BODY_MEMORY, BODY_RATE, BODY_TIMEOUT, ENCODED_SLASHES, FORWARDED, MIRROR_PERCENT,
        REQUEST_BUFFERING, UPGRADES,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    Annotation::honoured(
        "body-memory",
        ROUTED,
        BODY_MEMORY,
        "64k",
        "Where bodies of requests are read in whole: how much of one may be in memory, such as `1m`; the rest is in a file. Less than 64k is as good as 64k.",
    ).tuning(),
    Annotation::honoured(
        "body-rate",
        ROUTED,
        BODY_RATE,
        "",
        "Bytes per second that a client sends of its body, as `--body-rate` says by default; 0: any byte will \
         do.",
    ).tuning(),
    Annotation::honoured(
        "body-timeout",
        ROUTED,
        BODY_TIMEOUT,
        "",
        "How far a client may fall behind that rate, as `--body-timeout` says by default: seconds, or a time \
         such as `5m`.",
    ).tuning(),
    Annotation::honoured(
        "encoded-slashes",
        ROUTED,
        ENCODED_SLASHES,
        "",
        "What becomes of requests with `%2F` or `%5C` in their path, as `--encoded-slashes` says by \
         default: `safe`, `keep` or `reject`.",
    )
    .protecting(),
    Annotation::honoured(
        "forwarded",
        INGRESS,
        FORWARDED,
        "off",
        "Whether the backend gets `Forwarded` (RFC 7239): `add` beside the X-Forwarded fields, `only` instead of X-Forwarded-For, -Host, -Proto and -Port.",
    ),
    Annotation::honoured(
        "mirror-percent",
        INGRESS,
        MIRROR_PERCENT,
        "100",
        "Of how many requests `mirror-target` gets a copy, such as `10` or `0.5`.",
    ),
    Annotation::honoured(
        "request-buffering",
        ROUTED,
        REQUEST_BUFFERING,
        "off",
        "`on`: the body of a request is read in whole before a backend gets it, so that a slow client holds no connection to a \
         backend, and the request may be sent again. Upgrades and gRPC pass as they come.",
    ).tuning(),
    Annotation::honoured(
        "upgrades",
        ROUTED,
        UPGRADES,
        "",
        "Protocols that a connection of HTTP/1.1 may become, besides `websocket`, as `Upgrade` names them: `SPDY/3.1` \
         for `kubectl exec`, `tcp` for Docker. Bytes then go both ways unseen, so that HTTP and TLS cannot be named.",
    ),
];
