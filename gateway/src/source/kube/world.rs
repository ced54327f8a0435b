//! What the API server has, as far as it has told, and what of it counts: pure.
//!
//! The collector puts in what the watches hear and takes out [`Event`]s. A list that is told anew takes
//! the place of the old one when it is complete, and only differences go on, so that a watch which began
//! again, or a start from the cache, changes nothing for traffic by itself. An object that is being
//! deleted, or whose namespace is, does not count: the next claimant of its host or path has it at
//! once. A Service counts until it is gone: kube-proxy serves it until then, so its address is not free, and a
//! leader waits until it knows every Service that there is. Nothing here knows what an object means.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Bound,
    sync::Arc,
};

use gatehouse_routes::{objects::ObjectKey, problem::Problem};

use super::SOURCE;
use crate::source::{Change, Event, Kind, Object, Reference, References, salvage::is_stand_in};

/// One list of the API server that is watched: a kind in one namespace, or in all of them (`None`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct List {
    pub(super) kind: Kind,
    pub(super) namespace: Option<Arc<str>>,
}

/// An object as it came: understood, or what is wrong with it.
pub(super) type Received = Result<Object, Box<Broken>>;

/// An object that makes no sense.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) key: ObjectKey,
    pub(super) problem: Problem,
    /// What keeps its hosts and paths closed where no version is known that could be read.
    pub(super) stand_in: Option<Object>,
}

/// What a watch hears.
#[derive(Debug)]
pub(super) enum Heard {
    /// All objects of the list follow anew.
    Begin(List),
    /// An object of the list appeared or changed.
    Object(List, Received),
    /// An object of the list is gone.
    Gone(List, ObjectKey),
    /// The list is complete.
    End(List),
    /// The API server does not know the kind.
    NoSuchKind(List),
    /// What became of an object that was asked for by name.
    Answer(Reference, Answer),
}

/// What became of an object that was asked for by name.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is this one now.
    Object(Received),
    /// There is none.
    Absent,
    /// It may not be read, and why.
    Refused(String),
}

/// Which objects count besides those that are being deleted.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// Namespaces whose objects are listed; empty: all.
    pub(super) namespaces: Vec<Arc<str>>,
    /// The list of Namespaces holds only selected ones, and in others nothing asks for hosts.
    pub(super) selected: bool,
}

/// What is known of the API server.
#[derive(Debug)]
pub(super) struct World {
    scope: Scope,
    kinds: BTreeMap<Kind, Known>,
    wanted: Arc<References>,
    answered: References,
    refused: BTreeMap<Reference, String>,
    /// Nobody answers, so that there is nothing to wait for.
    alone: bool,
    /// Objects whose place among those told may have to change.
    dirty: BTreeSet<Reference>,
    told: Told,
}

/// The objects of one kind.
#[derive(Debug, Default)]
struct Known {
    /// Lists that make up the kind.
    lists: Vec<List>,
    listed: BTreeSet<List>,
    missing: bool,
    entries: Entries,
    /// Lists under way.
    relists: BTreeMap<List, Entries>,
}

type Entries = BTreeMap<ObjectKey, Entry>;

/// An object, and what is wrong with it as it is now: then the object is the last good one, or stands in for it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    object: Option<Object>,
    problem: Option<Problem>,
}

/// What the receiver of the events has been told.
#[derive(Debug, Default)]
struct Told {
    objects: BTreeMap<Reference, Object>,
    /// Of those that nobody selected.
    unselected: BTreeMap<Reference, Object>,
    problems: BTreeMap<Reference, Problem>,
    refused: BTreeMap<Reference, String>,
    synced: BTreeSet<Kind>,
    answered: Option<Arc<References>>,
}

impl World {
    /// Nothing is known yet of these kinds.
    pub(super) fn new(kinds: &[Kind], scope: Scope) -> Self {
        let known = |kind: Kind| {
            let list = |namespace: Option<&Arc<str>>| List { kind, namespace: namespace.cloned() };
            let lists = match scope.namespaces.as_slice() {
                [] => vec![list(None)],
                _ if !kind.is_namespaced() => vec![list(None)],
                namespaces => namespaces.iter().map(|namespace| list(Some(namespace))).collect(),
            };
            (kind, Known { lists, ..Known::default() })
        };
        Self {
            kinds: kinds.iter().copied().map(known).collect(),
            scope,
            wanted: Arc::default(),
            answered: References::new(),
            refused: BTreeMap::new(),
            alone: false,
            dirty: BTreeSet::new(),
            told: Told::default(),
        }
    }

