//! A `BGPPeer`, understood: a router, how to reach it and what to agree on with it.
//!
//! The compile step of the gateway calls [`Peer::parse`] for every object and [`peers_for`] for its
//! node; the speaker runs one session for each peer that remains. A setting that makes no sense
//! refuses its own object and no other. Passwords are named here, and resolved by the caller.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::spec::{BgpPeerSpec, go_duration_nanos};
use crate::{
    api::LabelSelector, interface_name::name_fault, pool::selector_faults, problem::Problem,
};

/// The port of BGP (RFC 4271 §2).
const DEFAULT_PORT: u16 = 179;
/// RFC 4271 §10 suggests 90 s.
const DEFAULT_HOLD: Duration = Duration::from_secs(90);
/// RFC 4271 §10 suggests 120 s, which is a long time for a front door to stay shut.
const DEFAULT_CONNECT: Duration = Duration::from_secs(5);
/// `TCP_MD5SIG_MAXKEYLEN` of Linux, in bytes.
const LONGEST_PASSWORD: usize = 80;
/// RFC 6793: stands for every ASN that does not fit into two octets; no AS has it.
const AS_TRANS: u32 = 23456;

/// A router to which addresses are announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// `metadata.name`.
    pub name: String,
    /// ASN that this end presents: `localASN`, or else `myASN`.
    pub local_asn: u32,
    /// ASN that the router may have.
    pub remote_asn: RemoteAsn,
    /// Where the router is.
    pub address: PeerAddress,
    /// Address to dial from; `None` for what the routing table says.
    pub source: Option<IpAddr>,
    /// TCP port of the router. Default 179.
    pub port: u16,
    /// BGP Identifier; `None` for an IPv4 address of the node.
    pub router_id: Option<Ipv4Addr>,
    /// Hold time to ask for, whole seconds; zero turns keepalives off. Default 90 s.
    pub hold_time: Duration,
    /// Longest time between keepalives. Default a third of the hold time.
    pub keepalive_time: Duration,
    /// Longest time between attempts to connect. Default 5 s.
    pub connect_time: Duration,
    /// Password for TCP MD5 signatures.
    pub password: Option<Password>,
    /// Name of the `BFDProfile`; `None` for no BFD.
    pub bfd_profile: Option<String>,
    /// Whether the router is asked to keep routes while this process restarts.
    pub graceful_restart: bool,
    /// Whether the router may be more than one hop away.
    pub multi_hop: bool,
    /// VRF to peer from.
    pub vrf: Option<String>,
    /// Families that are announced on the session.
    pub families: Families,
    node_selectors: Vec<LabelSelector>,
    refusals: Vec<Problem>,
}

/// Which ASN a router may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteAsn {
    /// This one.
    Exactly(u32),
    /// The one that this end presents.
    Internal,
    /// Any but the one that this end presents.
    External,
}

/// Where a router is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerAddress {
    /// At this address.
    Ip(IpAddr),
    /// It is the one neighbour on this interface, found by its link-local address.
    Interface(String),
}

/// Where the password of a session comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The object itself.
    Text(String),
    /// Key `password` of a Secret of type `kubernetes.io/basic-auth`.
    Secret {
        /// Name of the Secret.
        name: String,
        /// Namespace of the Secret; `None` for that of the object.
        namespace: Option<String>,
    },
}

/// Which of the two families of unicast addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4 unicast.
    pub v4: bool,
    /// IPv6 unicast.
    pub v6: bool,
}

impl RemoteAsn {
    /// Whether the router is of the same ASN, if this end presents `local`.
    pub fn is_internal(self, local: u32) -> bool {
        self == Self::Internal || self == Self::Exactly(local)
    }

    /// Whether a router may have this ASN, if this end presents `local`.
    pub fn allows(self, asn: u32, local: u32) -> bool {
        match self {
            Self::Exactly(expected) => asn == expected,
            Self::Internal => asn == local,
            Self::External => asn != local,
        }
    }
}

impl Families {
    /// Both.
    pub const BOTH: Self = Self { v4: true, v6: true };

    /// What both sides have.
    pub fn and(self, other: Self) -> Self {
        Self { v4: self.v4 && other.v4, v6: self.v6 && other.v6 }
    }

    /// Neither of the two.
    pub fn is_empty(self) -> bool {
        !self.v4 && !self.v6
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::Secret { name, namespace } => {
                f.debug_struct("Secret").field("name", name).field("namespace", namespace).finish()
            }
        }
    }
}

