//! The first half of a compile: every object translated, by the previous compile if it did not change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use foldhash::{HashMap, HashSet};
use k8s_openapi::api::networking::v1::Ingress;

use super::{CertificateFaults, Compiled, IngressOutcome, RouteOutcome, remarks::KeptHosts};
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
    pub(super) ages: Vec<Age>,
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
pub(super) type KeptIngress = Kept<(Arc<Tls>, Translation)>;
/// A Route and its translation.
pub(super) type KeptRoute = Kept<RouteTranslation>;

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
pub(super) struct ServedIngress<'o> {
    pub(super) kept: Arc<KeptIngress>,
    /// Its place among the Ingresses of the previous compile.
    pub(super) was_at: Option<usize>,
    pub(super) seniority: Seniority<'o>,
    pub(super) class: Option<&'o str>,
    pub(super) gateway: Option<&'o ObjectKey>,
}

/// A Route with its outcome so far.
pub(super) struct JudgedRoute<'o> {
    pub(super) kept: Arc<KeptRoute>,
    /// Its place among the Routes of the previous compile.
    pub(super) was_at: Option<usize>,
    pub(super) seniority: Seniority<'o>,
    /// Reason and message, if it is not admitted.
    pub(super) refused: Option<(&'static str, String)>,
    /// Its rules go into the tables, be it to close its path.
    pub(super) in_table: bool,
}

/// An Ingress of ours before it is translated.
struct Pending<'o, 'p> {
    key: &'o ObjectKey,
    stored: &'o Stored<Ingress>,
    class: Option<&'o str>,
    gateway: Option<&'o ObjectKey>,
    /// Why its class cannot be read.
    unread: Option<&'o Arc<str>>,
    tls: Arc<Tls>,
    old: Option<Old<'p, (Arc<Tls>, Translation)>>,
}

impl<'o, 'p> Run<'o, 'p> {
    /// All Ingresses of ours, by key.
    pub(super) fn ingresses(&mut self) -> Vec<ServedIngress<'o>> {
        let pending = self.ours();
        // Redirects depend on the tls entries of all Ingresses, so these are collected first.
        let with_tls = TlsHosts::new(pending.iter().flat_map(|pending| &pending.tls.hosts));
        let has_tls = |host: &HostPattern| with_tls.cover(host);
        let mut served = Vec::with_capacity(pending.len());
        let snippets = self.options.understand_snippets;
        let with = |defaults: Defaults| defaults.with_snippets(snippets);
        let (none, of_nginx) = (with(Defaults::default()), with(Defaults::of_nginx()));
        let of_config = self.defaults.clone().map(with);
        for Pending { key, stored, class, gateway, unread, tls, old } in &pending {
            let as_nginx = class.is_some_and(|class| self.options.claims(class));
            let of_class = if as_nginx { &of_nginx } else { &none };
            let defaults = of_config.as_ref().unwrap_or(of_class);
            let reading = Reading {
                options: self.options,
                objects: self.objects,
                defaults,
                loopback: stored.trust.loopback_endpoints,
                as_nginx,
                unread_class: *unread,
                has_tls: &has_tls,
            };
            let kept = match old {
                Some(old) if old.same && is_current(old.kept, reading) => Arc::clone(old.kept),
                _ => {
                    let slots = &mut self.slots;
                    let mut new = ingress::translate(key, &stored.object, tls, reading, slots);
                    if let Some(old) = old {
                        new.carry_over(&old.kept.result.1);
                    }
                    let uid = stored.object.metadata.uid.as_deref().map(Box::from);
                    let (key, result) = ((*key).clone(), (Arc::clone(tls), new));
                    Arc::new(Kept { key, uid, revision: stored.revision, result })
                }
            };
            let metadata = &stored.object.metadata;
            let (age, uid) = (stored.age(metadata), metadata.uid.as_deref());
            let seniority = Seniority { age, kind: "Ingress", uid, key };
            let was_at = old.as_ref().map(|old| old.at);
            served.push(ServedIngress {
                kept,
                was_at,
                seniority,
                class: *class,
                gateway: *gateway,
            });
        }
        served
    }

    fn ours(&mut self) -> Vec<Pending<'o, 'p>> {
        let objects = self.objects;
        let mut old = Walk::new(self.kept.map_or(&[][..], |kept| &kept.ingresses));
        let mut pending = Vec::with_capacity(objects.ingresses.len());
        for (key, stored) in &objects.ingresses {
            let (class, gateway, unread) = match self.classes.claim(&stored.object) {
                Claim::Ours { class, gateway, unread } => (class, gateway, unread),
                Claim::Foreign => continue,
                Claim::Unknown { class, field } => {
                    let object = ingress::reference(key);
                    self.problems.push(class::unknown(&object, class, &field, self.options));
                    continue;
                }
            };
            let old = old.find(key, stored.revision);
            let tls = match &old {
                Some(old) if old.same => Arc::clone(&old.kept.result.0),
                _ => Arc::new(ingress::tls(key, &stored.object)),
            };
            pending.push(Pending { key, stored, class, gateway, unread, tls, old });
        }
        pending
    }

    /// All Routes, by key, with those refused that may not have their host.
    pub(super) fn routes(&mut self) -> Vec<JudgedRoute<'o>> {
        let selected = self.selected_routes();
        let translated = self.translate_routes(&selected);
        let mut judged: Vec<JudgedRoute<'o>> = Vec::with_capacity(translated.len());
        for ((kept, was_at), (key, stored)) in translated.into_iter().zip(selected) {
            let metadata = &stored.object.metadata;
            let uid = metadata.uid.as_deref();
            let seniority = Seniority { age: stored.age(metadata), kind: "Route", uid, key };
            judged.push(JudgedRoute { kept, was_at, seniority, refused: None, in_table: true });
        }
        let failed = match self.kept.filter(|kept| are_same_claims(&judged, kept)) {
            Some(kept) => Arc::clone(&kept.failed_claims),
            None => Arc::new(failed_claims(&judged, self.options)),
        };
        self.failed_claims = Arc::clone(&failed);
        for (at, route) in judged.iter_mut().enumerate() {
            let object = &route.kept.result.translation.object;
            match (&route.kept.result.verdict, failed.get(&at)) {
                (Verdict::Void(refusal), _) | (Verdict::Closed(refusal), None) => {
                    self.problems.push(refusal.clone().about(object.clone()));
                    let gatehouse_problem::Problem { reason, field, message, .. } = refusal.clone();
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
    ) -> Vec<(Arc<KeptRoute>, Option<usize>)> {
        let mut old = Walk::new(self.kept.map_or(&[][..], |kept| &kept.routes));
        let mut all = Vec::with_capacity(routes.len());
        for &(key, stored) in routes {
            let (old, fault) = (old.find(key, stored.revision), self.faults.get(key));
            let was_at = old.as_ref().map(|old| old.at);
            if let Some(Old { kept, same: true, .. }) = old
                && kept.result.fault.as_ref() == fault
                && kept.result.translation.is_current(self.objects)
            {
                all.push((Arc::clone(kept), was_at));
                continue;
            }
            let slots = &mut self.slots;
            let reading = (self.options, self.objects);
            let mut result = openshift::translate(key, &stored.object, reading, fault, slots);
            if let Some(old) = old {
                result.translation.carry_over(&old.kept.result.translation);
            }
            let uid = stored.object.metadata.uid.as_deref().map(Box::from);
            let kept = Kept { key: key.clone(), uid, revision: stored.revision, result };
            all.push((Arc::new(kept), was_at));
        }
        all
    }
}

impl JudgedRoute<'_> {
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

impl ServedIngress<'_> {
    /// What becomes of it, the previous value if it is the same.
    pub(super) fn outcome(&self, previous: Option<&Compiled>) -> Arc<IngressOutcome> {
        // Outcomes stand where their Ingresses do.
        let before = self.was_at.zip(previous);
        let before = before.and_then(|(at, previous)| previous.ingresses.get(at));
        let same = |before: &&Arc<IngressOutcome>| {
            before.object == self.kept.key
                && before.class.as_deref() == self.class
                && before.gateway.as_ref() == self.gateway
        };
        before.filter(same).cloned().unwrap_or_else(|| {
            Arc::new(IngressOutcome {
                object: self.kept.key.clone(),
                class: self.class.map(str::to_owned),
                gateway: self.gateway.cloned(),
            })
        })
    }
}

