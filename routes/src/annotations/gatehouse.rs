//! Rows of our own prefix, `gatehouse.io/`: what no existing annotation serves.

use super::{
    table::{Annotation, Family, ObjectKind},
    value::READ_BY_OWNER,
};

/// Annotations of Gatehouse. One for Ingresses, Routes or Services gets its row here.
pub static FAMILY: Family = Family::new(
    "gatehouse.io/",
    &[ObjectKind::Ingress, ObjectKind::IpAddressPool, ObjectKind::Route, ObjectKind::Service],
    &[DRAIN],
);

/// Lets a pool run empty.
pub const DRAIN: Annotation = Annotation::honoured(
    "drain",
    &[ObjectKind::IpAddressPool],
    READ_BY_OWNER,
    "false",
    "`true`: the pool keeps what it gave and gives nothing new.",
);
