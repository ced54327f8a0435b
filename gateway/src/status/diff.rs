//! From what the statuses are to be and what the objects say to what has to be written, and no more.
//!
//! Pure. Only the leader calls it, after each compile; [`queue`](super::queue) orders what comes out. What
//! other controllers wrote is left alone: a list that they share (`status.ingress` of a Route) is written
//! whole with their entries in it, over the version that was read; what we let go of is applied without the
//! field, so that the API server takes away what our field manager owns and nothing else.
//!
//! **No address is given twice**, whatever two leaders do to each other:
//! - An address counts, on every node, only when it is in the status of its Service.
//! - It gets there by a write over the very version of the Service that was read. A leader never has two
//!   requests for one object under way.
//! - A leader begins when it has read every Service, as `takeover` says, so that it knows all addresses that
//!   are recorded. Requests of the leader before may still arrive then. They can add an address only to a
//!   Service that had none, or to one that was marked before ([`CHANGING`]); unless the old leader ended
//!   cleanly, the new one writes to each of these first ([`touch`]), so that such requests find another
//!   version and fail.
//! - A leader sends nothing after its term, by its own clock, which ends before that of the next one can
//!   begin.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use gatehouse_routes::{
    compile::RouteOutcome,
    objects::{ObjectKey, ObjectRef, Stored},
    openshift::Route,
    problem::Problem,
};
use gatehouse_vip::ClaimId;
use k8s_openapi::{
    api::{
        core::v1::{LoadBalancerIngress, Service},
        networking::v1::{Ingress, IngressLoadBalancerIngress},
    },
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    digest::hash,
    leaving::{Leaving, in_route},
};
use crate::{
    compile::{self, Statuses},
    source::{Kind, Object, api_version},
};

/// Condition of a Service that waits for an address, with the reason why it has none yet.
pub(crate) const PENDING: &str = "gatehouse.io/AddressPending";
/// Reason of [`PENDING`] at a Service whose addresses are about to change.
pub(crate) const CHANGING: &str = "Changing";
/// Reason of [`PENDING`] at a Service that a new leader has seen.
pub(crate) const ALLOCATING: &str = "Allocating";

/// What is to be written to the status of one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Patch {
    /// Which object.
    pub(crate) object: ObjectRef,
    /// Its `apiVersion`.
    pub(crate) api_version: &'static str,
    /// `metadata.resourceVersion` of the object that was looked at.
    pub(crate) seen: String,
    /// Its `metadata.uid`.
    pub(crate) uid: String,
    /// In which way.
    pub(crate) how: How,
    /// What the request says, as JSON: thousands of these may wait, and text takes a tenth of the memory of a [`Value`].
    pub(crate) body: Box<str>,
    /// The addresses that a Service has when this is written, if these are others than before.
    pub(crate) assigned: Option<Vec<IpAddr>>,
    /// Digest of what the object says of what this is about.
    pub(crate) finds: u64,
    /// The same once this is written; `None`: what others say of it is their affair.
    pub(crate) leaves: Option<u64>,
    /// Before it is written the API server is to be asked who wrote what is there: see `contest`.
    pub(crate) asks: bool,
}

impl Patch {
    /// The version of the object that was looked at. One that is no number is taken for the newest, so that what was
    /// made from it is never left unwritten.
    pub(super) fn seen_version(&self) -> u64 {
        version(&self.seen)
    }

    /// It changes what is found there to what it leaves there.
    fn about(self, finds: u64, leaves: u64) -> Self {
        Self { finds, leaves: Some(leaves), ..self }
    }

