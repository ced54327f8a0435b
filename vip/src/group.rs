//! Who is in the group, and which of its members owns each address.
//!
//! Nodes that share a [`GroupKey`] tell each other by heartbeats, on every link that carries VIPs,
//! that they are alive, which addresses they could hold and which they do hold. From that each
//! decides by the same rule what to claim and what to let go of. The speaker owns one [`Group`]:
//! it passes in what is offered and held, what arrives and what time it is, carries the
//! [`Decision`]s to `holdings`, and sends the [`Datagram`]s. Pure: no clock, no socket.
//!
//! Without a key the node is alone: what it offers it claims at once, and nothing is sent.

mod auth;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::links::Mac;

pub use auth::GroupKey;

/// The clockwork of a group; all members should have the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// From heartbeat to heartbeat.
    pub(crate) heartbeat: Duration,
    /// A member that is not heard for this long is dead.
    pub(crate) dead: Duration,
    /// From the start until the first claim, so that those who hold something can be heard.
    pub(crate) listen: Duration,
    /// How long a better member must have been fit before it takes an address from a fit holder.
    pub(crate) hold_down: Duration,
    /// How old a datagram of ours may be whose echo proves that a member is there now.
    pub(crate) proof: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            heartbeat: ms(100),
            dead: ms(320),
            listen: ms(400),
            hold_down: ms(5000),
            proof: ms(1000),
        }
    }
}

/// What this node could hold now, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Index of the interface.
    pub(crate) link: u32,
    /// Sum of the preferred-node weights; the highest owns.
    pub(crate) preference: u32,
}

/// What is really on this node's interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// On the link, announced.
    Holding,
    /// Not on the link any more, but open connections go on.
    Lingering,
}

/// This node on one link: its own addresses there, no VIPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    pub(crate) mac: Mac,
    pub(crate) v4: Option<Ipv4Addr>,
    /// A global one if there is one, else the link-local one.
    pub(crate) v6: Option<Ipv6Addr>,
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// All members on the link.
    Multicast,
    /// A member that multicast may not reach.
    Peer(SocketAddr),
}

/// A UDP payload to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// Index of the interface to send it from.
    pub(crate) link: u32,
    pub(crate) to: Destination,
    pub(crate) bytes: Vec<u8>,
}

/// The member that an address comes from in a planned move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relayed {
    pub(crate) node: String,
    /// Index of the interface on which this node reaches it.
    pub(crate) link: u32,
    /// Its own addresses there.
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
}

/// What to do about an address. A later decision on the same address replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Put it on the link and announce it. For an address that is there already: announce it anew.
    Claim {
        /// Nobody of the group has held it lately, so ask the link first (RFC 5227, RFC 4862).
        probe: bool,
        /// The kernel of a member that died may still answer for it: announce often.
        contested: bool,
        /// Pass packets of connections that this node has not seen begin on to this member.
        from: Option<Relayed>,
    },
    /// Let go of it; also of a claim that has not come to anything yet.
    Release {
        /// The node that holds it already: go on serving what is open.
        linger_to: Option<String>,
    },
}

/// What a [`Group`] shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupStatus {
    pub(crate) draining: bool,
    /// Nothing is claimed yet, because members may not have been heard yet.
    pub(crate) listening: bool,
    /// The others, by link and node.
    pub(crate) members: Vec<MemberFacts>,
    pub(crate) vips: BTreeMap<IpAddr, VipFacts>,
    /// Names that two live nodes have, this one included.
    pub(crate) duplicate_nodes: Vec<String>,
    pub(crate) counters: Counters,
}

/// One of the others, on one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberFacts {
    pub(crate) node: String,
    /// Where its last datagram came from.
    pub(crate) address: SocketAddr,
    pub(crate) link: u32,
    pub(crate) draining: bool,
    pub(crate) serving: bool,
    /// How many addresses it holds.
    pub(crate) holds: usize,
    pub(crate) state: MemberState,
}

/// Whether a member counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// Heard, and it hears this node.
    Alive,
    /// Not heard any more.
    Dead,
    /// Heard, but it has not proved that it hears this node.
    Unproven,
}

/// One address, as this node sees the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VipFacts {
    /// The node that holds it.
    pub(crate) owner: Option<String>,
    /// The nodes that could hold it, best first.
    pub(crate) eligible: Vec<String>,
}

/// Datagrams since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) sent: u64,
    /// Accepted ones.
    pub(crate) received: u64,
    /// By reason, CamelCase.
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