impl Peer {
    /// Reads a spec. `Err` holds at least one severe refusal: there will be no session.
    pub fn parse(name: &str, spec: &BgpPeerSpec) -> Result<Self, Vec<Problem>> {
        let mut faults = Vec::new();
        let local_asn = local_asn(spec, &mut faults);
        let remote_asn = remote_asn(spec, &mut faults);
        let address = address(spec, &mut faults);
        let source = source(spec, address.as_ref(), &mut faults);
        let (hold_time, keepalive_time) = hold_and_keepalive(spec, &mut faults);
        let connect_time = connect_time(spec, &mut faults);
        let router_id = router_id(spec, &mut faults);
        let password = password(spec, &mut faults);
        let port = match u16::try_from(spec.peer_port) {
            Ok(0) => DEFAULT_PORT,
            Ok(port) => port,
            Err(_) => {
                faults.push(invalid("peerPort", format!("{} is not a port", spec.peer_port), ""));
                DEFAULT_PORT
            }
        };
        if let Some(why) = some(&spec.vrf).and_then(|name| name_fault(&name)) {
            faults.push(invalid("vrf", why, "write a name that `ip link show type vrf` shows"));
        }
        let internal = local_asn != 0 && remote_asn.is_internal(local_asn)
            || remote_asn == RemoteAsn::Internal;
        if spec.ebgp_multi_hop && internal {
            faults.push(invalid(
                "ebgpMultiHop",
                "a session within one ASN has no limit of hops".to_owned(),
                "remove it",
            ));
        }
        let address = match address {
            Some(address) if faults.is_empty() => address,
            _ => return Err(faults),
        };
        Ok(Self {
            name: name.to_owned(),
            local_asn,
            remote_asn,
            families: families(&address, spec.dual_stack_address_family),
            address,
            source,
            port,
            router_id,
            hold_time,
            keepalive_time,
            connect_time,
            password,
            bfd_profile: some(&spec.bfd_profile),
            graceful_restart: spec.enable_graceful_restart,
            multi_hop: spec.ebgp_multi_hop || internal,
            vrf: some(&spec.vrf),
            node_selectors: spec.node_selectors.clone(),
            refusals: remarks(spec),
        })
    }

    /// What of the spec is not done as asked, though there is a session.
    pub fn refusals(&self) -> &[Problem] {
        &self.refusals
    }

    /// The same peer, without what no session depends on: a change of that is no change of it.
    pub fn for_session(&self) -> Self {
        Self { node_selectors: Vec::new(), refusals: Vec::new(), ..self.clone() }
    }

    /// Whether a node with these labels peers with the router.
    pub fn on_node(&self, labels: &BTreeMap<String, String>) -> bool {
        self.node_selectors.is_empty()
            || self.node_selectors.iter().any(|selector| selector.matches(labels))
    }
}

/// The peers of a node with these labels, from peers in order of age: of two that mean the same
/// router the older one is it, and the newer one is refused: (name, refusal).
pub fn peers_for<'a>(
    labels: &BTreeMap<String, String>,
    peers: &'a [Peer],
) -> (Vec<&'a Peer>, Vec<(String, Problem)>) {
    let mut refusals = Vec::new();
    let mut seen = BTreeMap::new();
    let mut chosen = Vec::new();
    for peer in peers.iter().filter(|peer| peer.on_node(labels)) {
        let router = (&peer.address, peer.port, &peer.vrf);
        match seen.get(&router) {
            None => {
                seen.insert(router, &peer.name);
                chosen.push(peer);
            }
            Some(older) => refusals.push((
                peer.name.clone(),
                Problem::refused(
                    "DuplicatePeer",
                    "spec.peerAddress",
                    format!("BGPPeer \"{older}\" already peers with this router from this node"),
                    "remove one of the two, or give them different nodeSelectors",
                ),
            )),
        }
    }
    (chosen, refusals)
}

