//! The second half of a compile: backends resolved, tables built, everything that did not change shared
//! with the previous compile.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use foldhash::{HashMap, HashSet, HashSetExt};

use super::{
    Compiled, GatewayTable,
    backends::Backends,
    by_age::{self, ByAge, Changes, Claimant, Claimants, Served},
    canaries,
    facts::Has,
    fallback,
    gather::{self, Run},
    hosts::{self, Besides},
    kept::{Cache, Held, Kept, KeptCerts},
    passthrough,
    remarks::KeptHosts,
    served::{self, JudgedRoute, ServedIngress},
};
use crate::{
    action::WeightedBackend,
    admit::{self, Lost},
    annotations::{authentication::Part, mirror::MirrorSettings},
    endpoints::{Gap, Inputs},
    model::{CertBinding, CertSource, HostPattern, Scope},
    objects::{ObjectKey, ObjectRef},
    parts::Parts,
    passthrough::PassThroughTable,
    problem::{Problem, Severity},
    references::{self, Reference},
    rule::RouteRule,
    table::RouteTable,
    translate::{BackendUse, Translation},
};

/// The objects that others refer to, found or not.
fn looked_into(served: Served<'_>) -> Vec<ObjectRef> {
    let with = served.translations(|has, _| has.any(Has::REFERENCES));
    let references = with.flat_map(|translation| &translation.references);
    references.map(Reference::object).cloned().collect()
}

