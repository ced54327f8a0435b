//! The UDP sessions of one worker: a table of bounded size, and who has to go when it is full. Pure.
//!
//! A datagram's source address may be a lie, so a flood of new flows must not push out those that talk with a backend.
//! A session is [`Stage::Established`] once its client has answered the backend, which a liar cannot do: it does not
//! hear the backend. Only sessions that are not established give way, first of the same source, then those that have
//! had their answer, then those that wait for it, each time the one that was silent for the longest.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use crate::worker::{clock::Tick, listener::ListenerId};

/// Who talks to which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) client: SocketAddr,
    pub(super) listener: ListenerId,
}

/// What a session has seen. Stages are ordered as they give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The backend has answered, and the client has not spoken since.
    Answered,
    /// The client alone has spoken.
    Fresh,
    /// The client has spoken after an answer: it hears the backend.
    Established,
}

/// Names a session for as long as it is in the table, and nothing afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionId {
    slot: u32,
    serial: u64,
}

/// Most sessions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of all sources together.
    pub(super) all: usize,
    /// Of one source: an IPv4 address or an IPv6 /64.
    pub(super) source: usize,
}

/// Whose a client's address is, as far as bounds are concerned: a host with one IPv6 address of a /64 has all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Source {
    V4(Ipv4Addr),
    V6(u64),
}

