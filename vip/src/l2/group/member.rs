//! One member on one link: when it was heard, and whether it hears this node.
//!
//! Kept by `link`. A member is alive if it was heard within [`Timing::dead`] *and* what it last
//! said echoes a datagram that this node sent within [`Timing::proof`]. So neither replayed
//! datagrams of an earlier process nor a link that carries one way only make a member, and no clock
//! matters but this node's own.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use super::{
    Timing,
    table::PeerTable,
    wire::{Echo, Incarnation, Message, prefix},
};
use crate::links::LinkFacts;

/// How many sequences before the highest one can still be told apart.
const WINDOW: u64 = 64;

/// What is known of a member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: Arc<str>,
    /// Where its last datagram came from.
    pub(super) address: SocketAddr,
    pub(super) facts: LinkFacts,
    pub(super) draining: bool,
    pub(super) serving: bool,
    pub(super) table: PeerTable,
    /// Version of this node's table that it has; 0: none.
    pub(super) known: u32,
    /// Version of its table that this node's forwardings follow from; 0: none.
    pub(super) followed: u32,
    /// What this node has said of it last: version of its table, whether that is followed, and with which heartbeat.
    named: (u32, bool, u64),
    /// Latest version of this node's table that its forwardings follow from; 0: none.
    follows: u32,
    /// As of the last look; see [`Member::look`].
    pub(super) alive: bool,
    /// When it was alive for the first time.
    pub(super) proven: Option<Instant>,
    heard: Instant,
    /// When the newest datagram that it echoes was sent; `None`: it does not hear this node.
    echoed: Option<Instant>,
    sequence: Sequence,
    /// Those of notes.
    notes: Sequence,
}

/// What a sequence number makes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Newer than all before.
    New,
    /// Overtaken on the way, but not seen yet.
    Late,
    /// The same as the last one: another copy of it.
    Copy,
    /// Seen before, or too old to tell.
    Replayed,
}

/// Which sequences have been seen: the highest, and which of those shortly before it.
#[derive(Debug)]
struct Sequence {
    highest: u64,
    /// Bit n: `highest - n` has been seen.
    seen: u64,
}

impl Member {
    /// A member of which nothing is known but this first datagram.
    pub(super) fn new(message: &Message, from: SocketAddr, now: Instant) -> Self {
        Self {
            node: message.node.clone(),
            address: from,
            facts: message.facts,
            draining: message.draining,
            serving: message.serving,
            table: PeerTable::default(),
            known: 0,
            followed: 0,
            named: (0, false, 0),
            follows: 0,
            alive: false,
            proven: None,
            heard: now,
            echoed: None,
            sequence: Sequence { highest: 0, seen: 0 },
            notes: Sequence { highest: 0, seen: 0 },
        }
    }

    /// Takes note of a sequence; only what is new says how the member is.
    pub(super) fn freshness(&mut self, sequence: u64) -> Freshness {
        self.sequence.note(sequence)
    }

    /// Takes note of the sequence of a [note](super::notes).
    pub(super) fn note(&mut self, sequence: u64) -> Freshness {
        self.notes.note(sequence)
    }

    /// Takes over what a new datagram says of the member itself; true if peers see it differently
    /// now.
    pub(super) fn hear(&mut self, message: &Message, from: SocketAddr, now: Instant) -> bool {
        self.heard = now;
        self.address = from;
        let before = (self.draining, self.serving, self.facts);
        self.facts = message.facts;
        (self.draining, self.serving) = (message.draining, message.serving);
        before != (self.draining, self.serving, self.facts)
    }

    /// Takes note of whether it hears this node: when that of this node's datagrams was sent which
    /// it heard last.
    pub(super) fn echo(&mut self, sent: Option<Instant>) {
        self.echoed = sent;
    }

    /// Takes note of what it has of this node's table, and whether it acts on it.
    pub(super) fn acknowledge(&mut self, echo: Option<&Echo>) {
        self.known = echo.map_or(0, |echo| echo.known);
        if let Some(echo) = echo.filter(|echo| echo.follows) {
            self.follows = echo.known;
        }
    }

