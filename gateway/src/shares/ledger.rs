//! What the nodes of a group tell each other about the clients that are near a limit, and what follows from it here.
//!
//! Every node counts for itself (`table`), and what each client uses on one node is charged to it on all others as
//! soon as they hear of it: over time the group lets through exactly what the limit says, whatever gets lost on the
//! way, because reports say what was used in all. What can be too much is what others let through before a report
//! reaches them. To keep that small while a client is at its limit, each node expects until the next look that the
//! others take their part of the refill: the max-min fair part, by what each has used lately and whether it was asked
//! for more. An expectation is never charged; at the next look the truth takes its place.
//!
//! A node that hears no more than half of the nodes that it last knew takes itself for cut off from the others, who go
//! on: it gives out its part of the limit ([`CUT_OFF`]), then the whole. Nodes that say goodbye are not waited for.
//!
//! Pure: the caller says what time it is and carries notes. Memory is bounded: so many clients are watched, so many
//! reported with each look, the others are counted by each node alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::quality::RandomState;

use super::{
    table::{Seen, SharedTable, USED, WHOLE, units},
    wire::{self, Report, WATCH},
};

const SECOND: Duration = Duration::from_secs(1);
/// Clients that are watched at one time.
const MOST_KEYS: usize = 4096;
/// Those of them that may come from this node: there is room left for what others say.
const MOST_NOMINATED: usize = MOST_KEYS / 4 * 3;
/// Nodes that are known at one time. What is used on further ones of a larger group is not heard of here.
const MOST_NODES: usize = 64;
/// Notes with each look.
const MOST_NOTES: usize = 4;
/// What has changed is told so often, in case a note gets lost.
const REPEATS: u8 = 5;
/// For this long a watch is young: longer than all of its first reports can be lost.
const YOUNG: u64 = units(SECOND);
/// A node that is not heard for this long uses nothing.
const SILENT: u64 = units(SECOND);
/// A client that is not near its limit any more is watched for this long.
const IDLE: u64 = 2 * units(SECOND);
/// A node that was asked for more is taken to be so for this long.
const WANTING: u64 = units(Duration::from_millis(500));
/// How long a node that is cut off gives out only its part.
pub(crate) const CUT_OFF: Duration = Duration::from_secs(60);

/// All watched clients, and the other nodes.
pub(crate) struct Ledger {
    keys: HashMap<u64, Key, RandomState>,
    nodes: BTreeMap<Arc<str>, Node>,
    /// Number of the next watch.
    watch: u8,
    /// Number of the next node.
    next_node: u32,
    /// When it looked last.
    looked: u64,
    counters: Counters,
}

/// A note of another node, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Heard<'n> {
    pub(crate) node: &'n Arc<str>,
    /// Tells one life of its process from the next.
    pub(crate) incarnation: [u8; 16],
    /// The node is about to stop.
    pub(crate) leaving: bool,
    pub(crate) note: &'n [u8],
}

/// Numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Reports sent.
    pub(crate) told: u64,
    /// Reports taken in.
    pub(crate) heard: u64,
    /// Notes that could not be read.
    pub(crate) unread: u64,
    /// Clients near a limit that were not watched, because too many are.
    pub(crate) unwatched: u64,
}

/// What is shared, for people and for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SharesStatus {
    /// The other nodes that limits are shared with now.
    pub(crate) nodes: Vec<Arc<str>>,
    /// Nodes that were heard lately and are not any more.
    pub(crate) missing: Vec<Arc<str>>,
    /// The part of every shared limit that this node may give out, in percent: 100, unless it is cut off.
    pub(crate) percent: u32,
    /// Clients near a limit that are watched.
    pub(crate) watched: usize,
    /// Those of them that other nodes serve as well.
    pub(crate) shared: usize,
    pub(crate) counters: Counters,
}

#[derive(Debug)]
struct Node {
    number: u32,
    incarnation: [u8; 16],
    heard: u64,
    leaving: bool,
}

/// One client of one limit.
#[derive(Debug, Default)]
struct Key {
    watch: u8,
    begun: u64,
    /// What it had used here before the watch began and made up for since.
    base: u64,
    /// What it has used here.
    used: u64,
    level: u64,
    /// When it was last asked for more here.
    wanted: u64,
    /// When it last used anything anywhere.
    active: u64,
    /// Used elsewhere, and not charged yet.
    debit: u64,
    /// Used here of late, in parts of the limit.
    rate: u64,
    /// How often what is true now has yet to be told.
    untold: u8,
    told: u64,
    others: Vec<Other>,
}

/// What another node says of it.
#[derive(Debug)]
struct Other {
    node: u32,
    watch: u8,
    used: u64,
    heard: u64,
    /// Used since the last look.
    fresh: u64,
    /// Of late, in parts of the limit.
    rate: u64,
    wanted: bool,
}

impl Ledger {
    /// Nobody is known. `watch` is random, so that what a process said is not taken for what the one before it did.
    pub(crate) fn new(watch: u8) -> Self {
        Self {
            keys: HashMap::default(),
            nodes: BTreeMap::new(),
            watch,
            next_node: 0,
            looked: 0,
            counters: Counters::default(),
        }
    }