/// What is served, and what of it differs from the previous compile.
type Since<'s, 'c> = (Served<'c>, &'s Changes<'c>);

/// The tables of all scopes.
struct Tables {
    tables: Vec<GatewayTable>,
    /// What the certificates of each were made from.
    certs: Vec<Arc<KeptCerts>>,
    /// What there is to be said of the hosts of the first one.
    hosts: Arc<KeptHosts>,
    /// The rules that lost.
    lost: Vec<Lost>,
}

impl Run<'_, '_> {
    /// Puts the result together.
    pub(super) fn finish(
        mut self,
        ingresses: Vec<ServedIngress<'_>>,
        mut routes: Vec<JudgedRoute<'_>>,
        asked: Vec<Translation>,
    ) -> Compiled {
        let fallback = fallback::of(self.options, &asked, self.previous);
        let (replaced, unused) = canaries::merge(&ingresses, self.objects, self.previous);
        self.problems.extend(unused);
        let refused = self.refused_wildcards(&routes);
        let default_gateway = self.options.default_gateway.as_ref();
        let all_served = Served { ingresses: &ingresses, routes: &routes, default_gateway };
        let ByAge { claimants, places: by_age, changes } = all_served.by_age(self.kept);
        let facts = all_served.facts();
        let inputs = self.kept.map(|kept| &kept.inputs);
        let changed = inputs.map(|inputs| inputs.changed(self.objects)).unwrap_or_default();
        let backends = self.backends(all_served, &asked, &changed);
        // Mostly nothing is missing.
        let told = |has: Has, in_table| in_table && (backends.missing || has.any(Has::PROBLEMS));
        all_served
            .translations(told)
            .chain(&asked)
            .for_each(|translation| self.report(translation, &backends));
        let looked_into = looked_into(all_served);
        let wanted_config_maps = self.wanted_config_maps(&looked_into);
        let besides =
            Besides { replaced: &replaced, refused: &refused, fallback: fallback.as_ref() };
        let Tables { tables, certs, hosts, lost } =
            self.tables(&claimants, besides, all_served, changes.as_ref());
        drop((claimants, changes));
        // The first table has the rules of all gateways.
        let of_certs = certs.first().map(|kept| Arc::clone(&kept.secrets)).unwrap_or_default();
        let wanted_secrets = self.wanted_secrets(&looked_into, of_certs);
        for lost in lost {
            self.problems.push(admit::conflict(&lost));
            refuse_route(&mut routes, &lost);
        }
        self.problems.extend(backends.problems.iter().cloned());
        self.problems.sort_by(order);
        self.problems.dedup();

        Compiled {
            error_pages: None,
            tls: None,
            tables,
            ingresses: served::of_ingresses(&ingresses, self.previous),
            routes: served::of_routes(&routes, self.previous),
            problems: self.problems,
            wanted_secrets,
            wanted_config_maps,
            backends: Arc::clone(&backends.table),
            cache: Cache {
                options: self.options.clone(),
                defaults: self.defaults,
                ingresses: held(
                    ingresses.iter().map(|ingress| (&ingress.kept, ingress.was_at)),
                    self.kept.map(|kept| &kept.ingresses),
                ),
                refused_routes: served::refused(&routes),
                routes: held(
                    routes.iter().map(|route| (&route.kept, route.was_at)),
                    self.kept.map(|kept| &kept.routes),
                ),
                failed_claims: self.failed_claims,
                by_age,
                facts,
                classes: gather::classes(self.objects)
                    .map(|(key, revision)| (key.clone(), revision))
                    .collect(),
                slots: self.slots.finish(&backends.table),
                scopes: self.scopes,
                secrets: match self.previous.filter(|_| self.same_secrets) {
                    Some(previous) => Arc::clone(&previous.cache.secrets),
                    None => self.objects.secrets.keys().cloned().collect(),
                },
                refused: self.objects.refused.clone(),
                certs,
                hosts,
                own: self.own,
                inputs: Inputs::of(self.objects, inputs.map(|inputs| (inputs, &changed))),
                backends,
            },
            asked: fallback::others(self.options, &asked).map(|asked| asked.slot).collect(),
        }
    }

    /// The wildcards that Routes asked for and may not have, in order.
    fn refused_wildcards(&self, routes: &[JudgedRoute<'_>]) -> Vec<HostPattern> {
        let refused = self.failed_claims.keys().filter_map(|at| routes.get(*at));
        let claims = refused.filter_map(|route| route.kept.result.claim.as_ref());
        let wildcards = claims.filter(|host| matches!(host, HostPattern::OneLabel(_)));
        wildcards.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The ConfigMaps that objects and the options refer to, the previous `Arc` if they are the same.
    fn wanted_config_maps(&self, looked_into: &[ObjectRef]) -> Arc<BTreeSet<ObjectKey>> {
        let maps = looked_into.iter().filter(|object| object.kind == references::CONFIG_MAP);
        let mut wanted: BTreeSet<_> = maps.map(|object| object.key.clone()).collect();
        wanted.extend(self.options.nginx_config.clone());
        wanted.extend(self.options.error_pages.clone());
        wanted.extend(self.defaults.iter().flat_map(|it| it.config_maps()).cloned());
        let previous = self.previous.map(|previous| &previous.wanted_config_maps);
        match previous.filter(|previous| ***previous == wanted) {
            Some(previous) => Arc::clone(previous),
            None => Arc::new(wanted),
        }
    }

    /// Those of certificates and those that objects refer to, the previous `Arc` if they are the same.
    fn wanted_secrets(
        &self,
        looked_into: &[ObjectRef],
        of_certs: Arc<BTreeSet<ObjectKey>>,
    ) -> Arc<BTreeSet<ObjectKey>> {
        let others = looked_into.iter().filter(|object| object.kind == references::SECRET);
        let mut others = others.peekable();
        if others.peek().is_none() {
            return of_certs;
        }
        let wanted: BTreeSet<_> =
            of_certs.iter().chain(others.map(|object| &object.key)).cloned().collect();
        let previous = self.previous.map(|previous| &previous.wanted_secrets);
        match previous.filter(|previous| ***previous == wanted) {
            Some(previous) => Arc::clone(previous),
            None => Arc::new(wanted),
        }
    }

    /// The problems of a served object, those of its references included.
    fn report(&mut self, translation: &Translation, backends: &Backends) {
        self.problems.extend(translation.problems.iter().cloned());
        let gap = |usage: &BackendUse| backends.gap(usage);
        // Mostly nothing is missing.
        if translation.backends.iter().all(|usage| gap(usage).is_none()) {
            return;
        }
        // A Route is one rule, a path of an Ingress another: while one backend of a rule answers, its requests are.
        let of_route = translation.object.kind == "Route";
        let answered = |field: &str| {
            let mut used = translation.backends.iter().filter(|usage| usage.used);
            let same = |usage: &BackendUse| match of_route {
                true => !usage.field.starts_with("metadata"),
                false => usage.field == field,
            };
            used.any(|usage| same(usage) && gap(usage).is_none())
        };
        let stand_in = stand_in(translation);
        let stands_in = |usage: &BackendUse| {
            stand_in.is_some_and(|it| it.slot == usage.slot) && usage.field.starts_with("metadata")
        };
        let ready = |usage: &&BackendUse| stands_in(usage) && gap(usage).is_none();
        let stand_in = translation.backends.iter().find(ready);
        for usage in &translation.backends {
            let Some(gap) = gap(usage) else { continue };
            let (so, answered) = match (translation.so, stand_in) {
                _ if gap == Gap::Named => ("a name server is asked for it".into(), true),
                (Some(so), _) => (so.into(), false),
                // Requests go on; only their copies do not.
                _ if usage.field == MirrorSettings::field() => ("no copy is sent".into(), true),
                _ if usage.field == Part::Url.field() => {
                    ("it cannot be asked, so nobody passes (500)".into(), false)
                }
                _ if usage.field == Part::JwtUrl.field() => {
                    ("its keys cannot be had, so nobody passes (503)".into(), false)
                }
                _ if stands_in(usage) => {
                    ("it stands in for nobody, and errors are worded here".into(), false)
                }
                _ if answered(&usage.field) => {
                    ("the other backends of the rule answer".into(), true)
                }
                (None, Some(other)) => {
                    (format!("Service {} answers in its place", other.key.service), true)
                }
                (None, None) => ("requests get 503".to_owned(), false),
            };
            let mut problem = gap.problem(&translation.object, &usage.key, &usage.field, &so);
            if answered {
                problem.severity = Severity::Warning;
            }
            self.problems.push(problem);
        }
    }

    /// The tables of all scopes.
    fn tables<'c>(
        &mut self,
        claimants: &Claimants<'c>,
        besides: Besides<'c>,
        served: Served<'c>,
        changes: Option<&Changes<'c>>,
    ) -> Tables {
        let since = changes.map(|changes| (served, changes));
        let (plain, kept, hosts) = self.table(Scope::Plain, claimants, besides, since, None);
        let mut lost: Vec<_> = hosts.lost().cloned().collect();
        if !lost.is_empty() {
            let gateways: HashMap<_, _> =
                claimants.iter().map(|c| (&c.translation.object, c.gateway)).collect();
            lost.retain(|lost| meet(&gateways, lost));
        }
        let mut certs = vec![kept];
        let mut tables = Vec::new();
        for gateway in self.classes.gateways() {
            let scope = Scope::Gateway(gateway.clone());
            if served.are_of(&gateway) {
                let slot = self.scopes.slot(&scope);
                tables.push(GatewayTable { scope, slot, ..plain.clone() });
                certs.push(Arc::clone(&certs[0]));
                continue;
            }
            let of_gateway = |c: &&Claimant<'_>| c.gateway == Some(&gateway);
            let scoped = by_age::of(claimants.iter().filter(of_gateway).copied().collect());
            let of_routes = served.default_gateway == Some(&gateway);
            let refused = if of_routes { besides.refused } else { &[] };
            let besides = Besides { refused, ..besides };
            let (table, kept, here) =
                self.table(scope, &scoped, besides, None, Some(&plain.routes));
            tables.push(table);
            certs.push(kept);
            lost.extend(here.lost().cloned());
        }
        tables.insert(0, plain);
        for kept in &certs {
            self.problems.extend(kept.problems.iter().cloned());
        }
        Tables { tables, certs, hosts, lost }
    }

    /// One table, sharing with its predecessor and with the table of all gateways what is the same. `since` is for the
    /// latter alone.
    fn table<'c>(
        &mut self,
        scope: Scope,
        claimants: &Claimants<'c>,
        besides: Besides<'c>,
        since: Option<Since<'_, 'c>>,
        plain: Option<&Arc<RouteTable>>,
    ) -> (GatewayTable, Arc<KeptCerts>, Arc<KeptHosts>) {
        let slot = self.scopes.slot(&scope);
        let tables = self.previous.map_or(&[][..], |previous| &previous.tables);
        let at = tables.iter().position(|table| table.scope == scope);
        let previous = at.map(|at| &tables[at]);
        let routes = previous.map(|table| &table.routes);
        let before = self.kept.map(|kept| &kept.hosts);
        let built = match since.zip(routes.zip(before)) {
            Some(((served, changes), before)) => {
                let find = |object: &ObjectRef| served.find(object);
                hosts::changed(claimants, changes, find, besides, before)
            }
            None => hosts::all(claimants, besides, routes, plain),
        };
        self.problems.extend(built.taken);
        let changes = since.map(|(_, changes)| changes);
        let kept = at.and_then(|at| self.previous?.cache.certs.get(at));
        let as_before = before.is_some_and(|before| Arc::ptr_eq(before, &built.kept));
        let (certs, kept) =
            self.certs(claimants, &built.kept, previous.zip(kept), changes.filter(|_| as_before));
        let passthrough = self.passthrough(claimants, previous, changes);
        (GatewayTable { scope, slot, routes: built.table, certs, passthrough }, kept, built.kept)
    }

    /// The certificates of these claimants, oldest first: the oldest binding of a host counts, even if
    /// its Secret is missing. Then the host gets the default certificate, not that of a younger object. Those of
    /// refused Routes count where no other object has one: clients get 503 on a host that is known. `changes` are
    /// given where in the hosts the same rules lost as before.
    fn certs(
        &self,
        claimants: &Claimants<'_>,
        hosts: &KeptHosts,
        previous: Option<(&GatewayTable, &Arc<KeptCerts>)>,
        changes: Option<&Changes<'_>>,
    ) -> (Arc<[CertBinding]>, Arc<KeptCerts>) {
        let current = previous.filter(|_| self.same_secrets);
        if let (Some((table, kept)), Some(changes)) = (current, changes)
            && !changes.any(|translation| !translation.certs.is_empty())
        {
            return (Arc::clone(&table.certs), Arc::clone(kept));
        }
        let given = claimants.iter().map(|claimant| claimant.translation);
        let given = given.filter(|translation| !translation.certs.is_empty());
        let lost: HashSet<_> = hosts.lost().map(|lost| &lost.rule.object).collect();
        let lost = |object: &ObjectRef| object.kind == "Route" && lost.contains(object);
        let (refused, served): (Vec<_>, Vec<_>) =
            given.partition(|translation| translation.refused || lost(&translation.object));
        let given = served.into_iter().chain(refused);
        let bindings: Vec<_> = given.map(|translation| Arc::clone(&translation.certs)).collect();
        if let Some((table, kept)) = current
            && kept.bindings.len() == bindings.len()
            && kept.bindings.iter().zip(&bindings).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return (Arc::clone(&table.certs), Arc::clone(kept));
        }
        let secrets: HashSet<&ObjectKey> = self.objects.secrets.keys().collect();
        let mut taken = HashSet::new();
        let mut problems = Vec::new();
        let mut certs = Vec::new();
        let rest = self.options.default_certificate.as_ref().map(default_certificate);
        let asked = || bindings.iter().flat_map(|certs| &**certs).chain(&rest);
        for cert in asked() {
            let missing = missing_secret(&secrets, &self.objects.refused, cert);
            let free = match cert.if_named {
                true => !taken.contains(&cert.host),
                false => taken.insert(&cert.host),
            };
            if free && missing.is_none() {
                certs.push(cert);
            }
            // A Route is judged by its certificate: what is wrong has been said.
            problems.extend(missing.filter(|problem| problem.object.kind != "Route"));
        }
        let same = previous.filter(|(table, _)| table.certs.iter().eq(certs.iter().copied()));
        let certs = match same {
            Some((table, _)) => Arc::clone(&table.certs),
            None => certs.into_iter().cloned().collect(),
        };
        let sources = asked().map(|cert| &cert.source);
        let secrets = sources.filter_map(|source| match source {
            CertSource::Secret(key) => Some(key.clone()),
            CertSource::Inline { .. } => None,
        });
        let secrets = Arc::new(secrets.collect());
        (certs, Arc::new(KeptCerts { bindings, secrets, problems }))
    }

    /// The server names of these claimants that are passed on, the previous table if it says the same.
    fn passthrough(
        &mut self,
        claimants: &Claimants<'_>,
        previous: Option<&GatewayTable>,
        changes: Option<&Changes<'_>>,
    ) -> Arc<PassThroughTable> {
        let passes = |translation: &Translation| !translation.passthrough.is_empty();
        let none = previous.map(|table| &table.passthrough).filter(|table| table.is_empty());
        if let (Some(none), Some(changes)) = (none, changes)
            && !changes.any(passes)
        {
            return Arc::clone(none);
        }
        if !claimants.iter().any(|claimant| passes(claimant.translation)) {
            return none.map_or_else(Arc::default, Arc::clone);
        }
        let objects = claimants.iter().map(|claimant| claimant.translation);
        let (table, problems) = passthrough::table(objects);
        self.problems.extend(problems);
        match previous.map(|previous| &previous.passthrough) {
            Some(known) if **known == table => Arc::clone(known),
            _ => Arc::new(table),
        }
    }
}

