//! On which interfaces the kernel answers ARP for the addresses of that interface only.
//!
//! By default Linux answers ARP for any address of the node on any interface. A VIP would then be
//! answered for on interfaces that no advertisement allows, and one that has moved to `lo` would not
//! have moved at all. So when the first IPv4 address is claimed, every interface that speaks ARP is
//! given `arp_ignore=1`, once. IPv6 needs nothing: Neighbour Discovery is per interface. Pure; `Vips` owns
//! one.

use std::{collections::BTreeMap, net::IpAddr};

use super::Action;
use crate::{links::Links, problem::Problem};

/// The interfaces for which `arp_ignore` was asked for, and whether it was set.
#[derive(Debug, Default)]
pub(super) struct ArpIgnore {
    /// An IPv4 address has been claimed.
    needed: bool,
    asked: BTreeMap<u32, bool>,
    /// The first failure, to be reported once an address is announced: what is announced has no refusals
    /// from before.
    pub(super) refusal: Option<Problem>,
    failed: bool,
    look: bool,
}

impl ArpIgnore {
    /// An address is about to be claimed.
    pub(super) fn claimed(&mut self, ip: IpAddr) {
        if ip.is_ipv4() && !self.needed {
            (self.needed, self.look) = (true, true);
        }
    }

    /// The interfaces have changed.
    pub(super) fn see(&mut self, links: &Links) {
        // A new interface may get the index of one that is gone, but not its setting.
        self.asked.retain(|index, _| links.link(*index).is_some());
        self.look = self.needed;
    }

    /// What has to be done.
    pub(super) fn due(&mut self, links: &Links) -> Vec<Action> {
        if !std::mem::take(&mut self.look) {
            return Vec::new();
        }
        let new = links.speaking_arp().filter(|link| !self.asked.contains_key(&link.index));
        let new: Vec<_> = new
            .map(|link| Action::ArpIgnore { index: link.index, name: link.name.clone() })
            .collect();
        self.asked.extend(new.iter().filter_map(|action| match action {
            Action::ArpIgnore { index, .. } => Some((*index, false)),
            _ => None,
        }));
        new
    }

    /// Notes what came of it; the first refusal of all is kept.
    pub(super) fn done(&mut self, index: u32, refusal: Option<Problem>) {
        if let Some(set) = self.asked.get_mut(&index) {
            *set = refusal.is_none();
        }
        if refusal.is_some() && !std::mem::replace(&mut self.failed, true) {
            self.refusal = refusal;
        }
    }

    /// Whether an address that is on another interface is not answered for on this one.
    pub(super) fn hides(&self, index: u32, ip: IpAddr) -> bool {
        ip.is_ipv6() || self.asked.get(&index) == Some(&true)
    }
}