    /// Takes in what another node says.
    pub(crate) fn hear(&mut self, heard: &Heard<'_>, table: &SharedTable, now: Instant) {
        let now = table.units_at(now);
        let Some(reports) = wire::read(heard.note) else {
            self.counters.unread += 1;
            return;
        };
        let Some(node) = self.meet(heard, now) else { return };
        for report in reports {
            self.counters.heard += 1;
            if !self.keys.contains_key(&report.key) {
                if self.keys.len() >= MOST_KEYS {
                    self.counters.unwatched += 1;
                    continue;
                }
                table.adopt(report.key, now);
                let Some(seen) = table.see(report.key) else { continue };
                self.watch(report.key, seen, now);
            }
            if let Some(key) = self.keys.get_mut(&report.key) {
                key.hear(node, &report, table, now);
            }
        }
    }

    /// Looks at every watched client; `nominated` are those that have come near a limit. What the other nodes are to
    /// hear, in notes of at most so many bytes. To be called about as often as heartbeats go out.
    pub(crate) fn look(
        &mut self,
        nominated: impl Iterator<Item = u64>,
        table: &SharedTable,
        longest: usize,
        now: Instant,
    ) -> Vec<Vec<u8>> {
        let now = table.units_at(now);
        for key in nominated {
            if self.keys.contains_key(&key) {
                continue;
            }
            match table.see(key) {
                Some(seen) if self.keys.len() < MOST_NOMINATED => self.watch(key, seen, now),
                _ => {
                    self.counters.unwatched += 1;
                    table.release(key);
                }
            }
        }
        let (since, elapsed) = (self.looked, now.saturating_sub(self.looked).max(1));
        // Clients that use less than this on every node are far from their limit.
        let little = u64::from(WHOLE) / (2 * (self.nodes.len() as u64 + 1));
        // Where many are watched, those that are not heard of make room sooner.
        let idle = if self.keys.len() > MOST_KEYS / 2 { IDLE / 10 } else { IDLE };
        self.keys.retain(|id, key| {
            let stays = key.look(*id, table, since, elapsed, now)
                && (key.level > 0 && key.is_told() || now < key.active + idle);
            if key.rate < little && !key.is_told() {
                key.untold = 0;
            }
            if !stays {
                table.release(*id);
            }
            stays
        });
        self.looked = now;
        table.looked(now);
        table.charge(self.charge(now));
        self.nodes.retain(|_, node| now < node.heard + units(CUT_OFF));
        self.tell(longest, now)
    }

    /// What is shared now.
    pub(crate) fn status(&self) -> SharesStatus {
        let now = self.looked;
        let named = |here: bool| {
            let nodes = self.nodes.iter().filter(move |(_, node)| node.here(now) == here);
            nodes.map(|(name, _)| Arc::clone(name)).collect()
        };
        SharesStatus {
            nodes: named(true),
            missing: named(false),
            percent: 100 * WHOLE / self.charge(now),
            watched: self.keys.len(),
            shared: self.keys.values().filter(|key| !key.others.is_empty()).count(),
            counters: self.counters,
        }
    }

    /// What a request is charged: more than all of it while this node is cut off.
    fn charge(&self, now: u64) -> u32 {
        let known = self.nodes.values().filter(|node| node.here(now) || !node.leaving).count() + 1;
        let here = self.nodes.values().filter(|node| node.here(now)).count() + 1;
        match here * 2 <= known {
            true => WHOLE * known as u32 / here as u32,
            false => WHOLE,
        }
    }

    /// The number of a node.
    fn meet(&mut self, heard: &Heard<'_>, now: u64) -> Option<u32> {
        if !self.nodes.contains_key(heard.node) {
            if self.nodes.len() >= MOST_NODES {
                return None;
            }
            let node = Node {
                number: self.next_node,
                incarnation: heard.incarnation,
                heard: now,
                leaving: false,
            };
            self.next_node += 1;
            self.nodes.insert(Arc::clone(heard.node), node);
        }
        let node = self.nodes.get_mut(heard.node)?;
        if std::mem::replace(&mut node.incarnation, heard.incarnation) != heard.incarnation {
            let number = node.number;
            self.keys.values_mut().for_each(|key| key.others.retain(|it| it.node != number));
        }
        (node.heard, node.leaving) = (now, heard.leaving);
        Some(node.number)
    }

    fn watch(&mut self, key: u64, seen: Seen, now: u64) {
        self.watch = (self.watch + 1) & WATCH;
        let level = seen.due.saturating_sub(now);
        // Nobody else was heard of before: what is to be made up for was used here.
        let unmade = level.min(seen.used);
        let begun = Key {
            watch: self.watch,
            begun: now,
            base: seen.used - unmade,
            used: seen.used,
            level,
            rate: (unmade * u64::from(WHOLE) / units(SECOND)).min(WHOLE.into()),
            active: now,
            untold: if level > 0 { REPEATS } else { 0 },
            ..Key::default()
        };
        self.keys.insert(key, begun);
    }