/// What is kept of those, with what is the same in `before` as it is there.
fn held<'h, D: 'h>(
    all: impl Iterator<Item = (&'h Held<'h, D>, Option<usize>)>,
    before: Option<&Parts<Arc<Kept<D>>>>,
) -> Parts<Arc<Kept<D>>> {
    let none = Parts::default();
    Parts::of(
        all,
        before.unwrap_or(&none),
        |at, (held, was_at), _| *was_at == Some(at) && held.is_same(),
        |(held, _)| held.kept(),
    )
}

/// For names that no object has a certificate for.
fn default_certificate(secret: &ObjectKey) -> CertBinding {
    CertBinding {
        host: HostPattern::Any,
        if_named: false,
        source: CertSource::Secret(secret.clone()),
        object: ObjectRef::new("Secret", secret.clone()),
        field: String::new(),
    }
}

fn missing_secret(
    secrets: &HashSet<&ObjectKey>,
    refused: &BTreeMap<ObjectRef, Arc<str>>,
    cert: &CertBinding,
) -> Option<Problem> {
    let CertSource::Secret(key) = &cert.source else { return None };
    let instead = cert.instead();
    if secrets.contains(key) {
        return None;
    }
    if let Some(why) = refused.get(&ObjectRef::new("Secret", key.clone())) {
        return Some(Problem::error(
            &cert.object,
            "SecretForbidden",
            cert.field.clone(),
            format!("Secret {key} may not be read: {why}; {instead} is used"),
            "allow the service account of the gateway to get and watch Secrets in that namespace",
        ));
    }
    Some(Problem::warning(
        &cert.object,
        "SecretNotFound",
        cert.field.clone(),
        format!("Secret {key} does not exist; {instead} is used"),
        "create a Secret of type kubernetes.io/tls in the same namespace",
    ))
}

