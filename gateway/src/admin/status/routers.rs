//! The routers of a node and the addresses that they hear of, as rows of its status.
//!
//! Made from what the BGP speaker knows; nothing is decided here.

use std::{collections::BTreeMap, net::IpAddr};

use gatehouse_vip::{BgpStatus, Messages, PeerStatus, bgp::BgpPlan};
use serde::{Deserialize, Serialize};

/// One router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouterRow {
    /// Name of the BGPPeer.
    pub peer: String,
    /// Address of the router; for an unnumbered one the interface, until it has been found there.
    pub router: String,
    /// Its ASN; 0 if any is allowed and none is known.
    pub asn: u32,
    /// `idle`, `connect`, `active`, `opensent`, `openconfirm` or `established`.
    pub state: String,
    /// Seconds since the session came up; none while it is not up.
    pub up_seconds: Option<u64>,
    /// How often the session came up.
    pub established: u64,
    /// What both ends have agreed on.
    pub capabilities: Vec<String>,
    /// What this end has offered and the router has not.
    pub capabilities_here: Vec<String>,
    /// What the router has offered and this end has not.
    pub capabilities_there: Vec<String>,
    /// Seconds of the agreed hold time.
    pub hold_seconds: Option<u64>,
    /// Prefixes that the router has been told.
    pub announced: u64,
    /// Prefixes that it is to be told.
    pub wanted: u64,
    /// Prefixes that it has told, repetitions counted; none of them is used.
    pub received: u64,
    /// Messages sent, by type.
    pub sent: BTreeMap<String, u64>,
    /// Messages received, by type.
    pub messages_received: BTreeMap<String, u64>,
    /// `up` or `down`; none without BFD.
    pub bfd: Option<String>,
    /// What ended the session, or an attempt at it, last.
    pub last_error: Option<String>,
    /// What was wrong last with an UPDATE of the router's that did not end the session.
    pub last_fault: Option<String>,
}

/// One address that routers are to hear of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutedRow {
    /// The address.
    pub address: IpAddr,
    /// The Services served on it, as namespace/name.
    pub services: Vec<String>,
    /// `announced`, `no session` (nobody hears it), `leaving` (the node stops) or `held back` (no Service on it has all its
    /// listeners open, or it is not on the loopback interface).
    pub here: String,
    /// The BGPPeers whose sessions are up that hear of it.
    pub peers: Vec<String>,
}

/// All routers.
pub(crate) fn router_rows(status: &BgpStatus) -> Vec<RouterRow> {
    status.peers.iter().map(|(name, peer)| router_row(name, peer)).collect()
}

/// All addresses that routers are to hear of.
pub(crate) fn routed_rows(plan: &BgpPlan, status: &BgpStatus) -> Vec<RoutedRow> {
    let up: Vec<_> = status
        .peers
        .iter()
        .filter(|(_, peer)| peer.up_seconds.is_some())
        .filter_map(|(name, _)| Some((name, plan.routes.get(name)?)))
        .collect();
    let rows = plan.addresses.iter().map(|(address, claims)| {
        let there = status.addresses.binary_search(address).is_ok();
        let hears = up.iter().filter(|(_, rib)| there && rib.leads_to(*address));
        let peers: Vec<String> = hears.map(|(name, _)| (*name).clone()).collect();
        let here = match (there, peers.is_empty()) {
            (false, _) => "held back",
            (true, _) if status.draining => "leaving",
            (true, true) => "no session",
            (true, false) => "announced",
        };
        let services = claims.iter().map(|claim| claim.0.to_string()).collect();
        RoutedRow { address: *address, services, here: here.to_owned(), peers }
    });
    rows.collect()
}

fn router_row(name: &str, peer: &PeerStatus) -> RouterRow {
    RouterRow {
        peer: name.to_owned(),
        router: peer.neighbour.as_ref().unwrap_or(&peer.router).clone(),
        asn: peer.asn,
        state: peer.state.to_owned(),
        up_seconds: peer.up_seconds,
        established: peer.established,
        capabilities: texts(&peer.capabilities),
        capabilities_here: texts(&peer.capabilities_here),
        capabilities_there: texts(&peer.capabilities_there),
        hold_seconds: peer.hold_seconds,
        announced: peer.announced.total(),
        wanted: peer.wanted.total(),
        received: peer.received,
        sent: by_type(peer.sent_messages),
        messages_received: by_type(peer.received_messages),
        bfd: peer.bfd.as_ref().map(|bfd| bfd.state.as_str().to_owned()),
        last_error: peer.last_error.clone(),
        last_fault: peer.last_fault.clone(),
    }
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn by_type(messages: Messages) -> BTreeMap<String, u64> {
    let counted = messages.by_type().into_iter();
    counted.map(|(kind, count)| (kind.to_owned(), count)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gatehouse_vip::{ClaimId, bgp::RibOut};

    use super::*;

    #[test]
    fn an_unnumbered_router_is_shown_by_its_interface_until_it_is_found() {
        let mut peer = PeerStatus { router: "eth0".into(), ..PeerStatus::default() };
        assert_eq!(router_row("leaf", &peer).router, "eth0");
        peer.neighbour = Some("fe80::1%eth0".into());
        assert_eq!(router_row("leaf", &peer).router, "fe80::1%eth0");
    }

    #[test]
    fn an_address_is_announced_once_it_is_on_loopback_and_some_router_hears_of_it() {
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let rib = RibOut { routes: [("192.0.2.0/24".parse().unwrap(), Arc::default())].into() };
        let plan = BgpPlan {
            routes: [("a".to_owned(), Arc::new(rib)), ("b".to_owned(), Arc::default())].into(),
            addresses: [(address, vec![ClaimId("x/gateway".into())])].into(),
            ..BgpPlan::default()
        };
        let up = PeerStatus { up_seconds: Some(1), ..PeerStatus::default() };
        let mut status = BgpStatus::default();
        let row = |status: &BgpStatus| {
            let row = routed_rows(&plan, status).remove(0);
            assert_eq!(row.services, ["x/gateway"]);
            (row.here, row.peers.join(" "))
        };
        assert_eq!(row(&status), ("held back".to_owned(), String::new()));
        status.addresses.push(address);
        status.peers.insert("b".to_owned(), up.clone());
        assert_eq!(row(&status), ("no session".to_owned(), String::new()), "b hears of nothing");
        status.peers.insert("a".to_owned(), up);
        assert_eq!(row(&status), ("announced".to_owned(), "a".to_owned()));
        status.draining = true;
        assert_eq!(row(&status).0, "leaving");
    }
}
