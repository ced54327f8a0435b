//! Rows of `metallb.io/`, and of `metallb.universe.tf/`, as MetalLB called it before it had an API group.
//!
//! The gateway reads the values where it makes a claim of a Service.

use super::{
    table::{Annotation, Family, ObjectKind},
    value::{IGNORED, READ_BY_OWNER},
};

const ON: &[ObjectKind] = &[ObjectKind::Service];

/// Annotations of MetalLB.
pub static FAMILY: Family = Family {
    older_prefix: Some("metallb.universe.tf/"),
    ..Family::new(
        "metallb.io/",
        ON,
        &[&[
            ADDRESS_POOL,
            ALLOW_SHARED_IP,
            Annotation::honoured(
                "ip-allocated-from-pool",
                ON,
                IGNORED,
                "",
                "Written by MetalLB, says nothing here.",
            ),
            LOAD_BALANCER_IPS,
        ]],
    )
};

/// Names a pool.
pub const ADDRESS_POOL: Annotation =
    Annotation::honoured("address-pool", ON, READ_BY_OWNER, "", "The pool to get addresses from.");
/// Services with the same value may share an address.
pub const ALLOW_SHARED_IP: Annotation = Annotation::honoured(
    "allow-shared-ip",
    ON,
    READ_BY_OWNER,
    "",
    "Services of the same value may share an address, see [Addresses](ADDRESSES.md).",
);
/// Asks for certain addresses.
pub const LOAD_BALANCER_IPS: Annotation = Annotation::honoured(
    "loadBalancerIPs",
    ON,
    READ_BY_OWNER,
    "",
    "Addresses to get, at most one of each family, separated by a comma.",
);
