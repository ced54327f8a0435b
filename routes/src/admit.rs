//! Who keeps a contested host and path: a pure function of the set of objects and their ages.
//!
//! Two rules. Among all objects the oldest one that asks for a host and path keeps it (`owners`): in clear
//! text and over TLS, and however the path is spelled; rules that differ in any other condition stand side by
//! side. But a rule that is closed because it protects takes its place from open ones of its namespace, whatever
//! their age: nobody in there is served with less protection. Other namespaces are not: a tenant closes nothing
//! of another one. Among Routes, before that, the oldest of a host fixes the namespace that may use the host at all
//! (`claims`; OpenShift calls it `Strict`).

use std::{borrow::Cow, cmp::Ordering, sync::Arc};

use foldhash::{HashMap, HashMapExt};

use crate::{
    action::Reach,
    filter::{Filter, client_certificate::ClientCertificates, tls_terms::TlsTerms},
    matcher::{Matches, PathMatch, Schemes},
    objects::{Age, ObjectKey},
    path,
    problem::Problem,
    rule::RouteRule,
};

mod claims;

pub(crate) use claims::{Lane, RouteClaim, claimed, claimed_path, domain_of, route_claims};

/// What decides between two objects; the smaller one is the older.
///
/// Of objects that were created at the same time the one with the lower uid; where a source knows no times, the
/// one that it lists first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seniority<'o> {
    pub(crate) age: Age,
    pub(crate) kind: &'static str,
    /// `metadata.uid`.
    pub(crate) uid: Option<&'o str>,
    pub(crate) key: &'o ObjectKey,
}

impl Ord for Seniority<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let unknown = |one: &Self| (one.age.created.is_none(), one.age.created);
        let by_uid = || match self.age.created {
            Some(_) => (self.kind, self.uid).cmp(&(other.kind, other.uid)),
            None => Ordering::Equal,
        };
        let rest = |one: &Self| (one.age.order, one.kind, one.uid);
        unknown(self)
            .cmp(&unknown(other))
            .then_with(by_uid)
            .then_with(|| rest(self).cmp(&rest(other)))
            .then_with(|| self.key.cmp(other.key))
    }
}

impl PartialOrd for Seniority<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
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
    let guards = Guards::of(candidates);
    for rule in candidates {
        if let Some(guard) = guards.over(rule) {
            lost.push(Lost { rule: Arc::clone(rule), owner: Arc::clone(guard) });
            continue;
        }
        if !rule.matches.schemes.http && !rule.matches.schemes.https {
            // For no request at all: it contests nothing.
            winners.push(Arc::clone(rule));
            continue;
        }
        let holders = held.entry(claim(&rule.matches)).or_default();
        match holders.first() {
            Some(owner) => lost.push(Lost { rule: Arc::clone(rule), owner: Arc::clone(owner) }),
            None => {
                holders.push(rule);
                winners.push(Arc::clone(rule));
            }
        }
    }
    (winners, lost)
}

/// What a host asks of the certificates of clients: the oldest demand of the namespace that has the host, by its
/// oldest rule. A tenant asks nothing of the clients of another one.
pub(crate) fn client_certificates(
    candidates: &[Arc<RouteRule>],
) -> Option<&Arc<ClientCertificates>> {
    let owner = &candidates.first()?.object.key.namespace;
    let own = candidates.iter().filter(|rule| rule.object.key.namespace == *owner);
    own.filter_map(|rule| rule.client_certificates()).next()
}

/// What a host asks of TLS: all that the rules ask of the namespace that has the host.
pub(crate) fn tls_terms(candidates: &[Arc<RouteRule>]) -> Option<Arc<TlsTerms>> {
    let owner = &candidates.first()?.object.key.namespace;
    let own = candidates.iter().filter(|rule| rule.object.key.namespace == *owner);
    TlsTerms::of(own.filter_map(|rule| rule.tls_terms()))
}

/// The rules of a host that are closed because they protect.
#[derive(Default)]
struct Guards<'r> {
    hosts: Vec<&'r Arc<RouteRule>>,
    /// By what they claim, without the slash at the end of a prefix.
    paths: HashMap<Matches, Vec<&'r Arc<RouteRule>>>,
}

impl<'r> Guards<'r> {
    fn of(candidates: &'r [Arc<RouteRule>]) -> Self {
        let mut guards = Self::default();
        for rule in candidates {
            match rule.guards() {
                Some(Reach::Host) => guards.hosts.push(rule),
                Some(_) => guards.paths.entry(place(&rule.matches)).or_default().push(rule),
                None => {}
            }
        }
        guards
    }

    /// The one that an open rule of another object of its namespace gives way to.
    fn over(&self, rule: &RouteRule) -> Option<&'r Arc<RouteRule>> {
        if (self.hosts.is_empty() && self.paths.is_empty()) || rule.forward().is_none() {
            return None;
        }
        let meant = |guard: &RouteRule| {
            guard.object != rule.object && guard.object.key.namespace == rule.object.key.namespace
        };
        let host = self.hosts.iter().copied().find(|guard| meant(guard));
        let here =
            || self.paths.get(&place(&rule.matches))?.iter().copied().find(|guard| meant(guard));
        host.or_else(here)
    }
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
    let holder = &owner.object;
    if *holder == rule.object {
        let message = format!("{what} is given twice; the first one is served");
        return Problem::warning(
            &rule.object,
            "PathConflict",
            field,
            message,
            "remove one of the two",
        );
    }
    if owner.guards().is_some() && rule.forward().is_some() {
        let message =
            format!("{what} is closed (503) by {holder}, whose protection is not in force");
        let hint = format!("see what is said of {holder}");
        return Problem::error(&rule.object, "PathConflict", field, message, hint);
    }
    let protected = |rule: &RouteRule| rule.filters.iter().any(Filter::protects);
    let unprotected = owner.forward().is_some() && !protected(owner);
    if unprotected && (rule.guards().is_some() || protected(rule)) {
        let message = format!(
            "{what} is served for {holder}, which is older, without the protection that is asked for here"
        );
        let hint = format!("protect {holder}, or give up the path there");
        return Problem::error(&rule.object, "PathConflict", field, message, hint);
    }
    let message = format!("{what} is already served for {holder}, which is older");
    Problem::warning(&rule.object, "PathConflict", field, message, "remove one of the two")
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

/// The same, where a slash at the end of a prefix makes no difference.
fn place(matches: &Matches) -> Matches {
    let mut place = claim(matches);
    if let PathMatch::Prefix(text) = &place.path
        && let Some(text) = text.strip_suffix('/').filter(|text| !text.is_empty())
    {
        place.path = PathMatch::Prefix(text.into());
    }
    place
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

#[cfg(test)]
mod tests;