    /// The lists that have to be watched.
    pub(super) fn lists(&self) -> Vec<List> {
        self.kinds.values().flat_map(|known| known.lists.clone()).collect()
    }

    /// True once every list has been told in whole at least once.
    pub(super) fn is_listed(&self) -> bool {
        self.kinds.values().all(Known::is_listed)
    }

    /// True if nothing that is asked for by name is waited for any more.
    pub(super) fn is_answered(&self) -> bool {
        self.told.answered.as_ref().is_some_and(|told| Arc::ptr_eq(told, &self.wanted))
    }

    /// Takes over what a watch has heard.
    pub(super) fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Begin(list) => {
                if let Some(known) = self.kinds.get_mut(&list.kind) {
                    known.relists.insert(list, Entries::new());
                }
            }
            Heard::Object(list, received) => self.received(&list, received),
            Heard::Gone(list, key) => {
                if let Some(entries) = self.entries_of(&list) {
                    entries.remove(&key);
                    self.dirty(list.kind, key);
                }
            }
            Heard::End(list) => self.complete(list),
            Heard::NoSuchKind(list) => {
                let kind = list.kind;
                self.hear(Heard::Begin(list.clone()));
                self.complete(list);
                if let Some(known) = self.kinds.get_mut(&kind) {
                    known.missing = true;
                }
            }
            Heard::Answer(reference, answer) => self.answer(reference, answer),
        }
    }

    /// From now on these are the objects that are asked for by name; what becomes of them will be heard.
    pub(super) fn want(&mut self, wanted: Arc<References>) {
        let before = mem::replace(&mut self.wanted, wanted);
        for (kind, key) in before.difference(&Arc::clone(&self.wanted)) {
            self.answered.remove(&(*kind, key.clone()));
            self.refused.remove(&(*kind, key.clone()));
            self.kinds.entry(*kind).or_default().entries.remove(key);
            self.dirty(*kind, key.clone());
        }
    }

    /// Puts in objects of an earlier process, wherever the API server has not told better, and waits for
    /// nothing else until [`World::found`].
    pub(super) fn remember(&mut self, objects: Vec<Object>) {
        self.alone = true;
        for object in objects {
            let (kind, key) = (object.kind(), object.key());
            let known = self.kinds.entry(kind).or_default();
            let better = match known.lists.is_empty() {
                true => self.answered.contains(&(kind, key.clone())),
                false => known.lists.iter().all(|list| known.listed.contains(list)),
            };
            if !better {
                known
                    .entries
                    .entry(key.clone())
                    .or_insert(Entry { object: Some(object), problem: None });
                self.dirty(kind, key);
            }
        }
    }

    /// The API server answers again: what has been asked for by name is waited for as usual.
    pub(super) fn found(&mut self) {
        self.alone = false;
    }

    /// The objects that count, for the cache.
    pub(super) fn objects(&self) -> Vec<Object> {
        self.told.objects.values().cloned().collect()
    }

    /// Kinds that the API server does not know, and how many objects there are of the others.
    pub(super) fn census(&self) -> BTreeMap<Kind, Option<usize>> {
        let count = |known: &Known| (!known.missing).then_some(known.entries.len());
        self.kinds.iter().map(|(kind, known)| (*kind, count(known))).collect()
    }

    /// Kinds that the receiver has not been told in whole.
    pub(super) fn waiting(&self) -> BTreeSet<Kind> {
        let listed = self.kinds.iter().filter(|(_, known)| !known.lists.is_empty());
        let mut kinds: BTreeSet<Kind> = listed.map(|(kind, _)| *kind).collect();
        kinds.retain(|kind| !self.told.synced.contains(kind));
        kinds
    }

    /// The differences since the last call.
    pub(super) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        events.extend(self.take_problems());
        if self.refused != self.told.refused {
            self.told.refused.clone_from(&self.refused);
            events.push(Event::Refused(SOURCE.id, self.refused.clone()));
        }
        let changes = self.take_changes();
        if !changes.is_empty() {
            events.push(Event::Batch(SOURCE.id, changes));
        }
        // What is remembered stands for the lists that have not come.
        let known = |(kind, known): (&Kind, &Known)| {
            let lists = !known.lists.is_empty();
            (lists && (self.alone || known.is_listed())).then_some(*kind)
        };
        for kind in self.kinds.iter().filter_map(known).collect::<Vec<_>>() {
            if self.told.synced.insert(kind) {
                events.push(Event::Synced(SOURCE.id, kind));
            }
        }
        events.extend(self.take_answered());
        events
    }

    /// All that is asked for by name has been answered: says so once.
    fn take_answered(&mut self) -> Option<Event> {
        if !self.alone && !self.wanted.is_subset(&self.answered) {
            return None;
        }
        if self.is_answered() {
            return None;
        }
        self.told.answered = Some(Arc::clone(&self.wanted));
        Some(Event::Answered(SOURCE.id, Arc::clone(&self.wanted)))
    }

    /// All that is wrong with objects, if that is not what it was.
    fn take_problems(&mut self) -> Option<Event> {
        let told = &mut self.told.problems;
        let mut changed = false;
        for reference in &self.dirty {
            let (kind, key) = reference;
            let now =
                self.kinds.get(kind).and_then(|known| known.entries.get(key)?.problem.as_ref());
            if now != told.get(reference) {
                changed = true;
                match now {
                    Some(now) => told.insert(reference.clone(), now.clone()),
                    None => told.remove(reference),
                };
            }
        }
        changed.then(|| Event::Problems(SOURCE.id, told.values().cloned().collect()))
    }

    fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for reference in mem::take(&mut self.dirty) {
            let (kind, key) = &reference;
            let now = self.kinds.get(kind).and_then(|known| known.entries.get(key)?.object.clone());
            if let Some(now) = now.clone().filter(|object| self.counts(object)) {
                self.told.unselected.remove(&reference);
                let told = self.told.objects.get(&reference);
                if !told.is_some_and(|told| told.is_same(&now)) {
                    changes.push(Change::Apply(now.clone(), 0));
                    self.told.objects.insert(reference, now);
                }
                continue;
            }
            let counted = self.told.objects.remove(&reference).is_some();
            let told = self.told.unselected.remove(&reference);
            // What never counted and says nothing of anybody who serves it is of no interest.
            let left = |object: &Object| {
                self.is_unselected(object) && (counted || told.is_some() || names_a_server(object))
            };
            if let Some(now) = now.filter(left) {
                if !told.is_some_and(|told| told.is_same(&now)) {
                    changes.push(Change::Unselected(now.clone()));
                }
                self.told.unselected.insert(reference, now);
            } else if counted || told.is_some() {
                changes.push(Change::Delete(reference.0, reference.1));
            }
        }
        changes
    }

    /// True for what would count if its namespace were selected.
    fn is_unselected(&self, object: &Object) -> bool {
        let metadata = object.metadata();
        let namespaces = self.kinds.get(&Kind::Namespace);
        self.scope.selected
            && matches!(object.kind(), Kind::Ingress | Kind::Route)
            && metadata.deletion_timestamp.is_none()
            && namespaces.is_some_and(Known::is_listed)
            && metadata.namespace.as_deref().is_some_and(|name| self.namespace(name).is_none())
    }

    /// False for what is being deleted, unless it has an address until it is gone, and for what nobody selected.
    fn counts(&self, object: &Object) -> bool {
        if object.kind() == Kind::Service {
            return true;
        }
        let metadata = object.metadata();
        if metadata.deletion_timestamp.is_some() {
            return false;
        }
        let Some(namespace) = metadata.namespace.as_deref() else { return true };
        let asks = matches!(object.kind(), Kind::Ingress | Kind::Route);
        match self.namespace(namespace) {
            Some(Object::Namespace(namespace)) => {
                let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
                namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
            }
            _ => !(self.scope.selected && asks),
        }
    }

    fn namespace(&self, name: &str) -> Option<&Object> {
        let known = self.kinds.get(&Kind::Namespace)?;
        known.entries.get(&ObjectKey::new("", name))?.object.as_ref()
    }

    /// Where objects of the list go now.
    fn entries_of(&mut self, list: &List) -> Option<&mut Entries> {
        let known = self.kinds.get_mut(&list.kind)?;
        Some(known.relists.get_mut(list).unwrap_or(&mut known.entries))
    }

    fn received(&mut self, list: &List, received: Received) {
        let Some(known) = self.kinds.get_mut(&list.kind) else { return };
        let (key, entry) = known.entry(received);
        known.relists.get_mut(list).unwrap_or(&mut known.entries).insert(key.clone(), entry);
        self.dirty(list.kind, key);
    }

    fn complete(&mut self, list: List) {
        let Some(known) = self.kinds.get_mut(&list.kind) else { return };
        let Some(new) = known.relists.remove(&list) else { return };
        known.missing = false;
        let mut names: BTreeSet<ObjectKey> = new.keys().cloned().collect();
        known.entries.retain(|key, _| {
            let other =
                list.namespace.as_ref().is_some_and(|namespace| *namespace != key.namespace);
            let keep = other || new.contains_key(key);
            if !keep {
                names.insert(key.clone());
            }
            keep
        });
        known.entries.extend(new);
        let kind = list.kind;
        let first = known.listed.insert(list);
        names.into_iter().for_each(|key| self.dirty(kind, key));
        if first && kind == Kind::Namespace && self.scope.selected {
            // Now it is known which ones are not selected.
            for kind in [Kind::Ingress, Kind::Route] {
                let keys = self.kinds.get(&kind).into_iter().flat_map(|it| it.entries.keys());
                self.dirty.extend(keys.map(|key| (kind, key.clone())));
            }
        }
    }

    fn answer(&mut self, reference: Reference, answer: Answer) {
        if !self.wanted.contains(&reference) {
            return;
        }
        let known = self.kinds.entry(reference.0).or_default();
        self.refused.remove(&reference);
        match answer {
            Answer::Object(received) => {
                let (key, entry) = known.entry(received);
                known.entries.insert(key, entry);
            }
            Answer::Absent => {
                known.entries.remove(&reference.1);
            }
            // What was read before stays in use: an API server that has just started may refuse for a moment.
            Answer::Refused(why) => {
                self.refused.insert(reference.clone(), why);
            }
        }
        self.dirty.insert(reference.clone());
        self.answered.insert(reference);
    }

    /// Has a second look at an object, and at all in a namespace that is another now.
    fn dirty(&mut self, kind: Kind, key: ObjectKey) {
        if kind == Kind::Namespace {
            let first = ObjectKey::new(Arc::clone(&key.name), "");
            for (kind, known) in &self.kinds {
                let from = (Bound::Included(&first), Bound::Unbounded);
                let within = known.entries.range::<ObjectKey, _>(from);
                let within = within.take_while(|(other, _)| other.namespace == key.name);
                self.dirty.extend(within.map(|(other, _)| (*kind, other.clone())));
            }
        }
        self.dirty.insert((kind, key));
    }
}

