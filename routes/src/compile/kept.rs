//! What one compile leaves for the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    ops::Deref,
    sync::Arc,
};

use foldhash::HashMap;

use super::{backends::Backends, facts::Facts, remarks::KeptHosts};
use crate::{
    admit::Seniority,
    annotations::Defaults,
    endpoints::Inputs,
    model::CertBinding,
    objects::{Age, ObjectKey, ObjectRef, Revision},
    options::Options,
    parts::Parts,
    problem::Problem,
    slots::{ScopeSlots, SlotMap},
    translate::{Translation, ingress::Tls, openshift::RouteTranslation},
};

/// What one compile leaves for the next.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) options: Options,
    pub(super) defaults: Option<Defaults>,
    /// In the order of their keys, as are the routes.
    pub(super) ingresses: Parts<Arc<KeptIngress>>,
    pub(super) routes: Parts<Arc<KeptRoute>>,
    pub(super) failed_claims: Arc<FailedClaims>,
    /// Places of the Routes that were not admitted.
    pub(super) refused_routes: Vec<usize>,
    /// The places of both by age, those of the Routes behind those of the Ingresses, without what is in no table.
    pub(super) by_age: Arc<[usize]>,
    /// By place.
    pub(super) facts: Vec<Facts>,
    /// What the classes were judged by.
    pub(super) classes: Vec<(ObjectKey, Revision)>,
    pub(super) slots: Arc<SlotMap>,
    pub(super) scopes: ScopeSlots,
    /// Keys of all Secrets, those that may not be read, and what each table's certificates were made from.
    pub(super) secrets: Arc<[ObjectKey]>,
    pub(super) refused: BTreeMap<ObjectRef, Arc<str>>,
    pub(super) certs: Vec<Arc<KeptCerts>>,
    /// What there is to be said of the hosts of the first table.
    pub(super) hosts: Arc<KeptHosts>,
    /// What the backends were made from.
    pub(super) inputs: Arc<Inputs>,
    pub(super) own: BTreeSet<SocketAddr>,
    pub(super) backends: Arc<Backends>,
}

/// Positions of the Routes that do not get their host, with the reason.
pub(super) type FailedClaims = HashMap<usize, String>;

/// What the certificates of a table were made from, and what was wrong with them.
#[derive(Debug)]
pub(super) struct KeptCerts {
    pub(super) bindings: Vec<Arc<[CertBinding]>>,
    /// The Secrets that they name, whether or not they exist.
    pub(super) secrets: Arc<BTreeSet<ObjectKey>>,
    pub(super) problems: Vec<Problem>,
}

/// An Ingress of ours and its translation.
pub(super) type KeptIngress = Kept<OwnIngress>;
/// A Route and its translation.
pub(super) type KeptRoute = Kept<RouteTranslation>;

/// What an Ingress of ours became.
#[derive(Debug)]
pub(super) struct OwnIngress {
    pub(super) class: Option<Box<str>>,
    pub(super) gateway: Option<ObjectKey>,
    pub(super) tls: Arc<Tls>,
    pub(super) translation: Translation,
}

/// What an object became.
#[derive(Debug)]
pub(super) struct Kept<D> {
    pub(super) key: ObjectKey,
    /// `metadata.uid`.
    pub(super) uid: Option<Box<str>>,
    pub(super) result: D,
}

/// What an object is in a compile under way.
pub(super) enum Held<'p, D> {
    /// What it was in the previous one.
    Same(&'p Arc<Kept<D>>),
    New(Arc<Kept<D>>),
}

impl<D> Deref for Held<'_, D> {
    type Target = Kept<D>;

    fn deref(&self) -> &Kept<D> {
        match self {
            Self::Same(kept) => kept,
            Self::New(kept) => kept,
        }
    }
}

impl<D> Held<'_, D> {
    pub(super) fn is_same(&self) -> bool {
        matches!(self, Self::Same(_))
    }

    pub(super) fn kept(&self) -> Arc<Kept<D>> {
        match self {
            Self::Same(kept) => Arc::clone(kept),
            Self::New(kept) => Arc::clone(kept),
        }
    }
}

impl<D> Kept<D> {
    pub(super) fn seniority(&self, kind: &'static str, age: Age) -> Seniority<'_> {
        Seniority { age, kind, uid: self.uid.as_deref(), key: &self.key }
    }
}

impl Cache {
    /// The classes of that compile.
    pub(super) fn classes(&self) -> impl Iterator<Item = (&ObjectKey, Revision)> {
        self.classes.iter().map(|(key, revision)| (key, *revision))
    }
}

/// Walks along the previous compile's values while the caller walks along the objects, both by key.
pub(super) struct Walk<'p, D> {
    all: &'p Parts<Arc<Kept<D>>>,
    facts: &'p [Facts],
    at: usize,
}

/// What the object was.
pub(super) struct Old<'p, D> {
    pub(super) kept: &'p Arc<Kept<D>>,
    pub(super) facts: Facts,
    /// The object is the same.
    pub(super) same: bool,
    /// Where it stood.
    pub(super) at: usize,
}

impl<'p, D> Walk<'p, D> {
    pub(super) fn new(all: &'p Parts<Arc<Kept<D>>>, facts: &'p [Facts]) -> Self {
        Self { all, facts, at: 0 }
    }

    /// What the object of this key was. Keys must ascend.
    pub(super) fn find(&mut self, key: &ObjectKey, revision: Revision) -> Option<Old<'p, D>> {
        while let (Some(kept), Some(facts)) = (self.all.get(self.at), self.facts.get(self.at)) {
            // No other object has this revision, so there is no need for a look at what it was.
            let same = facts.revision == revision;
            let found = same || kept.key == *key;
            if !found && kept.key > *key {
                return None;
            }
            let at = self.at;
            self.at += 1;
            if found {
                return Some(Old { kept, facts: *facts, same, at });
            }
        }
        None
    }
}
