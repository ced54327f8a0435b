//! Where objects come from, and the one event type in which they arrive.
//!
//! A source runs on its own thread and sends [`Event`]s over a channel to the owner of the
//! [`ClusterState`](crate::state::ClusterState); it never touches that state, and it decides nothing
//! about what an object means. Today there is one source: [`files`].

use gatehouse_routes::{objects::ObjectKey, problem::Problem};

pub mod files;
mod kinds;
pub mod manifest;

pub(crate) use kinds::Read;
pub use kinds::{Custom, Kind, Object, Stores, api_version, key_of};

/// What a source tells the owner of the cluster state.
#[derive(Debug)]
pub enum Event {
    /// Differences that belong together: they become visible as one generation.
    Batch(Vec<Change>),
    /// All problems that this source has now; they replace the ones it reported before.
    Problems {
        /// Name of the source (`files`).
        source: &'static str,
        /// What is wrong with the source or with single objects in it.
        problems: Vec<Problem>,
    },
    /// Everything that existed when the source started has been sent.
    Synced,
}

/// One object that appeared, changed or went.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object as it is now, and its position in the source (0 where the source has no order).
    Apply(Object, u64),
    /// The object is gone.
    Delete(Kind, ObjectKey),
}
