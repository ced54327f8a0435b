//! What one process of a node takes over from the one before it, and leaves to the one after it.

use super::Controller;
use crate::{
    compile::Affinities,
    handover::{self, Clients, Handed},
};

impl Controller {
    /// What a successor gets while this process still serves.
    pub(super) fn handed(&mut self) -> Option<Handed> {
        let sockets = self.listeners.sockets().ok()?;
        Some(Handed { sockets, clients: self.clients() })
    }

    /// Which endpoints clients keep.
    fn clients(&self) -> Clients {
        self.clock.tick();
        let mut known = Affinities::default();
        self.compiled.iter().for_each(|compiled| known.add(&compiled.l4));
        known.kept(self.clock.now())
    }

    /// Takes over which endpoints clients of the process before this one keep.
    pub(crate) fn keep(&mut self, clients: Clients) {
        self.clock.tick();
        // A port that is yet to come finds its clients there.
        let known = &mut self.node.affinities;
        self.compiled.iter().for_each(|compiled| known.add(&compiled.l4));
        for (port, kept) in clients {
            known.take_over(port, &kept, self.clock.now());
        }
    }

    /// Takes over what the process before this one leaves.
    pub(super) fn succeed(&mut self, step: handover::Step) {
        match step {
            handover::Step::Clients(clients) => self.keep(clients),
            handover::Step::Prepare(incarnation, answer) => {
                let speaker = self.addresses.prepare(incarnation);
                let speaker = speaker.inspect_err(|error| tracing::error!("{error:#}")).ok();
                // It may have ended meanwhile.
                let _ = answer.send(speaker);
            }
            handover::Step::Over(left) => {
                tracing::info!(left = left.is_some(), "the predecessor is over");
                if let Err(error) = self.addresses.succeed(left) {
                    tracing::error!("no address can be held: {error:#}");
                }
                self.listeners.predecessor_is_over(&self.workers);
                self.kernel.succeed();
                (self.meets)();
            }
        }
    }

    /// Leaves the addresses to the process after this one, if there is one; true if it has them.
    pub(super) fn leave(&mut self) -> bool {
        let Some(after) = self.door.take() else { return false };
        let Some((incarnation, sequence)) = self.addresses.known_as() else { return false };
        if let Err(error) = after.prepare(&self.clients(), incarnation, sequence) {
            tracing::warn!(%error, "the successor does not take over");
            return false;
        }
        let Some(sequence) = self.addresses.leave() else {
            tracing::warn!("the speakers do not end");
            return false;
        };
        if let Err(error) = after.left(sequence) {
            tracing::warn!(%error, "the successor has gone; the kernel removes the addresses in time");
        }
        tracing::info!("the addresses are left to the successor");
        true
    }
}
