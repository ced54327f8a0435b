//! What the BGP speaker knows of its routers and addresses, for people and for metrics.
//!
//! The driver fills a [`BgpStatus`] and publishes it; nothing is decided by it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use crate::{
    bgp::{
        MessageCounts, Negotiated, PeerAddress, PeerConfig, Reason, RemoteAsn, Report, Session,
        State,
    },
    problem::Problem,
};

/// Prefixes that a refusal lists.
const LISTED: usize = 4;

/// One moment of a [`BgpSpeaker`](crate::BgpSpeaker), at most a second old.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BgpStatus {
    /// BGP Identifier of this node, where a peer names no other one; empty before there is one.
    pub router_id: String,
    /// Whether the announcements are being withdrawn, or have been, because the node stops.
    pub draining: bool,
    /// By the name of the `BGPPeer`.
    pub peers: BTreeMap<String, PeerStatus>,
    /// Addresses on the loopback interface, ready to be announced.
    pub addresses: Vec<IpAddr>,
    /// BFD packets of all routers together, since BFD is in use.
    pub bfd_packets: BfdPackets,
    /// What is wrong with the node as a whole: `BgpPort`.
    pub problems: Vec<Problem>,
}

/// One router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// Address, or interface, of the router, as configured.
    pub router: String,
    /// The router on an unnumbered link, `fe80::1%eth0`; `None` while it has not been found, and for
    /// other peers.
    pub neighbour: Option<String>,
    /// TCP port of the router.
    pub port: u16,
    /// Its ASN; 0 if any is allowed and none is known.
    pub asn: u32,
    /// `idle`, `connect`, `active`, `opensent`, `openconfirm` or `established`.
    pub state: &'static str,
    /// Seconds since the session came up; `None` while it is not up.
    pub up_seconds: Option<u64>,
    /// This end's address, while the session is up.
    pub local: Option<IpAddr>,
    /// The router's end, while the session is up.
    pub remote: Option<SocketAddr>,
    /// The router's BGP Identifier, while the session is up.
    pub remote_id: Option<String>,
    /// Seconds of the agreed hold time, while the session is up.
    pub hold_seconds: Option<u64>,
    /// What both ends have agreed on, while the session is up.
    pub capabilities: Vec<&'static str>,
    /// What this end has offered and the router has not, while the session is up.
    pub capabilities_here: Vec<&'static str>,
    /// What the router has offered and this end has not, while the session is up.
    pub capabilities_there: Vec<&'static str>,
    /// Routes that were advertised to the router and not withdrawn.
    pub announced: Prefixes,
    /// Routes that it is to hear of, whether the session is up or not.
    pub wanted: Prefixes,
    /// Routes that the router has announced, repetitions counted; none of them is used.
    pub received: u64,
    /// Messages sent, by type.
    pub sent_messages: Messages,
    /// Messages received, by type.
    pub received_messages: Messages,
    /// How often the session came up.
    pub established: u64,
    /// What ended the session, or an attempt at it, last; or what the session waits for.
    pub last_error: Option<String>,
    /// What was wrong last with an UPDATE of the router's that did not end the session.
    pub last_fault: Option<String>,
    /// BFD; `None` if the peer has no profile, or the session has not been up yet.
    pub bfd: Option<BfdStatus>,
    /// What is wrong with it now: `SessionDown`, `NoNextHop`, `BfdDown`, `AmbiguousNeighbor`,
    /// `PasswordUnchecked`.
    pub problems: Vec<Problem>,
}

/// Routes by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Prefixes {
    /// IPv4.
    pub v4: u64,
    /// IPv6.
    pub v6: u64,
}

/// Messages by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

/// BFD with one router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BfdStatus {
    /// Whether the session is up.
    pub state: BfdState,
    /// Why it is down, or cannot speak.
    pub error: Option<String>,
    /// How often it came up.
    pub ups: u64,
}

/// Whether a BFD session is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BfdState {
    /// Up.
    Up,
    /// Down, or not up yet.
    Down,
}

/// BFD packets, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BfdPackets {
    /// Sent.
    pub sent: u64,
    /// Received, from routers that are watched.
    pub received: u64,
    /// Not sent: the kernel refused.
    pub unsent: u64,
    /// Dropped: of a host that is not watched, or too short.
    pub strange: u64,
    /// Dropped: from too far away, or without sense.
    pub discarded: u64,
}

/// What there is to tell of a router beside its session.
pub(super) struct PeerFacts<'p> {
    pub(super) announced: Prefixes,
    pub(super) wanted: Prefixes,
    /// Routes that cannot be said on the session.
    pub(super) unsent: &'p [IpNet],
    /// Why the last attempt to dial failed.
    pub(super) dial_error: Option<&'p str>,
    /// Both ends of the connection.
    pub(super) ends: Option<(IpAddr, SocketAddr)>,
    /// The router on an unnumbered link.
    pub(super) neighbour: Option<String>,
    /// What has to happen before the router can be dialled.
    pub(super) waits: Option<String>,
    /// What is wrong beside the session.
    pub(super) problems: Vec<Problem>,
}