/// Whether the status of an object names a router or an address.
fn names_a_server(object: &Object) -> bool {
    match object {
        Object::Ingress(ingress) => {
            let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            status.and_then(|status| status.ingress.as_ref()).is_some_and(|it| !it.is_empty())
        }
        Object::Route(route) => route.status.is_some(),
        _ => false,
    }
}

impl Known {
    fn is_listed(&self) -> bool {
        self.lists.iter().all(|list| self.listed.contains(list))
    }

    /// What becomes of an object that came: an equal one stays the one that it was, and one that makes
    /// no sense leaves the last good one in place, or what keeps its paths closed.
    fn entry(&self, received: Received) -> (ObjectKey, Entry) {
        match received {
            Ok(object) => {
                let key = object.key();
                let known = self.entries.get(&key).and_then(|entry| entry.object.as_ref());
                let object = match known {
                    Some(known) if *known == object => known.clone(),
                    _ => object,
                };
                (key, Entry { object: Some(object), problem: None })
            }
            Err(broken) => {
                let Broken { key, problem, stand_in } = *broken;
                let known = self.entries.get(&key).and_then(|entry| entry.object.clone());
                let known = known.filter(|object| !is_stand_in(object));
                (key, Entry { object: known.or(stand_in), problem: Some(problem) })
            }
        }
    }
}

#[cfg(test)]
mod tests;
