//! The first half of a compile: every object translated, by the previous compile if it did not change.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use foldhash::HashSet;
use k8s_openapi::api::networking::v1::Ingress;

use super::{
    CertificateFault, CertificateFaults, Compiled,
    claims::failed_claims,
    facts::{Facts, Has},
    kept::{Cache, FailedClaims, Held, Kept, Old, OwnIngress, Walk},
    served::{JudgedRoute, ServedIngress},
};
use crate::{
    admit,
    annotations::Defaults,
    class::{self, Claim, Classes},
    model::HostPattern,
    objects::{ObjectKey, Objects, Revision, Stored},
    openshift::Route,
    options::Options,
    problem::Problem,
    slots::{ScopeSlots, Slots},
    translate::{
        Translation,
        ingress::{self, Reading, Tls},
        openshift::{self, RouteTranslation, Verdict},
    },
};

/// Why a Route is refused whose certificate is in a Secret.
const EXTERNAL: &str = "ExternalCertificateValidationFailed";

/// A compile under way.
pub(super) struct Run<'o, 'p> {
    pub(super) objects: &'o Objects,
    pub(super) faults: &'o CertificateFaults,
    pub(super) options: &'o Options,
    pub(super) classes: &'o Classes<'o>,
    /// Where gateways listen, and no endpoint may be.
    pub(super) own: BTreeSet<SocketAddr>,
    pub(super) previous: Option<&'p Compiled>,
    /// The previous compile's cache, if its translations hold for these options.
    pub(super) kept: Option<&'p Cache>,
    /// The classes are those of `kept`.
    pub(super) same_classes: bool,
    /// There are the same Secrets as at the previous compile; what is in them does not matter here.
    pub(super) same_secrets: bool,
    pub(super) slots: Slots<'p>,
    pub(super) scopes: ScopeSlots,
    /// Of this compile, once its Routes are judged.
    pub(super) failed_claims: Arc<FailedClaims>,
    /// What holds for every Ingress, if the ConfigMap of ingress-nginx is read.
    pub(super) defaults: Option<Defaults>,
    pub(super) problems: Vec<Problem>,
}

/// Whose an Ingress of ours is.
#[derive(Clone, Copy, PartialEq)]
struct Own<'o> {
    class: Option<&'o str>,
    gateway: Option<&'o ObjectKey>,
    /// Why its class cannot be read.
    unread: Option<&'o Arc<str>>,
}

/// An Ingress of ours before it is translated.
struct Pending<'o, 'p> {
    key: &'o ObjectKey,
    stored: &'o Stored<Ingress>,
    old: Option<Old<'p, OwnIngress>>,
    /// What is new of it; `None`: nothing.
    new: Option<(Own<'o>, Arc<Tls>)>,
}

impl Pending<'_, '_> {
    /// The hosts that its `tls` entries name.
    fn tls_hosts(&self) -> &[HostPattern] {
        match (&self.new, &self.old) {
            (Some((_, tls)), _) => &tls.hosts,
            (None, Some(old)) if old.facts.has.any(Has::TLS_HOSTS) => &old.kept.result.tls.hosts,
            (None, _) => &[],
        }
    }
}

impl<'o, 'p> Run<'o, 'p> {
    /// All Ingresses of ours, by key.
    pub(super) fn ingresses(&mut self) -> Vec<ServedIngress<'p>> {
        let pending = self.ours();
        // Redirects depend on the tls entries of all Ingresses, so these are collected first.
        let with_tls = TlsHosts::new(pending.iter().flat_map(Pending::tls_hosts));
        let mut served = Vec::with_capacity(pending.len());
        let snippets = self.options.understand_snippets;
        let with = |defaults: Defaults| defaults.with_snippets(snippets);
        let (none, of_nginx) = (with(Defaults::default()), with(Defaults::of_nginx()));
        let of_config = self.defaults.clone().map(with);
        let has_tls = |host: &HostPattern| with_tls.cover(host);
        // Where no host has TLS, only what was made for one that had is not current.
        let asks = if with_tls.are_none() { Has::MADE_WITH_TLS } else { Has::ASKS_FOR_TLS };
        for Pending { key, stored, old, new } in &pending {
            let was_at = old.as_ref().map(|old| old.at);
            if let (Some(old), None) = (old, new)
                && is_current(old, self.objects, asks, has_tls)
            {
                let facts = old.facts.of_order(stored.order);
                served.push(ServedIngress { kept: Held::Same(old.kept), was_at, facts });
                continue;
            }
            let (own, tls) = match (new, old) {
                (Some((own, tls)), _) => (*own, Arc::clone(tls)),
                (None, Some(old)) => (old.kept.result.own(), Arc::clone(&old.kept.result.tls)),
                (None, None) => continue,
            };
            let as_nginx = own.class.is_some_and(|class| self.options.claims(class));
            let of_class = if as_nginx { &of_nginx } else { &none };
            let reading = Reading {
                options: self.options,
                objects: self.objects,
                defaults: of_config.as_ref().unwrap_or(of_class),
                loopback: stored.trust.loopback_endpoints,
                as_nginx,
                unread_class: own.unread,
                has_tls: &has_tls,
            };
            let slots = &mut self.slots;
            let mut translation = ingress::translate(key, &stored.object, &tls, reading, slots);
            if let Some(old) = old {
                translation.carry_over(&old.kept.result.translation);
            }
            translation.shrink_to_fit();
            let metadata = &stored.object.metadata;
            let has = Has::of_ingress(&tls, &translation);
            let revision = stored.revision;
            let facts = Facts { revision, age: stored.age(metadata), has, host: 0, domain: 0 };
            let uid = metadata.uid.as_deref().map(Box::from);
            let (class, gateway) = (own.class.map(Box::from), own.gateway.cloned());
            let result = OwnIngress { class, gateway, tls, translation };
            let kept = Held::New(Arc::new(Kept { key: (*key).clone(), uid, result }));
            served.push(ServedIngress { kept, was_at, facts });
        }
        served
    }

