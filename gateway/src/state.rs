//! The objects as the sources have told them so far.
//!
//! One owner, a plain thread: it applies events and hands `&ClusterState` to
//! [`compile`](crate::compile::compile). No locks, no clock, and no opinion about what an object means.
//!
//! What each source has told is kept apart, so that no source can take away what another one told. Where
//! two of them have the same object, that of the source named first counts, whenever it comes; the other
//! one waits behind it, and a problem says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Deref,
    sync::Arc,
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};

use crate::source::{
    Change, Event, Kind, Object, Put, Reference, References, Source, SourceId, Stores,
};

/// Everything that is known about the cluster. The objects can be read from here and are changed by
/// [`ClusterState::apply`] alone.
#[derive(Clone, Debug, Default)]
pub struct ClusterState {
    /// What counts, of all sources.
    stores: Stores,
    sources: Vec<Told>,
    /// Objects that more than one source has.
    contested: BTreeSet<(Kind, ObjectKey)>,
    /// Objects that do not count because their namespaces are not selected.
    unselected: BTreeMap<Reference, Object>,
    /// An object has another status than before, and nobody has been told.
    other_statuses: bool,
}

/// What one source has told.
#[derive(Clone, Debug)]
struct Told {
    source: Source,
    kinds: BTreeMap<Kind, Listed>,
    problems: Vec<Problem>,
    refused: BTreeMap<Reference, String>,
    answered: Arc<References>,
}

/// The objects of one kind of one source.
#[derive(Clone, Debug, Default)]
struct Listed {
    /// All that existed has been told once.
    synced: bool,
    objects: Known,
}

/// Objects and their positions in the source.
type Known = BTreeMap<ObjectKey, (Object, u64)>;

impl Deref for ClusterState {
    type Target = Stores;

    fn deref(&self) -> &Stores {
        &self.stores
    }
}