impl Source {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => Self::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

struct Entry<V> {
    flow: Flow,
    serial: u64,
    stage: Stage,
    /// When something last moved.
    last: Tick,
    /// `last` as of when the entry was put in line; it is put there again when its turn comes.
    queued: Tick,
    /// The client has spoken last.
    asked: bool,
    value: V,
}

/// All sessions of a worker.
pub(super) struct Table<V> {
    bounds: Bounds,
    index: HashMap<Flow, u32, foldhash::fast::RandomState>,
    entries: Vec<Option<Entry<V>>>,
    free: Vec<u32>,
    /// Sessions that may have to go, in the order in which they go.
    line: BTreeSet<(Stage, Tick, u32)>,
    /// The same by source, whatever their stage.
    lines: BTreeSet<(Source, Tick, u32)>,
    sources: HashMap<Source, usize, foldhash::fast::RandomState>,
    next_serial: u64,
    /// Where the sweep goes on.
    swept: usize,
}

/// Whether there is room for one more session.
#[derive(Debug)]
pub(super) enum Room<V> {
    /// There was.
    Free,
    /// There is, because this one had to go.
    Made(V),
    /// All sessions that it could take the place of are established.
    None,
}

impl<V> Table<V> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            index: HashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            line: BTreeSet::new(),
            lines: BTreeSet::new(),
            sources: HashMap::default(),
            next_serial: 0,
            swept: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The session of a flow.
    pub(super) fn find(&self, flow: &Flow) -> Option<SessionId> {
        let slot = *self.index.get(flow)?;
        let entry = self.entries.get(slot as usize)?.as_ref()?;
        Some(SessionId { slot, serial: entry.serial })
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut V> {
        self.entry(id).map(|entry| &mut entry.value)
    }

    fn entry(&mut self, id: SessionId) -> Option<&mut Entry<V>> {
        let entry = self.entries.get_mut(id.slot as usize)?.as_mut();
        entry.filter(|entry| entry.serial == id.serial)
    }

    /// Makes room for one more session of a client.
    pub(super) fn make_room(&mut self, client: IpAddr) -> Room<V> {
        let source = Source::of(client);
        let of_source = self.sources.get(&source).copied().unwrap_or_default();
        let victim = match () {
            () if of_source >= self.bounds.source => self.last_of(source),
            () if self.index.len() >= self.bounds.all => self.last_of_all(),
            () => return Room::Free,
        };
        victim.and_then(|slot| self.take(slot)).map_or(Room::None, Room::Made)
    }

    /// Puts a session in for a flow that has none and that [room was made](Self::make_room) for, after its client's
    /// first datagram.
    pub(super) fn insert(&mut self, flow: Flow, value: V, now: Tick) -> SessionId {
        let source = Source::of(flow.client.ip());
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            (self.entries.len() - 1) as u32
        });
        let serial = self.next_serial;
        self.next_serial += 1;
        let entry =
            Entry { flow, serial, stage: Stage::Fresh, last: now, queued: now, asked: true, value };
        self.entries[slot as usize] = Some(entry);
        self.index.insert(flow, slot);
        *self.sources.entry(source).or_default() += 1;
        self.line.insert((Stage::Fresh, now, slot));
        self.lines.insert((source, now, slot));
        SessionId { slot, serial }
    }

    /// The session of a source that was silent for the longest, of those that may have to go.
    fn last_of(&mut self, source: Source) -> Option<u32> {
        loop {
            let range = (source, 0, 0)..=(source, Tick::MAX, u32::MAX);
            let (_, queued, slot) = *self.lines.range(range).next()?;
            if self.requeue(slot) == queued {
                return Some(slot);
            }
        }
    }

    /// The same of all sources.
    fn last_of_all(&mut self) -> Option<u32> {
        loop {
            let (_, queued, slot) = *self.line.first()?;
            if self.requeue(slot) == queued {
                return Some(slot);
            }
        }
    }

    /// Puts a session that may have to go where it belongs in both lines; returns since when it is silent.
    fn requeue(&mut self, slot: u32) -> Tick {
        let Some(Some(entry)) = self.entries.get_mut(slot as usize) else { return Tick::MAX };
        let (stage, queued, last) = (entry.stage, entry.queued, entry.last);
        let source = Source::of(entry.flow.client.ip());
        if queued != last {
            entry.queued = last;
            self.line.remove(&(stage, queued, slot));
            self.line.insert((stage, last, slot));
            self.lines.remove(&(source, queued, slot));
            self.lines.insert((source, last, slot));
        }
        last
    }

    /// The client has sent something.
    pub(super) fn client_spoke(&mut self, id: SessionId, now: Tick) {
        let Some(entry) = self.entry(id) else { return };
        (entry.last, entry.asked) = (now, true);
        if entry.stage == Stage::Answered {
            entry.stage = Stage::Established;
            let (queued, source) = (entry.queued, Source::of(entry.flow.client.ip()));
            self.line.remove(&(Stage::Answered, queued, id.slot));
            self.lines.remove(&(source, queued, id.slot));
        }
    }

    /// The backend has sent something.
    pub(super) fn backend_spoke(&mut self, id: SessionId, now: Tick) {
        let Some(entry) = self.entry(id) else { return };
        (entry.last, entry.asked) = (now, false);
        if entry.stage == Stage::Fresh {
            entry.stage = Stage::Answered;
            let queued = entry.queued;
            self.line.remove(&(Stage::Fresh, queued, id.slot));
            self.line.insert((Stage::Answered, queued, id.slot));
        }
    }

    /// Whose a session is.
    pub(super) fn client(&mut self, id: SessionId) -> Option<SocketAddr> {
        self.entry(id).map(|entry| entry.flow.client)
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, id: SessionId) -> Option<V> {
        self.entry(id)?;
        self.take(id.slot)
    }

    fn take(&mut self, slot: u32) -> Option<V> {
        let entry = self.entries.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        self.index.remove(&entry.flow);
        let source = Source::of(entry.flow.client.ip());
        self.line.remove(&(entry.stage, entry.queued, slot));
        self.lines.remove(&(source, entry.queued, slot));
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
        Some(entry.value)
    }

    /// How many places to look at for the whole table to be looked at in so many sweeps. Places that a flood has left
    /// empty count, too: who talks may be behind them.
    pub(super) fn share(&self, sweeps: usize) -> usize {
        self.entries.len() / sweeps + sweeps
    }

    /// Looks at so many places of the table, beginning where it stopped the last time, and takes out the sessions that
    /// were silent for as long as `idle` says.
    pub(super) fn sweep(
        &mut self,
        now: Tick,
        places: usize,
        idle: impl Fn(&V, Stage) -> Tick,
    ) -> Vec<V> {
        let mut ended = Vec::new();
        for _ in 0..places.min(self.entries.len()) {
            self.swept = if self.swept + 1 < self.entries.len() { self.swept + 1 } else { 0 };
            let Some(entry) = &self.entries[self.swept] else { continue };
            if now.saturating_sub(entry.last) >= idle(&entry.value, entry.stage) {
                ended.extend(self.take(self.swept as u32));
            }
        }
        ended
    }

    /// Takes out the sessions that are meant.
    pub(super) fn remove_all(&mut self, which: impl Fn(&Flow) -> bool) -> Vec<V> {
        let meant: Vec<_> =
            self.index.iter().filter(|(flow, _)| which(flow)).map(|(_, slot)| *slot).collect();
        meant.into_iter().filter_map(|slot| self.take(slot)).collect()
    }

    /// The listeners some client of which has spoken last, and no longer than `patience` ago.
    pub(super) fn awaiting(&self, now: Tick, patience: Tick) -> BTreeSet<ListenerId> {
        let entries = self.entries.iter().flatten();
        let awaiting = entries
            .filter(|entry| entry.asked && now.saturating_sub(entry.last) < patience)
            .map(|entry| entry.flow.listener);
        awaiting.collect()
    }
}

#[cfg(test)]
mod tests;
