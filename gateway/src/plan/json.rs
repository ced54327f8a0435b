//! What a compile gave, as JSON: for `plan -o json` and for `/snapshot`. The field names are an interface.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
};

use gatehouse_routes::{
    action::{Action, DENY_STATUS, Forward},
    explain,
    model::{Backend, BackendTable, Scheme, Scope},
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
    rule::RouteRule,
};
use gatehouse_vip::PoolUsage;
use serde_json::{Value, json};

use super::Planned;
use crate::{
    compile::{Compiled, L4Address, L4Port, ListenerPlan, Named, of_new_clients, statuses},
    source::api_version,
};

/// The answer of `plan -o json`.
pub fn plan_json(planned: &Planned) -> Value {
    let compiled = &planned.compiled;
    json!({
        "objects": objects(planned),
        "addresses": addresses(compiled),
        "pools": pools(compiled),
        "excluded": compiled.excluded.map(|why| why.to_string()),
        "vips": compiled.vips.vips,
        "bgp": bgp(compiled),
        "listeners": listeners(compiled),
        "forwarded": forwarded(compiled),
        "routes": routes(compiled),
    })
}

/// What is live, for the admin server.
pub fn snapshot_json(compiled: &Compiled, generation: u64) -> Value {
    json!({
        "generation": generation,
        "listeners": listeners(compiled),
        "forwarded": forwarded(compiled),
        "addresses": addresses(compiled),
        "pools": pools(compiled),
        "excluded": compiled.excluded.map(|why| why.to_string()),
        "vips": compiled.vips.vips,
        "bgp": bgp(compiled),
        "routes": routes(compiled),
        "backends": backends(&compiled.routes.backends),
        "problems": compiled.problems,
    })
}

/// One route of `plan`, in either form.
pub(super) struct RouteRow<'c> {
    pub(super) rule: &'c RouteRule,
    /// What happens in clear text and over TLS; `None`: no such rule.
    pub(super) http: Option<String>,
    pub(super) https: Option<String>,
    /// Where its requests go, if it forwards any.
    pub(super) forward: Option<&'c Forward>,
}

/// The rules of all gateways: by host, then in the order in which they are tried.
pub(super) fn route_rows(compiled: &Compiled) -> Vec<RouteRow<'_>> {
    let Some(table) = compiled.routes.tables.first() else { return Vec::new() };
    let mut hosts: Vec<_> = table.routes.hosts().collect();
    hosts.sort_by(|(a, _), (b, _)| a.cmp(b));
    let rules = hosts.into_iter().flat_map(|(_, host)| host.rules());
    let passed = table.passthrough.iter().map(|pass| (&pass.host, &pass.object));
    let passed: BTreeSet<_> = passed.collect();
    let passes = |rule: &RouteRule| passed.contains(&(&rule.host, &rule.object));
    rules
        .map(|rule| RouteRow {
            rule,
            http: action(rule, Scheme::Http),
            https: action(rule, Scheme::Https)
                .or_else(|| passes(rule).then(|| "pass through".to_owned())),
            forward: rule.forward(),
        })
        .collect()
}

/// Where what comes to a port of a Service goes, by this process or by the kernel.
fn forwarded(compiled: &Compiled) -> Vec<Value> {
    let row = |(at, port): (&L4Address, &Arc<L4Port>)| {
        json!({
            "address": at.address,
            "protocol": at.transport.name().to_lowercase(),
            "by": port.forwarding.name(),
            "service": port.service.to_string(),
            "endpoints": forwarded_to(compiled, &port.forward, port.here.as_deref()),
            "server_names": named(port).map(|named| server_name(compiled, named)).collect::<Vec<_>>(),
            "client_affinity_seconds": port.by_client.as_ref().map(|it| it.time.as_secs()),
        })
    };
    compiled.l4.iter().map(row).collect()
}

fn server_name(compiled: &Compiled, named: &Named) -> Value {
    json!({
        "name": named.host.to_string(),
        "service": named.service.to_string(),
        "endpoints": forwarded_to(compiled, &named.forward, named.here.as_deref()),
    })
}

/// The server names of a port that lead elsewhere, in order.
pub(super) fn named(port: &L4Port) -> impl Iterator<Item = &Named> {
    let mut all: Vec<_> = port.names.iter().flat_map(|names| names.values()).collect();
    all.sort_by_key(|named| named.host.to_string());
    all.into_iter()
}