    /// What the request says.
    #[cfg(test)]
    pub(super) fn says(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// Versions of one kind of object are numbers that grow.
pub(super) fn version(text: &str) -> u64 {
    text.parse().unwrap_or(u64::MAX)
}

/// How a [`Patch`] is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Server-side apply that takes the fields from their present manager.
    Apply,
    /// Server-side apply that takes nothing from anybody.
    GiveUp,
    /// JSON merge patch.
    Merge,
}

/// What the leader remembers from one comparison to the next.
#[derive(Debug, Default)]
pub(crate) struct Differ {
    /// Objects whose status was ours.
    ours: BTreeSet<ObjectRef>,
    /// Routes whose status is right, with what made it so: comparing is dear where there are thousands.
    told: BTreeMap<ObjectKey, Told>,
    /// What all of these have in common.
    common: Option<(String, Option<String>)>,
    /// Routes whose status was wrong when it was looked at, and their versions then.
    asked: BTreeMap<ObjectKey, String>,
    /// Routes that were ours.
    leaving: Leaving,
    /// Routes by the names that our router had before; none yet before the first comparison.
    before: BTreeMap<String, Option<Leaving>>,
    /// Names that it had before and that no Route has an entry of ours by any more.
    cleared: Vec<String>,
}

/// A Route, and what became of it.
#[derive(Debug)]
struct Told {
    /// Holding it keeps its address from being used again.
    route: Arc<Route>,
    outcome: Arc<RouteOutcome>,
}

impl Differ {
    /// The objects whose status was written by a leader before, and the names that our router had then.
    pub(crate) fn written_before(
        mut objects: BTreeSet<ObjectRef>,
        routers: BTreeSet<String>,
    ) -> Self {
        let mut leaving = Leaving::default();
        for route in objects.extract_if(.., |object| object.kind == "Route") {
            leaving.left(route.key, None);
        }
        let before = routers.into_iter().map(|name| (name, None)).collect();
        Self { ours: objects, leaving, before, ..Self::default() }
    }

    /// Names that our router had before, of which nothing is left since this was last asked.
    pub(crate) fn cleared(&mut self) -> Vec<String> {
        std::mem::take(&mut self.cleared)
    }

    /// All that is to be written now. `now` is the time of transitions, in RFC 3339.
    pub(crate) fn diff(&mut self, statuses: &Statuses<'_>, now: &str) -> Vec<Patch> {
        let mut patches = Vec::new();
        let mut ours = BTreeSet::new();
        for (key, stored, entries) in statuses.services() {
            if !stored.trust.standalone {
                ours.insert(ObjectRef::new("Service", key.clone()));
                patches.extend(service(statuses, key, stored, entries, now));
            }
        }
        for (key, entries) in statuses.ingresses() {
            let stored = statuses.state().objects.ingresses.get(key);
            if let Some(stored) = stored.filter(|stored| !stored.trust.standalone) {
                ours.insert(ObjectRef::new("Ingress", key.clone()));
                patches.extend(ingress(statuses, key, stored, entries));
            }
        }
        self.routers_before(statuses, &mut patches);
        self.routes(statuses, now, &mut patches);
        for (key, usage) in statuses.pools() {
            let stored = statuses.state().pools.get(key);
            if let Some(stored) = stored.filter(|stored| !stored.trust.standalone) {
                let status = compile::pool_status(usage);
                patches.extend(apply("IPAddressPool", &stored.object.metadata, Over::Any, status));
            }
        }
        self.let_go(statuses, ours, &mut patches);
        patches
    }

    fn routes(&mut self, statuses: &Statuses<'_>, now: &str, patches: &mut Vec<Patch>) {
        let common = Some((statuses.router_name().to_owned(), statuses.canonical_hostname()));
        let common_is_same = std::mem::replace(&mut self.common, common) == self.common;
        let (mut told, mut asked) = (BTreeMap::new(), BTreeMap::new());
        for outcome in statuses.routes() {
            let stored = statuses.state().objects.routes.get(&outcome.object);
            let Some(stored) = stored.filter(|stored| !stored.trust.standalone) else { continue };
            self.asked.remove(&outcome.object);
            self.leaving.is_back(&outcome.object);
            let known = self.told.remove_entry(&outcome.object);
            let same = known.filter(|(_, known)| {
                common_is_same
                    && Arc::ptr_eq(&known.route, &stored.object)
                    && known.outcome == *outcome
            });
            if let Some((key, known)) = same {
                told.insert(key, known);
            } else if let Some(patch) = route(statuses, outcome, stored, now) {
                asked.insert(outcome.object.clone(), patch.seen.clone());
                patches.push(patch);
            } else {
                let known =
                    Told { route: Arc::clone(&stored.object), outcome: Arc::clone(outcome) };
                told.insert(outcome.object.clone(), known);
            }
        }
        for key in std::mem::replace(&mut self.told, told).into_keys() {
            self.leaving.left(key, None);
        }
        for (key, version) in std::mem::replace(&mut self.asked, asked) {
            self.leaving.left(key, Some(version));
        }
        let left = self.leaving.entries(statuses.router_name(), |key| existing(statuses, key));
        patches.extend(left.into_iter().filter_map(without_ours));
    }

