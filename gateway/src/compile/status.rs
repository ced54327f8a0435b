//! The statuses that belong on the objects, as they are to be written in a cluster; without any time, so
//! that they stay a pure function of the objects. Made for whoever shows or writes them, not with every
//! compile: with thousands of objects that would cost as much as compiling the one that changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use gatehouse_routes::{
    compile::{IngressOutcome, RouteOutcome},
    model::Scope,
    objects::{ObjectKey, ObjectRef},
};
use gatehouse_vip::PoolUsage;
use serde_json::{Value, json};

use super::{
    Assigned, Compiled, NodeContext, ObjectStatus, addresses::pools, gateways::claims_address,
};
use crate::{source::api_version, state::ClusterState};

/// Statuses of Services, IPAddressPools, Ingresses and Routes, each in the order of its keys. `compiled` must be what the
/// other two compile to.
pub fn statuses(
    state: &ClusterState,
    node: &NodeContext,
    compiled: &Compiled,
) -> Vec<ObjectStatus> {
    let Compiled { routes, addresses, .. } = compiled;
    let scopes: BTreeSet<&Scope> = routes.tables.iter().map(|table| &table.scope).collect();
    let services =
        state.objects.services.iter().filter(|(_, stored)| claims_address(&stored.object));
    let services = services.map(|(key, _)| {
        // Traffic to a gateway ends in this process, one hop before the pod; kube-proxy must not
        // short-cut it (`ipMode` of `core/v1` LoadBalancerIngress).
        let gateway = scopes.contains(&Scope::Gateway(key.clone()));
        let mode = if gateway { "Proxy" } else { "VIP" };
        let ips: &[IpAddr] = addresses.get(key).map_or(&[], |assigned| &assigned.ips);
        status("Service", key, load_balancer(ips, Some(mode)))
    });
    let names = pools::named(&state.pools);
    let pools = compiled.pools.iter().filter_map(|usage| {
        let key = names.get(usage.pool.as_str())?;
        Some(status("IPAddressPool", key, pool(usage)))
    });
    let plain: Vec<IpAddr> = plain_addresses(node);
    let ingresses = routes
        .ingresses
        .iter()
        .map(|outcome| status("Ingress", &outcome.object, ingress(outcome, addresses, &plain)));
    let router = &node.options.router_name;
    let routes = routes
        .routes
        .iter()
        .map(|outcome| status("Route", &outcome.object, route(outcome, router)));
    services.chain(pools).chain(ingresses).chain(routes).collect()
}

fn status(kind: &'static str, key: &ObjectKey, status: Value) -> ObjectStatus {
    let object = ObjectRef::new(kind, key.clone());
    ObjectStatus { object, api_version: api_version(kind), status }
}

/// `IPAddressPool.status` as MetalLB writes it; counts that do not fit are the greatest that does.
fn pool(usage: &PoolUsage) -> Value {
    let count = |count: u128| i64::try_from(count).unwrap_or(i64::MAX);
    json!({
        "assignedIPv4": count(usage.assigned_v4),
        "assignedIPv6": count(usage.assigned_v6),
        "availableIPv4": count(usage.available_v4),
        "availableIPv6": count(usage.available_v6),
    })
}

fn ingress(
    outcome: &IngressOutcome,
    addresses: &BTreeMap<ObjectKey, Assigned>,
    plain: &[IpAddr],
) -> Value {
    let mut ips: Vec<IpAddr> = Vec::new();
    for scope in &outcome.scopes {
        let Scope::Gateway(service) = scope else { continue };
        let assigned: &[IpAddr] = addresses.get(service).map_or(&[], |assigned| &assigned.ips);
        ips.extend(assigned.iter().filter(|ip| !ips.contains(ip)).collect::<Vec<_>>());
    }
    // A plain address is only worth telling where there is no virtual one.
    load_balancer(if ips.is_empty() { plain } else { &ips }, None)
}

fn route(outcome: &RouteOutcome, router: &str) -> Value {
    let mut condition = json!({
        "type": "Admitted",
        "status": if outcome.admitted { "True" } else { "False" },
    });
    if !outcome.reason.is_empty() {
        condition["reason"] = outcome.reason.into();
    }
    if !outcome.message.is_empty() {
        condition["message"] = outcome.message.as_str().into();
    }
    json!({ "ingress": [{
        "host": outcome.host,
        "routerName": router,
        "conditions": [condition],
        "wildcardPolicy": "None",
    }] })
}

fn load_balancer(ips: &[IpAddr], mode: Option<&str>) -> Value {
    if ips.is_empty() {
        return json!({ "loadBalancer": {} });
    }
    let entries: Vec<Value> = ips
        .iter()
        .map(|ip| match mode {
            Some(mode) => json!({ "ip": ip, "ipMode": mode }),
            None => json!({ "ip": ip }),
        })
        .collect();
    json!({ "loadBalancer": { "ingress": entries } })
}

fn plain_addresses(node: &NodeContext) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in node.http.iter().chain(&node.https).map(std::net::SocketAddr::ip) {
        if !ip.is_unspecified() && !ip.is_loopback() && !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips
}