    /// The lower, the more urgent it is that this node says what it has of it: news, then for how long it has not.
    pub(super) fn waits(&self) -> (bool, u64) {
        let (known, follows, beat) = self.named;
        let (version, followed) = self.has();
        ((known, follows) == (version, followed), beat)
    }

    /// What this node says of it with a heartbeat.
    pub(super) fn named(&mut self, incarnation: &Incarnation, beat: u64) -> Echo {
        let (known, follows) = self.has();
        self.named = (known, follows, beat);
        let sequence = self.sequence.highest as u32;
        Echo { prefix: prefix(incarnation), sequence, known, follows }
    }

    /// Version of its table that is known, and whether that is followed.
    fn has(&self) -> (u32, bool) {
        let version = self.table.version();
        (version, self.followed == version)
    }

    /// Whether its forwardings are those that a version of this node's table, or a later one, asks for.
    pub(super) fn passes_on(&self, version: u32) -> bool {
        self.follows != 0 && (self.follows.wrapping_sub(version) as i32) >= 0
    }

    /// Whether it hears this node, as far as this node can know.
    pub(super) fn hears(&self, now: Instant, timing: &Timing) -> bool {
        self.echoed.is_some_and(|sent| now <= sent + timing.proof)
    }

    /// Whether it has been heard lately.
    pub(super) fn heard(&self, now: Instant, timing: &Timing) -> bool {
        now < self.heard + timing.dead
    }

    /// When it was heard last.
    pub(super) fn heard_at(&self) -> Instant {
        self.heard
    }

    /// Reckons whether it is alive; true if that has changed.
    pub(super) fn look(&mut self, now: Instant, timing: &Timing) -> bool {
        let alive = self.heard(now, timing) && self.hears(now, timing);
        if alive {
            self.proven.get_or_insert(now);
        }
        std::mem::replace(&mut self.alive, alive) != alive
    }

    /// Another life of the same node has begun, so this one is over, unless it is heard again.
    pub(super) fn end(&mut self) {
        self.echoed = None;
        self.alive = false;
    }

    /// When it dies if nothing more is heard.
    pub(super) fn deadline(&self, timing: &Timing) -> Option<Instant> {
        let echoed = self.echoed.filter(|_| self.alive)?;
        // A proof is good up to and including its last instant.
        let proof = echoed + timing.proof + std::time::Duration::from_nanos(1);
        Some(proof.min(self.heard + timing.dead))
    }

    /// Whether it could hold an address.
    pub(super) fn fit(&self, ip: IpAddr) -> bool {
        let eligible = self.table.get(ip).is_some_and(|(entry, _)| entry.eligible);
        self.alive && self.serving && !self.draining && eligible
    }
}

impl Sequence {
    fn note(&mut self, sequence: u64) -> Freshness {
        if sequence > self.highest {
            let ahead = sequence - self.highest;
            self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
            self.highest = sequence;
            return Freshness::New;
        }
        let behind = self.highest - sequence;
        if behind == 0 {
            return Freshness::Copy;
        }
        if behind >= WINDOW || self.seen >> behind & 1 == 1 {
            return Freshness::Replayed;
        }
        self.seen |= 1 << behind;
        Freshness::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_counts_once_and_only_the_highest_is_new() {
        use Freshness::*;
        let mut sequence = Sequence { highest: 0, seen: 0 };
        let steps = [
            (10, New),
            (10, Copy),
            (12, New),
            (11, Late),
            (11, Replayed),
            (10, Replayed),
            (100, New),
            (36, Replayed),
            (37, Late),
            (37, Replayed),
            (163, New),
            (100, Replayed),
            (101, Late),
            (u64::MAX, New),
            (163, Replayed),
            (u64::MAX - 63, Late),
        ];
        for (number, expected) in steps {
            assert_eq!(sequence.note(number), expected, "{number}");
        }
    }
}
