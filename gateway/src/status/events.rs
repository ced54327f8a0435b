//! Which Events are written, and when: on transitions, once each, at a bounded rate.
//!
//! Pure: `writer` sends what [`Journal::next`] gives. A [`Problem`] that appears becomes one Event on its
//! object; if it goes and comes again, the Event counts (`series`) instead of there being a second one, unless it comes
//! for another cause: nothing else of an Event can be changed. The name of an Event follows from what it is about, so that
//! a leader that finds a problem there already finds its Event there too.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use serde_json::{Value, json};

use super::{diff::Patch, digest::hash};
use crate::source::api_version;

/// `reportingController` of all Events.
pub(crate) const CONTROLLER: &str = "gatehouse.io/gateway";

/// Events a second, once the [`BURST`] is used up.
const RATE: f64 = 25.0;
/// Time in which there is certainly another one to send.
const TOKEN: Duration = Duration::from_millis(50);
/// Events that may be sent at once after a pause.
const BURST: f64 = 100.0;
/// Events that wait at most; what comes on top is dropped.
const WAITING: usize = 20_000;
/// For how long an Event can be counted further. The API server keeps it for an hour.
const REMEMBERED: Duration = Duration::from_secs(50 * 60);
/// Period of forgetting.
const TIDY: Duration = Duration::from_secs(60);
/// Longest `note` of an Event, in bytes.
const LONGEST_NOTE: usize = 1024;

/// The object that an Event is about, as the API server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Regarding {
    /// Which one.
    pub(crate) object: ObjectRef,
    /// Its `apiVersion`.
    pub(crate) api_version: &'static str,
    /// Its `metadata.uid`.
    pub(crate) uid: String,
}

/// Something worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    /// To what.
    pub(crate) regarding: Regarding,
    /// Nothing needs to be done about it.
    pub(crate) normal: bool,
    /// Machine-readable, as MetalLB and the OpenShift router name it.
    pub(crate) reason: &'static str,
    /// What was being done.
    pub(crate) action: &'static str,
    /// For people.
    pub(crate) note: String,
}

/// A request about an Event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// Namespace of the Event.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// What the request does.
    pub(crate) verb: Verb,
    entry: Key,
}

/// What a [`Request`] does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verb {
    /// Creates this.
    Create(Value),
    /// Changes it by this merge patch.
    Count(Value),
}

/// What became of a [`Request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done.
    Done,
    /// There is an Event of that name already.
    Exists,
    /// There is none any more.
    Missing,
    /// It cannot be done.
    Failed,
}

/// The Events of this process.
#[derive(Debug)]
pub(crate) struct Journal {
    instance: String,
    /// Problems that are there now.
    standing: BTreeSet<Key>,
    known: BTreeMap<Key, Known>,
    waiting: VecDeque<Key>,
    /// Made so far, to tell names apart.
    made: u64,
    /// When what is too old to be counted further was last forgotten.
    tidied: Instant,
    tokens: f64,
    counted: Instant,
    dropped: u64,
}

/// What makes two Events one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    object: ObjectRef,
    uid: String,
    reason: &'static str,
    /// Field of a problem, the note of anything else.
    what: String,
}

#[derive(Debug)]
struct Known {
    name: String,
    count: u32,
    last: Instant,
    /// The Event may have been there before this process knew of it, and that is fine.
    found: bool,
    waits: bool,
    happened: Happened,
}

impl Journal {
    /// `instance` names this process (`reportingInstance`).
    pub(crate) fn new(instance: String, now: Instant) -> Self {
        Self {
            instance,
            standing: BTreeSet::new(),
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            made: 0,
            tidied: now,
            tokens: BURST,
            counted: now,
            dropped: 0,
        }
    }

