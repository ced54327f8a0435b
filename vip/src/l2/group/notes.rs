//! Notes: what else the nodes of a group tell each other beside heartbeats. What they say is not this crate's affair.
//!
//! The owner of the speaker hands over what the others are to hear ([`Group::tell`]) and gets what they say
//! ([`Group::take_notes`]). Notes travel on the sockets of heartbeats and under the same seal, but are messages of their
//! own: they prove nothing about a member, and a process that does not know them counts them as malformed. One that
//! is lost is lost. Numbers are big-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | `GHN` and the version, 1 |
//! | 16 | incarnation of the sender |
//! | 8 | sequence, of the same numbers as those of heartbeats |
//! | n | the note, at most [`LONGEST_NOTE`] |
//! | 32 | HMAC-SHA-256 of everything before |
//!
//! Only members that are alive are listened to, and to each sequence once.

use std::{sync::Arc, time::Instant};

use super::{
    Datagram, Destination, Group, Membership,
    auth::SEAL,
    destinations,
    member::Freshness,
    wire::{Incarnation, LONGEST},
};

/// Longest note, bytes.
pub const LONGEST_NOTE: usize = LONGEST - HEAD - SEAL;
/// Notes that wait to be sent; of more the oldest are dropped.
const MOST_WAITING: usize = 16;
/// Notes that wait to be taken.
const MOST_HEARD: usize = 4096;

const MAGIC: [u8; 4] = *b"GHN\x01";
/// Bytes before the note.
const HEAD: usize = 4 + 16 + 8;

/// What a node of the group has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its name.
    pub node: Arc<str>,
    /// Tells one life of its process from the next.
    pub incarnation: [u8; 16],
    /// It is handing its addresses over.
    pub draining: bool,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// Notes on their way.
#[derive(Debug, Default)]
pub(super) struct Notes {
    waiting: Vec<Vec<u8>>,
    heard: Vec<Note>,
}

impl Group {
    /// What the others are to hear with the next [`transmit`](Self::transmit), at most [`LONGEST_NOTE`] bytes each.
    pub(crate) fn tell(&mut self, notes: impl IntoIterator<Item = Vec<u8>>) {
        let waiting = &mut self.notes.waiting;
        waiting.extend(notes.into_iter().filter(|note| note.len() <= LONGEST_NOTE));
        waiting.drain(..waiting.len().saturating_sub(MOST_WAITING));
    }

    /// What others have said since the last call.
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes.heard)
    }

    /// Whether a datagram is a note, true or not.
    pub(super) fn is_note(datagram: &[u8]) -> bool {
        datagram.starts_with(&MAGIC)
    }

    /// Takes in a note that arrived on a link.
    pub(super) fn hear_note(&mut self, datagram: &[u8], index: u32, now: Instant) {
        let Membership::Member(keys) = &self.membership else { return };
        let Some(bytes) = keys.good(now).find_map(|key| key.open(datagram)) else {
            return self.refuse(super::NOT_AUTHENTIC);
        };
        let Some((head, bytes)) = bytes.split_at_checked(HEAD) else { return };
        let (mut incarnation, mut sequence): (Incarnation, _) = ([0; 16], [0; 8]);
        incarnation.copy_from_slice(&head[4..20]);
        sequence.copy_from_slice(&head[20..]);
        let Some(link) = self.links.get_mut(&index) else { return };
        let Some(member) = link.member_mut(&incarnation).filter(|member| member.alive) else {
            return; // multicast comes back; and who is not proven may be a recording
        };
        match member.note(u64::from_be_bytes(sequence)) {
            Freshness::New | Freshness::Late if self.notes.heard.len() < MOST_HEARD => {
                let (node, draining) = (Arc::clone(&member.node), member.draining);
                let bytes = bytes.to_vec();
                self.notes.heard.push(Note { node, incarnation, draining, bytes });
            }
            Freshness::Replayed => self.refuse("Replayed"),
            _ => {}
        }
    }

    /// The datagrams of the notes that wait.
    pub(super) fn notes_to_send(&mut self, now: Instant) -> Vec<Datagram> {
        let notes = std::mem::take(&mut self.notes.waiting);
        let Membership::Member(keys) = &self.membership else { return Vec::new() };
        if self.silent {
            return Vec::new();
        }
        let mut datagrams = Vec::new();
        let met = self.links.iter().filter(|(_, link)| link.members().any(|(_, it)| it.alive));
        for (index, link) in met {
            let all = destinations(&self.peers, *index, &link.facts);
            for note in &notes {
                self.sequence += 1;
                for key in keys.good(now) {
                    let mut bytes = Vec::with_capacity(HEAD + note.len() + SEAL);
                    bytes.extend(MAGIC);
                    bytes.extend(self.header.incarnation);
                    bytes.extend(self.sequence.to_be_bytes());
                    bytes.extend(note);
                    key.seal(&mut bytes);
                    let sealed =
                        |to: &Destination| Datagram { link: *index, to: *to, bytes: bytes.clone() };
                    datagrams.extend(all.iter().map(sealed));
                }
            }
        }
        datagrams
    }
}