    /// The notes of this look: at first what has waited longest.
    fn tell(&mut self, longest: usize, now: u64) -> Vec<Vec<u8>> {
        let most = MOST_NOTES * wire::in_one(longest);
        let mut waiting: Vec<_> = self.keys.iter_mut().filter(|(_, key)| key.untold > 0).collect();
        if waiting.len() > most {
            waiting.select_nth_unstable_by_key(most, |(_, key)| key.told);
            waiting.truncate(most);
        }
        let report = |(id, key): (&u64, &mut Key)| {
            key.untold -= 1;
            key.told = now;
            Report {
                key: *id,
                watch: key.watch,
                young: now < key.begun + YOUNG,
                wanted: key.wants(now),
                used: key.used.wrapping_sub(key.base) & USED,
                level: key.level.min(USED),
            }
        };
        let reports: Vec<_> = waiting.into_iter().map(report).collect();
        self.counters.told += reports.len() as u64;
        wire::notes(&reports, longest)
    }
}

impl Node {
    /// Whether it is there, and stays.
    fn here(&self, now: u64) -> bool {
        now < self.heard + SILENT
    }
}

impl Key {
    /// Takes in what a node says.
    fn hear(&mut self, node: u32, report: &Report, table: &SharedTable, now: u64) {
        let known = self.others.iter_mut().find(|other| other.node == node);
        let before = known.as_ref().filter(|other| other.watch == report.watch);
        let used = match before {
            Some(other) => {
                let more = report.used.wrapping_sub(other.used) & USED;
                if more > USED / 2 {
                    return; // overtaken on the way
                }
                // No limit lets through more than what is still to be made up for and what has been since.
                more.min(report.level + now.saturating_sub(other.heard) + SILENT)
            }
            None if report.young => report.used.min(report.level + YOUNG),
            None => {
                // What of it has been made up for is not known; what is left over is.
                table.adopt(report.key, now + report.level);
                0
            }
        };
        self.debit += used;
        self.active = if used > 0 { now } else { self.active };
        let fresh = known.as_ref().map_or(0, |other| other.fresh) + used;
        let rate = known.as_ref().map_or(0, |other| other.rate);
        let (watch, used, wanted) = (report.watch, report.used, report.wanted);
        let other = Other { node, watch, used, heard: now, fresh, rate, wanted };
        match known {
            Some(known) => *known = other,
            None => self.others.push(other),
        }
    }

    /// Charges what was used elsewhere, and reckons what will be; false if it need not be watched any more.
    fn look(&mut self, id: u64, table: &SharedTable, since: u64, elapsed: u64, now: u64) -> bool {
        let Some(seen) = table.see(id) else { return false };
        if seen.used.wrapping_sub(self.used) & USED > USED / 2 {
            return false; // its entry was another one's meanwhile
        }
        for other in &mut self.others {
            let lately = (other.fresh * u64::from(WHOLE) / elapsed).min(WHOLE.into());
            (other.rate, other.fresh) = ((other.rate * 3 + lately) / 4, 0);
            if now >= other.heard + SILENT {
                (other.rate, other.wanted) = (0, false);
            }
        }
        // A node forgotten and met again would be believed what it says of all nodes.
        self.others.retain(|other| now < other.heard + units(CUT_OFF));
        let debit = std::mem::take(&mut self.debit);
        table.debit(id, debit, since, WHOLE - share(&self.others));
        let wanted = self.wants(now);
        if seen.wanted {
            self.wanted = now;
        }
        let lately = seen.used.saturating_sub(self.used) * u64::from(WHOLE) / elapsed;
        self.rate = (self.rate * 3 + lately.min(WHOLE.into())) / 4;
        if seen.used != self.used || wanted != self.wants(now) {
            self.untold = REPEATS;
        }
        if seen.used != self.used || debit > 0 || seen.wanted {
            self.active = now;
        }
        self.used = seen.used;
        self.level = (seen.due.max(since) + debit).saturating_sub(now);
        true
    }

    /// Whether what is to be made up for may have been used on several nodes.
    fn is_told(&self) -> bool {
        self.told > 0 || !self.others.is_empty()
    }

    fn wants(&self, now: u64) -> bool {
        self.wanted > 0 && now < self.wanted + WANTING
    }
}

/// What this node may expect of a limit if it is asked for more than that, in parts: as much as every other node gets
/// that wants more, and what is over of those that do not (max-min fairness).
fn share(others: &[Other]) -> u32 {
    let whole = u64::from(WHOLE);
    let mut fair = whole / (others.len() as u64 + 1);
    loop {
        // Who wants less than what all may have leaves the rest to them.
        let modest = others.iter().filter(|other| !other.wanted && other.rate < fair);
        let (count, used) =
            modest.fold((0, 0), |(count, sum), other| (count + 1, sum + other.rate));
        let more = whole.saturating_sub(used) / (others.len() as u64 + 1 - count);
        if more <= fair {
            return fair as u32;
        }
        fair = more;
    }
}
