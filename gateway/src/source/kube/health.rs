//! How things stand with the API server: what is waited for, what is missing, what may be out of date.
//!
//! The watches write it, the admin pages read it; nothing is decided by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::client::Requests;
use crate::source::Kind;

/// Shared by everything that talks to the API server.
#[derive(Debug)]
pub struct Health {
    requests: Arc<Requests>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Paths whose last request failed.
    failing: BTreeMap<String, Failure>,
    /// Kinds that the API server does not know.
    missing: BTreeSet<Kind>,
    /// Objects by kind.
    objects: BTreeMap<Kind, usize>,
    /// Kinds that have not been told yet.
    waiting: BTreeSet<Kind>,
    /// What is served is what an earlier process knew at that time.
    remembered: Option<SystemTime>,
}

#[derive(Debug)]
struct Failure {
    kind: Kind,
    since: Instant,
    why: String,
}

/// A consistent view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Kinds that have not been told yet, and why if that is known.
    pub waiting: Vec<String>,
    /// Kinds that the API server does not know.
    pub missing: Vec<&'static str>,
    /// Objects by kind.
    pub objects: BTreeMap<&'static str, usize>,
    /// Why what is served may be out of date.
    pub stale: Option<Stale>,
    /// Requests by verb and status code; 0: no answer.
    pub requests: BTreeMap<(&'static str, u16), u64>,
}

/// Why what is served may be out of date.
#[derive(Clone, Debug, PartialEq)]
pub struct Stale {
    /// For how long.
    pub age: Duration,
    /// Nothing has been heard since the start: it is what an earlier process knew.
    pub remembered: bool,
    /// Which kinds.
    pub kinds: Vec<&'static str>,
    /// What the API server, or the way to it, says.
    pub why: String,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.age.as_secs();
        if self.remembered {
            write!(f, "stale: the objects were known {seconds} s ago, by an earlier process")?;
        } else {
            write!(f, "stale: {} unwatched for {seconds} s", self.kinds.join(", "))?;
        }
        if self.why.is_empty() { Ok(()) } else { write!(f, ": {}", self.why) }
    }
}

impl Health {
    /// Nothing is known yet.
    pub(super) fn new(requests: Arc<Requests>) -> Self {
        Self { requests, state: Mutex::default() }
    }

    /// What counts the requests of everybody who talks to the API server.
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// The view of this moment.
    pub fn facts(&self) -> Facts {
        let state = self.state();
        let failing: Vec<(&String, &Failure)> =
            state.failing.iter().filter(|(path, failure)| self.is_failing(path, failure)).collect();
        let why = |kind: &Kind| {
            let mut failing = failing.iter().filter(|(_, failure)| failure.kind == *kind);
            failing.next().map(|(_, failure)| &*failure.why)
        };
        let waiting = state.waiting.iter().map(|kind| match why(kind) {
            Some(why) => format!("{} of the API server: {why}", kind.plural()),
            None => format!("{} of the API server", kind.plural()),
        });
        let mut kinds: Vec<_> = failing.iter().map(|(_, failure)| failure.kind.plural()).collect();
        kinds.dedup();
        let since = failing.iter().map(|(_, failure)| failure.since).min();
        let first = failing.iter().min_by_key(|(_, failure)| failure.since);
        let age = match state.remembered {
            Some(at) => Some(at.elapsed().unwrap_or_default()),
            None => since.map(|since| since.elapsed()),
        };
        Facts {
            stale: age.map(|age| Stale {
                age,
                remembered: state.remembered.is_some(),
                kinds,
                why: first.map_or_else(String::new, |(_, failure)| failure.why.clone()),
            }),
            waiting: waiting.collect(),
            missing: state.missing.iter().map(|kind| kind.name()).collect(),
            objects: state.objects.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
            requests: self.requests.counts(),
        }
    }

    /// True once the API server has answered anything but an error of its own.
    pub(super) fn has_answered(&self) -> bool {
        self.requests.answered().is_some()
    }

    /// A request for this path failed, and why.
    pub(super) fn failing(&self, path: &str, kind: Kind, why: String) {
        let mut state = self.state();
        if state.failing.is_empty() {
            tracing::warn!(path, %why, "the API server cannot be watched; what it told last is served");
        }
        let known = state.failing.get(path).filter(|failure| self.is_failing(path, failure));
        let since = known.map_or_else(Instant::now, |failure| failure.since);
        state.failing.insert(path.to_owned(), Failure { kind, since, why });
    }

    /// Something came in from a watch of this path.
    pub(super) fn works(&self, path: &str) {
        let mut state = self.state();
        let failed = state.failing.remove(path).is_some();
        if failed && state.failing.is_empty() {
            tracing::info!("the API server is watched again");
        }
    }

    /// Forgets failures that have been made good without anything coming in.
    pub(super) fn settle(&self) {
        let state = self.state();
        let good = state.failing.iter().filter(|(path, failure)| !self.is_failing(path, failure));
        let good: Vec<String> = good.map(|(path, _)| path.clone()).collect();
        drop(state);
        good.iter().for_each(|path| self.works(path));
    }

    /// Lists that are not told by the API server at the moment are those of an earlier process; `None`:
    /// they are no more.
    pub(super) fn remembered(&self, at: Option<SystemTime>) {
        self.state().remembered = at;
    }

    /// Objects by kind (`None`: the kind is missing), and the kinds that have not been told yet.
    pub(super) fn counted(&self, census: BTreeMap<Kind, Option<usize>>, waiting: BTreeSet<Kind>) {
        let mut state = self.state();
        let missing = census.iter().filter(|(_, count)| count.is_none()).map(|(kind, _)| *kind);
        state.missing = missing.collect();
        state.objects =
            census.into_iter().filter_map(|(kind, count)| Some((kind, count?))).collect();
        state.waiting = waiting;
    }

    /// A watch that began later has made good a failure, even if nothing has happened on it yet.
    fn is_failing(&self, path: &str, failure: &Failure) -> bool {
        self.requests.watched(path).is_none_or(|watched| watched < failure.since)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
