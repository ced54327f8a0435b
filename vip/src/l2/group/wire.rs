//! Heartbeats on the wire: what members tell each other, as bytes.
//!
//! `super` fills and reads [`Message`]s; nothing here knows what they mean. A datagram is at most
//! [`LONGEST`] bytes, numbers are big-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | `GHG` and the version: 2, or 3 where the echoes are of some of the members |
//! | 16 | incarnation of the sender: random, new with every start |
//! | 8 | sequence: above that of any datagram that this incarnation has sent before |
//! | 1 | flags: 1 draining, 2 serving, 4 IPv4 follows, 8 IPv6 follows, 16 echoes follow, 32 a chunk follows |
//! | 4 | version of the sender's table for this link, from 1 |
//! | 2 | chunks that this table has |
//! | 6 | Ethernet address of the sender on this link |
//! | 4 | its IPv4 address there, if flagged |
//! | 16 | its IPv6 address there, if flagged |
//! | 1 + n | length of the node name (1–253) and the name |
//! | 1 + 16 each | if flagged: number of echoes (at most 64), then for each member that the sender hears (in version 3: for some of them, others come with later datagrams): first 7 bytes of its incarnation, flags (1: 1 the sender passes on what this version asks for), low 4 bytes of the last sequence heard, version of its table that is known (0: none) |
//! | 3 + n | if flagged: number of the chunk (2), of its entries (1), then the entries |
//! | 32 | HMAC-SHA-256 of everything before |
//!
//! An entry: flags (1: 1 eligible, 2 active, 4 draining, 8 IPv6, 16 routed, 32 leaving, 64 partial), preference
//! (4), tenants (4: a digest of the claims that are served on it), terms (1: how often it was held), address (4 or
//! 16).
//!
//! Partial is an address of which the sender serves a part only. A release that does not know this flag takes no datagram that
//! has it.
//!
//! An echo is cut short because it only has to be recognised by the member that it names, among the
//! datagrams of its last second.
//!
//! Version 3 is sent by members that hear more than 64 others, and by no other: a group that is smaller can be upgraded
//! node by node from a release that knows version 2 alone. Such a release counts a datagram of version 3 as
//! `UnknownVersion`, and could not have kept so many members either.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::auth::{GroupKey, SEAL};
use crate::links::LinkFacts;

/// Longest datagram, bytes: one frame of an ordinary Ethernet link, also through a tunnel.
pub(crate) const LONGEST: usize = 1400;
/// Longest node name, bytes (RFC 1123 §2.1, as Kubernetes has it).
pub(crate) const LONGEST_NAME: usize = 253;
/// Most members that a node keeps in mind on one link.
pub(crate) const MOST_MEMBERS: usize = 512;
/// Most of them that one datagram names.
pub(crate) const MOST_ECHOES: usize = 64;

/// Why a datagram with another key, or none, is not opened.
pub(super) const NOT_AUTHENTIC: &str = "NotAuthentic";

const MAGIC: [u8; 3] = *b"GHG";
const VERSION: u8 = 2;
/// With the echoes of some members.
const PARTIAL: u8 = 3;
const ECHO: usize = 16;

const DRAINING: u8 = 1;
const SERVING: u8 = 2;
const HAS_V4: u8 = 4;
const HAS_V6: u8 = 8;
const HAS_ECHOES: u8 = 16;
const HAS_CHUNK: u8 = 32;

const ELIGIBLE: u8 = 1;
const ACTIVE: u8 = 2;
const DRAINING_ADDRESS: u8 = 4;
const IS_V6: u8 = 8;
const ROUTED: u8 = 16;
const LEAVING: u8 = 32;
const PARTIAL_ADDRESS: u8 = 64;

const FOLLOWS: u8 = 1;

/// Most chunks of one table: over 70 000 IPv4 addresses.
pub(crate) const MOST_CHUNKS: usize = 1024;
/// Tells one life of a process from the next.
pub(crate) type Incarnation = [u8; 16];

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) incarnation: Incarnation,
    pub(crate) sequence: u64,
    pub(crate) draining: bool,
    pub(crate) serving: bool,
    pub(crate) facts: LinkFacts,
    pub(crate) node: Arc<str>,
    /// Of the sender's table.
    pub(crate) version: u32,
    pub(crate) chunks: u16,
    /// Members that the sender hears on this link; `None`: this datagram does not say.
    pub(crate) echoes: Option<Vec<Echo>>,
    /// It hears others as well, which other datagrams name.
    pub(crate) partial: bool,
    pub(crate) chunk: Option<Chunk>,
}

/// What the sender has of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Echo {
    /// Of its incarnation.
    pub(crate) prefix: [u8; 7],
    /// Low bits of the last sequence heard.
    pub(crate) sequence: u32,
    /// Version of its table that is known; 0: none.
    pub(crate) known: u32,
    /// The sender passes on what that version asks for.
    pub(crate) follows: bool,
}

