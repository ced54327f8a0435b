//! Tables: what a member could hold, holds and serves to the end on one link.
//!
//! The sender numbers the versions of its table ([`OwnTable`]) and cuts it into chunks; a receiver
//! puts them together ([`PeerTable`]), in whatever order and however often they come. What it has
//! stays in force until the next version is complete, so that a lost chunk never looks like an
//! address that was let go of.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    election::{Rank, rank},
    wire::{Chunk, Entry, MOST_CHUNKS, entry_length},
};

/// Most bytes of entries in a chunk: a frame holds it beside the longest name.
const CHUNK: usize = 1000;

/// The entries of a chunk.
type Part = Arc<[(IpAddr, Entry)]>;

/// The table that this node sends.
#[derive(Debug)]
pub(crate) struct OwnTable {
    version: u32,
    entries: BTreeMap<IpAddr, Entry>,
    chunks: Vec<Part>,
}

/// The table of another member.
#[derive(Debug, Default)]
pub(crate) struct PeerTable {
    /// 0: none yet.
    version: u32,
    entries: BTreeMap<IpAddr, (Entry, Rank)>,
    next: Option<Assembly>,
}

/// A version of which chunks are missing.
#[derive(Debug)]
struct Assembly {
    version: u32,
    chunks: Vec<Option<Part>>,
}

impl OwnTable {
    /// An empty table. `sequence` is that of the last datagram sent, on whatever link.
    pub(crate) fn new(sequence: u64) -> Self {
        Self { version: version_after(sequence), entries: BTreeMap::new(), chunks: Vec::new() }
    }

    /// Replaces the content; an equal one is no new version.
    pub(crate) fn update(&mut self, entries: BTreeMap<IpAddr, Entry>, sequence: u64) -> bool {
        if self.entries == entries {
            return false;
        }
        self.version = version_after(sequence);
        self.chunks = cut(&entries);
        self.entries = entries;
        true
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// How many chunks there are.
    pub(crate) fn len(&self) -> u16 {
        self.chunks.len() as u16
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = Chunk> {
        (0..).zip(&self.chunks).map(|(index, entries)| Chunk { index, entries: entries.clone() })
    }
}

impl PeerTable {
    /// Version in force; 0: none yet.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn get(&self, ip: IpAddr) -> Option<&(Entry, Rank)> {
        self.entries.get(&ip)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Entry)> {
        self.entries.iter().map(|(ip, (entry, _))| (*ip, entry))
    }

    /// Takes in a chunk, or the news that there is a version without any; returns the addresses
    /// whose entries differ from before.
    pub(crate) fn learn(
        &mut self,
        node: &str,
        version: u32,
        chunks: u16,
        chunk: Option<&Chunk>,
    ) -> Vec<IpAddr> {
        let latest = self.next.as_ref().map_or(self.version, |next| next.version);
        let older = latest != 0 && (version.wrapping_sub(latest) as i32) < 0;
        if version == self.version || older {
            return Vec::new();
        }
        let fits =
            |next: &Assembly| next.version == version && next.chunks.len() == usize::from(chunks);
        let mut next = self
            .next
            .take()
            .filter(fits)
            .unwrap_or_else(|| Assembly { version, chunks: vec![None; chunks.into()] });
        if let Some(chunk) = chunk
            && let Some(slot) = next.chunks.get_mut(usize::from(chunk.index))
        {
            *slot = Some(chunk.entries.clone());
        }
        if next.chunks.iter().any(Option::is_none) {
            self.next = Some(next);
            return Vec::new();
        }
        let entries = next.chunks.iter().flatten().flat_map(|chunk| chunk.iter().copied());
        self.version = version;
        self.replace(node, entries.collect())
    }

    fn replace(&mut self, node: &str, entries: BTreeMap<IpAddr, Entry>) -> Vec<IpAddr> {
        let gone = self.entries.keys().filter(|ip| !entries.contains_key(ip));
        let mut changed: Vec<_> = gone.copied().collect();
        self.entries = entries
            .into_iter()
            .map(|(ip, entry)| {
                let before = self.entries.get(&ip);
                if before.is_none_or(|(before, _)| *before != entry) {
                    changed.push(ip);
                }
                (ip, (entry, before.map_or_else(|| rank(node, ip), |(_, rank)| *rank)))
            })
            .collect();
        changed
    }
}

/// The next datagram's sequence is a version that no member has seen yet, and later ones are higher, also
/// when a link comes back and has a new table.
fn version_after(sequence: u64) -> u32 {
    (sequence.wrapping_add(1) as u32).max(1)
}

fn cut(entries: &BTreeMap<IpAddr, Entry>) -> Vec<Part> {
    let mut chunks = Vec::new();
    let mut chunk = Vec::new();
    let mut length = 0;
    for (ip, entry) in entries {
        if length + entry_length(*ip) > CHUNK {
            chunks.push(std::mem::take(&mut chunk).into());
            length = 0;
        }
        length += entry_length(*ip);
        chunk.push((*ip, *entry));
    }
    if !chunk.is_empty() {
        chunks.push(chunk.into());
    }
    // No node holds what is beyond, rather than two: no member sees this node as eligible.
    chunks.truncate(MOST_CHUNKS);
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELIGIBLE: Entry = Entry {
        preference: 0,
        tenants: 0,
        eligible: true,
        active: false,
        draining: false,
        routed: false,
        leaving: false,
        partial: false,
        terms: 0,
    };
    const HELD: Entry = Entry { active: true, ..ELIGIBLE };

    fn ip(host: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + host).into()
    }

