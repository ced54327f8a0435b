//! A change to the addresses of an interface, and why it failed.
//!
//! Plain values: both speakers decide on changes, `kernel::netlink` makes them and says what came of
//! each.

use std::{net::IpAddr, time::Duration};

/// A change to the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A host address on: no subnet of its own, no duplicate address detection. The kernel takes it
    /// off after `lifetime` (whole seconds, rounded up). Fails if it is there already.
    Add { index: u32, ip: IpAddr, lifetime: Duration },
    /// The lifetime begins again. An address that is not there is added.
    Renew { index: u32, ip: IpAddr, lifetime: Duration },
    /// A host address off.
    Delete { index: u32, ip: IpAddr },
}

impl Change {
    /// The interface.
    pub(crate) const fn index(&self) -> u32 {
        match self {
            Self::Add { index, .. } | Self::Renew { index, .. } | Self::Delete { index, .. } => {
                *index
            }
        }
    }

    /// The address.
    pub(crate) const fn ip(&self) -> IpAddr {
        match self {
            Self::Add { ip, .. } | Self::Renew { ip, .. } | Self::Delete { ip, .. } => *ip,
        }
    }

    pub(crate) const fn adds(&self) -> bool {
        matches!(self, Self::Add { .. })
    }
}

/// Why a change failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// What the kernel says.
    pub(crate) message: String,
}

/// What can be made of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The process lacks a capability.
    Denied,
    /// The address is there already.
    Exists,
    /// The address or its interface is no longer there.
    Gone,
    /// Anything else.
    Other,
}
