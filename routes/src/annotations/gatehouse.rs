//! Rows of our own prefix, `gatehouse.io/`: what no existing annotation serves.

use super::{
    table::{Annotation, Family, ObjectKind},
    value::{
        ALGORITHM, BODY_RATE, BODY_TIMEOUT, CHECK, CHECK_FALL, CHECK_HOST, CHECK_INTERVAL,
        CHECK_PATH, CHECK_RISE, CHECK_SERVICE, CHECK_TIMEOUT, COMPRESS, COMPRESS_MINIMUM,
        COMPRESS_TYPES, ENCODED_SLASHES, ERROR_PAGES, FORWARDED, HASH_BY, HIDE, IDLE_TIMEOUT,
        MAX_CONNECTIONS, MAX_PENDING, PANIC_PERCENT, PROXY_PROTOCOL, READ_BY_OWNER, SECURITY,
        SLOW_START, TEXT, WEIGHTS,
    },
};

const INGRESS: &[ObjectKind] = &[ObjectKind::Ingress];
const ROUTED: &[ObjectKind] = &[ObjectKind::Ingress, ObjectKind::Route];

/// Annotations of Gatehouse. One for Ingresses, Routes or Services gets its row here.
pub static FAMILY: Family = Family::new(
    "gatehouse.io/",
    &[ObjectKind::Ingress, ObjectKind::IpAddressPool, ObjectKind::Route, ObjectKind::Service],
    &[
        Annotation::honoured(
            "backend-weights",
            &[ObjectKind::Ingress],
            WEIGHTS,
            "",
            "Services of the namespace that share the requests of every path whose backend is one of them, at the port of \
             that path: `app=80,app-v2=20`.",
        ),
        Annotation::honoured(
            "body-rate",
            &[ObjectKind::Ingress, ObjectKind::Route],
            BODY_RATE,
            "",
            "Bytes per second that a client sends of its body, as `--body-rate` says by default; 0: any byte will \
             do.",
        ),
        Annotation::honoured(
            "body-timeout",
            &[ObjectKind::Ingress, ObjectKind::Route],
            BODY_TIMEOUT,
            "",
            "How far a client may fall behind that rate, as `--body-timeout` says by default: seconds, or a time \
             such as `5m`.",
        ),
        Annotation::honoured(
            "compress",
            INGRESS,
            COMPRESS,
            "off",
            "Codings of answers for clients that take them, the best liked first: `br, gzip`, or `on` for both. Off unless asked for: what an attacker can have repeated beside a secret tells it by its length (BREACH).",
        ),
        Annotation::honoured(
            "compress-min-length",
            INGRESS,
            COMPRESS_MINIMUM,
            "256",
            "Bytes of an answer below which it is not compressed, if it says its length.",
        ),
        Annotation::honoured(
            "compress-types",
            INGRESS,
            COMPRESS_TYPES,
            "application/atom+xml application/javascript application/json application/manifest+json application/rss+xml application/wasm application/xhtml+xml application/xml font/otf font/ttf image/svg+xml text/css text/html text/javascript text/plain text/xml",
            "Media types of answers that are compressed, separated by blanks; `text/*` is all of a kind.",
        ),
        DRAIN,
        Annotation::honoured(
            "encoded-slashes",
            &[ObjectKind::Ingress, ObjectKind::Route],
            ENCODED_SLASHES,
            "",
            "What becomes of requests with `%2F` or `%5C` in their path, as `--encoded-slashes` says by \
             default: `safe`, `keep` or `reject`.",
        )
        .protecting(),
        Annotation::honoured(
            "error-pages",
            INGRESS,
            ERROR_PAGES,
            "",
            "ConfigMap of the same namespace whose entries (`404.html`, `503.json`, `5xx.txt` and the like) are the texts of errors of the gateway itself, and of those of custom-http-errors. `{{status}}`, `{{reason}}` and `{{request_id}}` are filled in.",
        ),
        Annotation::honoured(
            "forwarded",
            INGRESS,
            FORWARDED,
            "off",
            "Whether the backend gets `Forwarded` (RFC 7239): `add` beside the X-Forwarded fields, `only` instead of X-Forwarded-For, -Host, -Proto and -Port.",
        ),
        FORWARDING,
        Annotation::honoured(
            "hash-by",
            ROUTED,
            HASH_BY,
            "",
            "Text with variables of nginx that chooses the endpoint, the same one for the same text.",
        ),
        Annotation::honoured(
            "health-check",
            ROUTED,
            CHECK,
            "",
            "How endpoints are checked: `tcp` (they accept a connection), `http` (200 to 399 to a GET) or `grpc` (`SERVING` in grpc.health.v1).",
        ),
        Annotation::honoured(
            "health-check-healthy",
            ROUTED,
            CHECK_RISE,
            "",
            "Successes in a row after which an endpoint gets requests again, 2 if it is not given.",
        ),
        Annotation::honoured(
            "health-check-host",
            ROUTED,
            CHECK_HOST,
            "",
            "Host of a check by http; without, the address.",
        ),
        Annotation::honoured(
            "health-check-interval",
            ROUTED,
            CHECK_INTERVAL,
            "",
            "From one check to the next: seconds, or a time such as `500ms`; 5 s if it is not given.",
        ),
        Annotation::honoured(
            "health-check-path",
            ROUTED,
            CHECK_PATH,
            "",
            "Path of a check by http, `/` if it is not given.",
        ),
        Annotation::honoured(
            "health-check-service",
            ROUTED,
            CHECK_SERVICE,
            "",
            "Service that a check by grpc asks for; without, the server.",
        ),
        Annotation::honoured(
            "health-check-timeout",
            ROUTED,
            CHECK_TIMEOUT,
            "",
            "How long a check may take; without, as long as the interval, 5 s at most.",
        ),
        Annotation::honoured(
            "health-check-unhealthy",
            ROUTED,
            CHECK_FALL,
            "",
            "Failures in a row after which an endpoint gets no request while others can have it, 3 if it is not given.",
        ),
        Annotation::honoured(
            "hide-headers",
            INGRESS,
            HIDE,
            "",
            "Headers of the backend's answers that clients do not get, separated by commas.",
        ),
        Annotation::honoured(
            "idle-timeout",
            &[ObjectKind::Ingress, ObjectKind::Route, ObjectKind::Service],
            IDLE_TIMEOUT,
            "",
            "How long nothing may move on a connection that is passed on as it is: seconds, or a time such as `5m`. \
             By default an hour, and a day for those of a Service.",
        ),
        Annotation::honoured(
            "load-balance",
            ROUTED,
            ALGORITHM,
            "",
            "How the endpoint is chosen: `round-robin` (the default), `least-request`, `least-time`, `random` or \
             `source`.",
        ),
        Annotation::honoured(
            "max-connections",
            ROUTED,
            MAX_CONNECTIONS,
            "0",
            "Requests under way at each endpoint at most, over all threads of the process; further ones wait.",
        )
        .protecting(),
        Annotation::honoured(
            "max-pending",
            ROUTED,
            MAX_PENDING,
            "",
            "Requests that wait for an endpoint at most, 1024 if it is not given; further ones get 503 at once.",
        ),
        Annotation::honoured(
            "panic-threshold",
            ROUTED,
            PANIC_PERCENT,
            "0",
            "Percent: where fewer of all endpoints are fit for requests, all of them get requests.",
        ),
        Annotation::honoured(
            "proxy-protocol",
            &[ObjectKind::Ingress, ObjectKind::Route, ObjectKind::Service],
            PROXY_PROTOCOL,
            "",
            "`v1` or `v2`: connections that are passed on as they are begin with a PROXY header of that version, \
             which tells the backend who its client is.",
        ),
        Annotation::honoured(
            "security-headers",
            INGRESS,
            SECURITY,
            "off",
            "Headers that make browsers careful, on answers without their own: `basic` harms nearly no site, `strict` is for sites that load nothing of others.",
        ),
        Annotation::honoured(
            "slow-start",
            ROUTED,
            SLOW_START,
            "",
            "For how long the share of a new endpoint grows before it is a full one: seconds, or a time such as \
             `2m`.",
        ),
        TLS_SECRET,
        UNREAD_FIELDS,
    ],
);