fn invalid(field: &str, message: String, hint: &str) -> Problem {
    Problem::refused("InvalidPeer", format!("spec.{field}"), message, hint)
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn local_asn(spec: &BgpPeerSpec, faults: &mut Vec<Problem>) -> u32 {
    for (field, asn) in
        [("myASN", spec.my_asn), ("peerASN", spec.peer_asn), ("localASN", spec.local_asn)]
    {
        if asn == AS_TRANS {
            let message = format!("{AS_TRANS} is AS_TRANS of RFC 6793, which is nobody's ASN");
            faults.push(invalid(field, message, ""));
        }
    }
    if spec.my_asn == 0 {
        faults.push(invalid("myASN", "the peer has no myASN".to_owned(), "set it to your ASN"));
    }
    if spec.local_asn == 0 { spec.my_asn } else { spec.local_asn }
}

fn remote_asn(spec: &BgpPeerSpec, faults: &mut Vec<Problem>) -> RemoteAsn {
    match (spec.peer_asn, spec.dynamic_asn.as_str()) {
        (0, "internal") => RemoteAsn::Internal,
        (0, "external") => RemoteAsn::External,
        (0, "") => {
            let message = "the peer has neither peerASN nor dynamicASN".to_owned();
            faults.push(invalid("peerASN", message, "set peerASN to the router's ASN"));
            RemoteAsn::External
        }
        (asn, "") => RemoteAsn::Exactly(asn),
        (0, other) => {
            let message = format!("\"{other}\" is not a dynamicASN");
            faults.push(invalid("dynamicASN", message, "write internal or external"));
            RemoteAsn::External
        }
        (asn, _) => {
            let message = format!("the peer has both peerASN {asn} and dynamicASN");
            faults.push(invalid("dynamicASN", message, "remove one of them"));
            RemoteAsn::Exactly(asn)
        }
    }
}

fn address(spec: &BgpPeerSpec, faults: &mut Vec<Problem>) -> Option<PeerAddress> {
    let text = spec.peer_address.as_str();
    match (text, spec.interface.as_str()) {
        ("", "") => {
            let message = "the peer has neither peerAddress nor interface".to_owned();
            faults.push(invalid("peerAddress", message, "set it to the router's address"));
            None
        }
        ("", interface) => match name_fault(interface) {
            None => Some(PeerAddress::Interface(interface.to_owned())),
            Some(why) => {
                faults.push(invalid("interface", why, "write a name that `ip link` shows"));
                None
            }
        },
        (_, "") => match host(text) {
            Ok(ip) => Some(PeerAddress::Ip(ip)),
            Err(message) => {
                faults.push(invalid("peerAddress", message, "write 192.0.2.1 or 2001:db8::1"));
                None
            }
        },
        _ => {
            let message = "the peer has both peerAddress and interface".to_owned();
            faults.push(invalid("interface", message, "remove one of them"));
            None
        }
    }
}

fn host(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| format!("\"{text}\" is not an IP address"))?;
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if ip.is_unspecified() || ip.is_multicast() {
        Err(format!("\"{text}\" is not the address of a host"))
    } else if link_local {
        Err(format!("\"{text}\" is link-local, so that the interface has to be named instead"))
    } else {
        Ok(ip)
    }
}

fn source(
    spec: &BgpPeerSpec,
    address: Option<&PeerAddress>,
    faults: &mut Vec<Problem>,
) -> Option<IpAddr> {
    let text = some(&spec.source_address)?;
    match (host(&text), address) {
        (Ok(ip), Some(PeerAddress::Ip(peer))) if ip.is_ipv4() != peer.is_ipv4() => {
            let message = format!("{ip} and peerAddress {peer} are of different families");
            faults.push(invalid("sourceAddress", message, ""));
            None
        }
        (Ok(_), Some(PeerAddress::Interface(_))) => {
            let message = "with interface, the source is its link-local address".to_owned();
            faults.push(invalid("sourceAddress", message, "remove it"));
            None
        }
        (Ok(ip), _) => Some(ip),
        (Err(message), _) => {
            faults.push(invalid("sourceAddress", message, "write an address of the node"));
            None
        }
    }
}

fn duration(field: &str, text: Option<&str>, faults: &mut Vec<Problem>) -> Option<Duration> {
    let text = text?;
    let nanos = go_duration_nanos(text);
    if nanos.is_none() {
        let message = format!("\"{text}\" is not a duration");
        faults.push(invalid(field, message, "write a number with a unit, such as 90s"));
    }
    nanos.map(Duration::from_nanos)
}

