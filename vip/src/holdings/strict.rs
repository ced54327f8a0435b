//! On which interfaces the kernel answers ARP for the addresses of that interface only.
//!
//! By default Linux answers ARP for any address of the node on any interface. A VIP would then be
//! answered for on interfaces that no advertisement allows, and one that has moved to `lo` would not
//! have moved at all. So when the first IPv4 address is claimed, every interface that speaks ARP is
//! made strict, once. IPv6 needs nothing: Neighbour Discovery is per interface. Pure; `Holdings` owns
//! one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Action;
use crate::links::Links;

/// Which interfaces were asked to be strict, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Strict {
    /// The first IPv4 address that was claimed; it is the one that a failure is told for.
    pub(super) since: Option<IpAddr>,
    asked: BTreeMap<u32, bool>,
    failed: bool,
    look: bool,
}

impl Strict {
    /// An address is about to be claimed.
    pub(super) fn claimed(&mut self, ip: IpAddr) {
        if ip.is_ipv4() && self.since.is_none() {
            self.since = Some(ip);
            self.look = true;
        }
    }

    /// The interfaces have changed.
    pub(super) fn see(&mut self, links: &Links) {
        // A new interface may get the index of one that is gone, but is not strict.
        self.asked.retain(|index, _| links.link(*index).is_some());
        self.look = self.since.is_some();
    }

    /// What has to be done.
    pub(super) fn due(&mut self, links: &Links) -> Vec<Action> {
        if !std::mem::take(&mut self.look) {
            return Vec::new();
        }
        let new = links.speaking_arp().filter(|link| !self.asked.contains_key(&link.index));
        let new: Vec<_> =
            new.map(|link| Action::Strict { index: link.index, name: link.name.clone() }).collect();
        self.asked.extend(new.iter().filter_map(|action| match action {
            Action::Strict { index, .. } => Some((*index, false)),
            _ => None,
        }));
        new
    }

    /// Notes what came of it. True for the first failure.
    pub(super) fn done(&mut self, index: u32, strict: bool) -> bool {
        if let Some(entry) = self.asked.get_mut(&index) {
            *entry = strict;
        }
        !strict && !std::mem::replace(&mut self.failed, true)
    }

    /// Whether an address that is on another interface is not answered for on this one.
    pub(super) fn hides(&self, index: u32, ip: IpAddr) -> bool {
        ip.is_ipv6() || self.asked.get(&index) == Some(&true)
    }
}
