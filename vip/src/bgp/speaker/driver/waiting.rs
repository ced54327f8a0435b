//! What the BGP thread waits for, and which part of it takes what came: the second half of the driver.
//!
//! Nothing is decided here. After every wait the driver takes its next turn.

#![expect(clippy::disallowed_methods, reason = "part of the driver, which owns the clock")]

use std::{os::fd::AsFd, time::Instant};

use tracing::debug;

use super::{Driver, Phase};
use crate::{
    bgp::speaker::peer_driver::PeerDriver,
    event::BgpEvent,
    kernel::{sockets::bgp::Incoming, turn::LEAST_WAIT, wait::wait_to_write},
};

impl<E: Fn(BgpEvent)> Driver<E> {
    /// By when to take the next turn.
    fn deadline(&self) -> Instant {
        let phase = match self.phase {
            Phase::Marked(at) | Phase::Withdrawn(at) | Phase::Closing(at) => Some(at),
            Phase::Serving | Phase::Closed => None,
        };
        let others = [
            phase,
            self.stop_by,
            self.closing.iter().map(|(until, _)| *until).min(),
            self.health.deadline(),
            self.pace.deadline(),
            self.announced.deadline(),
            self.bfd_client.deadline(),
            self.acceptors.deadline(),
            self.unnumbered.deadline(),
            self.peers.values().filter_map(PeerDriver::deadline).min(),
        ];
        others.into_iter().flatten().fold(self.link_watch.deadline(), Instant::min)
    }

    /// Waits for input or the next deadline.
    pub(super) fn wait(&self) {
        let now = Instant::now();
        let mut sources =
            vec![(self.mailbox.wake.as_fd(), false), (self.link_watch.source(), false)];
        sources.extend(self.acceptors.sources().map(|listener| (listener, false)));
        sources.extend(self.unnumbered.sources().map(|link| (link, false)));
        sources.extend(self.peers.values().flat_map(PeerDriver::sources));
        sources.extend(self.closing.iter().map(|(_, closing)| (closing.as_fd(), closing.writes())));
        let wait = self.deadline().saturating_duration_since(now);
        wait_to_write(sources, wait.max(LEAST_WAIT));
        self.mailbox.wake.clear();
    }

    /// Takes what has come.
    pub(super) fn take_input(&mut self) {
        let now = Instant::now();
        while let Ok((discriminator, news)) = self.bfd_news.try_recv() {
            self.pace.changed = true;
            if let Some(peer) = self.bfd_client.heard(discriminator, news, now) {
                self.with(&peer, now, |peer, context| peer.bfd_down(context));
            }
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        for name in self.peers.keys().cloned().collect::<Vec<_>>() {
            self.with(&name, now, |peer, context| peer.move_bytes(&mut buffer, context));
        }
        self.buffer = buffer;
        for incoming in self.acceptors.accept(now) {
            self.welcome(incoming, now);
        }
        for peer in self.peers.values_mut() {
            self.closing.append(&mut peer.closing());
        }
        self.closing.retain_mut(|(until, closing)| *until > now && !closing.done());
    }

    /// A router has dialled in, or a host that is none.
    fn welcome(&mut self, incoming: Incoming, now: Instant) {
        let from = incoming.from;
        let found =
            self.peers.iter().find(|(_, peer)| peer.expects(&incoming, &self.link_watch.links));
        match found.map(|(name, _)| name.clone()) {
            Some(name) if self.phase < Phase::Closing(now) => {
                self.with(&name, now, |peer, context| peer.incoming(incoming, context));
            }
            _ => debug!(%from, "nobody's router"),
        }
    }
}
