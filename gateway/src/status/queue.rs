//! What waits to be written, what is under way and what has been written: who is next, and when.
//!
//! Pure: `writer` sends what [`Queue::next`] gives and tells what became of it. Per object the newest patch
//! counts and one request is under way at a time. A patch that was made from an older version of its object
//! than our last write left behind is not sent: the watch brings that write, and a newer patch if one is
//! needed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    time::{Duration, Instant},
};

use gatehouse_routes::objects::ObjectRef;

use super::{
    contest::{Contests, Rival},
    diff::{self, Patch},
    digest::hash,
};

/// Requests under way at one time.
const CONCURRENCY: usize = 16;
/// Requests a second, once the [`BURST`] is used up.
const RATE: f64 = 600.0;
/// Time in which there is certainly another one to send.
const TOKEN: Duration = Duration::from_millis(2);
/// Requests that may be sent at once after a pause.
const BURST: f64 = 200.0;
/// Wait after the first failure of an object; doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(200);
/// Longest wait after a failure.
const LONGEST: Duration = Duration::from_secs(30);

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Written; this is the object's version now.
    Done(String),
    /// The object is another than the one that was looked at.
    Conflict,
    /// There is no such object.
    Gone,
    /// Somebody else has written what we were to write, again and again.
    Contested(Rival),
    /// The API server will not have it, now or later.
    Refused(String),
    /// It may work another time, but not before this has passed.
    Failed(String, Option<Duration>),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// Send this.
    Send(Box<Patch>),
    /// Nothing before this moment.
    Later(Instant),
    /// Nothing until something is answered or submitted.
    Idle,
}

/// The requests of one leader's term.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: BTreeMap<(Urgency, ObjectRef), Patch>,
    under_way: HashSet<ObjectRef>,
    written: HashMap<ObjectRef, Left>,
    failing: HashMap<ObjectRef, Failing>,
    contests: Contests,
    tokens: f64,
    counted: Instant,
}

/// Addresses first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Addresses,
    Hosts,
    Counts,
}

/// How our last request has left an object.
#[derive(Debug)]
enum Left {
    /// With this version, by a body of this hash.
    Written { version: u64, said: u64 },
    /// Newer than this.
    Newer { than: u64 },
}

#[derive(Debug)]
struct Failing {
    attempts: u32,
    until: Instant,
    /// The next write is not to ask who wrote before.
    insists: bool,
}

