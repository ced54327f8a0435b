//! Rows of OpenShift's router: `haproxy.router.openshift.io/` and `router.openshift.io/`.
//!
//! They are read on Ingresses too: OpenShift copies the annotations of an Ingress to the Routes that it
//! makes of it, so that they work there.

use super::{
    table::{Annotation, Family, ObjectKind},
    value::{
        ALGORITHM, CONCURRENT_TCP, FORWARDED_FIELDS, HEADER_CASE, HSTS, MAX_CONNECTIONS,
        NO_ROUTER_COOKIE, PREFIX_TARGET, Parser, RATE_HTTP, RATE_TCP, ROUTE_CHECK_INTERVAL,
        ROUTE_LIMITS, ROUTE_TIMEOUT, ROUTE_TUNNEL, ROUTER_COOKIE_NAME, ROUTER_SAME_SITE,
        SPACED_NETWORKS, TEXT,
    },
};

const ON: &[ObjectKind] = &[ObjectKind::Route, ObjectKind::Ingress];

/// Annotations that choose how HAProxy treats a Route.
pub(super) static HAPROXY: Family = Family::new(
    "haproxy.router.openshift.io/",
    ON,
    &[&[
        Annotation::honoured(
            "balance",
            ON,
            ALGORITHM,
            "",
            "How the endpoint is chosen: `roundrobin` (the default), `leastconn`, `random` or `source`. \
             Where TLS is passed through, `source` is the default if one Service has all of it, and `roundrobin` otherwise.",
        ).tuning(),
        Annotation::honoured(
            "disable_cookies",
            ON,
            NO_ROUTER_COOKIE,
            "",
            "`true`: clients are not kept on one endpoint by a cookie.",
        ),
        Annotation::honoured(
            "h1-adjust-case",
            ON,
            HEADER_CASE,
            "",
            "Backends of HTTP/1 get those names of headers that `--header-case` lists as they stand there.",
        ).tuning(),
        Annotation::honoured(
            "hsts_header",
            ON,
            HSTS,
            "",
            "Strict-Transport-Security of answers over TLS.",
        ),
        Annotation::honoured(
            "ip_allowlist",
            ON,
            SPACED_NETWORKS,
            "",
            "Networks that may pass, separated by spaces; other clients get 403.",
        )
        .protecting(),
        Annotation::honoured(
            "ip_whitelist",
            ON,
            SPACED_NETWORKS,
            "",
            "Older name of ip_allowlist; where both are there, both must let a client pass.",
        )
        .protecting(),
        Annotation::honoured(
            "pod-concurrent-connections",
            ON,
            MAX_CONNECTIONS,
            "",
            "Requests under way at each endpoint at most, over all threads of the process; further ones wait. Where TLS is passed through, connections.",
        )
        .protecting(),
        Annotation::honoured(
            "rate-limit-connections",
            ON,
            ROUTE_LIMITS,
            "",
            "Whether the limits for each client address count that stand in the three below.",
        )
        .protecting(),
        Annotation::honoured(
            "rate-limit-connections.concurrent-tcp",
            ON,
            CONCURRENT_TCP,
            "",
            "Requests of a client address under way at most; more get 429. Connections that wait for a request do \
             not count: their Route is not known before. Where TLS is passed through, connections; more are reset.",
        )
        .protecting(),
        Annotation::honoured(
            "rate-limit-connections.rate-http",
            ON,
            RATE_HTTP,
            "",
            "Requests within 10 s at most; more get 429. It closes where TLS is passed through, as nobody sees them \
             there.",
        )
        .protecting(),
        Annotation::honoured(
            "rate-limit-connections.rate-tcp",
            ON,
            RATE_TCP,
            "",
            "Connections within 3 s at most; requests of more get 429. A connection counts with its first request \
             for the Route: before that its Route is not known. Where TLS is passed through, more are reset.",
        )
        .protecting(),
        Annotation::honoured(
            "rewrite-target",
            ON,
            PREFIX_TARGET,
            "",
            "What stands in for the path of the Route (or of a path of type Prefix of an Ingress) in what the \
             backend gets.",
        ),
        Annotation::honoured(
            "set-forwarded-headers",
            ON,
            FORWARDED_FIELDS,
            "",
            "What becomes of `X-Forwarded-*` and `Forwarded` that a client sent: `append`, `replace`, `if-none` or \
             `never`. `X-Forwarded-Proto-Version: h2` is set with the first three for clients of HTTP/2. Default: they \
             are replaced, unless a trusted proxy sent them.",
        ),
        Annotation::honoured(
            "timeout",
            ON,
            ROUTE_TIMEOUT,
            "",
            "How long the backend may be silent (504): a time such as `30s`; without a unit, milliseconds. Where TLS is \
             passed through, it is that of timeout-tunnel, if that is not given.",
        ).tuning(),
        Annotation::honoured(
            "timeout-tunnel",
            ON,
            ROUTE_TUNNEL,
            "",
            "How long nothing may move in a tunnel such as a WebSocket.",
        ).tuning(),
    ]],
);

/// Annotations that do not depend on the router's program.
pub(super) static ROUTER: Family = Family::new(
    "router.openshift.io/",
    ON,
    &[&[
        Annotation::honoured(
            "cookie-same-site",
            ON,
            ROUTER_SAME_SITE,
            "",
            "SameSite of the cookie that keeps clients on one endpoint, where nothing is served in clear text; `None` \
             if it is not given.",
        ),
        Annotation::honoured(
            "cookie_name",
            ON,
            ROUTER_COOKIE_NAME,
            "",
            "Name of that cookie, instead of the MD5 of namespace and Route. An Ingress with it has the cookie, too.",
        ),
        Annotation::honoured(
            "haproxy.health.check.interval",
            ON,
            ROUTE_CHECK_INTERVAL,
            "",
            "Endpoints are checked by a connect, after this time each: such as `5s`; without a unit, milliseconds.",
        ).tuning(),
        harmless("pool-size", TEXT, "Routes that the router keeps in reserve."),
    ]],
);

const fn harmless(name: &'static str, parser: Parser, doc: &'static str) -> Annotation {
    Annotation::harmless(name, ON, parser, doc)
}