/// Whether the two objects of a conflict are served side by side anywhere but on plain addresses, where
/// the rules of all gateways come together: split horizons are not a mistake.
fn meet(gateways: &HashMap<&ObjectRef, Option<&ObjectKey>>, lost: &Lost) -> bool {
    let gateway = |rule: &RouteRule| gateways.get(&rule.object).copied().flatten();
    match (gateway(&lost.rule), gateway(&lost.owner)) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

/// A Route has one rule: if another object holds its place, nothing of it is served, but where its TLS is passed on: then
/// that rule is about clear text alone.
fn refuse_route(routes: &mut [JudgedRoute<'_>], lost: &Lost) {
    if lost.rule.object.kind != "Route" {
        return;
    }
    let key = &lost.rule.object.key;
    if let Ok(at) = routes.binary_search_by(|route| route.kept.key.cmp(key)) {
        if !routes[at].kept.result.translation.passthrough.is_empty() {
            return;
        }
        let (owner, host) = (&lost.owner.object, &lost.rule.host);
        let message = match lost.owner.guards() {
            Some(_) => format!("{owner} keeps this path of {host} closed"),
            None => format!("{owner} already exposes {host} with this path and is older"),
        };
        routes[at].refused = Some(("HostAlreadyClaimed", message));
    }
}

fn order(a: &Problem, b: &Problem) -> std::cmp::Ordering {
    let key = |problem: &Problem| (problem.severity, problem.reason);
    a.object
        .cmp(&b.object)
        .then_with(|| a.field.cmp(&b.field))
        .then_with(|| key(a).cmp(&key(b)))
        .then_with(|| a.message.cmp(&b.message))
}

/// The Service that answers in the place of a backend without endpoint, if the object has one.
fn stand_in(translation: &Translation) -> Option<&WeightedBackend> {
    let mut rules = translation.entries.iter().flat_map(|entry| &entry.rules);
    rules.find_map(|rule| rule.stand_in())
}
