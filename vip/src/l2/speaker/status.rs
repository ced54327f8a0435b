//! What the speaker knows of its group and of every address, for people and for metrics.
//!
//! The driver fills a [`SpeakerStatus`] and publishes it; nothing is decided by it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Serialize, Serializer};

use crate::{
    l2::{group::MemberState, local_state::LocalState},
    problem::Problem,
};

/// One moment of a [`Speaker`](crate::Speaker), at most a second old.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpeakerStatus {
    /// This node.
    pub node: String,
    /// Whether this node is handing its addresses over.
    pub draining: bool,
    /// The other nodes of the group, once for each link they are heard on. Those that died are shown
    /// for a while.
    pub members: Vec<MemberStatus>,
    /// Every planned or draining address.
    #[serde(serialize_with = "shared")]
    pub vips: Arc<BTreeMap<IpAddr, VipStatus>>,
    /// Since the start.
    pub counters: SpeakerCounters,
    /// What is wrong with the node as a whole, for as long as it is: `DuplicateNode`,
    /// `AllocationDiffers`, `HeartbeatFailed`, `NeighboursUnheard`, `FenceFailed`. What concerns one
    /// address comes as an event.
    pub problems: Vec<Problem>,
}

/// Another node, as heard on one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// Its name.
    pub node: String,
    /// Where its heartbeats come from.
    pub address: SocketAddr,
    /// The interface of this node that they come in by.
    pub interface: String,
    /// Whether it is handing its addresses over.
    pub draining: bool,
    /// Whether its data path works.
    pub serving: bool,
    /// How many addresses it says it holds.
    pub holds: usize,
    /// Whether this node counts it.
    pub state: MemberState,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VipStatus {
    /// The node that holds it, as far as this one knows.
    pub owner: Option<String>,
    /// What this node does with it.
    pub here: LocalState,
    /// Where it is, or would be, on this node.
    pub interface: Option<String>,
    /// The nodes that could hold it now, the rightful owner first.
    pub eligible: Vec<String>,
}

/// Numbers that only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpeakerCounters {
    /// Heartbeats sent.
    pub sent: u64,
    /// Heartbeats taken for true.
    pub received: u64,
    /// Datagrams that were dropped, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Gratuitous ARP and unsolicited neighbour advertisements, a pair of ARP frames counted once.
    pub announcements: u64,
    /// Times that this node took an address over or let one go.
    pub transitions: u64,
}

fn shared<T: Serialize, S: Serializer>(of: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
    of.serialize(serializer)
}