    /// Takes out the entries by names that our router had before.
    fn routers_before(&mut self, statuses: &Statuses<'_>, patches: &mut Vec<Patch>) {
        let routes = &statuses.state().objects.routes;
        self.before.retain(|name, leaving| {
            let unselected = self.leaving.routes();
            let all = || Leaving::all(routes.keys().chain(unselected).cloned());
            let leaving = leaving.get_or_insert_with(all);
            let left = leaving.entries(name, |key| existing(statuses, key));
            patches.extend(left.into_iter().filter_map(without_ours));
            if leaving.is_empty() {
                self.cleared.push(name.clone());
            }
            !leaving.is_empty()
        });
    }

    /// Takes our part out of the statuses that are not ours any more, for as long as there is anything.
    fn let_go(
        &mut self,
        statuses: &Statuses<'_>,
        ours: BTreeSet<ObjectRef>,
        patches: &mut Vec<Patch>,
    ) {
        let state = statuses.state();
        let objects = &state.objects;
        let mut left = BTreeSet::new();
        for object in self.ours.difference(&ours) {
            let (metadata, told) = match object.kind {
                "Service" => match objects.services.get(&object.key) {
                    Some(stored) => {
                        let service = &*stored.object;
                        let had = addresses(in_service(service));
                        let rests = |ip: &IpAddr| rests_for(statuses, *ip, &object.key);
                        if statuses.lacks_pools(service) && had.iter().any(rests) {
                            left.insert(object.clone());
                            continue;
                        }
                        let said = !in_service(service).is_empty() || pending(service).is_some();
                        (&service.metadata, said)
                    }
                    None => continue,
                },
                _ => {
                    let selected = objects.ingresses.get(&object.key).map(|stored| &stored.object);
                    let unselected = || match state.unselected(Kind::Ingress, &object.key) {
                        Some(Object::Ingress(ingress)) => Some(ingress),
                        _ => None,
                    };
                    match selected.or_else(unselected) {
                        Some(ingress) if rests(statuses, ingress) => {
                            left.insert(object.clone());
                            continue;
                        }
                        Some(ingress) => (&ingress.metadata, !in_ingress(ingress).is_empty()),
                        None => continue,
                    }
                }
            };
            if told {
                patches.extend(apply(object.kind, metadata, Over::Own, json!({})));
                left.insert(object.clone());
            }
        }
        self.ours = ours;
        self.ours.extend(left);
    }
}

/// Makes sure that no request that an earlier leader has under way can change the Service: a write that
/// says nothing but that `leader` has seen it. `None`: no such request can add an address to it.
pub(crate) fn touch(service: &Service, leader: &str, now: &str) -> Option<Patch> {
    let present = in_service(service);
    let pending = pending(service);
    let marked = pending.is_some_and(|condition| condition.reason == CHANGING);
    if !addresses(present).is_empty() && !marked {
        return None;
    }
    let reason = if marked { CHANGING } else { ALLOCATING };
    let condition = condition(reason, &format!("{leader} allocates addresses"), pending, now);
    apply("Service", &service.metadata, Over::Seen, service_status(present, Some(condition)))
}

/// What is there, to be owned by us as well; and what then has a gateway of another Lease own nothing of it.
pub(crate) fn inherit(service: &Service) -> Option<[Patch; 2]> {
    let condition = pending(service).map(|condition| json!(condition));
    let status = service_status(in_service(service), condition);
    let claim = apply("Service", &service.metadata, Over::Seen, status)?;
    // Without a status: an empty one would be owned as such.
    Some([claim, apply("Service", &service.metadata, Over::Own, Value::Null)?])
}

fn service(
    statuses: &Statuses<'_>,
    key: &ObjectKey,
    stored: &Stored<Service>,
    entries: Vec<LoadBalancerIngress>,
    now: &str,
) -> Option<Patch> {
    let service = &*stored.object;
    let present = in_service(service);
    let known = pending(service);
    let (had, has) = (addresses(present), addresses(&entries));
    let adds = !had.is_empty() && !has.is_subset(&had);
    if adds && known.is_none_or(|known| known.reason != CHANGING) {
        let condition = condition(CHANGING, "its addresses are about to change", known, now);
        let status = service_status(present, Some(condition));
        let patch = apply("Service", &service.metadata, Over::Seen, status)?;
        return Some(
            patch.about(
                digest(present, known.map(|it| &*it.reason)),
                digest(present, Some(CHANGING)),
            ),
        );
    }
    let why = entries.is_empty().then(|| statuses.compiled().unassigned(key)).flatten();
    if entries == present && known.map(|known| &*known.reason) == why.map(|why| why.reason) {
        return None;
    }
    if entries.is_empty() && !present.is_empty() {
        if statuses.state().pools.is_empty() {
            // Whatever is there is not from us, unless our field manager owns it.
            return apply("Service", &service.metadata, Over::OwnSeen, json!({}));
        }
        // A pool that is missing for a moment changes nothing.
        if had.iter().any(|ip| rests_for(statuses, *ip, key)) {
            return None;
        }
    }
    let condition = why.map(|why| condition(why.reason, &told(why), known, now));
    let mut patch =
        apply("Service", &service.metadata, Over::Seen, service_status(&entries, condition))?;
    patch.assigned = (had != has).then(|| has.into_iter().collect());
    let finds = digest(present, known.map(|known| &*known.reason));
    Some(patch.about(finds, digest(&entries, why.map(|why| why.reason))))
}

fn ingress(
    statuses: &Statuses<'_>,
    key: &ObjectKey,
    stored: &Stored<Ingress>,
    entries: Vec<IngressLoadBalancerIngress>,
) -> Option<Patch> {
    debug_assert_eq!(*key, crate::source::key_of(&stored.object.metadata));
    let (present, metadata) = (in_ingress(&stored.object), &stored.object.metadata);
    if present == entries {
        return None;
    }
    if entries.is_empty() {
        let gone = !rests(statuses, &stored.object);
        return gone.then(|| apply("Ingress", metadata, Over::Own, json!({})))?;
    }
    let patch = apply("Ingress", metadata, Over::Any, compile::load_balancer(&entries))?;
    Some(patch.about(digest(present, None), digest(&entries, None)))
}

fn route(
    statuses: &Statuses<'_>,
    outcome: &RouteOutcome,
    stored: &Stored<Route>,
    now: &str,
) -> Option<Patch> {
    let route = &*stored.object;
    let (present, own) = in_route(route, statuses.router_name());
    let mut wanted = statuses.route_entry(outcome);
    let known = own.map(|at| &present[at]);
    let before = known.and_then(|known| admitted(known));
    let time = before.filter(|before| before["status"] == wanted["conditions"][0]["status"]);
    let time = time.map_or(Value::Null, |before| before["lastTransitionTime"].clone());
    wanted["conditions"][0]["lastTransitionTime"] =
        if time.is_string() { time } else { now.into() };
    if known == Some(&wanted) {
        return None;
    }
    let (finds, leaves) = (digest(&[known], None), digest(&[&wanted], None));
    let mut entries = present.clone();
    match own {
        Some(at) => entries[at] = wanted,
        None => entries.push(wanted),
    }
    Some(route_entries(&outcome.object, route, &entries)?.about(finds, leaves))
}

/// A Route that exists, whether or not it is selected.
fn existing<'s>(statuses: &Statuses<'s>, key: &ObjectKey) -> Option<&'s Arc<Route>> {
    let state = statuses.state();
    let stored = state.objects.routes.get(key).filter(|stored| !stored.trust.standalone);
    let unselected = || match state.unselected(Kind::Route, key) {
        Some(Object::Route(route)) => Some(route),
        _ => None,
    };
    stored.map(|stored| &stored.object).or_else(unselected)
}

