//! The first half of a compile: every object translated, by the previous compile if it did not change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use foldhash::{HashMap, HashSet};
use k8s_openapi::api::networking::v1::Ingress;

use super::{
    CertificateFault, CertificateFaults, Compiled, IngressOutcome, RouteOutcome,
    facts::{Facts, Has},
    remarks::KeptHosts,
};
use crate::{
    admit::{self, RouteClaim, Seniority, claimed_path},
    annotations::Defaults,
    class::{self, Claim, Classes},
    endpoints::{Inputs, Resolved},
    model::{CertBinding, HostPattern},
    objects::{Age, ObjectKey, ObjectRef, Objects, Revision, Stored},
    openshift::Route,
    options::Options,
    problem::Problem,
    slots::{ScopeSlots, SlotMap, Slots},
    translate::{
        Translation,
        ingress::{self, Reading, Tls},
        openshift::{self, RouteTranslation, Verdict},
    },
};

/// Why a Route is refused whose certificate is in a Secret.
const EXTERNAL: &str = "ExternalCertificateValidationFailed";

/// What one compile leaves for the next.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) options: Options,
    pub(super) defaults: Option<Defaults>,
    /// In the order of their keys, as are the routes.
    pub(super) ingresses: Vec<Arc<KeptIngress>>,
    pub(super) routes: Vec<Arc<KeptRoute>>,
    pub(super) failed_claims: Arc<FailedClaims>,
    /// The places of both by age, those of the Routes behind those of the Ingresses, without what is in no table.
    pub(super) by_age: Arc<[usize]>,
    /// By place.
    pub(super) facts: Vec<Facts>,
    /// What the classes were judged by.
    pub(super) classes: Vec<(ObjectKey, Revision)>,
    pub(super) slots: Arc<SlotMap>,
    pub(super) scopes: ScopeSlots,
    /// Keys of all Secrets, those that may not be read, and what each table's certificates were made from.
    pub(super) secrets: Vec<ObjectKey>,
    pub(super) refused: BTreeMap<ObjectRef, Arc<str>>,
    pub(super) certs: Vec<Arc<KeptCerts>>,
    /// What there is to be said of the hosts of the first table.
    pub(super) hosts: Arc<KeptHosts>,
    /// What `resolved` was made from.
    pub(super) inputs: Arc<Inputs>,
    pub(super) own: BTreeSet<SocketAddr>,
    /// By slot.
    pub(super) resolved: Vec<Option<Arc<Resolved>>>,
}

/// What the certificates of a table were made from, and what was wrong with them.
#[derive(Debug)]
pub(super) struct KeptCerts {
    pub(super) bindings: Vec<Arc<[CertBinding]>>,
    /// The Secrets that they name, whether or not they exist.
    pub(super) secrets: Arc<BTreeSet<ObjectKey>>,
    pub(super) problems: Vec<Problem>,
}

/// An Ingress of ours and its translation.
pub(super) type KeptIngress = Kept<OwnIngress>;
/// A Route and its translation.
pub(super) type KeptRoute = Kept<RouteTranslation>;

/// What an Ingress of ours became.
#[derive(Debug)]
pub(super) struct OwnIngress {
    pub(super) class: Option<Box<str>>,
    pub(super) gateway: Option<ObjectKey>,
    tls: Arc<Tls>,
    pub(super) translation: Translation,
}

/// Positions of the Routes that do not get their host, with the reason.
pub(super) type FailedClaims = HashMap<usize, String>;

/// What an object became.
#[derive(Debug)]
pub(super) struct Kept<D> {
    pub(super) key: ObjectKey,
    /// `metadata.uid`.
    pub(super) uid: Option<Box<str>>,
    revision: Revision,
    pub(super) result: D,
}

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

/// An Ingress of ours, ready to be put into the tables.
pub(super) struct ServedIngress {
    pub(super) kept: Arc<KeptIngress>,
    /// Its place among the Ingresses of the previous compile.
    pub(super) was_at: Option<usize>,
    pub(super) facts: Facts,
}