/// A part of the sender's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// From 0.
    pub(crate) index: u16,
    pub(crate) entries: Arc<[(IpAddr, Entry)]>,
}

/// The beginning of an incarnation, as echoes have it.
pub(crate) fn prefix(incarnation: &Incarnation) -> [u8; 7] {
    let mut prefix = [0; 7];
    prefix.copy_from_slice(&incarnation[..7]);
    prefix
}

/// Bytes that an entry takes.
pub(crate) fn entry_length(ip: IpAddr) -> usize {
    10 + if ip.is_ipv4() { 4 } else { 16 }
}

/// A member and an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) preference: u32,
    /// Digest of the claims that are served on it.
    pub(crate) tenants: u32,
    /// Could hold it.
    pub(crate) eligible: bool,
    pub(crate) active: bool,
    pub(crate) draining: bool,
    /// Routers lead to it ([`Routed`](super::Routed)).
    pub(crate) routed: bool,
    /// It is leaving it, though: what others do not know of is to be passed on to it.
    pub(crate) leaving: bool,
    /// Could serve some of the claims only.
    pub(crate) partial: bool,
    /// How often the member has begun to hold it in this life; after 255 comes 1. So a term that was
    /// over before any member heard of it is noticed all the same.
    pub(crate) terms: u8,
}

/// What a member says of how well it would hold an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merit {
    /// It would serve some of the claims only.
    pub(crate) partial: bool,
    /// The highest comes first.
    pub(crate) preference: u32,
}

impl Entry {
    /// How well the member would hold it.
    pub(crate) fn merit(&self) -> Merit {
        Merit { partial: self.partial, preference: self.preference }
    }

    /// Whether it is about the link, and not only about routers that lead to the member.
    pub(crate) fn on_link(&self) -> bool {
        !self.routed || self.eligible || self.active || self.draining
    }
}

impl Message {
    /// The datagram, sealed.
    pub(crate) fn seal(&self, key: &GroupKey) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length());
        self.write(&mut bytes);
        key.seal(&mut bytes);
        bytes
    }

    /// Reads a datagram; nothing of it is looked at before its seal. Otherwise says why not, in one
    /// word.
    pub(crate) fn open(datagram: &[u8], key: &GroupKey) -> Result<Self, &'static str> {
        let bytes = key.open(datagram).ok_or(NOT_AUTHENTIC)?;
        let bytes = bytes.strip_prefix(&MAGIC).ok_or("Malformed")?;
        let (version, bytes) = bytes.split_first().ok_or("Malformed")?;
        let partial = match *version {
            VERSION => false,
            PARTIAL => true,
            _ => return Err("UnknownVersion"),
        };
        let mut reader = Reader(bytes);
        let message = Self::read(&mut reader, partial).filter(|_| reader.0.is_empty());
        message.ok_or("Malformed")
    }

    /// Length of the datagram, seal included.
    pub(crate) fn length(&self) -> usize {
        let facts = 6 + self.facts.v4.map_or(0, |_| 4) + self.facts.v6.map_or(0, |_| 16);
        let echoes = self.echoes.as_ref().map_or(0, |echoes| 1 + echoes.len() * ECHO);
        let chunk = self.chunk.as_ref().map_or(0, Chunk::length);
        4 + 16 + 8 + 1 + 4 + 2 + facts + 1 + self.node.len() + echoes + chunk + SEAL
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let flags = [
            (self.draining, DRAINING),
            (self.serving, SERVING),
            (self.facts.v4.is_some(), HAS_V4),
            (self.facts.v6.is_some(), HAS_V6),
            (self.echoes.is_some(), HAS_ECHOES),
            (self.chunk.is_some(), HAS_CHUNK),
        ];
        bytes.extend(MAGIC);
        bytes.push(if self.partial { PARTIAL } else { VERSION });
        bytes.extend(self.incarnation);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.push(pack(&flags));
        bytes.extend(self.version.to_be_bytes());
        bytes.extend(self.chunks.to_be_bytes());
        bytes.extend(self.facts.mac);
        bytes.extend(self.facts.v4.iter().flat_map(Ipv4Addr::octets));
        bytes.extend(self.facts.v6.iter().flat_map(Ipv6Addr::octets));
        bytes.push(self.node.len() as u8);
        bytes.extend(self.node.as_bytes());
        if let Some(echoes) = &self.echoes {
            bytes.push(echoes.len() as u8);
            for echo in echoes {
                bytes.extend(echo.prefix);
                bytes.push(pack(&[(echo.follows, FOLLOWS)]));
                bytes.extend(echo.sequence.to_be_bytes());
                bytes.extend(echo.known.to_be_bytes());
            }
        }
        if let Some(chunk) = &self.chunk {
            chunk.write(bytes);
        }
    }

    fn read(reader: &mut Reader<'_>, partial: bool) -> Option<Self> {
        let incarnation = reader.take()?;
        let sequence = u64::from_be_bytes(reader.take()?);
        let flags = reader.flags(DRAINING | SERVING | HAS_V4 | HAS_V6 | HAS_ECHOES | HAS_CHUNK)?;
        let version = u32::from_be_bytes(reader.take()?);
        let chunks = u16::from_be_bytes(reader.take()?);
        let mac = reader.take()?;
        let v4 = if flags & HAS_V4 == 0 { None } else { Some(reader.take::<4>()?.into()) };
        let v6 = if flags & HAS_V6 == 0 { None } else { Some(reader.take::<16>()?.into()) };
        let node = reader.name()?.into();
        let echoes = if flags & HAS_ECHOES == 0 { None } else { Some(reader.echoes()?) };
        let chunk = if flags & HAS_CHUNK == 0 { None } else { Some(Chunk::read(reader)?) };
        let fits = usize::from(chunks) <= MOST_CHUNKS
            && chunk.as_ref().is_none_or(|chunk| chunk.index < chunks);
        (version > 0 && fits).then_some(Self {
            incarnation,
            sequence,
            draining: flags & DRAINING != 0,
            serving: flags & SERVING != 0,
            facts: LinkFacts { mac, v4, v6 },
            node,
            version,
            chunks,
            echoes,
            partial,
            chunk,
        })
    }
}

