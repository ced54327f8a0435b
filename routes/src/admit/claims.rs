//! Which Routes may have the hosts that they ask for: OpenShift's rules, as a pure function of the set of Routes.
//!
//! The oldest first: a Route gets what it asks for unless one that has got it before stands in its way. So it
//! makes no difference in which order Routes come and go, and what an older one gives up goes to the next at
//! once.

use std::borrow::Cow;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

use super::Seniority;
use crate::{
    model::HostPattern,
    objects::{ObjectKey, ObjectRef},
    options::admission::Ownership,
    path,
    problem::Problem,
};

/// A Route that asks for a host.
#[derive(Clone, Debug)]
pub(crate) struct RouteClaim<'o> {
    pub(crate) seniority: Seniority<'o>,
    pub(crate) host: &'o HostPattern,
    /// As [`claimed_path`] spells it.
    pub(crate) path: Cow<'o, str>,
    pub(crate) lane: Lane,
    /// What the caller knows the Route by.
    pub(crate) at: usize,
}

/// Which connections a Route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Those in clear text.
    Clear,
    /// Those whose TLS ends here, be it that clear text is served, too.
    Terminated,
    /// Those whose TLS ends at the pod: all of the host's, so that no other Route with TLS has room.
    PassedThrough,
}

/// The path of a claim: `""` and `/` are one, as are all spellings of the same path.
pub(crate) fn claimed_path(text: &str) -> Cow<'_, str> {
    match text {
        "" => Cow::Borrowed("/"),
        text => path::pattern(text).unwrap_or(Cow::Borrowed(text)),
    }
}

/// Of the claims, those that fail: `at` and the message of the `HostAlreadyClaimed` condition.
pub(crate) fn route_claims(
    mut claims: Vec<RouteClaim<'_>>,
    ownership: Ownership,
) -> Vec<(usize, String)> {
    let strict = ownership == Ownership::Strict;
    let contested = Contested::among(&claims, strict);
    claims.retain(|claim| contested.has(claim));
    claims.sort_unstable_by(|a, b| a.seniority.cmp(&b.seniority));
    let mut held = Held { strict, ..Held::default() };
    let mut failed = Vec::new();
    for claim in &claims {
        match held.refusal(claim) {
            Some(message) => failed.push((claim.at, message)),
            None => held.hold(claim),
        }
    }
    failed
}

/// The problem of a Route that does not get its host.
pub(crate) fn claimed(object: &ObjectRef, message: &str) -> Problem {
    let hint = "choose another host or path, or remove the older Route";
    Problem::error(object, "HostAlreadyClaimed", "spec.host", message, hint)
}

/// Which claims another one could stand in the way of. Mostly there are few: one Route asks for one host.
struct Contested<'c> {
    /// Those that one claim asks for, and those that several do.
    hosts: HashMap<&'c HostPattern, bool>,
    /// Domains that a wildcard stands for, where that matters to the hosts in them.
    wildcards: HashSet<&'c str>,
}

impl<'c> Contested<'c> {
    fn among(claims: &[RouteClaim<'c>], strict: bool) -> Self {
        let mut hosts = HashMap::with_capacity(claims.len());
        let mut wildcards = HashSet::new();
        for claim in claims {
            hosts.entry(claim.host).and_modify(|several| *several = true).or_insert(false);
            if let HostPattern::OneLabel(domain) = claim.host
                && strict
            {
                wildcards.insert(&**domain);
            }
        }
        Self { hosts, wildcards }
    }

    fn has(&self, claim: &RouteClaim<'_>) -> bool {
        let by_wildcard = |domain| self.wildcards.contains(domain);
        self.hosts.get(claim.host).copied().unwrap_or_default()
            || (!self.wildcards.is_empty() && domain_of(claim.host).is_some_and(by_wildcard))
    }
}

/// Who has what so far.
#[derive(Default)]
struct Held<'c> {
    /// A host belongs to the namespace that has it first.
    strict: bool,
    hosts: HashMap<&'c HostPattern, OfHost<'c>>,
    /// By the name without its first label.
    domains: HashMap<&'c str, Domain<'c>>,
}

/// What is held of one host.
#[derive(Default)]
struct OfHost<'c> {
    first: Option<&'c ObjectKey>,
    paths: HashMap<&'c str, &'c ObjectKey>,
    terminated: Option<&'c ObjectKey>,
    passed: Option<&'c ObjectKey>,
}

/// The namespaces in a domain.
#[derive(Default)]
struct Domain<'c> {
    wildcard: Option<&'c str>,
    hosts: HashSet<&'c str>,
}

impl<'c> Held<'c> {
    fn refusal(&self, claim: &RouteClaim<'_>) -> Option<String> {
        let key = claim.seniority.key;
        let host = claim.host;
        let foreign = || {
            let name = &key.name;
            Some(format!("a route in another namespace holds {host} and is older than {name}"))
        };
        if self.strict && self.is_foreign(claim) {
            return foreign();
        }
        let older = self.hosts.get(host)?.rival(claim)?;
        if older.namespace != key.namespace {
            return foreign();
        }
        Some(format!("route {} already exposes {host} and is older", older.name))
    }

    /// Whether another namespace has the host, or the domain that it is in or stands for.
    fn is_foreign(&self, claim: &RouteClaim<'_>) -> bool {
        let own = &*claim.seniority.key.namespace;
        let first = self.hosts.get(claim.host).and_then(|held| held.first);
        if first.is_some_and(|first| *first.namespace != *own) {
            return true;
        }
        let domain = domain_of(claim.host).and_then(|domain| self.domains.get(domain));
        domain.is_some_and(|domain| match claim.host {
            HostPattern::OneLabel(_) => domain.hosts.iter().any(|other| *other != own),
            _ => domain.wildcard.is_some_and(|other| other != own),
        })
    }

    fn hold(&mut self, claim: &'c RouteClaim<'_>) {
        let key = claim.seniority.key;
        let held = self.hosts.entry(claim.host).or_default();
        held.first.get_or_insert(key);
        match claim.lane {
            Lane::PassedThrough => held.passed = Some(key),
            lane => {
                held.paths.insert(&claim.path, key);
                if lane == Lane::Terminated {
                    held.terminated.get_or_insert(key);
                }
            }
        }
        let Some(domain) = domain_of(claim.host) else { return };
        let domain = self.domains.entry(domain).or_default();
        match claim.host {
            HostPattern::OneLabel(_) => domain.wildcard = Some(&key.namespace),
            _ => {
                domain.hosts.insert(&key.namespace);
            }
        }
    }
}

impl<'c> OfHost<'c> {
    /// The Route that stands in the way of a claim.
    fn rival(&self, claim: &RouteClaim<'_>) -> Option<&'c ObjectKey> {
        let same = self.paths.get(&*claim.path).copied();
        match claim.lane {
            Lane::Clear => same,
            Lane::Terminated => self.passed.or(same),
            Lane::PassedThrough => self.passed.or(self.terminated),
        }
    }
}

/// The domain of a wildcard, or that a wildcard could stand for together with this host.
pub(crate) fn domain_of(host: &HostPattern) -> Option<&str> {
    match host {
        HostPattern::Exact(name) => name.split_once('.').map(|(_, domain)| domain),
        HostPattern::OneLabel(domain) => Some(domain),
        HostPattern::Any => None,
    }
}

#[cfg(test)]
mod tests;
