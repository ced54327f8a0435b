//! TLS that is not terminated here: which server names are passed on to whom.
//!
//! The translations make a [`PassThrough`] of what asks for it, `compile` puts those of a scope into one table, the
//! gateway looks every server name up in it before it terminates anything.

use std::sync::Arc;

use foldhash::HashMap;

use crate::{
    action::Forward,
    filter::AddressRules,
    model::{HostPattern, Scheme},
    objects::ObjectRef,
    table::RouteTable,
};

/// Where the connections for a server name go, as they are.
#[derive(Debug, PartialEq)]
pub struct PassThrough {
    /// The object that asks for it.
    pub object: ObjectRef,
    /// The server names.
    pub host: HostPattern,
    /// `None`: the object names nobody that could take them.
    pub forward: Option<Forward>,
    /// A client keeps its endpoint, as long as that is there.
    pub by_client: bool,
    /// Which clients may come in.
    pub access: Option<AddressRules>,
}

/// All of one scope.
#[derive(Debug, Default, PartialEq)]
pub struct PassThroughTable {
    exact: HashMap<Arc<str>, Arc<PassThrough>>,
    /// By what follows the `*.`.
    wildcard: HashMap<Arc<str>, Arc<PassThrough>>,
}

impl PassThroughTable {
    /// Whether every name is terminated.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// All of them, by host.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<PassThrough>> {
        self.exact.values().chain(self.wildcard.values())
    }

    /// What a canonical server name is passed on to; `None`: its TLS is terminated. A host that is served over TLS by
    /// its own name, by the `routes` of the same scope, is not part of a wildcard that is passed on.
    pub fn find(&self, name: &str, routes: &RouteTable) -> Option<&Arc<PassThrough>> {
        if let Some(found) = self.exact.get(name) {
            return Some(found);
        }
        let found = self.wildcard.get(name.split_once('.')?.1)?;
        let served = routes.host_for(name).is_some_and(|host| {
            matches!(host.pattern(), HostPattern::Exact(_))
                && host.rules().any(|rule| rule.serves(Scheme::Https))
        });
        (!served).then_some(found)
    }

    /// Adds what is passed on, unless it is for no name.
    pub(crate) fn insert(&mut self, pass: &Arc<PassThrough>) {
        let (names, name) = match &pass.host {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::OneLabel(rest) => (&mut self.wildcard, rest),
            HostPattern::Any => return,
        };
        names.insert(Arc::clone(name), Arc::clone(pass));
    }
}

#[cfg(test)]
mod tests;