fn without_ours((key, route, others): (ObjectKey, &Arc<Route>, Vec<Value>)) -> Option<Patch> {
    route_entries(&key, route, &others)
}

/// Makes these the entries of a Route, if it is still the one that was looked at.
fn route_entries(key: &ObjectKey, route: &Route, entries: &[Value]) -> Option<Patch> {
    let seen = route.metadata.resource_version.clone()?;
    let body = json!({
        "metadata": { "resourceVersion": seen },
        "status": { "ingress": entries },
    });
    Some(Patch {
        object: ObjectRef::new("Route", key.clone()),
        api_version: api_version("Route"),
        uid: route.metadata.uid.clone().unwrap_or_default(),
        how: How::Merge,
        body: body.to_string().into_boxed_str(),
        seen,
        assigned: None,
        finds: 0,
        leaves: None,
        asks: false,
    })
}

fn admitted(entry: &Value) -> Option<&Value> {
    entry["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Admitted")
}

/// What a server-side apply is written over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Whatever is there, of every writer.
    Any,
    /// The same, if the object is still the one that was looked at.
    Seen,
    /// Nothing of others.
    Own,
    /// The same, if the object is still the one that was looked at.
    OwnSeen,
}

/// `None`: the object has no version, so it is not from an API server.
fn apply(kind: &'static str, metadata: &ObjectMeta, over: Over, status: Value) -> Option<Patch> {
    let key = crate::source::key_of(metadata);
    let version = api_version(kind);
    let seen = metadata.resource_version.clone()?;
    let mut body = json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": { "name": &*key.name },
    });
    if !status.is_null() {
        body["status"] = status;
    }
    if !key.namespace.is_empty() {
        body["metadata"]["namespace"] = (*key.namespace).into();
    }
    if matches!(over, Over::Seen | Over::OwnSeen) {
        body["metadata"]["resourceVersion"] = seen.as_str().into();
    }
    let how = match over {
        Over::Any | Over::Seen => How::Apply,
        Over::Own | Over::OwnSeen => How::GiveUp,
    };
    let body = body.to_string().into_boxed_str();
    let (object, uid) = (ObjectRef::new(kind, key), metadata.uid.clone().unwrap_or_default());
    Some(Patch {
        object,
        api_version: version,
        seen,
        uid,
        how,
        body,
        assigned: None,
        finds: 0,
        leaves: None,
        asks: false,
    })
}