/// The endpoints that connections are passed on to: all of them, or those here.
pub(super) fn forwarded_to(
    compiled: &Compiled,
    forward: &Forward,
    here: Option<&[IpAddr]>,
) -> Vec<String> {
    let table = &compiled.routes.backends;
    let backends = forward.spec.backends.iter();
    let backends = backends.map(|one| table.get(one.slot).map(|one| &**one));
    let Some(here) = here else { return backends.flat_map(endpoints).collect() };
    let chosen = backends.flatten().flat_map(|one| of_new_clients(&one.endpoints, Some(here)));
    let chosen = chosen.map(|endpoint| endpoint.address);
    let is_here = |at: &SocketAddr| here.binary_search(&at.ip()).is_ok();
    chosen.filter(is_here).map(|at| at.to_string()).collect()
}

/// More names of hosts: the name and the host.
pub(super) fn alias_rows(compiled: &Compiled) -> impl Iterator<Item = [String; 2]> {
    let tables = compiled.routes.tables.first();
    let aliases = tables.into_iter().flat_map(|table| table.routes.aliases());
    aliases.map(|alias| [alias.name.to_string(), alias.of.pattern().to_string()])
}

/// Endpoints of a backend as text: addresses, or the name that is resolved at run time.
pub(super) fn endpoints(backend: Option<&Backend>) -> Vec<String> {
    let Some(backend) = backend else { return Vec::new() };
    match &backend.endpoints.external {
        Some(name) => vec![format!("{}:{}", name.host, name.port)],
        None => backend.endpoints.endpoints.iter().map(|one| one.address.to_string()).collect(),
    }
}

/// Objects of which `plan` has something to say, by kind and name, and their problems.
pub(super) fn judged(planned: &Planned) -> BTreeMap<ObjectRef, (Option<Value>, Vec<&Problem>)> {
    let Planned { state, compiled, node, unreadable: _, places: _ } = planned;
    let mut objects: BTreeMap<ObjectRef, (Option<Value>, Vec<&Problem>)> = BTreeMap::new();
    let mut add = |kind, key: &ObjectKey| {
        objects.entry(ObjectRef::new(kind, key.clone())).or_default();
    };
    let classes = state.objects.ingress_classes.iter().filter(|(key, stored)| {
        let controller = stored.object.spec.as_ref().and_then(|spec| spec.controller.as_ref());
        controller == Some(&node.options.controller)
            || node.options.claim_classes.iter().any(|name| **name == *key.name)
    });
    classes.for_each(|(key, _)| add("IngressClass", key));
    state.pools.keys().for_each(|key| add("IPAddressPool", key));
    state.l2_advertisements.keys().for_each(|key| add("L2Advertisement", key));
    state.bgp_peers.keys().for_each(|key| add("BGPPeer", key));
    state.bgp_advertisements.keys().for_each(|key| add("BGPAdvertisement", key));
    state.bfd_profiles.keys().for_each(|key| add("BFDProfile", key));
    state.communities.keys().for_each(|key| add("Community", key));
    for status in statuses(state, node, compiled) {
        objects.entry(status.object).or_default().0 = Some(status.status);
    }
    for problem in &compiled.problems {
        objects.entry(problem.object.clone()).or_default().1.push(problem);
    }
    objects
}

/// A scope as text.
pub(super) fn scope(scope: &Scope) -> String {
    match scope {
        Scope::Plain => "plain".to_owned(),
        Scope::Gateway(service) => service.to_string(),
    }
}

fn objects(planned: &Planned) -> Vec<Value> {
    let objects = judged(planned).into_iter();
    objects
        .map(|(ObjectRef { kind, key }, (status, problems))| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let problems: Vec<Value> = problems
                .into_iter()
                .map(|problem| {
                    json!({
                        "severity": problem.severity,
                        "reason": problem.reason,
                        "field": problem.field,
                        "message": problem.message,
                        "hint": problem.hint,
                    })
                })
                .collect();
            json!({
                "apiVersion": text(api_version(kind)),
                "kind": kind,
                "namespace": text(&key.namespace),
                "name": key.name,
                "status": status,
                "problems": problems,
            })
        })
        .collect()
}

fn addresses(compiled: &Compiled) -> Vec<Value> {
    let addresses = compiled.addresses.iter();
    addresses
        .map(|(service, assigned)| {
            json!({ "service": service, "pools": assigned.pools, "ips": assigned.ips })
        })
        .collect()
}

/// What routers are told, by BGPPeer: prefix, and what is said of it.
fn bgp(compiled: &Compiled) -> Value {
    let told = compiled.bgp.routes.iter().map(|(peer, rib)| {
        let routes = rib.routes.iter().map(|(prefix, attributes)| {
            json!({
                "prefix": prefix,
                "localPref": attributes.local_pref,
                "communities": attributes.communities,
            })
        });
        (peer.clone(), routes.collect::<Value>())
    });
    Value::Object(told.collect())
}

