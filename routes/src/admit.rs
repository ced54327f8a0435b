//! Who keeps a contested host and path: a pure function of the set of objects and their ages.
//!
//! Two rules. Among all objects the oldest one that asks for a host and path keeps it (`owners`): in clear
//! text and over TLS, and however the path is spelled; rules that differ in any other condition stand side by
//! side. Among
//! Routes, before that, the oldest of a host fixes the namespace that may use the host at all
//! (`route_claims`; OpenShift calls it `Strict`).

use std::{borrow::Cow, sync::Arc};

use foldhash::{HashMap, HashMapExt};

use crate::{
    matcher::{Matches, PathMatch, Schemes},
    objects::{Age, ObjectKey, ObjectRef},
    path,
    problem::Problem,
    rule::RouteRule,
};

/// What decides between two objects; the smaller one is the older.
///
/// The kind stands before the uid, which only Routes are told apart by, so that the order is total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seniority<'o> {
    pub(crate) age: Age,
    pub(crate) kind: &'static str,
    /// `metadata.uid` of a Route, none for other kinds.
    pub(crate) uid: Option<&'o str>,
    pub(crate) key: &'o ObjectKey,
}

/// A rule that an older object keeps out of the table.
#[derive(Clone, Debug)]
pub struct Lost {
    /// The rule that is not served.
    pub rule: Arc<RouteRule>,
    /// The rule that has its host and path.
    pub owner: Arc<RouteRule>,
}

/// Splits the candidates of a host, oldest first, into those that are served and those that lost.
#[expect(clippy::mutable_key_type, reason = "an expression is hashed and compared by its text")]
pub(crate) fn owners(candidates: &[Arc<RouteRule>]) -> (Vec<Arc<RouteRule>>, Vec<Lost>) {
    let mut winners: Vec<Arc<RouteRule>> = Vec::with_capacity(candidates.len());
    let mut lost = Vec::new();
    let mut held: HashMap<Matches, Vec<&Arc<RouteRule>>> = HashMap::new();
    for rule in candidates {
        let holders = held.entry(claim(&rule.matches)).or_default();
        match holders.iter().find(|owner| collide(&owner.matches.path, &rule.matches.path)) {
            Some(owner) => lost.push(Lost { rule: Arc::clone(rule), owner: Arc::clone(owner) }),
            None => {
                holders.push(rule);
                winners.push(Arc::clone(rule));
            }
        }
    }
    (winners, lost)
}

/// The problem of a rule that lost.
pub(crate) fn conflict(lost: &Lost) -> Problem {
    let Lost { rule, owner } = lost;
    let (host, path) = (&rule.host, &rule.matches.path);
    let what = match path {
        PathMatch::Default => format!("the default backend of host {host}"),
        _ => format!("path {:?} ({}) of host {host}", path.text(), path.kind()),
    };
    let field = match path {
        PathMatch::RoutePrefix(_) => "spec.path",
        PathMatch::Default => "spec.defaultBackend",
        _ => "spec.rules",
    };
    let message = if owner.object == rule.object {
        format!("{what} is given twice; the first one is served")
    } else {
        format!("{what} is already served for {}, which is older", owner.object)
    };
    Problem::warning(&rule.object, "PathConflict", field, message, "remove one of the two")
}

/// A Route that asks for a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteClaim<'o> {
    pub(crate) seniority: Seniority<'o>,
    pub(crate) host: &'o str,
    /// `spec.path` as it stands.
    pub(crate) path: &'o str,
    /// What the caller knows the Route by.
    pub(crate) at: usize,
}

/// Of the claims, those that fail: `at` and the message of the `HostAlreadyClaimed` condition.
pub(crate) fn route_claims(mut claims: Vec<RouteClaim<'_>>) -> Vec<(usize, String)> {
    claims.sort_unstable_by(|a, b| a.host.cmp(b.host).then(a.seniority.cmp(&b.seniority)));
    let mut failed = Vec::new();
    for of_host in claims.chunk_by(|a, b| a.host == b.host) {
        let mut held: HashMap<&str, &ObjectKey> = HashMap::new();
        let owner = &of_host[0].seniority.key.namespace;
        for &RouteClaim { seniority, host, path, at } in of_host {
            let key = seniority.key;
            if key.namespace != *owner {
                let name = &key.name;
                let message =
                    format!("a route in another namespace holds {host} and is older than {name}");
                failed.push((at, message));
            } else if let Some(older) = held.get(path) {
                let message = format!("route {} already exposes {host} and is older", older.name);
                failed.push((at, message));
            } else {
                held.insert(path, key);
            }
        }
    }
    failed
}

/// The problem of a Route that does not get its host.
pub(crate) fn claimed(object: &ObjectRef, message: &str) -> Problem {
    let hint = "choose another host or path, or remove the older Route";
    Problem::error(object, "HostAlreadyClaimed", "spec.host", message, hint)
}

/// What a rule asks for; rules with the same value may collide.
fn claim(matches: &Matches) -> Matches {
    let mut claim = matches.clone();
    claim.schemes = Schemes::BOTH;
    claim.path = match claim.path {
        PathMatch::Exact(text) => PathMatch::Exact(canonical(text)),
        PathMatch::Prefix(text) | PathMatch::RoutePrefix(text) => {
            PathMatch::Prefix(canonical(text))
        }
        path @ (PathMatch::Regex(_) | PathMatch::Default) => path,
    };
    claim
}

/// A path as requests spell it; the empty one of a Route matches everything, as `/` does.
fn canonical(text: Arc<str>) -> Arc<str> {
    if text.is_empty() {
        return "/".into();
    }
    match path::pattern(&text) {
        Ok(Cow::Owned(path)) => path.into(),
        Ok(Cow::Borrowed(_)) | Err(_) => text,
    }
}

/// Whether rules with the same claim collide. Two Routes may hold `""` and `/`; an Ingress with `/` collides
/// with both.
fn collide(a: &PathMatch, b: &PathMatch) -> bool {
    match (a, b) {
        (PathMatch::RoutePrefix(a), PathMatch::RoutePrefix(b)) => a == b,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