    fn ours(&mut self) -> Vec<Pending<'o, 'p>> {
        let objects = self.objects;
        let mut old = self.kept.map(|kept| Walk::new(&kept.ingresses, self.facts(0)));
        let mut pending = Vec::with_capacity(objects.ingresses.len());
        for (key, stored) in &objects.ingresses {
            let old = old.as_mut().and_then(|old| old.find(key, stored.revision));
            let same = old.as_ref().filter(|old| old.same);
            if same.is_some() && self.same_classes {
                pending.push(Pending { key, stored, old, new: None });
                continue;
            }
            let own = match self.classes.claim(&stored.object) {
                Claim::Ours { class, gateway, unread } => Own { class, gateway, unread },
                Claim::Foreign => continue,
                Claim::Unknown { class, field } => {
                    let object = ingress::reference(key);
                    self.problems.push(class::unknown(&object, class, &field, self.options));
                    continue;
                }
            };
            let new = match same {
                Some(old) if old.kept.result.own() == own => None,
                Some(old) => Some((own, Arc::clone(&old.kept.result.tls))),
                None => Some((own, Arc::new(ingress::tls(key, &stored.object)))),
            };
            pending.push(Pending { key, stored, old, new });
        }
        pending
    }

    /// The facts of the previous compile from a place on.
    fn facts(&self, from: usize) -> &'p [Facts] {
        self.kept.and_then(|kept| kept.facts.get(from..)).unwrap_or_default()
    }

    /// All Routes, by key, with those refused that may not have their host.
    pub(super) fn routes(&mut self) -> Vec<JudgedRoute<'p>> {
        let selected = self.selected_routes();
        let mut judged = self.translate_routes(&selected);
        let failed = failed_claims(&judged, self.options, self.kept);
        self.failed_claims = Arc::clone(&failed);
        for (at, route) in judged.iter_mut().enumerate() {
            if failed.is_empty() && !route.facts.has.any(Has::VERDICT) {
                continue;
            }
            let object = &route.kept.result.translation.object;
            match (&route.kept.result.verdict, failed.get(&at)) {
                (Verdict::Void(refusal), _) | (Verdict::Closed(refusal), None) => {
                    let refusal = CertificateFault::clone(refusal);
                    self.problems.push(refusal.clone().about(object.clone()));
                    let gatehouse_problem::Problem { reason, field, message, .. } = refusal;
                    // A condition has no field beside it.
                    let alone = !matches!(reason, "ExtendedValidationFailed" | EXTERNAL);
                    let message = if alone { message } else { format!("{field}: {message}") };
                    route.refused = Some((reason, message));
                }
                (_, Some(message)) => {
                    route.in_table = false;
                    self.problems.push(admit::claimed(object, message));
                    route.refused = Some(("HostAlreadyClaimed", message.clone()));
                }
                (Verdict::Usable, None) => {}
            }
        }
        judged
    }

    /// The Routes that are this gateway's to serve. The others do not exist for it.
    fn selected_routes(&self) -> Vec<(&'o ObjectKey, &'o Stored<Route>)> {
        let admission = &self.options.route_admission;
        let all = self.objects.routes.iter();
        if admission.labels.is_empty() && admission.fields.is_empty() {
            return all.collect();
        }
        let selected = |route: &Route| {
            let labels = route.metadata.labels.as_ref();
            let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
            admission.labels.matches(label) && admission.fields.matches(|name| route.field(name))
        };
        all.filter(|(_, stored)| selected(&stored.object)).collect()
    }

    fn translate_routes(
        &mut self,
        routes: &[(&'o ObjectKey, &'o Stored<Route>)],
    ) -> Vec<JudgedRoute<'p>> {
        let mut old =
            self.kept.map(|kept| Walk::new(&kept.routes, self.facts(kept.ingresses.len())));
        let mut all = Vec::with_capacity(routes.len());
        for &(key, stored) in routes {
            let old = old.as_mut().and_then(|old| old.find(key, stored.revision));
            let was_at = old.as_ref().map(|old| old.at);
            let fault = if self.faults.is_empty() { None } else { self.faults.get(key) };
            if let Some(old @ Old { same: true, .. }) = &old
                && is_same_fault(old, fault)
                && refers_to_same(old, |kept| &kept.translation, self.objects)
            {
                let (kept, facts) = (Held::Same(old.kept), old.facts.of_order(stored.order));
                all.push(JudgedRoute { kept, was_at, facts, refused: None, in_table: true });
                continue;
            }
            let slots = &mut self.slots;
            let reading = (self.options, self.objects);
            let mut result = openshift::translate(key, &stored.object, reading, fault, slots);
            if let Some(old) = old {
                result.translation.carry_over(&old.kept.result.translation);
            }
            result.translation.shrink_to_fit();
            let metadata = &stored.object.metadata;
            let facts = Facts::of_route(&result, stored.age(metadata), stored.revision);
            let uid = metadata.uid.as_deref().map(Box::from);
            let kept = Held::New(Arc::new(Kept { key: key.clone(), uid, result }));
            all.push(JudgedRoute { kept, was_at, facts, refused: None, in_table: true });
        }
        all
    }
}

