//! TLS that is not terminated here: which server names are passed on to whom.
//!
//! The translations make a [`PassThrough`] of what asks for it, `compile` puts those of a scope into one table, the
//! gateway looks every server name up in it before it terminates anything.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use crate::{
    action::Forward,
    filter::AddressRules,
    model::{HostPattern, Scheme},
    objects::ObjectRef,
    problem::Problem,
    table::RouteTable,
    translate::Translation,
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

    /// The table of these objects, oldest first, and what is wrong with those that do not get their host: a host is
    /// either terminated or passed on, as the oldest object says that asks for its TLS.
    pub(crate) fn new<'t>(objects: impl Iterator<Item = &'t Translation>) -> (Self, Vec<Problem>) {
        let mut table = Self::default();
        let mut problems = Vec::new();
        let mut terminated: HashSet<&HostPattern> = HashSet::default();
        let mut passed: HashMap<&HostPattern, &ObjectRef> = HashMap::default();
        for translation in objects {
            let object = &translation.object;
            for pass in &translation.passthrough {
                let host = &pass.host;
                let (names, name) = match host {
                    HostPattern::Exact(name) => (&mut table.exact, name),
                    HostPattern::OneLabel(rest) => (&mut table.wildcard, rest),
                    HostPattern::Any => continue,
                };
                if terminated.contains(host) {
                    let what = format!("TLS of {host} ends here for an older object");
                    problems.push(lost(object, &what, "it is not passed through"));
                } else if let Some(older) = passed.get(host) {
                    let what =
                        format!("TLS of {host} is passed through for {older}, which is older");
                    problems.push(lost(object, &what, "it does not come here"));
                } else {
                    passed.insert(host, object);
                    names.insert(Arc::clone(name), Arc::clone(pass));
                }
            }
            for host in translation.terminates() {
                match passed.get(host) {
                    None => {
                        terminated.insert(host);
                    }
                    Some(older) if *older != object => {
                        let what =
                            format!("TLS of {host} is passed through for {older}, which is older");
                        problems.push(lost(object, &what, "no request over TLS comes here"));
                    }
                    Some(_) => {}
                }
            }
        }
        (table, problems)
    }
}

fn lost(object: &ObjectRef, what: &str, so: &str) -> Problem {
    let field = if object.kind == "Route" { "spec.tls.termination" } else { "spec.tls" };
    let message = format!("{what}, so {so}");
    let hint = "choose another host, or end TLS in the same way for all objects of the host";
    Problem::error(object, "PassthroughConflict", field, message, hint)
}

#[cfg(test)]
mod tests;