/// One of the two gives the other, 3:1, as with MetalLB.
fn hold_and_keepalive(spec: &BgpPeerSpec, faults: &mut Vec<Problem>) -> (Duration, Duration) {
    let before = faults.len();
    let hold = duration("holdTime", spec.hold_time.as_deref(), faults);
    let keepalive = duration("keepaliveTime", spec.keepalive_time.as_deref(), faults);
    if faults.len() > before {
        return (DEFAULT_HOLD, DEFAULT_HOLD / 3);
    }
    let hold =
        hold.or_else(|| keepalive.map(|time| time.saturating_mul(3))).unwrap_or(DEFAULT_HOLD);
    // It travels in whole seconds.
    let hold = Duration::from_secs(hold.as_secs());
    let keepalive = keepalive.unwrap_or(hold / 3);
    if !matches!(hold.as_secs(), 0 | 3..=65535) {
        let message = format!("{hold:?} is neither 0 nor from 3 s to 65535 s");
        faults.push(invalid("holdTime", message, "the usual ones are 9s, 90s and 180s"));
    } else if keepalive > hold {
        let message = format!("{keepalive:?} is longer than the hold time, {hold:?}");
        faults.push(invalid("keepaliveTime", message, "a third of the hold time is usual"));
    } else if keepalive < Duration::from_secs(1) && !hold.is_zero() {
        let message = format!("{keepalive:?} is less than 1 s");
        faults.push(invalid("keepaliveTime", message, "for sub-second detection use bfdProfile"));
    }
    (hold, keepalive)
}

fn connect_time(spec: &BgpPeerSpec, faults: &mut Vec<Problem>) -> Duration {
    let Some(time) = duration("connectTime", spec.connect_time.as_deref(), faults) else {
        return DEFAULT_CONNECT;
    };
    if !(1..=65535).contains(&time.as_secs()) || time.subsec_nanos() != 0 {
        let message = format!("{time:?} is not a whole number of seconds from 1 to 65535");
        faults.push(invalid("connectTime", message, "write 5s"));
    }
    time
}

fn router_id(spec: &BgpPeerSpec, faults: &mut Vec<Problem>) -> Option<Ipv4Addr> {
    let text = some(&spec.router_id)?;
    let id = text.parse().ok().filter(|id: &Ipv4Addr| !id.is_unspecified());
    if id.is_none() {
        let message = format!("\"{text}\" is not a BGP Identifier");
        faults.push(invalid("routerID", message, "write it as an IPv4 address, such as 10.0.0.1"));
    }
    id
}

fn password(spec: &BgpPeerSpec, faults: &mut Vec<Problem>) -> Option<Password> {
    let text = spec.password.trim();
    if text.is_empty() && !spec.password.is_empty() {
        let message = "the password is nothing but white space".to_owned();
        faults.push(invalid("password", message, "write the password, or remove the field"));
    }
    if !text.is_empty() && !spec.password_secret.is_unset() {
        let message = "the peer has both password and passwordSecret".to_owned();
        faults.push(invalid("passwordSecret", message, "remove one of them"));
    } else if text.len() > LONGEST_PASSWORD {
        let message = format!("{} bytes are longer than TCP MD5 allows", text.len());
        faults.push(invalid("password", message, "use at most 80 bytes"));
    }
    if !text.is_empty() {
        return Some(Password::Text(text.to_owned()));
    }
    (!spec.password_secret.is_unset()).then(|| Password::Secret {
        name: spec.password_secret.name.clone(),
        namespace: some(&spec.password_secret.namespace),
    })
}

/// White space around a password was left out.
pub fn password_trimmed(field: &str, what: &str) -> Problem {
    Problem::noted(
        "PasswordTrimmed",
        field,
        format!("{what} begins or ends in white space, which is left out"),
        "write it without: `echo -n`, or `kubectl create secret … --from-literal`",
    )
}

/// The family of the session, or both if asked for. An unnumbered session exists for the sake of
/// both: its only addresses are link-local ones.
fn families(address: &PeerAddress, dual_stack: bool) -> Families {
    match address {
        _ if dual_stack => Families::BOTH,
        PeerAddress::Interface(_) => Families::BOTH,
        PeerAddress::Ip(ip) => Families { v4: ip.is_ipv4(), v6: ip.is_ipv6() },
    }
}

fn remarks(spec: &BgpPeerSpec) -> Vec<Problem> {
    let mut remarks = Vec::new();
    if spec.password.trim() != spec.password {
        remarks.push(password_trimmed("spec.password", "the password"));
    }
    if spec.disable_mp {
        remarks.push(Problem::noted(
            "WithoutEffect",
            "spec.disableMP",
            "disableMP is deprecated and has no effect",
            "use dualStackAddressFamily to say which families the session carries",
        ));
    }
    remarks.extend(selector_faults("spec.nodeSelectors", &spec.node_selectors));
    remarks
}

#[cfg(test)]
mod tests;
