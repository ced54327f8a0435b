//! TLS that is not terminated here: which server names are passed on to whom.
//!
//! The translations make a [`PassThrough`] of what asks for it, `compile` puts those of a scope into one table, the
//! gateway looks every server name up in it before it terminates anything.

use std::sync::Arc;

use crate::{
    action::Forward,
    filter::{
        AddressRules, Filter, connection_limit::ConnectionLimit, limit_key::LimitKey,
        rate_limit::RateLimit,
    },
    model::{HostPattern, Scheme},
    objects::ObjectRef,
    server_names::ServerNames,
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
    /// How often and how many times at once each of them may.
    pub limits: ClientLimits,
}

/// How many connections one client may make, and have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientLimits {
    /// Within a time.
    pub rate: Option<Arc<RateLimit>>,
    /// At once.
    pub at_once: Option<Arc<ConnectionLimit>>,
}

impl ClientLimits {
    /// Takes over what is in force where nobody sees a request: what counts connections by the address they come from.
    /// False: the filter is none of these.
    pub(crate) fn take(&mut self, filter: &Filter) -> bool {
        match filter {
            Filter::RateLimit(limit) if limit.connections && limit.by == LimitKey::Address => {
                self.rate = Some(Arc::clone(limit));
            }
            Filter::Connections(limit) if limit.by == LimitKey::Address => {
                self.at_once = Some(Arc::clone(limit));
            }
            _ => return false,
        }
        true
    }
}

/// All of one scope.
#[derive(Debug, Default, PartialEq)]
pub struct PassThroughTable {
    names: ServerNames<Arc<PassThrough>>,
}

impl PassThroughTable {
    /// Whether every name is terminated.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<PassThrough>> {
        self.names.values()
    }

    /// What a canonical server name is passed on to; `None`: its TLS is terminated. A host that is served over TLS by
    /// its own name, by the `routes` of the same scope, is not part of a wildcard that is passed on.
    pub fn find(&self, name: &str, routes: &RouteTable) -> Option<&Arc<PassThrough>> {
        if let Some(found) = self.names.exact(name) {
            return Some(found);
        }
        let found = self.names.wildcard(name)?;
        let served = routes.host_for(name).is_some_and(|host| {
            matches!(host.pattern(), HostPattern::Exact(_))
                && host.rules().any(|rule| rule.serves(Scheme::Https))
        });
        (!served).then_some(found)
    }

    /// Adds what is passed on, unless it is for no name.
    pub(crate) fn insert(&mut self, pass: &Arc<PassThrough>) {
        self.names.insert(&pass.host, Arc::clone(pass));
    }
}

#[cfg(test)]
mod tests;