    /// Takes over all problems that there are now, with their objects in the API server (others are left
    /// out). Each that was not there the last time becomes an Event. `first`: another leader may have told
    /// of them before.
    pub(crate) fn problems<'p>(
        &mut self,
        problems: impl Iterator<Item = (&'p Problem, Regarding)>,
        first: bool,
        now: Instant,
    ) {
        let mut standing = BTreeSet::new();
        for (problem, regarding) in problems {
            let reason = reason(problem);
            let key = Key {
                object: regarding.object.clone(),
                uid: regarding.uid.clone(),
                reason,
                what: format!("{} {}", problem.reason, problem.field),
            };
            if standing.insert(key.clone()) && !self.standing.contains(&key) {
                let note = note(problem);
                let action = "Configure";
                let happened = Happened { regarding, normal: false, reason, action, note };
                self.push(key, happened, first, now);
            }
        }
        self.standing = standing;
    }

    /// Something happened once.
    pub(crate) fn happened(&mut self, happened: Happened, now: Instant) {
        let key = Key {
            object: happened.regarding.object.clone(),
            uid: happened.regarding.uid.clone(),
            reason: happened.reason,
            what: happened.note.clone(),
        };
        self.push(key, happened, false, now);
    }

    /// The next request, and the time it may take place; `time` is that of the clock on the wall, in RFC
    /// 3339 with microseconds.
    pub(crate) fn next(&mut self, time: &str, now: Instant) -> Result<Request, Option<Instant>> {
        self.tokens = BURST.min(self.tokens + RATE * (now - self.counted).as_secs_f64());
        self.counted = now;
        if self.waiting.is_empty() {
            return Err(None);
        }
        if self.tokens < 1.0 {
            return Err(Some(now + TOKEN));
        }
        while let Some(key) = self.waiting.pop_front() {
            let Some(known) = self.known.get_mut(&key) else { continue };
            known.waits = false;
            self.tokens -= 1.0;
            let verb = if known.count > 1 {
                let series = json!({ "count": known.count, "lastObservedTime": time });
                Verb::Count(json!({ "series": series }))
            } else {
                Verb::Create(event(&known.name, &known.happened, &self.instance, time))
            };
            let namespace = namespace(&key.object.key);
            return Ok(Request { namespace, name: known.name.clone(), verb, entry: key });
        }
        Err(None)
    }

    /// Takes note of what became of a request.
    pub(crate) fn answered(&mut self, request: Request, answer: Answer) {
        let Some(known) = self.known.get_mut(&request.entry) else { return };
        let anew = match (answer, &request.verb) {
            (Answer::Exists, Verb::Create(_)) => !known.found,
            (Answer::Missing, Verb::Count(_)) => true,
            _ => false,
        };
        known.found = false;
        if anew {
            self.made += 1;
            known.count = 1;
            known.name = another_name(&known.name, &self.instance, self.made);
            if !known.waits {
                known.waits = true;
                self.waiting.push_back(request.entry);
            }
        }
    }

    /// Events that were dropped because too many waited.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn push(&mut self, key: Key, happened: Happened, found: bool, now: Instant) {
        self.forget(now);
        if self.waiting.len() >= WAITING {
            self.dropped += 1;
            return;
        }
        let known = self.known.entry(key.clone()).or_insert_with(|| {
            let (name, happened) = (name(&key), happened.clone());
            Known { name, count: 0, last: now, found, waits: false, happened }
        });
        known.last = now;
        if known.happened.note != happened.note {
            self.made += 1;
            known.name = another_name(&known.name, &self.instance, self.made);
            (known.count, known.found) = (u32::from(known.waits), false);
            known.happened = happened;
        }
        if !known.waits {
            known.waits = true;
            known.count += 1;
            self.waiting.push_back(key);
        }
    }

    fn forget(&mut self, now: Instant) {
        if now - self.tidied < TIDY {
            return;
        }
        self.tidied = now;
        let standing = &self.standing;
        self.known.retain(|key, known| {
            known.waits || now - known.last < REMEMBERED || standing.contains(key)
        });
    }
}

/// The Event of addresses that a Service has now, as MetalLB names it.
pub(crate) fn assigned(patch: &Patch) -> Option<Happened> {
    let ips = patch.assigned.as_ref()?;
    let texts: Vec<String> = ips.iter().map(|ip| format!("\"{ip}\"")).collect();
    let (reason, note) = match ips.is_empty() {
        true => ("ClearAssignment", "it has no address any more".to_owned()),
        false => ("IPAllocated", format!("Assigned IP [{}]", texts.join(" "))),
    };
    let regarding = Regarding {
        object: patch.object.clone(),
        api_version: patch.api_version,
        uid: patch.uid.clone(),
    };
    Some(Happened { regarding, normal: true, reason, action: "Allocate", note })
}

