//! Rows of our own prefix, `gatehouse.io/`: what no existing annotation serves.

use super::{
    table::{Annotation, Family, ObjectKind},
    value::{BODY_RATE, BODY_TIMEOUT, ENCODED_SLASHES, READ_BY_OWNER, TEXT, WEIGHTS},
};

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
        UNREAD_FIELDS,
    ],
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