impl Queue {
    /// Nothing is known about earlier requests.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            waiting: BTreeMap::new(),
            under_way: HashSet::new(),
            written: HashMap::new(),
            failing: HashMap::new(),
            contests: Contests::new(now),
            tokens: BURST,
            counted: now,
        }
    }

    /// Takes over all that differs now; what is not among it need not be written any more.
    pub(crate) fn submit(&mut self, patches: Vec<Patch>) {
        self.waiting.clear();
        // What differs no more is as it was left: nothing need be known of it.
        let mut before = mem::take(&mut self.written);
        for patch in patches {
            match before.remove(&patch.object).filter(|left| left.covers(&patch)) {
                Some(left) => drop(self.written.insert(patch.object, left)),
                None => {
                    self.waiting.insert((urgency(&patch.object), patch.object.clone()), patch);
                }
            }
        }
        let waiting = &self.waiting;
        let waits = |object: &ObjectRef| waiting.contains_key(&(urgency(object), object.clone()));
        self.failing.retain(|object, _| waits(object));
    }

    /// What to send now; it counts as under way until [`Queue::answered`].
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        if self.under_way.len() >= CONCURRENCY || self.waiting.is_empty() {
            return Next::Idle;
        }
        self.tokens = BURST.min(self.tokens + RATE * (now - self.counted).as_secs_f64());
        self.counted = now;
        if self.tokens < 1.0 {
            return Next::Later(now + TOKEN);
        }
        let mut earliest: Option<Instant> = None;
        let mut due = None;
        for (urgency, object) in self.waiting.keys() {
            match self.failing.get(object).map(|failing| failing.until).filter(|it| *it > now) {
                _ if self.under_way.contains(object) => (),
                Some(until) => earliest = Some(earliest.map_or(until, |it| it.min(until))),
                None => {
                    due = Some((*urgency, object.clone()));
                    break;
                }
            }
        }
        let Some(mut patch) = due.and_then(|key| self.waiting.remove(&key)) else {
            return earliest.map_or(Next::Idle, Next::Later);
        };
        let failing = self.failing.get_mut(&patch.object);
        let insists = failing.is_some_and(|failing| mem::take(&mut failing.insists));
        patch.asks = self.contests.is_contested(&patch, now) && !insists;
        self.tokens -= 1.0;
        self.under_way.insert(patch.object.clone());
        Next::Send(Box::new(patch))
    }

    /// Takes note of what became of a request.
    pub(crate) fn answered(&mut self, patch: Patch, outcome: &Outcome, now: Instant) {
        self.under_way.remove(&patch.object);
        match outcome {
            Outcome::Done(version) => {
                self.failing.remove(&patch.object);
                let version = diff::version(version);
                self.contests.written(&patch, version, now);
                let left = Left::Written { version, said: said(&patch) };
                self.drop_outdated(&patch.object, &left);
                self.written.insert(patch.object, left);
            }
            Outcome::Conflict => {
                let left = Left::Newer { than: patch.seen_version() };
                self.drop_outdated(&patch.object, &left);
                self.written.insert(patch.object, left);
            }
            Outcome::Gone => {
                self.failing.remove(&patch.object);
            }
            Outcome::Contested(rival) => {
                let (object, pause) =
                    (patch.object.clone(), self.contests.pause(&patch.object, rival));
                self.again(patch, pause, now);
                self.failing.entry(object).and_modify(|failing| failing.insists = true);
            }
            Outcome::Refused(_) => self.again(patch, LONGEST, now),
            Outcome::Failed(_, pause) => {
                let attempts = self.failing.get(&patch.object).map_or(0, |it| it.attempts);
                let pause = pause.unwrap_or_default();
                self.again(patch, pause.max(FIRST * 2u32.pow(attempts.min(8))).min(LONGEST), now);
            }
        }
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Puts a patch back, unless a newer one waits.
    fn again(&mut self, patch: Patch, pause: Duration, now: Instant) {
        let none = Failing { attempts: 0, until: now, insists: false };
        let failing = self.failing.entry(patch.object.clone()).or_insert(none);
        failing.attempts += 1;
        failing.until = now + pause;
        self.waiting.entry((urgency(&patch.object), patch.object.clone())).or_insert(patch);
    }

    fn drop_outdated(&mut self, object: &ObjectRef, left: &Left) {
        let key = (urgency(object), object.clone());
        if self.waiting.get(&key).is_some_and(|patch| left.covers(patch)) {
            self.waiting.remove(&key);
        }
    }
}

impl Left {
    /// Whether the patch was made from an object older than this, or says the same again: either that changed
    /// nothing, or another controller counts as well. MetalLB insists on its own counts in a pool that both use.
    fn covers(&self, patch: &Patch) -> bool {
        let seen = patch.seen_version();
        match self {
            Self::Written { version, said: before } => {
                let counts = urgency(&patch.object) == Urgency::Counts;
                seen < *version || ((seen == *version || counts) && *before == said(patch))
            }
            Self::Newer { than } => seen <= *than,
        }
    }
}

fn urgency(object: &ObjectRef) -> Urgency {
    match object.kind {
        "Service" => Urgency::Addresses,
        "IPAddressPool" => Urgency::Counts,
        _ => Urgency::Hosts,
    }
}

fn said(patch: &Patch) -> u64 {
    hash(&[&patch.body])
}

#[cfg(test)]
mod tests;
