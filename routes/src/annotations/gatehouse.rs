//! Rows of our own prefix, `gatehouse.io/`: what no existing annotation serves.

use super::{
    table::{Annotation, Family, ObjectKind},
    value::{READ_BY_OWNER, TEXT},
};

mod answers;
mod authentication;
mod backends;
mod checks;
mod failures;
mod limits;
mod requests;
mod streams;
mod tls;

pub use backends::LOAD_BALANCE;
pub use checks::HEALTH_CHECK;
pub use streams::PROXY_PROTOCOL;

const INGRESS: &[ObjectKind] = &[ObjectKind::Ingress];
const ROUTE: &[ObjectKind] = &[ObjectKind::Route];
const ROUTED: &[ObjectKind] = &[ObjectKind::Ingress, ObjectKind::Route];
/// What has traffic passed on, requests or connections.
const PASSED_ON: &[ObjectKind] = &[ObjectKind::Ingress, ObjectKind::Route, ObjectKind::Service];

/// Annotations of Gatehouse.
pub static FAMILY: Family = Family::new(
    "gatehouse.io/",
    &[ObjectKind::Ingress, ObjectKind::IpAddressPool, ObjectKind::Route, ObjectKind::Service],
    &[
        answers::ROWS,
        authentication::ROWS,
        backends::ROWS,
        checks::ROWS,
        failures::ROWS,
        limits::ROWS,
        requests::ROWS,
        streams::ROWS,
        tls::ROWS,
        READ_ELSEWHERE,
    ],
);

/// Rows whose values nothing here reads.
const READ_ELSEWHERE: &[Annotation] =
    &[DRAIN, FORWARDING, TLS_ALPN, TLS_SECRET, TLS_SERVER_NAMES, UNREAD_FIELDS, UNREADABLE];

/// Ends TLS of a Service's ports here.
pub const TLS_SECRET: Annotation = Annotation::honoured(
    "tls-secret",
    &[ObjectKind::Service],
    READ_BY_OWNER,
    "",
    "Secret of type `kubernetes.io/tls`, in the namespace of the Service: TLS on its ports ends here with that \
     certificate, and the endpoints get what is within. Without a usable certificate connections are refused, and with an \
     empty value no port is passed on.",
)
.protecting();

/// What TLS that ends at a Service's ports agrees on.
pub const TLS_ALPN: Annotation = Annotation::honoured(
    "tls-alpn",
    &[ObjectKind::Service],
    READ_BY_OWNER,
    "",
    "With `tls-secret`: names of protocols (ALPN), separated by commas, the preferred one first, such as `postgresql` or \
     `h2, http/1.1`. A client that offers others alone is refused. Without it nothing is agreed on, whatever the client \
     offers.",
);

/// Chooses by the server name of TLS that goes on as it is.
pub const TLS_SERVER_NAMES: Annotation = Annotation::honoured(
    "tls-server-names",
    &[ObjectKind::Service],
    READ_BY_OWNER,
    "",
    "`NAME=SERVICE` or `NAME=SERVICE:PORT`, separated by commas or lines: TLS on the TCP ports of this Service goes on as \
     it is, to the Service (of the same namespace) that the server name of its ClientHello leads to. `*.NAME` is one \
     label. Without a port it is that of this Service. Other names, and clients without one, get this Service's own \
     endpoints.",
);

/// Has this process pass connections on, in place of kube-proxy.
pub const FORWARDING: Annotation = Annotation::honoured(
    "forwarding",
    &[ObjectKind::Service],
    READ_BY_OWNER,
    "",
    "`gateway`: this process passes TCP and UDP of a Service of type LoadBalancer on, and kube-proxy does not. \
     Without a cluster it does so by default. `kernel`: the kernel of the node does.",
);

/// What the reader of an object tells its translation.
pub(super) const UNREAD_FIELDS: Annotation = Annotation::closes(
    "unread-fields",
    &[ObjectKind::Ingress, ObjectKind::Route],
    TEXT,
    "Set by the reader of the object: fields that are not known and may limit who is served.",
);

/// What the reader of an object tells the translation of what stands in for it.
pub(super) const UNREADABLE: Annotation = Annotation::closes(
    "unreadable",
    &[ObjectKind::Ingress, ObjectKind::Route],
    TEXT,
    "Set by the reader of the object: it cannot be read in whole, and why.",
);

/// Why what stands in for an object is closed.
pub const UNREADABLE_REASON: &str = "ObjectUnreadable";

/// The whole name of the annotation by which the reader of an Ingress, a Route or an IngressClass says that this only
/// stands in for one that cannot be read, and must be closed. The value is `field: what is wrong`.
pub fn unreadable() -> String {
    format!("{}{}", FAMILY.prefix, UNREADABLE.name)
}

/// The whole name of the annotation by which the reader of an IngressClass says of such a stand-in that the name of the
/// class cannot be read either: it may be any.
pub fn unnamed() -> String {
    format!("{}unnamed", FAMILY.prefix)
}

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