impl ClusterState {
    /// The state before any of these sources has said anything. Of an object that several of them have,
    /// that of the first one counts.
    pub fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        let told = |source: Source| {
            let listed = source.kinds.iter().map(|kind| (*kind, Listed::default()));
            // Nothing more of these is to come than what will be asked for.
            let by_name = |kind: &Kind| (*kind, Listed { synced: true, ..Listed::default() });
            Told {
                source,
                kinds: listed.chain(source.by_name.iter().map(by_name)).collect(),
                problems: Vec::new(),
                refused: BTreeMap::new(),
                answered: Arc::default(),
            }
        };
        Self { sources: sources.into_iter().map(told).collect(), ..Self::default() }
    }

    /// Takes over an event; true if what [`compile`](crate::compile::compile) sees has changed, or if
    /// there is less to wait for. What comes from a source, or is of a kind, that was not announced to
    /// [`ClusterState::new`] changes nothing.
    pub fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::Batch(source, changes) => {
                let Some(at) = self.rank(source) else { return false };
                changes.into_iter().fold(false, |changed, change| self.change(at, change) | changed)
            }
            Event::Problems(source, problems) => {
                let Some(at) = self.rank(source) else { return false };
                let before = mem::replace(&mut self.sources[at].problems, problems);
                before != self.sources[at].problems
            }
            Event::Refused(source, refused) => {
                let Some(at) = self.rank(source) else { return false };
                self.sources[at].refused = refused;
                self.settle_refused()
            }
            Event::Answered(source, answered) => {
                let Some(at) = self.rank(source) else { return false };
                self.sources[at].answered = answered;
                true
            }
            Event::Synced(source, kind) => {
                let listed = self.rank(source).and_then(|at| self.listed(at, kind));
                listed.is_some_and(|listed| !mem::replace(&mut listed.synced, true))
            }
        }
    }

    /// Whether all that belongs to the event has come with it.
    pub(crate) fn is_whole(&self, event: &Event) -> bool {
        match event {
            Event::Batch(source, _) => {
                self.rank(*source).is_some_and(|at| self.sources[at].source.whole_batches)
            }
            _ => false,
        }
    }

    /// True if an object has had another status since the last call, which changes nothing of what
    /// [`compile`](crate::compile::compile) sees.
    pub(crate) fn take_other_statuses(&mut self) -> bool {
        mem::take(&mut self.other_statuses)
    }

    /// An object that exists and does not count, because its namespace is not selected, if it may have a status of ours.
    pub(crate) fn unselected(&self, kind: Kind, key: &ObjectKey) -> Option<&Object> {
        self.unselected.get(&(kind, key.clone()))
    }

    /// True once every source has told everything of every kind that existed at its start; before that
    /// nothing may be published.
    pub fn synced(&self) -> bool {
        let mut kinds = self.sources.iter().flat_map(|told| told.kinds.values());
        !self.sources.is_empty() && kinds.all(|listed| listed.synced)
    }

    /// True once every source that has to be asked for objects by name has told what it knows of these.
    pub fn has_answers(&self, wanted: &References) -> bool {
        let mut asked = self.sources.iter().filter(|told| !told.source.by_name.is_empty());
        asked.all(|told| wanted.is_subset(&told.answered))
    }

    /// What is wrong with the sources, as they told it, and the objects that more than one of them has.
    pub fn problems(&self) -> Vec<Problem> {
        let told = self.sources.iter().flat_map(|told| told.problems.iter().cloned());
        let contested = self.contested.iter().flat_map(|(kind, key)| {
            let mut holders = self.holders(*kind, key).map(|(told, _)| told.source.id);
            let first = holders.next();
            let object = ObjectRef::new(kind.name(), key.clone());
            holders.filter_map(move |other| Some(overridden(&object, other, first?)))
        });
        told.chain(contested).collect()
    }

    fn rank(&self, source: SourceId) -> Option<usize> {
        self.sources.iter().position(|told| told.source.id == source)
    }

    fn listed(&mut self, at: usize, kind: Kind) -> Option<&mut Listed> {
        self.sources[at].kinds.get_mut(&kind)
    }

    /// What the sources have under a name, the one that counts first.
    fn holders(
        &self,
        kind: Kind,
        key: &ObjectKey,
    ) -> impl Iterator<Item = (&Told, &(Object, u64))> {
        self.sources.iter().filter_map(move |told| {
            let known = told.kinds.get(&kind)?.objects.get(key)?;
            Some((told, known))
        })
    }

    fn change(&mut self, at: usize, change: Change) -> bool {
        let mut unselected = None;
        let (kind, key, known) = match change {
            Change::Apply(object, order) => (object.kind(), object.key(), Some((object, order))),
            Change::Delete(kind, key) => (kind, key, None),
            Change::Unselected(object) => {
                let (kind, key) = (object.kind(), object.key());
                unselected = Some(object);
                (kind, key, None)
            }
        };
        if self.listed(at, kind).is_none() {
            return false;
        }
        match unselected {
            Some(object) => {
                self.unselected.insert((kind, key.clone()), object);
                self.other_statuses = true;
            }
            None if self.unselected.is_empty() => {}
            None => drop(self.unselected.remove(&(kind, key.clone()))),
        }
        let Some(listed) = self.listed(at, kind) else { return false };
        match known {
            Some(known) => listed.objects.insert(key.clone(), known),
            None => listed.objects.remove(&key),
        };
        self.settle(kind, &key)
    }

    /// Collects what the sources may not read; true if that is a change.
    fn settle_refused(&mut self) -> bool {
        let all = self.sources.iter().flat_map(|told| &told.refused);
        let all = all.map(|((kind, key), why)| {
            (ObjectRef::new(kind.name(), key.clone()), Arc::from(why.as_str()))
        });
        let before = mem::replace(&mut self.stores.objects.refused, all.collect());
        before != self.stores.objects.refused
    }

    /// Makes the object of the first source that has one the one that counts; true if that is a change.
    fn settle(&mut self, kind: Kind, key: &ObjectKey) -> bool {
        let mut holders = self.holders(kind, key);
        let winner = holders.next().map(|(told, known)| (told.source.trust, known.clone()));
        let contested = holders.next().is_some();
        drop(holders);
        let changed = match winner {
            Some((trust, (object, order))) => {
                let put = self.stores.put(object, order, trust);
                self.other_statuses |= put == Put::Status;
                put == Put::Other
            }
            None => self.stores.remove(kind, key),
        };
        let told = if contested {
            self.contested.insert((kind, key.clone()))
        } else {
            !self.contested.is_empty() && self.contested.remove(&(kind, key.clone()))
        };
        changed || told
    }
}

fn overridden(object: &ObjectRef, other: SourceId, first: SourceId) -> Problem {
    Problem::warning(
        object,
        "DuplicateObject",
        "",
        format!("the object of source {other} is overridden by that of source {first}"),
        "remove one of them",
    )
}

#[cfg(test)]
mod tests;