    fn table(count: u32, entry: Entry) -> BTreeMap<IpAddr, Entry> {
        (0..count).map(|host| (ip(host), entry)).collect()
    }

    fn learn(peer: &mut PeerTable, own: &OwnTable, chunk: Option<usize>) -> usize {
        let chunk = chunk.and_then(|index| own.chunks().nth(index));
        peer.learn("node-2", own.version(), own.len(), chunk.as_ref()).len()
    }

    #[test]
    fn a_table_comes_into_force_when_its_last_chunk_is_there_in_whatever_order() {
        let mut own = OwnTable::new(0);
        assert!(own.update(table(200, ELIGIBLE), 5));
        assert_eq!(own.len(), 3);
        let mut peer = PeerTable::default();
        for (chunk, changed) in
            [(Some(2), 0), (None, 0), (Some(0), 0), (Some(2), 0), (Some(1), 200)]
        {
            assert_eq!(learn(&mut peer, &own, chunk), changed);
        }
        assert_eq!(peer.version(), own.version());
        assert!(peer.iter().eq(own.entries.iter().map(|(ip, entry)| (*ip, entry))));
    }

    #[test]
    fn the_old_table_stays_in_force_until_the_new_one_is_complete() {
        let mut own = OwnTable::new(0);
        own.update(table(140, HELD), 5);
        let mut peer = PeerTable::default();
        learn(&mut peer, &own, Some(0));
        learn(&mut peer, &own, Some(1));
        let mut entries = table(140, HELD);
        entries.insert(ip(7), ELIGIBLE);
        own.update(entries, 9);
        assert_eq!(learn(&mut peer, &own, Some(1)), 0);
        assert_eq!(peer.get(ip(7)).unwrap().0, HELD);
        assert_eq!(learn(&mut peer, &own, Some(0)), 1);
        assert_eq!(peer.get(ip(7)).unwrap().0, ELIGIBLE);
    }

    #[test]
    fn a_chunk_that_was_delayed_does_not_bring_an_older_version_back() {
        let mut own = OwnTable::new(0);
        own.update(table(1, HELD), 5);
        let old = (own.version(), own.chunks().next());
        own.update(table(1, ELIGIBLE), 9);
        let mut peer = PeerTable::default();
        learn(&mut peer, &own, Some(0));
        assert!(peer.learn("node-2", old.0, 1, old.1.as_ref()).is_empty());
        assert_eq!(peer.get(ip(0)).unwrap().0, ELIGIBLE);
    }

    #[test]
    fn an_empty_table_needs_no_chunk_and_an_equal_one_no_version() {
        let mut own = OwnTable::new(0);
        let mut peer = PeerTable::default();
        learn(&mut peer, &own, None);
        assert_eq!(peer.version(), 1);
        own.update(table(2, HELD), 5);
        assert!(!own.update(table(2, HELD), 5));
        learn(&mut peer, &own, Some(0));
        own.update(BTreeMap::new(), 9);
        assert_eq!(learn(&mut peer, &own, None), 2);
        assert_eq!(peer.iter().count(), 0);
    }

    #[test]
    fn a_thousand_addresses_take_fifteen_datagrams() {
        let mut own = OwnTable::new(0);
        own.update(table(1000, ELIGIBLE), 5);
        assert_eq!(own.len(), 15);
    }
}
