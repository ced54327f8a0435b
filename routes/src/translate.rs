//! What one object asks for, in the vocabulary of [`crate::model`]: the value that is kept from compile to
//! compile as long as its object does not change.
//!
//! [`ingress`] and [`openshift`] make it, [`crate::compile`] puts many together.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    model::{
        Action, BackendKey, BackendSlot, CertBinding, Forward, HostPattern, Rewrite, RouteRule,
        WeightedBackend,
    },
    objects::ObjectRef,
    problem::Problem,
    slots::Slots,
};

pub(crate) mod ingress;
pub(crate) mod openshift;

/// One object's part of the tables.
#[derive(Debug)]
pub(crate) struct Translation {
    pub(crate) object: ObjectRef,
    pub(crate) entries: Vec<HostEntry>,
    /// In the order of the object; whether a Secret exists is not looked at here.
    pub(crate) certs: Arc<[CertBinding]>,
    pub(crate) backends: Vec<BackendUse>,
    pub(crate) problems: Vec<Problem>,
}

/// The rules of one object for one host.
#[derive(Debug)]
pub(crate) struct HostEntry {
    pub(crate) host: HostPattern,
    pub(crate) rules: Vec<Arc<RouteRule>>,
    /// Unmatched paths of this host do not fall through to less specific hosts.
    pub(crate) no_fallthrough: bool,
    /// What the rules were made with: `None` if it does not matter to them whether the host has TLS.
    pub(crate) made_with_tls: Option<bool>,
}

/// Where an object refers to a backend.
#[derive(Debug)]
pub(crate) struct BackendUse {
    pub(crate) key: BackendKey,
    pub(crate) slot: BackendSlot,
    pub(crate) field: String,
}

impl Translation {
    /// An empty translation of an object.
    pub(crate) fn new(object: ObjectRef, problems: Vec<Problem>) -> Self {
        Self { object, entries: Vec::new(), certs: Arc::default(), backends: Vec::new(), problems }
    }

    /// The entry of a host, made on first use.
    pub(crate) fn entry(&mut self, host: &HostPattern, no_fallthrough: bool) -> &mut HostEntry {
        let at = self.entries.iter().position(|entry| entry.host == *host).unwrap_or_else(|| {
            let host = host.clone();
            self.entries.push(HostEntry {
                host,
                rules: Vec::new(),
                no_fallthrough,
                made_with_tls: None,
            });
            self.entries.len() - 1
        });
        &mut self.entries[at]
    }

    /// Notes that the field refers to a backend and returns the rule's side of it.
    pub(crate) fn backend(
        &mut self,
        key: BackendKey,
        weight: u16,
        field: String,
        slots: &mut Slots<'_>,
    ) -> WeightedBackend {
        let slot = slots.slot(&key);
        self.backends.push(BackendUse { key: key.clone(), slot, field });
        WeightedBackend { slot, key, weight }
    }

    /// Takes over from the translation of the object's previous version: what says the same stays the
    /// same `Arc`, the other rules keep their position in the weighted sequence.
    pub(crate) fn carry_over(&mut self, previous: &Self) {
        if self.certs == previous.certs {
            self.certs = Arc::clone(&previous.certs);
        }
        for entry in &mut self.entries {
            let Some(old) = previous.entries.iter().find(|old| old.host == entry.host) else {
                continue;
            };
            for (at, rule) in entry.rules.iter_mut().enumerate() {
                // Mostly nothing has moved: look at the same position first.
                let same_place = old.rules.get(at).filter(|old| old.path == rule.path);
                let found = || old.rules.iter().find(|old| old.path == rule.path);
                let Some(old) = same_place.or_else(found) else { continue };
                if same_rule(rule, old) {
                    *rule = Arc::clone(old);
                } else if let (Some(new), Some(old)) = (forward(rule), forward(old)) {
                    new.tick.store(old.tick.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            }
        }
    }
}

/// The forwarding of a rule, whichever scheme it is in.
fn forward(rule: &RouteRule) -> Option<&Arc<Forward>> {
    [&rule.https, &rule.http].into_iter().find_map(|action| match action {
        Some(Action::Forward(forward)) => Some(forward),
        _ => None,
    })
}

fn same_rule(a: &RouteRule, b: &RouteRule) -> bool {
    a.object == b.object
        && a.host == b.host
        && a.path == b.path
        && same_action(a.http.as_ref(), b.http.as_ref())
        && same_action(a.https.as_ref(), b.https.as_ref())
}

fn same_action(a: Option<&Action>, b: Option<&Action>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(Action::Forward(a)), Some(Action::Forward(b))) => {
            let same = |a: &WeightedBackend, b: &WeightedBackend| {
                (a.slot, &a.key, a.weight) == (b.slot, &b.key, b.weight)
            };
            a.backends.len() == b.backends.len()
                && a.backends.iter().zip(&b.backends).all(|(a, b)| same(a, b))
                && same_rewrite(a.rewrite.as_ref(), b.rewrite.as_ref())
        }
        (
            Some(Action::RedirectHttps { status: a, trim_slash: trim_a }),
            Some(Action::RedirectHttps { status: b, trim_slash: trim_b }),
        ) => (a, trim_a) == (b, trim_b),
        (
            Some(Action::Deny { status: a, reason: reason_a }),
            Some(Action::Deny { status: b, reason: reason_b }),
        ) => (a, reason_a) == (b, reason_b),
        _ => false,
    }
}

fn same_rewrite(a: Option<&Rewrite>, b: Option<&Rewrite>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(Rewrite::Replace(a)), Some(Rewrite::Replace(b))) => a == b,
        (
            Some(Rewrite::Captures { regex: a, target: target_a }),
            Some(Rewrite::Captures { regex: b, target: target_b }),
        ) => a.as_str() == b.as_str() && target_a == target_b,
        _ => false,
    }
}
