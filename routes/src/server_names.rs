//! What is found by the server name of a TLS connection: an exact name before a wildcard of one label.

use std::sync::Arc;

use foldhash::HashMap;

use crate::model::HostPattern;

/// Values by server name.
#[derive(Debug, PartialEq)]
pub struct ServerNames<T> {
    exact: HashMap<Arc<str>, T>,
    /// By what follows the `*.`.
    wildcard: HashMap<Arc<str>, T>,
}

impl<T> Default for ServerNames<T> {
    fn default() -> Self {
        Self { exact: HashMap::default(), wildcard: HashMap::default() }
    }
}

impl<T> ServerNames<T> {
    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// All values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.wildcard.values())
    }

    /// The value of a canonical name itself.
    pub fn exact(&self, name: &str) -> Option<&T> {
        self.exact.get(name)
    }

    /// The value of the wildcard that covers a canonical name.
    pub fn wildcard(&self, name: &str) -> Option<&T> {
        self.wildcard.get(name.split_once('.')?.1)
    }

    /// The value of a canonical name.
    pub fn find(&self, name: &str) -> Option<&T> {
        self.exact(name).or_else(|| self.wildcard(name))
    }

    /// Adds a value, unless it is for no name; the one that this name had before.
    pub fn insert(&mut self, host: &HostPattern, value: T) -> Option<T> {
        match host {
            HostPattern::Exact(name) => self.exact.insert(Arc::clone(name), value),
            HostPattern::OneLabel(rest) => self.wildcard.insert(Arc::clone(rest), value),
            HostPattern::Any => None,
        }
    }
}
