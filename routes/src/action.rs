//! How a request ends that its rule's filters have let pass.
//!
//! A rule has one action, for all schemes; that a request in clear text is redirected first is the
//! business of a [`filter`](crate::filter). What an action says is compared field by field
//! (`PartialEq`, derived); what a running gateway counts on it stands apart.

use std::sync::Arc;

use crate::{
    canary::Canary,
    model::{BackendKey, BackendSlot},
    policy::Policy,
    template::Template,
};

/// Status of the answer to what [`Action::Deny`] closes.
pub const DENY_STATUS: u16 = 503;

/// What to do with a request that matched.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Send it to one of the backends.
    Forward(Forward),
    /// Send the client elsewhere.
    Redirect(Redirect),
    /// Answer with [`DENY_STATUS`]: a setting that protects the path is broken or not supported, so the path
    /// stays closed. No filter, because a closed rule has nowhere to send a request by mistake.
    Deny {
        /// CamelCase reason, for the log.
        reason: &'static str,
        /// What else it keeps closed.
        reach: Reach,
    },
}

/// What a denial keeps closed besides the requests of its own rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing: the rule makes no sense, and protects nothing.
    Rule,
    /// A protection: the same path, where another object of the namespace has it too.
    Path,
    /// A protection of the whole host: every path that an object of the namespace has there.
    Host,
}

/// Where clients are sent instead of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 300, 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `Location`.
    pub to: Template,
}

/// A forwarding and its place in the weighted sequence.
#[derive(Debug)]
pub struct Forward {
    /// What the object asks for.
    pub spec: ForwardSpec,
    /// Where requests are in the weighted sequence is known to those who count them by this handle, which is
    /// carried over from compile to compile.
    pub sequence: Arc<Sequence>,
}

/// Stands for the weighted sequence of one rule. Only its address says which.
#[derive(Debug, Default)]
pub struct Sequence(());

/// What an object asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSpec {
    /// In the order of the object; weights as given, 0 means no traffic. Behind them one for each canary.
    pub backends: Box<[WeightedBackend]>,
    /// What other objects take, the oldest first.
    pub canaries: Box<[Canary]>,
    /// What the object says about the way there.
    pub policy: Arc<Policy>,
}

impl ForwardSpec {
    /// All requests for these.
    pub fn of(backends: Box<[WeightedBackend]>, policy: Arc<Policy>) -> Self {
        Self { backends, canaries: Box::default(), policy }
    }

    /// The backends of the object itself.
    pub fn main(&self) -> &[WeightedBackend] {
        &self.backends[..self.first_canary()]
    }

    /// Each canary with the index of its backend.
    pub fn canaries(&self) -> impl Iterator<Item = (&Canary, usize)> {
        self.canaries.iter().zip(self.first_canary()..)
    }

    fn first_canary(&self) -> usize {
        self.backends.len().saturating_sub(self.canaries.len())
    }
}

/// One backend of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedBackend {
    /// Where it stands in the [`BackendTable`](crate::model::BackendTable) of every snapshot that holds this
    /// rule.
    pub slot: BackendSlot,
    /// What it is.
    pub key: BackendKey,
    /// Share of the traffic, relative to the sum over the rule's backends that have endpoints.
    pub weight: u16,
}

impl Forward {
    /// A forwarding that no request has used yet.
    pub fn new(spec: ForwardSpec) -> Self {
        Self { spec, sequence: Arc::default() }
    }

    /// Goes on in the sequence where the forwarding of a previous version was.
    pub(crate) fn resume(&mut self, previous: &Self) {
        self.sequence = Arc::clone(&previous.sequence);
    }
}

impl Eq for Forward {}

/// By what is asked for: the sequence is a fact of the run.
impl PartialEq for Forward {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}
