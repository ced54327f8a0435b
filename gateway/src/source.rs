//! Where objects come from, and the one event type in which they arrive.
//!
//! A source runs on its own thread and sends [`Event`]s over a channel to the owner of the
//! [`ClusterState`](crate::state::ClusterState); it never touches that state, and it decides nothing
//! about what an object means. There are two: [`files`] and [`kube`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use gatehouse_routes::{
    objects::{ObjectKey, SourceTrust},
    problem::Problem,
};

mod fields;
pub mod files;
mod kinds;
pub mod kube;
pub mod manifest;
mod salvage;

pub use kinds::{Custom, Kind, Object, Stores, api_version, key_of};
pub(crate) use kinds::{Put, Read};

/// Name of a source, unique among those of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub &'static str);

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What the owner of the cluster state knows of a source before it says anything.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its name.
    pub id: SourceId,
    /// What it may ask for.
    pub trust: SourceTrust,
    /// The kinds of which it tells; all of them are waited for.
    pub kinds: &'static [Kind],
    /// The kinds of which it tells only what it is asked for by name.
    pub by_name: &'static [Kind],
    /// All that belongs together comes in one batch; else a moment is waited for more.
    pub whole_batches: bool,
}

/// An object that others refer to by its name.
pub type Reference = (Kind, ObjectKey);

/// Objects that others refer to by their names.
pub type References = BTreeSet<Reference>;

/// What a source tells the owner of the cluster state.
///
/// Every kind begins with a list: its objects in batches, then [`Event::Synced`]. Differences follow. A
/// source that has lost track (a watch that broke) compares the new list with the old one itself.
#[derive(Debug)]
pub enum Event {
    /// Differences that belong together: they become visible as one generation.
    Batch(SourceId, Vec<Change>),
    /// All problems that the source has now, with itself or with single objects; they replace the ones it
    /// reported before.
    Problems(SourceId, Vec<Problem>),
    /// All objects that the source was asked for by name and may not read, and why; they replace the ones
    /// it reported before.
    Refused(SourceId, BTreeMap<Reference, String>),
    /// What was asked for by name, if all of it has been told, or said not to exist, or refused.
    Answered(SourceId, Arc<References>),
    /// Every object of the kind that existed at the start has been told.
    Synced(SourceId, Kind),
}

/// One object that appeared, changed or went.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object as it is now, and its position in the source (0 where the source has no order).
    Apply(Object, u64),
    /// The object is gone.
    Delete(Kind, ObjectKey),
    /// The object does not count, for nothing but that its namespace is not selected. Only told of those that may have a
    /// status of ours.
    Unselected(Object),
}