/// Ends TLS of a Service's ports here.
pub const TLS_SECRET: Annotation = Annotation::honoured(
    "tls-secret",
    &[ObjectKind::Service],
    READ_BY_OWNER,
    "",
    "Secret of type `kubernetes.io/tls`, in the namespace of the Service: TLS on its ports ends here with that \
     certificate, and the endpoints get what is within. Without a usable certificate connections are refused.",
);

/// Has this process pass connections on, in place of kube-proxy.
pub const FORWARDING: Annotation = Annotation::honoured(
    "forwarding",
    &[ObjectKind::Service],
    READ_BY_OWNER,
    "",
    "`gateway`: this process passes the connections of a Service of type LoadBalancer on, and kube-proxy does not. \
     Without a cluster it always does.",
);

/// What the reader of an object tells its translation.
pub(super) const UNREAD_FIELDS: Annotation = Annotation::closes(
    "unread-fields",
    &[ObjectKind::Ingress, ObjectKind::Route],
    TEXT,
    "Set by the reader of the object: fields that are not known and may limit who is served.",
);

/// The whole name of the annotation by which the reader of an Ingress or a Route says that fields of it are not
/// known and may limit who is served, so that it must be closed. The value is their paths, separated
/// by blanks, each with `=` and the name that was probably meant.
pub fn unread_fields() -> String {
    format!("{}{}", FAMILY.prefix, UNREAD_FIELDS.name)
}

/// Lets a pool run empty.
pub const DRAIN: Annotation = Annotation::honoured(
    "drain",
    &[ObjectKind::IpAddressPool],
    READ_BY_OWNER,
    "false",
    "`true`: the pool keeps what it gave and gives nothing new.",
);
