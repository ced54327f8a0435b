//! Finds the routers of unnumbered links: a part of the driver.
//!
//! [`Unnumbered`](crate::bgp::speaker::unnumbered::Unnumbered) speaks and listens on the links; this file
//! tells it which links those are, and has peers dial the routers that were found.

use std::time::Instant;

use super::{Driver, Phase};
use crate::{bgp::speaker::peer_driver::PeerDriver, event::BgpEvent};

impl<E: Fn(BgpEvent)> Driver<E> {
    /// Finds the routers of unnumbered links, and dials those that were found.
    pub(super) fn find_routers(&mut self, now: Instant) {
        if self.phase >= Phase::Closing(now) {
            self.unnumbered.close();
            return;
        }
        let interfaces = self.peers.values().filter_map(PeerDriver::interface).collect();
        let changed = self.unnumbered.follow(&interfaces, &self.link_watch.links, now);
        if changed {
            self.acceptors.follow(self.peers.values(), &self.unnumbered, now);
        }
        let session = |interface: &str| {
            let on_it = |peer: &&PeerDriver| peer.interface() == Some(interface);
            self.peers.values().filter(on_it).find_map(PeerDriver::link_local)
        };
        let found = self.unnumbered.turn(session, now);
        if !changed && !found {
            return;
        }
        self.pace.changed = true;
        for name in self.peers.keys().cloned().collect::<Vec<_>>() {
            self.with(&name, now, |peer, context| peer.look(context));
        }
    }
}
