//! What is said about an address that is not held as asked: why, and what to do about it.
//!
//! `Vips` and its addresses call this; nothing is decided here.

use std::{net::IpAddr, time::Duration};

use super::Action;
use crate::{
    links::{
        Link, Links, Mac,
        change::{Failure, FailureKind},
    },
    problem::Problem,
};

/// Reasons that the interfaces give; they end with their cause.
pub(super) const OF_INTERFACES: [&str; 3] = ["NoInterface", "BroadcastAddress", "NoCarrier"];

/// Reasons that end when the address is on no interface any more.
pub(super) const OF_PLACES: [&str; 6] = [
    "WithdrawFailed",
    "RenewFailed",
    "AnnouncementFailed",
    "AddressConflict",
    "ProbeFailed",
    "NodeAddress",
];

/// What a failed action means for the claims on the address; `None`: nothing.
pub(super) fn failed(action: &Action, links: &Links, failure: &Failure) -> Option<Problem> {
    let name = |index: &u32| links.link(*index).map_or("?", |link| link.name.as_str());
    let Failure { kind, message } = failure;
    let (reason, what) = match (action, kind) {
        (Action::Add { .. }, FailureKind::Exists) | (Action::Delete { .. }, FailureKind::Gone) => {
            return None;
        }
        (Action::Add { ip, index, .. }, FailureKind::Denied) => {
            ("NotPermitted", format!("{ip} cannot be added to {}: {message}", name(index)))
        }
        (Action::Add { ip, index, .. }, _) => {
            ("AddressFailed", format!("{ip} cannot be added to {}: {message}", name(index)))
        }
        (Action::Delete { ip, index }, _) => {
            ("WithdrawFailed", format!("{ip} cannot be removed from {}: {message}", name(index)))
        }
        (Action::Announce { ip, index, .. }, _) => {
            let what = format!("{ip} is on {} but cannot be announced: {message}", name(index));
            ("AnnouncementFailed", what)
        }
        (Action::Probe { ip, index, .. }, _) => (
            "ProbeFailed",
            format!(
                "it cannot be asked on {} whether another host has {ip}: {message}",
                name(index)
            ),
        ),
        (Action::ArpIgnore { name, .. }, _) => {
            let what = format!(
                "the kernel may answer ARP for VIPs on {name} that are on other interfaces: {message}"
            );
            return Some(Problem::noted("ArpNotStrict", "", what, sysctls(name)));
        }
        (Action::Renew { .. }, _) => return None,
    };
    let hint = match kind {
        FailureKind::Denied => "give the process CAP_NET_ADMIN and CAP_NET_RAW",
        _ => "",
    };
    Some(match action {
        Action::Announce { .. } | Action::Probe { .. } => Problem::noted(reason, "", what, hint),
        _ => Problem::refused(reason, "", what, hint),
    })
}

/// The time of an address is not renewed: it will go.
pub(super) fn not_renewed(ip: IpAddr, failure: &Failure) -> Problem {
    let what = format!("the lifetime of {ip} cannot be renewed: {}", failure.message);
    let hint = match failure.kind {
        FailureKind::Denied => "give the process CAP_NET_ADMIN",
        _ => "",
    };
    Problem::noted("RenewFailed", "", what, hint)
}

/// The link has no neighbours.
pub(super) fn no_carrier(ip: IpAddr, link: &Link) -> Problem {
    let what = format!("{} is where {ip} belongs, but has no carrier", link.name);
    Problem::refused("NoCarrier", "", what, "look after the cable, or the switch at its other end")
}

/// A stranger has an address that is not on the link yet, or wants it at the same time.
pub(super) fn in_use(ip: IpAddr, link: &Link, mac: Mac, again: Duration) -> Problem {
    let what = format!(
        "{ip} is used on {} by {}, which is not of this group; it is tried again in {} s",
        link.name,
        text(mac),
        again.as_secs()
    );
    let hint = "take the address off that host, or leave it out of the pool";
    Problem::refused("AddressInUse", "", what, hint)
}

/// A stranger uses an address that is held.
pub(super) fn conflict(ip: IpAddr, link: &str, mac: Mac) -> Problem {
    let what = format!(
        "{ip} is on {link}, but {}, which is not of this group, uses it as well; it is defended",
        text(mac)
    );
    let hint = "take the address off that host, or leave it out of the pool";
    Problem::noted("AddressConflict", "", what, hint)
}

/// The address was on the interface before, and not by our doing.
pub(super) fn node_address(ip: IpAddr, link: &str) -> Problem {
    let what = format!(
        "{ip} is an address of this node itself, on {link}: it is announced there, but stays when another \
         node takes it over"
    );
    let hint =
        "leave it out of the pool, or take it off the interface: it is put there when needed";
    Problem::noted("NodeAddress", "", what, hint)
}

/// Open connections on an address cannot go on here while another node has it.
pub(super) fn cut(ip: IpAddr, link: &str, to: &str, why: &str) -> Problem {
    let what = format!("connections that are open on {ip} break as it moves to {to}: {why}");
    Problem::noted("ConnectionsCut", "", what, sysctls(link))
}

fn sysctls(link: &str) -> String {
    format!(
        "set net.ipv4.conf.{link}.arp_ignore=1 and net.ipv4.conf.{link}.arp_announce=2, or let the \
         process write to /proc/sys/net"
    )
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
