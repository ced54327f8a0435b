//! Rows of our own prefix, `gatehouse.io/`: what no existing annotation serves.

use super::{
    table::{Annotation, Family, ObjectKind},
    value::{
        BODY_RATE, BODY_TIMEOUT, COMPRESS, COMPRESS_MINIMUM, COMPRESS_TYPES, ENCODED_SLASHES,
        ERROR_PAGES, FORWARDED, HIDE, IDLE_TIMEOUT, PROXY_PROTOCOL, READ_BY_OWNER, SECURITY, TEXT,
        WEIGHTS,
    },
};

const INGRESS: &[ObjectKind] = &[ObjectKind::Ingress];

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
