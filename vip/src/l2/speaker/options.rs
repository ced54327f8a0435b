//! What the owner of a [`Speaker`](crate::Speaker) says when it starts one.
//!
//! Plain values; the driver reads them once. The key of a group is `group::GroupKey`.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    GroupKey, Note,
    kernel::{loopback::SharedLoopback, sysctl::SharedSysctls, turn::Health},
};

/// The UDP port of heartbeats if nothing else is said. Not registered (IANA, 2026).
pub const DEFAULT_GROUP_PORT: u16 = 7471;

/// How long open connections on an address that has moved are served if nothing else is said.
const DEFAULT_DRAIN_TIME: Duration = Duration::from_secs(30);

/// Hears what other nodes of the group say.
pub type NoteSink = Arc<dyn Fn(Note) + Send + Sync>;

/// Settings of the [`Speaker`](crate::Speaker).
#[derive(Clone)]
pub struct SpeakerOptions {
    /// Name of its thread, in `top -H` and in logs; the kernel keeps the first 15 bytes.
    pub name: String,
    /// Name of this node, unique in its group: `metadata.name` of the Node, or `--node`.
    pub node: String,
    /// The nodes that share the addresses; `None`: this node holds everything that is planned.
    pub group: Option<GroupOptions>,
    /// For how long an address that another node has taken over goes on serving its open connections
    /// here, unless [`let_go`](crate::Speaker::let_go) comes before. Default 30 s.
    pub drain_time: Duration,
    /// Whether the data path works; `None`: always. While it does not, every address goes to another
    /// node, or nowhere.
    pub health: Option<Health>,
    /// A process that runs on this node and will [leave](crate::Speaker::leave_and_wait) its addresses to this
    /// one; the group is to notice nothing. `None`: there is none.
    pub predecessor: Option<Predecessor>,
    /// Hears the notes of other nodes, on the speaker's thread: it must not block. Default: nobody.
    pub notes: Option<NoteSink>,
    /// The same as the BGP speaker's, if there is one. Default one of its own.
    pub loopback: SharedLoopback,
    /// The same as well. Default one of its own, which other processes know nothing of.
    pub sysctls: SharedSysctls,
}

/// How this node finds and trusts the others.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// The secret that all of them share; `None`: it [comes later](crate::Speaker::group), and nothing is held
    /// before.
    pub key: Option<GroupKey>,
    /// The UDP port of all of them, [`DEFAULT_GROUP_PORT`] by default.
    pub port: u16,
    /// Nodes that multicast may not reach, each by an address and its port.
    pub peers: Vec<SocketAddr>,
}

/// The process that this one succeeds on this node, which still runs.
#[derive(Clone, Copy, Debug)]
pub struct Predecessor {
    /// Its [`incarnation`](crate::Speaker::incarnation).
    pub incarnation: [u8; 16],
}

impl Default for SpeakerOptions {
    fn default() -> Self {
        Self {
            name: "speaker".to_owned(),
            node: String::new(),
            group: None,
            drain_time: DEFAULT_DRAIN_TIME,
            health: None,
            predecessor: None,
            notes: None,
            loopback: SharedLoopback::default(),
            sysctls: SharedSysctls::default(),
        }
    }
}

impl fmt::Debug for SpeakerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpeakerOptions")
            .field("name", &self.name)
            .field("node", &self.node)
            .field("group", &self.group)
            .field("drain_time", &self.drain_time)
            .field("health", &self.health.is_some())
            .field("notes", &self.notes.is_some())
            .field("predecessor", &self.predecessor)
            .finish()
    }
}
