//! Metrics of BGP and BFD: sessions, what routers hear of, messages.
//!
//! The rows are in the one table of `metrics`; this file knows where their values come from. Those that
//! begin with `metallb_` have MetalLB's names and its label: the router's address and port.

use std::net::IpAddr;

use gatehouse_vip::{BfdState, BgpStatus, PeerStatus};

use super::{Exposition, Metric};

/// Writes the values of a metric of routers; false if it is none.
pub(super) fn values(bgp: &BgpStatus, metric: &Metric, out: &mut Exposition) -> bool {
    let old = metric.name.starts_with("metallb_");
    if metric.name == "gatehouse_bfd_packets_total" {
        packets(bgp, metric, out);
        return true;
    }
    let mut known = false;
    for (name, peer) in &bgp.peers {
        let label = if old { address_and_port(peer) } else { name.clone() };
        known |= of_peer(metric, &label, peer, out);
    }
    known
        || ["gatehouse_bgp_", "gatehouse_bfd_", "metallb_bgp_", "metallb_bfd_"]
            .iter()
            .any(|prefix| metric.name.starts_with(prefix))
}

fn of_peer(metric: &Metric, label: &str, peer: &PeerStatus, out: &mut Exposition) -> bool {
    let pending = |announced: u64, wanted: u64| wanted.saturating_sub(announced);
    let (announced, wanted) = (peer.announced, peer.wanted);
    match metric.name {
        "gatehouse_bgp_session_up" | "metallb_bgp_session_up" => {
            out.value(metric, &[label], u8::from(peer.up_seconds.is_some()));
        }
        "gatehouse_bgp_session_uptime_seconds" => {
            out.value(metric, &[label], peer.up_seconds.unwrap_or(0));
        }
        "gatehouse_bgp_sessions_established_total" => out.value(metric, &[label], peer.established),
        "gatehouse_bgp_prefixes" => {
            for (family, announced, wanted) in
                [("ipv4", announced.v4, wanted.v4), ("ipv6", announced.v6, wanted.v6)]
            {
                out.value(metric, &[label, family, "announced"], announced);
                out.value(metric, &[label, family, "pending"], pending(announced, wanted));
            }
        }
        "gatehouse_bgp_prefixes_received_total" => out.value(metric, &[label], peer.received),
        "gatehouse_bgp_messages_total" => {
            for (direction, messages) in
                [("sent", peer.sent_messages), ("received", peer.received_messages)]
            {
                for (kind, count) in messages.by_type() {
                    out.value(metric, &[label, direction, kind], count);
                }
            }
        }
        "metallb_bgp_updates_total" => out.value(metric, &[label], peer.sent_messages.update),
        "metallb_bgp_announced_prefixes_total" => out.value(metric, &[label], announced.total()),
        "metallb_bgp_pending_prefixes_total" => {
            out.value(metric, &[label], pending(announced.total(), wanted.total()));
        }
        "gatehouse_bfd_session_up" | "metallb_bfd_session_up" => {
            if let Some(bfd) = &peer.bfd {
                out.value(metric, &[label], u8::from(bfd.state == BfdState::Up));
            }
        }
        _ => return false,
    }
    true
}

fn packets(bgp: &BgpStatus, metric: &Metric, out: &mut Exposition) {
    let packets = bgp.bfd_packets;
    for (result, count) in [
        ("sent", packets.sent),
        ("received", packets.received),
        ("unsent", packets.unsent),
        ("strange", packets.strange),
        ("discarded", packets.discarded),
    ] {
        out.value(metric, &[result], count);
    }
}

/// `192.0.2.1:179`, or what the router is found by.
fn address_and_port(peer: &PeerStatus) -> String {
    match peer.router.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{}", peer.port),
        _ => format!("{}:{}", peer.router, peer.port),
    }
}