/// Counts that no JSON reader could keep exact are the greatest 64-bit integer.
fn pools(compiled: &Compiled) -> Vec<Value> {
    let count = |count: u128| i64::try_from(count).unwrap_or(i64::MAX);
    let pool = |usage: &PoolUsage| {
        json!({
            "pool": usage.pool,
            "assignedIPv4": count(usage.assigned_v4),
            "assignedIPv6": count(usage.assigned_v6),
            "availableIPv4": count(usage.available_v4),
            "availableIPv6": count(usage.available_v6),
            "restingIPv4": count(usage.quarantined_v4),
            "restingIPv6": count(usage.quarantined_v6),
            "draining": usage.draining,
        })
    };
    compiled.pools.iter().map(pool).collect()
}

fn listeners(compiled: &Compiled) -> Vec<Value> {
    let listener = |plan: &ListenerPlan| {
        json!({
            "address": plan.address,
            "protocol": plan.protocol,
            "scope": scope(&plan.scope),
            "vip": plan.vip,
        })
    };
    compiled.listeners.iter().map(listener).collect()
}

fn routes(compiled: &Compiled) -> Vec<Value> {
    let rows = route_rows(compiled).into_iter();
    let aliases: Vec<_> = alias_rows(compiled).collect();
    rows.map(|row| {
        let table = &compiled.routes.backends;
        let backends = row.forward.map_or(&[][..], |forward| &forward.spec.backends);
        let canary = |at| {
            let mut canaries = row.forward.into_iter().flat_map(|forward| forward.spec.canaries());
            canaries.find(|(_, index)| *index == at).map(|(canary, _)| canary)
        };
        let backends: Vec<Value> = backends
            .iter()
            .enumerate()
            .map(|(at, backend)| {
                let mut shown = json!({
                    "service": backend.key.service,
                    "port": backend.key.port.to_string(),
                    "weight": backend.weight,
                    "endpoints": endpoints(table.get(backend.slot).map(|backend| &**backend)),
                });
                if let Some(canary) = canary(at) {
                    shown["weight"] = 0.into();
                    shown["canary"] = canary.share.to_string().into();
                }
                shown
            })
            .collect();
        let mut shown = json!({
            "host": row.rule.host,
            "path": row.rule.matches.path.text(),
            "match": row.rule.matches.path.kind(),
            "object": row.rule.object,
            "http": row.http,
            "https": row.https,
            "backends": backends,
        });
        let host = row.rule.host.to_string();
        let names = aliases.iter().filter(|[_, of]| *of == host).map(|[name, _]| name);
        let names: Vec<_> = names.collect();
        if !names.is_empty() {
            shown["aliases"] = json!(names);
        }
        shown
    })
    .collect()
}

fn backends(table: &BackendTable) -> Vec<Value> {
    let backends = table.slots.iter().flatten();
    backends
        .map(|backend| {
            let set = &backend.endpoints;
            let external = set.external.as_ref().map(|name| format!("{}:{}", name.host, name.port));
            let endpoints: Vec<Value> = set
                .endpoints
                .iter()
                .map(|endpoint| {
                    json!({
                        "address": endpoint.address,
                        "requests": endpoint.stats.requests.load(Ordering::Relaxed),
                        "failures": endpoint.stats.failures.load(Ordering::Relaxed),
                    })
                })
                .collect();
            json!({
                "service": backend.key.service,
                "port": backend.key.port.to_string(),
                "external": external,
                "endpoints": endpoints,
            })
        })
        .collect()
}

/// What happens to requests of a scheme; `None`: the rule is not there for them.
fn action(rule: &RouteRule, scheme: Scheme) -> Option<String> {
    if !rule.serves(scheme) {
        return None;
    }
    if let Some(redirect) = rule.redirect(scheme) {
        return Some(format!("redirect {} to https", redirect.status));
    }
    Some(match (&rule.action, rule.rewrite()) {
        (Action::Deny { reason, .. }, _) => format!("deny {DENY_STATUS} ({reason})"),
        (Action::Redirect(redirect), _) => {
            format!("redirect {} to {}", redirect.status, redirect.to.text())
        }
        (Action::Forward(_), None) => format!("forward{}", explain::besides(rule)),
        (Action::Forward(_), Some(rewrite)) => {
            format!("forward as {}{}", rewrite.target(), explain::besides(rule))
        }
    })
}
