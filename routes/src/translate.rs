//! What one object asks for, in the vocabulary of [`crate::model`]: the value that is kept from compile to
//! compile as long as its object does not change.
//!
//! [`ingress`] and [`openshift`] make it, [`crate::compile`] puts many together.

use std::sync::Arc;

use crate::{
    action::{Forward, ForwardSpec, WeightedBackend},
    canary::Canary,
    endpoints,
    model::{
        BackendKey, BackendPort, BackendProtocol, BackendSlot, CertBinding, ExternalName,
        HostPattern, Scheme,
    },
    objects::{ObjectKey, ObjectRef, Objects},
    passthrough::PassThrough,
    policy::Policy,
    problem::Problem,
    references::Reference,
    rule::RouteRule,
    slots::Slots,
};

pub(crate) mod ingress;
pub(crate) mod openshift;
mod pages;
mod tokens;

/// One object's part of the tables.
#[derive(Debug)]
pub(crate) struct Translation {
    pub(crate) object: ObjectRef,
    pub(crate) entries: Vec<HostEntry>,
    /// In the order of the object; whether a Secret exists is not looked at here.
    pub(crate) certs: Arc<[CertBinding]>,
    pub(crate) backends: Vec<BackendUse>,
    /// Server names whose TLS is passed on.
    pub(crate) passthrough: Vec<Arc<PassThrough>>,
    /// More names of its hosts.
    pub(crate) aliases: Vec<Alias>,
    /// What it asks of the rules of others, if it is a canary.
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) problems: Vec<Problem>,
    /// Objects that were looked into.
    pub(crate) references: Vec<Reference>,
    /// It was read as ingress-nginx reads it: its class is claimed by name.
    pub(crate) as_nginx: bool,
    /// Why its class cannot be read, for which it is closed.
    pub(crate) unread_class: Option<Arc<str>>,
    /// It is here to close its path only, and has no say in the TLS of its host: not what is shown there, nor whether it
    /// ends here.
    pub(crate) refused: bool,
    /// What becomes of clients of its backends while nobody is there, if they send no requests.
    pub(crate) so: Option<&'static str>,
}

/// Another name of a host.
#[derive(Debug)]
pub(crate) struct Alias {
    pub(crate) name: HostPattern,
    pub(crate) of: HostPattern,
}

/// A share of the requests of another object's rule.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) host: HostPattern,
    /// As the object spells it.
    pub(crate) path: String,
    pub(crate) path_type: String,
    pub(crate) backend: WeightedBackend,
    pub(crate) canary: Canary,
    pub(crate) field: String,
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
    /// Whether requests go there at all.
    pub(crate) used: bool,
    pub(crate) field: String,
}

impl Translation {
    /// An empty translation of an object.
    pub(crate) fn new(object: ObjectRef, problems: Vec<Problem>) -> Self {
        Self {
            object,
            entries: Vec::new(),
            certs: Arc::default(),
            backends: Vec::new(),
            passthrough: Vec::new(),
            aliases: Vec::new(),
            proposals: Vec::new(),
            problems,
            references: Vec::new(),
            as_nginx: false,
            unread_class: None,
            refused: false,
            so: None,
        }
    }

    /// Whether the objects that were looked into are the same.
    pub(crate) fn is_current(&self, objects: &Objects) -> bool {
        self.references.iter().all(|reference| reference.is_current(objects))
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

    /// The hosts whose TLS it wants to end here.
    pub(crate) fn terminates(&self) -> impl Iterator<Item = &HostPattern> {
        let named = self.certs.iter().filter(|cert| !cert.if_named).map(|cert| &cert.host);
        let route = self.object.kind == "Route";
        let of_route = self.entries.iter().filter(move |entry| {
            route && entry.rules.iter().any(|rule| rule.serves(Scheme::Https))
        });
        let hosts = named.chain(of_route.map(|entry| &entry.host));
        hosts.filter(|_| !self.refused)
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
        self.backends.push(BackendUse { key: key.clone(), slot, used: weight > 0, field });
        WeightedBackend { slot, key, weight }
    }

    /// The Service that a setting names by a host, where that is its name in a cluster and files say so: no name server
    /// knows it.
    pub(crate) fn named(
        &mut self,
        name: &ExternalName,
        field: String,
        slots: &mut Slots<'_>,
    ) -> Option<Arc<Forward>> {
        endpoints::service_named(&name.host).filter(|_| name.loopback)?;
        let namespace = Arc::clone(&self.object.key.namespace);
        let key = BackendKey {
            service: ObjectKey::new(namespace, Arc::clone(&name.host)),
            port: BackendPort::Outside { number: name.port, loopback: name.loopback },
            protocol: BackendProtocol::ClearText,
            whole: false,
        };
        let backend = self.backend(key, 1, field, slots);
        let spec = ForwardSpec::of(Box::new([backend]), Policy::of_the_process());
        Some(Arc::new(Forward::new(spec)))
    }

    /// Gives back room that it could still grow into: it stays as it is for as long as its object does.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.rules.shrink_to_fit());
        self.entries.shrink_to_fit();
        self.backends.shrink_to_fit();
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
                let same = |old: &&Arc<RouteRule>| old.matches == rule.matches;
                let same_path = |old: &&Arc<RouteRule>| old.matches.path == rule.matches.path;
                let found = || old.rules.iter().find(same);
                let near = || old.rules.iter().find(same_path);
                let at = old.rules.get(at).filter(same);
                let Some(old) = at.or_else(found).or_else(near) else { continue };
                if *rule == *old {
                    *rule = Arc::clone(old);
                } else if let Some(old) = old.forward()
                    && let Some(new) = Arc::get_mut(rule).and_then(RouteRule::forward_mut)
                {
                    new.resume(old);
                }
            }
        }
    }
}

/// Tells of a path that no client sends as it is written, and as it is written it is compared: it holds what ends the path
/// of a request, or what stands for any path elsewhere.
fn never_asked(object: &ObjectRef, field: String, path: &str) -> Option<Problem> {
    let warning = |message: String, hint: String| {
        Some(Problem::warning(object, "PathNeverAsked", field, message, hint))
    };
    if let Some(before) = path.strip_suffix("/*") {
        let before = if before.is_empty() { "/" } else { before };
        return warning(
            format!(
                "path {path:?} ends in '*', which stands for itself: no request has such a path"
            ),
            format!("write {before:?}, which takes all that is below it, too"),
        );
    }
    let at = path.find(['?', '#'])?;
    let (before, ends) = path.split_at(at);
    let (sign, why, escape) = match ends.starts_with('?') {
        true => ('?', "where the query of a request begins", "%3F"),
        false => ('#', "from where on clients send nothing", "%23"),
    };
    warning(
        format!(
            "path {path:?} holds {sign:?}, {why}: only requests that spell it {escape} have such a path"
        ),
        format!(
            "write {before:?}, which takes requests with any query; or {escape}, if that is meant"
        ),
    )
}