/// `nodeAssigned`, as MetalLB says it: the node announces a Service from now on.
pub(crate) fn announced(node: &str, protocol: &str, service: &ObjectKey, uid: &str) -> Happened {
    let object = ObjectRef::new("Service", service.clone());
    let regarding = Regarding { object, api_version: api_version("Service"), uid: uid.to_owned() };
    let note = format!("announcing from node \"{node}\" with protocol \"{protocol}\"");
    Happened { regarding, normal: true, reason: "nodeAssigned", action: "Announce", note }
}

/// The Event of a status that somebody else writes as well.
pub(crate) fn contested(patch: &Patch, problem: &Problem) -> Happened {
    let regarding = Regarding {
        object: patch.object.clone(),
        api_version: patch.api_version,
        uid: patch.uid.clone(),
    };
    let (reason, note) = (problem.reason, note(problem));
    Happened { regarding, normal: false, reason, action: "WriteStatus", note }
}

/// MetalLB's name for what is wrong with the addresses of a Service, else the problem's own.
fn reason(problem: &Problem) -> &'static str {
    if problem.object.kind != "Service" {
        return problem.reason;
    }
    match problem.reason {
        "NoPool"
        | "PoolNotFound"
        | "PoolMismatch"
        | "PoolRestricted"
        | "PoolDraining"
        | "PoolExhausted"
        | "AddressNotInPool"
        | "AddressInUse"
        | "FamilyMismatch"
        | "TooManyAddresses"
        | "InvalidAddressRequest" => "AllocationFailed",
        "ShareRefused" if problem.is_error() => "AllocationFailed",
        "AddressReleased" => "ClearAssignment",
        "DeprecatedAnnotation" => "deprecatedAnnotation",
        "NoInterface" | "NoCarrier" | "BroadcastAddress" | "NotPermitted" | "AddressFailed"
        | "NotAdvertised" | "NoLoopback" => "announceFailed",
        reason => reason,
    }
}

/// The problem without its object and severity, which the Event says elsewhere.
fn note(problem: &Problem) -> String {
    let Problem { field, message, reason, hint, .. } = problem;
    let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    format!("{field}{message} [{reason}]{hint}")
}

fn event(name: &str, happened: &Happened, instance: &str, time: &str) -> Value {
    let Happened { regarding, normal, reason, action, note } = happened;
    let ObjectRef { kind, key } = &regarding.object;
    let mut object = json!({
        "apiVersion": regarding.api_version,
        "kind": kind,
        "name": &*key.name,
        "uid": regarding.uid,
    });
    if !key.namespace.is_empty() {
        object["namespace"] = (*key.namespace).into();
    }
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": namespace(key) },
        "eventTime": time,
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "type": if *normal { "Normal" } else { "Warning" },
        "reason": reason,
        "action": action,
        "note": short(note),
        "regarding": object,
    })
}

/// Events about objects without a namespace belong in `default`.
fn namespace(key: &ObjectKey) -> String {
    if key.namespace.is_empty() { "default".to_owned() } else { key.namespace.to_string() }
}

fn short(note: &str) -> &str {
    let mut end = note.len().min(LONGEST_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

fn name(key: &Key) -> String {
    let Key { object, uid, reason, what } = key;
    let hash = hash(&[object.kind, &object.key.namespace, uid, reason, what]);
    // Names of objects have at most 253 bytes, all of them ASCII.
    let name: String = object.key.name.chars().take(200).collect();
    format!("{name}.{hash:x}")
}

/// The name of one more Event of the same object, reason and field. `number` tells those of this process apart.
fn another_name(name: &str, instance: &str, number: u64) -> String {
    let hash = hash(&[instance, &number.to_string(), name]);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    format!("{stem}.{hash:x}")
}

#[cfg(test)]
mod tests;