impl OwnIngress {
    /// Whose it was when it was made.
    fn own(&self) -> Own<'_> {
        let unread = self.translation.unread_class.as_ref();
        Own { class: self.class.as_deref(), gateway: self.gateway.as_ref(), unread }
    }
}

/// What the classes are judged by, besides the options.
pub(super) fn classes(objects: &Objects) -> impl Iterator<Item = (&ObjectKey, Revision)> {
    objects.ingress_classes.iter().map(|(key, stored)| (key, stored.revision))
}

/// Whether the rules of an Ingress that is the same were made with what is known now of the TLS of their hosts, and of the
/// objects that they were read from. `asks`: for which it may matter which hosts have TLS.
fn is_current(
    old: &Old<'_, OwnIngress>,
    objects: &Objects,
    asks: Has,
    has_tls: impl Fn(&HostPattern) -> bool,
) -> bool {
    if !old.same || !refers_to_same(old, |kept| &kept.translation, objects) {
        return false;
    }
    if !old.facts.has.any(asks) {
        return true;
    }
    let made = old.kept.result.translation.entries.iter();
    made.filter_map(|entry| Some((entry, entry.made_with_tls?)))
        .all(|(entry, made)| made == has_tls(&entry.host))
}

/// Whether the objects that one refers to are the same.
fn refers_to_same<D>(
    old: &Old<'_, D>,
    translation: impl Fn(&D) -> &Translation,
    objects: &Objects,
) -> bool {
    !old.facts.has.any(Has::REFERENCES) || translation(&old.kept.result).is_current(objects)
}

/// Whether nothing else is wrong with the certificate of a Route than before.
fn is_same_fault(old: &Old<'_, RouteTranslation>, fault: Option<&CertificateFault>) -> bool {
    let before = old.facts.has.any(Has::VERDICT).then(|| old.kept.result.fault.as_deref());
    before.flatten() == fault
}

/// The hosts that the `tls` entries of all Ingresses of ours name.
#[derive(Default)]
struct TlsHosts<'t> {
    named: HashSet<&'t HostPattern>,
    /// What follows the `*.`.
    wildcards: HashSet<&'t str>,
}

impl<'t> TlsHosts<'t> {
    fn new(hosts: impl Iterator<Item = &'t HostPattern>) -> Self {
        let mut all = Self::default();
        for host in hosts {
            all.named.insert(host);
            if let HostPattern::OneLabel(rest) = host {
                all.wildcards.insert(rest);
            }
        }
        all
    }

    fn are_none(&self) -> bool {
        self.named.is_empty()
    }

    /// A wildcard entry covers the hosts that its certificate covers.
    fn cover(&self, host: &HostPattern) -> bool {
        let parent = match host {
            HostPattern::Exact(name) => name.split_once('.').map(|(_, rest)| rest),
            HostPattern::OneLabel(_) | HostPattern::Any => None,
        };
        self.named.contains(host) || parent.is_some_and(|rest| self.wildcards.contains(rest))
    }
}