/// A Route with its outcome so far.
pub(super) struct JudgedRoute {
    pub(super) kept: Arc<KeptRoute>,
    /// Its place among the Routes of the previous compile.
    pub(super) was_at: Option<usize>,
    pub(super) facts: Facts,
    /// Reason and message, if it is not admitted.
    pub(super) refused: Option<(&'static str, String)>,
    /// Its rules go into the tables, be it to close its path.
    pub(super) in_table: bool,
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
    pub(super) fn ingresses(&mut self) -> Vec<ServedIngress> {
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
                served.push(ServedIngress { kept: Arc::clone(old.kept), was_at, facts });
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
            let facts = Facts { age: stored.age(metadata), has };
            let uid = metadata.uid.as_deref().map(Box::from);
            let (class, gateway) = (own.class.map(Box::from), own.gateway.cloned());
            let result = OwnIngress { class, gateway, tls, translation };
            let kept =
                Arc::new(Kept { key: (*key).clone(), uid, revision: stored.revision, result });
            served.push(ServedIngress { kept, was_at, facts });
        }
        served
    }

    fn ours(&mut self) -> Vec<Pending<'o, 'p>> {
        let objects = self.objects;
        let mut old = Walk::new(self.kept.map_or(&[][..], |kept| &kept.ingresses), self.facts(0));
        let mut pending = Vec::with_capacity(objects.ingresses.len());
        for (key, stored) in &objects.ingresses {
            let old = old.find(key, stored.revision);
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
    pub(super) fn routes(&mut self) -> Vec<JudgedRoute> {
        let selected = self.selected_routes();
        let mut judged = self.translate_routes(&selected);
        let failed = match self.kept.filter(|kept| are_same_claims(&judged, kept)) {
            Some(kept) => Arc::clone(&kept.failed_claims),
            None => Arc::new(failed_claims(&judged, self.options)),
        };
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
    ) -> Vec<JudgedRoute> {
        let before = self.kept.map_or(&[][..], |kept| &kept.routes);
        let ingresses = self.kept.map_or(0, |kept| kept.ingresses.len());
        let mut old = Walk::new(before, self.facts(ingresses));
        let mut all = Vec::with_capacity(routes.len());
        for &(key, stored) in routes {
            let old = old.find(key, stored.revision);
            let was_at = old.as_ref().map(|old| old.at);
            let fault = if self.faults.is_empty() { None } else { self.faults.get(key) };
            if let Some(old @ Old { same: true, .. }) = &old
                && is_same_fault(old, fault)
                && refers_to_same(old, |kept| &kept.translation, self.objects)
            {
                let (kept, facts) = (Arc::clone(old.kept), old.facts.of_order(stored.order));
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
            let facts = Facts { age: stored.age(metadata), has: Has::of_route(&result) };
            let uid = metadata.uid.as_deref().map(Box::from);
            let kept = Arc::new(Kept { key: key.clone(), uid, revision: stored.revision, result });
            all.push(JudgedRoute { kept, was_at, facts, refused: None, in_table: true });
        }
        all
    }
}

impl JudgedRoute {
    pub(super) fn seniority(&self) -> Seniority<'_> {
        self.kept.seniority("Route", self.facts.age)
    }

    /// What becomes of it, the previous value if it is the same.
    pub(super) fn outcome(&self, previous: Option<&Compiled>) -> Arc<RouteOutcome> {
        let (reason, message) = match &self.refused {
            Some((reason, message)) => (*reason, &**message),
            None => ("", ""),
        };
        let admitted = self.refused.is_none();
        // Outcomes stand where their Routes do.
        let before = self.was_at.zip(previous).and_then(|(at, previous)| {
            let same = Arc::ptr_eq(previous.cache.routes.get(at)?, &self.kept);
            previous.routes.get(at).filter(|_| same)
        });
        let same = |before: &&Arc<RouteOutcome>| {
            (before.admitted, before.reason, &*before.message) == (admitted, reason, message)
        };
        before.filter(same).cloned().unwrap_or_else(|| {
            Arc::new(RouteOutcome {
                object: self.kept.key.clone(),
                host: self.kept.result.host.to_string(),
                admitted,
                reason,
                message: message.to_owned(),
            })
        })
    }
}

impl ServedIngress {
    pub(super) fn seniority(&self) -> Seniority<'_> {
        self.kept.seniority("Ingress", self.facts.age)
    }

    /// The gateway Service that serves it.
    pub(super) fn gateway(&self) -> Option<&ObjectKey> {
        self.kept.result.gateway.as_ref()
    }

    /// What becomes of it, the previous value if it is the same.
    pub(super) fn outcome(&self, previous: Option<&Compiled>) -> Arc<IngressOutcome> {
        // Outcomes stand where their Ingresses do.
        let before = self.was_at.zip(previous).and_then(|(at, previous)| {
            let same = Arc::ptr_eq(previous.cache.ingresses.get(at)?, &self.kept);
            Some((previous.ingresses.get(at)?, same))
        });
        let OwnIngress { class, gateway, .. } = &self.kept.result;
        let is = |before: &Arc<IngressOutcome>| {
            before.object == self.kept.key
                && before.class.as_deref() == class.as_deref()
                && before.gateway == *gateway
        };
        match before {
            Some((before, same)) if same || is(before) => Arc::clone(before),
            _ => Arc::new(IngressOutcome {
                object: self.kept.key.clone(),
                class: class.as_deref().map(str::to_owned),
                gateway: gateway.clone(),
            }),
        }
    }
}

impl<D> Kept<D> {
    fn seniority(&self, kind: &'static str, age: Age) -> Seniority<'_> {
        Seniority { age, kind, uid: self.uid.as_deref(), key: &self.key }
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

impl Cache {
    /// The classes of that compile.
    pub(super) fn classes(&self) -> impl Iterator<Item = (&ObjectKey, Revision)> {
        self.classes.iter().map(|(key, revision)| (key, *revision))
    }
}

/// Whether the Routes are those of the previous compile, and of the same age.
fn are_same_claims(routes: &[JudgedRoute], kept: &Cache) -> bool {
    let before = kept.routes.iter().zip(&kept.facts[kept.ingresses.len()..]).enumerate();
    routes.len() == kept.routes.len()
        && routes.iter().zip(before).all(|(route, (at, (before, facts)))| {
            // The age says where it stands in its source, too.
            route.was_at == Some(at)
                && route.facts.age == facts.age
                && Arc::ptr_eq(&route.kept, before)
        })
}

fn failed_claims(routes: &[JudgedRoute], options: &Options) -> FailedClaims {
    let claims = routes.iter().enumerate().filter_map(|(at, route)| {
        let RouteTranslation { claim, path, lane, .. } = &route.kept.result;
        let (host, path) = (claim.as_ref()?, claimed_path(path));
        Some(RouteClaim { seniority: route.seniority(), host, path, lane: *lane, at })
    });
    let ownership = options.route_admission.ownership;
    admit::route_claims(claims.collect(), ownership).into_iter().collect()
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

/// Walks along the previous compile's values while the caller walks along the objects, both by key.
struct Walk<'p, D> {
    all: &'p [Arc<Kept<D>>],
    facts: &'p [Facts],
    at: usize,
}

/// What the object was.
pub(super) struct Old<'p, D> {
    kept: &'p Arc<Kept<D>>,
    facts: Facts,
    /// The object is the same.
    same: bool,
    /// Where it stood.
    at: usize,
}

impl<'p, D> Walk<'p, D> {
    fn new(all: &'p [Arc<Kept<D>>], facts: &'p [Facts]) -> Self {
        Self { all, facts, at: 0 }
    }

    /// What the object of this key was. Keys must ascend.
    fn find(&mut self, key: &ObjectKey, revision: Revision) -> Option<Old<'p, D>> {
        while let (Some(kept), Some(facts)) = (self.all.get(self.at), self.facts.get(self.at)) {
            // Equality first: keys mostly share their memory.
            let found = kept.key == *key;
            if !found && kept.key > *key {
                return None;
            }
            let at = self.at;
            self.at += 1;
            if found {
                return Some(Old { kept, facts: *facts, same: kept.revision == revision, at });
            }
        }
        None
    }
}