/// Membership and ownership as this node sees them.
#[derive(Debug)]
pub(crate) struct Group {
    key: Option<GroupKey>,
    offers: BTreeMap<IpAddr, Offer>,
    decided: BTreeMap<IpAddr, Decision>,
    draining: bool,
    healthy: bool,
}

impl Group {
    /// A group of one until others are heard. `incarnation` is random and tells this process from
    /// its predecessor; `peers` get by unicast what goes out by multicast.
    pub(crate) fn new(
        node: String,
        key: Option<GroupKey>,
        incarnation: [u8; 16],
        peers: Vec<SocketAddr>,
        timing: Timing,
        now: Instant,
    ) -> Self {
        let _ = (node, incarnation, peers, timing, now);
        Self {
            key,
            offers: BTreeMap::new(),
            decided: BTreeMap::new(),
            draining: false,
            healthy: true,
        }
    }

    /// The links that heartbeats go out on: up, with carrier, carrying VIPs or able to. What was held
    /// on a link that is missing here is lost.
    pub(crate) fn links(&mut self, links: BTreeMap<u32, LinkFacts>, now: Instant) {
        let _ = (links, now);
    }

    /// What this node could hold; replaces what was offered before.
    pub(crate) fn offers(&mut self, offers: BTreeMap<IpAddr, Offer>, now: Instant) {
        let _ = now;
        self.offers = offers;
    }

    /// What is on the interfaces now. A change is sent at once.
    pub(crate) fn tenure(&mut self, ip: IpAddr, tenure: Option<Tenure>, now: Instant) {
        let _ = (ip, tenure, now);
    }

    /// Whether this node is to hand everything over.
    pub(crate) fn drain(&mut self, draining: bool, now: Instant) {
        let _ = now;
        self.draining = draining;
    }

    /// Whether the data path works; if not, nothing is held.
    pub(crate) fn healthy(&mut self, healthy: bool, now: Instant) {
        let _ = now;
        self.healthy = healthy;
    }

    /// Takes in a datagram that arrived on a link; drops what is not authentic, and counts why.
    pub(crate) fn receive(&mut self, datagram: &[u8], from: SocketAddr, link: u32, now: Instant) {
        let _ = (datagram, from, link, now);
    }

    /// What has to change, since the last call. Notices who has died meanwhile.
    pub(crate) fn decisions(&mut self, now: Instant) -> Vec<(IpAddr, Decision)> {
        let _ = now;
        let claim = Decision::Claim { probe: true, contested: false, from: None };
        let mut changes = Vec::new();
        let offers =
            if self.key.is_none() && self.healthy { self.offers.clone() } else { BTreeMap::new() };
        for ip in offers.keys() {
            if self.decided.insert(*ip, claim.clone()) != Some(claim.clone()) {
                changes.push((*ip, claim.clone()));
            }
        }
        self.decided.retain(|ip, _| {
            let stays = offers.contains_key(ip);
            if !stays {
                changes.push((*ip, Decision::Release { linger_to: None }));
            }
            stays
        });
        changes
    }

    /// The heartbeats that are due.
    pub(crate) fn transmit(&mut self, now: Instant) -> Vec<Datagram> {
        let _ = now;
        Vec::new()
    }

    /// When [`decisions`](Self::decisions) or [`transmit`](Self::transmit) have something to do if
    /// nothing happens before. In the past: now.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether the member that an address was claimed from still serves connections on it.
    pub(crate) fn relayed(&self, ip: IpAddr) -> bool {
        let _ = ip;
        false
    }

    /// The node that has an Ethernet address, alive or dead: not a stranger.
    pub(crate) fn member_of(&self, link: u32, mac: Mac) -> Option<&str> {
        let _ = (link, mac);
        None
    }

    /// Whether another member could take an address now.
    pub(crate) fn can_hand_over(&self, ip: IpAddr) -> bool {
        let _ = ip;
        false
    }

    /// What `gatehouse status` shows.
    pub(crate) fn status(&self, now: Instant) -> GroupStatus {
        let _ = now;
        GroupStatus { draining: self.draining, ..GroupStatus::default() }
    }

    /// The caller has noticed that this process stood still for longer than [`Timing::dead`]: others
    /// have taken what it held, so it lets go of everything and listens again.
    pub(crate) fn resumed(&mut self, now: Instant) {
        let _ = now;
    }
}