impl BfdState {
    /// The word for it in `gatehouse status` and `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl Serialize for BfdState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Prefixes {
    /// Both families.
    pub fn total(self) -> u64 {
        self.v4 + self.v6
    }

    pub(super) fn of<'n>(prefixes: impl Iterator<Item = &'n IpNet>) -> Self {
        let mut counted = Self::default();
        for prefix in prefixes {
            *match prefix {
                IpNet::V4(_) => &mut counted.v4,
                IpNet::V6(_) => &mut counted.v6,
            } += 1;
        }
        counted
    }
}

impl Messages {
    /// Counts by the name of the type.
    pub fn by_type(self) -> [(&'static str, u64); 5] {
        [
            ("open", self.open),
            ("update", self.update),
            ("notification", self.notification),
            ("keepalive", self.keepalive),
            ("route-refresh", self.route_refresh),
        ]
    }
}

impl From<MessageCounts> for Messages {
    fn from(counts: MessageCounts) -> Self {
        let MessageCounts { open, update, notification, keepalive, route_refresh } = counts;
        Self { open, update, notification, keepalive, route_refresh }
    }
}

impl PeerStatus {
    pub(super) fn new(
        config: &PeerConfig,
        session: &Session,
        facts: PeerFacts<'_>,
        bfd: Option<BfdStatus>,
        now: Instant,
    ) -> Self {
        let peer = &config.peer;
        let report = session.report();
        let agreed = session.negotiated();
        let signed = config.password.is_some();
        let last_error = facts.waits.or_else(|| last_error(report, facts.dial_error, signed));
        let [both, here, there] =
            agreed.map(|agreed| capabilities(agreed, config)).unwrap_or_default();
        let mut status = Self {
            router: match &peer.address {
                PeerAddress::Ip(ip) => ip.to_string(),
                PeerAddress::Interface(name) => name.clone(),
            },
            neighbour: facts.neighbour,
            port: peer.port,
            asn: match (agreed, peer.remote_asn) {
                (Some(agreed), _) => agreed.remote_asn,
                (None, RemoteAsn::Exactly(asn)) => asn,
                (None, RemoteAsn::Internal) => peer.local_asn,
                (None, RemoteAsn::External) => 0,
            },
            state: state(session.state()),
            up_seconds: report.since.map(|since| now.saturating_duration_since(since).as_secs()),
            local: facts.ends.map(|(local, _)| local),
            remote: facts.ends.map(|(_, remote)| remote),
            remote_id: agreed.map(|agreed| agreed.remote_id.to_string()),
            hold_seconds: agreed.map(|agreed| agreed.hold_time.as_secs()),
            capabilities: both,
            capabilities_here: here,
            capabilities_there: there,
            announced: facts.announced,
            wanted: facts.wanted,
            received: report.prefixes_announced,
            sent_messages: report.sent.into(),
            received_messages: report.received.into(),
            established: report.established,
            last_error,
            last_fault: report.fault.clone(),
            bfd,
            problems: facts.problems,
        };
        let others = problems(&status, facts.unsent);
        status.problems.splice(..0, others);
        status
    }
}

/// What there is to say about why there is no session: what happened last, and what one end told the other
/// before.
fn last_error(report: &Report, dial_error: Option<&str>, signed: bool) -> Option<String> {
    let reason = report.error.as_ref()?;
    let last = match (reason, dial_error) {
        (Reason::NotConnected, Some(why)) => why.to_owned(),
        // The kernel of the other end drops what is not signed as it should be, without a word.
        (Reason::NoAnswer, _) if signed => {
            format!("{reason}: another password, or a firewall, or it is not there")
        }
        (Reason::NoAnswer, _) => {
            format!(
                "{reason}: it asks for a password, or a firewall is in the way, or it is not there"
            )
        }
        (reason, _) => reason.to_string(),
    };
    match &report.verdict {
        Some(verdict) if verdict != reason => Some(format!("{last}; before that, {verdict}")),
        _ => Some(last),
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Connect => "connect",
        State::Active => "active",
        State::OpenSent => "opensent",
        State::OpenConfirm => "openconfirm",
        State::Established => "established",
    }
}

/// What both ends have offered, what this end alone has, and what the router alone has.
fn capabilities(agreed: &Negotiated, config: &PeerConfig) -> [Vec<&'static str>; 3] {
    let (ours, theirs) = (config.peer.families, agreed.remote_families);
    let over_v6 = match config.peer.address {
        PeerAddress::Ip(ip) => ip.is_ipv6(),
        PeerAddress::Interface(_) => true,
    };
    // This end offers the others always.
    let all = [
        ("ipv4", ours.v4, theirs.v4),
        ("ipv6", ours.v6, theirs.v6),
        ("4-octet-asn", true, agreed.four_octet_asn),
        ("extended-next-hop", ours.v4 && over_v6, agreed.extended_next_hop),
        ("extended-message", true, agreed.extended_message),
        ("route-refresh", true, agreed.route_refresh),
        ("graceful-restart", config.peer.graceful_restart, agreed.graceful_restart),
    ];
    [(true, true), (true, false), (false, true)].map(|wanted| {
        let so = all.into_iter().filter(|(_, here, there)| (*here, *there) == wanted);
        so.map(|(name, _, _)| name).collect()
    })
}

fn problems(status: &PeerStatus, unsent: &[IpNet]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let (None, Some(error)) = (status.up_seconds, &status.last_error) {
        problems.push(Problem::noted(
            "SessionDown",
            "",
            format!("no session with {}: {error}", status.router),
            "",
        ));
    }
    if let Some(first) = unsent.first() {
        let listed: Vec<_> = unsent.iter().take(LISTED).map(ToString::to_string).collect();
        let more = unsent.len().saturating_sub(LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let family = if first.addr().is_ipv4() { "IPv4" } else { "IPv6" };
        problems.push(Problem::refused(
            "NoNextHop",
            "",
            format!(
                "{} does not hear of {}{more}: the session does not carry the family, or there is \
                 no next hop for it",
                status.router,
                listed.join(", ")
            ),
            format!(
                "set dualStackAddressFamily, have the router agree to {family}, and give the interface \
                 an address of it; or remove some communities"
            ),
        ));
    }
    if let Some(BfdStatus { state: BfdState::Down, error: Some(error), .. }) = &status.bfd {
        problems.push(Problem::noted(
            "BfdDown",
            "spec.bfdProfile",
            format!("BFD with {}: {error}", status.router),
            "",
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;
    use crate::bgp::{Families, Peer, spec::BgpPeerSpec};

    fn agreed() -> Negotiated {
        Negotiated {
            remote_asn: 64501,
            remote_id: Ipv4Addr::new(10, 0, 0, 1),
            internal: false,
            hold_time: Duration::from_secs(90),
            keepalive_time: Duration::from_secs(30),
            families: Families { v4: true, v6: false },
            remote_families: Families::BOTH,
            four_octet_asn: true,
            extended_next_hop: false,
            extended_message: false,
            route_refresh: true,
            graceful_restart: true,
        }
    }

    #[test]
    fn the_last_error_names_what_a_password_looks_like_and_what_the_router_said_before() {
        let said = Reason::Received(crate::bgp::Notification::new(2, 2));
        let with = |error: &Reason, verdict: Option<&Reason>| Report {
            error: Some(error.clone()),
            verdict: verdict.cloned(),
            ..Report::default()
        };
        let text = |report: &Report, dial: Option<&str>, signed| {
            last_error(report, dial, signed).unwrap_or_default()
        };
        assert_eq!(last_error(&Report::default(), Some("refused"), true), None);
        let silent = with(&Reason::NoAnswer, None);
        assert!(text(&silent, None, true).contains("another password"));
        assert!(text(&silent, None, false).contains("asks for a password"));
        assert_eq!(
            text(&with(&said, Some(&said)), None, false),
            "the router says: bad peer AS (2/2)"
        );
        assert_eq!(
            text(&with(&Reason::NotConnected, Some(&said)), Some("connection refused"), false),
            "connection refused; before that, the router says: bad peer AS (2/2)"
        );
    }

    #[test]
    fn what_one_end_alone_can_do_is_not_agreed_on() {
        let spec = BgpPeerSpec {
            my_asn: 64512,
            peer_asn: 64501,
            peer_address: "192.0.2.1".into(),
            ..BgpPeerSpec::default()
        };
        let config = |graceful: bool| {
            let spec = BgpPeerSpec { enable_graceful_restart: graceful, ..spec.clone() };
            let peer = Peer::parse("r", &spec).unwrap();
            PeerConfig { peer, password: None, bfd: None }
        };
        let [both, here, there] = capabilities(&agreed(), &config(false));
        assert_eq!(both, ["ipv4", "4-octet-asn", "route-refresh"]);
        assert_eq!(here, ["extended-message"]);
        assert_eq!(there, ["ipv6", "graceful-restart"]);
        let [both, here, there] = capabilities(&agreed(), &config(true));
        assert_eq!(both, ["ipv4", "4-octet-asn", "route-refresh", "graceful-restart"]);
        assert_eq!((here, there), (vec!["extended-message"], vec!["ipv6"]));
        let without = Negotiated { graceful_restart: false, ..agreed() };
        let [_, here, there] = capabilities(&without, &config(true));
        assert_eq!((here, there), (vec!["extended-message", "graceful-restart"], vec!["ipv6"]));
    }
}