/// Whether the Routes are those of the previous compile, and of the same age.
fn are_same_claims(routes: &[JudgedRoute<'_>], kept: &Cache) -> bool {
    let before = kept.routes.iter().enumerate();
    routes.len() == kept.routes.len()
        && routes.iter().zip(before).all(|(route, (at, before))| {
            let Seniority { age, uid, .. } = route.seniority;
            // Without these the place in the source decides, which may be another one.
            let has_age = age.created.is_some() && uid.is_some();
            has_age && route.was_at == Some(at) && Arc::ptr_eq(&route.kept, before)
        })
}

fn failed_claims(routes: &[JudgedRoute<'_>], options: &Options) -> FailedClaims {
    let claims = routes.iter().enumerate().filter_map(|(at, route)| {
        let RouteTranslation { claim, path, lane, .. } = &route.kept.result;
        let (host, path) = (claim.as_ref()?, claimed_path(path));
        Some(RouteClaim { seniority: route.seniority, host, path, lane: *lane, at })
    });
    let ownership = options.route_admission.ownership;
    admit::route_claims(claims.collect(), ownership).into_iter().collect()
}

/// Whether the rules were made with what is known now about the class, the TLS of their hosts
/// and about the objects that they were read from.
fn is_current(kept: &KeptIngress, reading: Reading<'_>) -> bool {
    let Reading { objects, as_nginx, unread_class, has_tls, .. } = reading;
    let translation = &kept.result.1;
    let same_class =
        translation.as_nginx == as_nginx && translation.unread_class.as_ref() == unread_class;
    if !same_class || !translation.is_current(objects) {
        return false;
    }
    let made = translation.entries.iter();
    made.filter_map(|entry| Some((entry, entry.made_with_tls?)))
        .all(|(entry, made)| made == has_tls(&entry.host))
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
    at: usize,
}

/// What the object was.
pub(super) struct Old<'p, D> {
    kept: &'p Arc<Kept<D>>,
    /// The object is the same.
    same: bool,
    /// Where it stood.
    at: usize,
}

impl<'p, D> Walk<'p, D> {
    fn new(all: &'p [Arc<Kept<D>>]) -> Self {
        Self { all, at: 0 }
    }

    /// What the object of this key was. Keys must ascend.
    fn find(&mut self, key: &ObjectKey, revision: Revision) -> Option<Old<'p, D>> {
        while let Some(kept) = self.all.get(self.at) {
            // Equality first: keys mostly share their memory, which makes it a pointer comparison.
            let found = kept.key == *key;
            if !found && kept.key > *key {
                return None;
            }
            let at = self.at;
            self.at += 1;
            if found {
                return Some(Old { kept, same: kept.revision == revision, at });
            }
        }
        None
    }
}
