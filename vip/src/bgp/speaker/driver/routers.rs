//! Finds the routers of unnumbered links: a part of the driver.
//!
//! [`Unnumbered`](crate::bgp::speaker::unnumbered::Unnumbered) speaks and listens on the links; this file
//! tells it which links those are, and has peers dial the routers that were found.

use std::time::Instant;

use super::{Driver, Phase};
use crate::bgp::speaker::peer_driver::Peering;
use crate::event::BgpEvent;

impl<E: Fn(BgpEvent)> Driver<E> {
    /// Finds the routers of unnumbered links, and dials those that were found.
    pub(super) fn find_routers(&mut self, now: Instant) {
        if self.phase >= Phase::Closing(now) {
            self.unnumbered.close();
            return;
        }
        let interfaces = self.peerings.values().filter_map(Peering::interface).collect();
        let changed = self.unnumbered.follow(&interfaces, &self.link_watch.links, now);
        if changed {
            self.doors.follow(self.peerings.values(), &self.unnumbered, now);
        }
        let session = |interface: &str| {
            let on_it = |peering: &&Peering| peering.interface() == Some(interface);
            self.peerings.values().filter(on_it).find_map(Peering::link_local)
        };
        let found = self.unnumbered.turn(session, now);
        if !changed && !found {
            return;
        }
        self.pace.changed = true;
        for name in self.peerings.keys().cloned().collect::<Vec<_>>() {
            self.with(&name, now, |peering, around| peering.look(around));
        }
    }
}