/// A digest of entries, and of the reason why a Service has none.
fn digest<E: Serialize>(entries: &[E], reason: Option<&str>) -> u64 {
    // Entries are JSON by nature; of one that were not, no change would be seen.
    let entries = serde_json::to_string(entries).unwrap_or_default();
    hash(&[&entries, reason.unwrap_or_default()])
}

fn service_status(entries: &[LoadBalancerIngress], condition: Option<Value>) -> Value {
    let mut status = json!({ "loadBalancer": { "ingress": entries } });
    if let Some(condition) = condition {
        status["conditions"] = json!([condition]);
    }
    status
}

fn condition(reason: &str, message: &str, known: Option<&Condition>, now: &str) -> Value {
    let since = match known {
        Some(known) => json!(known.last_transition_time),
        None => now.into(),
    };
    json!({
        "type": PENDING,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    })
}

fn told(why: &Problem) -> String {
    match why.hint.as_str() {
        "" => why.message.clone(),
        hint => format!("{}; {hint}", why.message),
    }
}

fn rests_for(statuses: &Statuses<'_>, ip: IpAddr, key: &ObjectKey) -> bool {
    let former = statuses.compiled().quarantined.get(&ip);
    former.is_some_and(|former| former.contains(&ClaimId(key.to_string().into())))
}

/// Whether the Ingress shows an address that its Service may have again in a moment.
fn rests(statuses: &Statuses<'_>, ingress: &Ingress) -> bool {
    let mut ips = in_ingress(ingress).iter().filter_map(|entry| entry.ip.as_ref()?.parse().ok());
    ips.any(|ip: IpAddr| statuses.compiled().quarantined.contains_key(&ip))
}

fn in_service(service: &Service) -> &[LoadBalancerIngress] {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|status| status.ingress.as_deref()).unwrap_or_default()
}

fn in_ingress(ingress: &Ingress) -> &[IngressLoadBalancerIngress] {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|status| status.ingress.as_deref()).unwrap_or_default()
}

fn pending(service: &Service) -> Option<&Condition> {
    let conditions = service.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == PENDING)
}

fn addresses(entries: &[LoadBalancerIngress]) -> BTreeSet<IpAddr> {
    entries.iter().filter_map(|entry| entry.ip.as_ref()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
