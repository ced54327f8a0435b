//! What this node does with an address, in the words of its status.
//!
//! `Vips` finds it out, the driver publishes it, the gateway shows and counts it. Nothing is decided by it.

use serde::{Serialize, Serializer};

/// What this node does with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalState {
    /// The address is on its link.
    Holding,
    /// The address has moved; its open connections are served. Shown as `lingering`.
    Draining,
    /// This node asks whether a stranger uses the address.
    Probing,
    /// This node could hold the address.
    Standby,
    /// This node could not hold the address.
    Blocked,
}

impl LocalState {
    /// The word for it in `gatehouse status` and `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Holding => "holding",
            Self::Draining => "lingering",
            Self::Probing => "probing",
            Self::Standby => "standby",
            Self::Blocked => "blocked",
        }
    }
}

impl Serialize for LocalState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