impl Chunk {
    /// Bytes that it takes.
    pub(crate) fn length(&self) -> usize {
        3 + self.entries.iter().map(|(ip, _)| entry_length(*ip)).sum::<usize>()
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.index.to_be_bytes());
        bytes.push(self.entries.len() as u8);
        for (ip, entry) in self.entries.iter() {
            bytes.push(pack(&[
                (entry.eligible, ELIGIBLE),
                (entry.active, ACTIVE),
                (entry.draining, DRAINING_ADDRESS),
                (ip.is_ipv6(), IS_V6),
                (entry.routed, ROUTED),
                (entry.leaving, LEAVING),
                (entry.partial, PARTIAL_ADDRESS),
            ]));
            bytes.extend(entry.preference.to_be_bytes());
            bytes.extend(entry.tenants.to_be_bytes());
            bytes.push(entry.terms);
            match ip {
                IpAddr::V4(ip) => bytes.extend(ip.octets()),
                IpAddr::V6(ip) => bytes.extend(ip.octets()),
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let index = u16::from_be_bytes(reader.take()?);
        let [count] = reader.take()?;
        let entries: Option<Vec<_>> = (0..count).map(|_| reader.entry()).collect();
        Some(Self { index, entries: entries?.into() })
    }
}

fn pack(flags: &[(bool, u8)]) -> u8 {
    flags.iter().filter(|(set, _)| *set).fold(0, |bits, (_, bit)| bits | bit)
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    /// A byte of flags that has none but the known ones.
    fn flags(&mut self, known: u8) -> Option<u8> {
        let [flags] = self.take()?;
        (flags & !known == 0).then_some(flags)
    }

    /// It will be shown and logged, so it has no control characters.
    fn name(&mut self) -> Option<&str> {
        let [length] = self.take()?;
        let (name, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        let name = str::from_utf8(name).ok()?;
        let fits = (1..=LONGEST_NAME).contains(&name.len()) && !name.contains(char::is_control);
        fits.then_some(name)
    }

    fn echoes(&mut self) -> Option<Vec<Echo>> {
        let [count] = self.take()?;
        let mut echo = || {
            let prefix = self.take()?;
            let follows = self.flags(FOLLOWS)? == FOLLOWS;
            let sequence = u32::from_be_bytes(self.take()?);
            let known = u32::from_be_bytes(self.take()?);
            Some(Echo { prefix, sequence, known, follows })
        };
        let fits = usize::from(count) <= MOST_ECHOES;
        if fits { (0..count).map(|_| echo()).collect() } else { None }
    }

    fn entry(&mut self) -> Option<(IpAddr, Entry)> {
        const KNOWN: u8 =
            ELIGIBLE | ACTIVE | DRAINING_ADDRESS | IS_V6 | ROUTED | LEAVING | PARTIAL_ADDRESS;
        let flags = self.flags(KNOWN)?;
        let preference = u32::from_be_bytes(self.take()?);
        let tenants = u32::from_be_bytes(self.take()?);
        let [terms] = self.take()?;
        let ip =
            if flags & IS_V6 == 0 { self.take::<4>()?.into() } else { self.take::<16>()?.into() };
        let entry = Entry {
            preference,
            tenants,
            eligible: flags & ELIGIBLE != 0,
            active: flags & ACTIVE != 0,
            draining: flags & DRAINING_ADDRESS != 0,
            routed: flags & ROUTED != 0,
            leaving: flags & LEAVING != 0,
            partial: flags & PARTIAL_ADDRESS != 0,
            terms,
        };
        Some((ip, entry))
    }
}

#[cfg(test)]
mod tests;
