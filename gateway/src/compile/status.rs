//! The statuses that belong on the objects, without any time, so that they stay a pure function of the
//! objects. Made when they are shown or written, not with every compile: with thousands of objects that
//! would cost as much as compiling the one that changed.
//!
//! `plan` prints [`statuses`] as they are; `status::diff` compares [`Statuses`] with what the objects say
//! already.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use gatehouse_routes::{
    compile::{IngressOutcome, RouteOutcome},
    model::Scope,
    objects::{ObjectKey, ObjectRef, Stored},
    problem::Problem,
};
use gatehouse_vip::PoolUsage;
use k8s_openapi::api::{
    core::v1::{LoadBalancerIngress, Service},
    networking::v1::IngressLoadBalancerIngress,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Compiled, NodeContext, ObjectStatus,
    addresses::pools,
    gateways::{claims_address, may_be_ours, port_statuses},
    l4,
};
use crate::{source::api_version, state::ClusterState};

/// Statuses of Services, IPAddressPools, Ingresses and Routes, each in the order of its keys. `compiled` must be what the
/// other two compile to.
pub fn statuses(
    state: &ClusterState,
    node: &NodeContext,
    compiled: &Compiled,
) -> Vec<ObjectStatus> {
    let all = Statuses::new(state, node, compiled);
    let services =
        all.services().map(|(key, _, entries)| status("Service", key, load_balancer(&entries)));
    let pools = all.pools().map(|(key, usage)| status("IPAddressPool", key, pool(usage)));
    let ingresses =
        all.ingresses().map(|(key, entries)| status("Ingress", key, load_balancer(&entries)));
    let routes = all.routes().map(|outcome| {
        let entry = json!({ "ingress": [all.route_entry(outcome)] });
        status("Route", &outcome.object, entry)
    });
    services.chain(pools).chain(ingresses).chain(routes).collect()
}

/// What is wrong with what the statuses are to be made of.
pub(super) fn problems(state: &ClusterState, node: &NodeContext) -> Option<Problem> {
    let key = node.publish_service.as_ref()?;
    if state.objects.services.contains_key(key) {
        return None;
    }
    Some(Problem::error(
        &ObjectRef::new("Service", key.clone()),
        "PublishServiceNotFound",
        "",
        "the Service of --publish-service does not exist, so no Ingress has an address in its status",
        "create it, or name another one",
    ))
}

/// What the statuses of all objects are to be.
pub(crate) struct Statuses<'c> {
    state: &'c ClusterState,
    node: &'c NodeContext,
    compiled: &'c Compiled,
    gateways: BTreeSet<&'c ObjectKey>,
    passed_on: BTreeSet<&'c ObjectKey>,
    /// Where clients come in, whatever address serves an object.
    published: Option<Vec<IngressLoadBalancerIngress>>,
}

impl<'c> Statuses<'c> {
    /// `compiled` must be what the other two compile to.
    pub(crate) fn new(
        state: &'c ClusterState,
        node: &'c NodeContext,
        compiled: &'c Compiled,
    ) -> Self {
        let gateways = compiled.routes.tables.iter().filter_map(|table| match &table.scope {
            Scope::Gateway(key) => Some(key),
            Scope::Plain => None,
        });
        let service = node.publish_service.as_ref();
        let published = service.map(|key| {
            let stored = state.objects.services.get(key);
            stored.map(|stored| published(&stored.object)).unwrap_or_default()
        });
        let passed_on = compiled.passed_on.iter().collect();
        Self { state, node, compiled, gateways: gateways.collect(), passed_on, published }
    }

    /// Every Service that asks for an address of ours, and `status.loadBalancer.ingress`.
    pub(crate) fn services(
        &self,
    ) -> impl Iterator<Item = (&'c ObjectKey, &'c Stored<Service>, Vec<LoadBalancerIngress>)> {
        let Self { state, node, compiled, .. } = self;
        let services = state.objects.services.iter();
        let services = services.filter(|(_, stored)| claims_address(state, node, stored));
        services.map(|(key, stored)| {
            let dealt = compiled.dealt.get(key);
            let ips: &[IpAddr] = dealt.map_or(&[], |dealt| &dealt.assigned.ips);
            // Traffic to a gateway ends in this process, one hop before the pod; kube-proxy must not
            // short-cut it (`ipMode` of `core/v1` LoadBalancerIngress).
            let gateway = self.gateways.contains(key);
            let passed_on = self.passed_on.contains(key);
            let mode = if gateway || passed_on { "Proxy" } else { "VIP" };
            let ports = match passed_on {
                true => Some(l4::port_statuses(key, &stored.object)),
                false => gateway.then(|| port_statuses(&stored.object)),
            };
            let entry = |ip: &IpAddr| LoadBalancerIngress {
                ip: Some(ip.to_string()),
                ip_mode: Some(mode.to_owned()),
                ports: ports.clone().filter(|ports| !ports.is_empty()),
                hostname: None,
            };
            (key, stored, ips.iter().map(entry).collect())
        })
    }

    /// Whether the Service would ask for an address of ours if there were any pool.
    pub(crate) fn lacks_pools(&self, service: &Service) -> bool {
        self.state.pools.is_empty()
            && may_be_ours(self.node.load_balancer_class.as_deref(), service)
    }

    /// How full every pool is.
    pub(crate) fn pools(&self) -> impl Iterator<Item = (&'c ObjectKey, &'c PoolUsage)> {
        let names = pools::named(&self.state.pools);
        let usages = self.compiled.pools.iter();
        usages.filter_map(move |usage| Some((*names.get(usage.pool.as_str())?, usage)))
    }

    /// Every Ingress that is served, and `status.loadBalancer.ingress`.
    pub(crate) fn ingresses(
        &self,
    ) -> impl Iterator<Item = (&'c ObjectKey, Vec<IngressLoadBalancerIngress>)> {
        let plain: Vec<_> = plain_addresses(self.node).into_iter().map(ingress_entry).collect();
        let ingresses = self.compiled.routes.ingresses.iter();
        ingresses.map(move |outcome| (&outcome.object, self.ingress(outcome, &plain)))
    }

    fn ingress(
        &self,
        outcome: &IngressOutcome,
        plain: &[IngressLoadBalancerIngress],
    ) -> Vec<IngressLoadBalancerIngress> {
        if let Some(published) = &self.published {
            return published.clone();
        }
        let of_gateway = outcome.gateway.as_ref();
        let assigned = of_gateway.and_then(|service| self.compiled.addresses.get(service));
        let ips: &[IpAddr] = assigned.map_or(&[], |assigned| &assigned.ips);
        // A plain address is only worth telling where there is no virtual one.
        if ips.is_empty() {
            plain.to_vec()
        } else {
            ips.iter().copied().map(ingress_entry).collect()
        }
    }

    /// Every Route and what became of it.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &'c Arc<RouteOutcome>> {
        self.compiled.routes.routes.iter()
    }

    /// The entry of this router in `status.ingress` of a Route.
    pub(crate) fn route_entry(&self, outcome: &RouteOutcome) -> Value {
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
        let stored = self.state.objects.routes.get(&outcome.object);
        let policy = stored.and_then(|stored| stored.object.spec.wildcard_policy.as_deref());
        let mut entry = json!({
            "host": outcome.host,
            "routerName": self.node.options.router_name,
            "conditions": [condition],
            "wildcardPolicy": policy.unwrap_or("None"),
        });
        if let Some(name) = self.canonical_hostname() {
            entry["routerCanonicalHostname"] = name.into();
        }
        entry
    }

    /// `routerCanonicalHostname` in the status of every Route.
    pub(crate) fn canonical_hostname(&self) -> Option<String> {
        let published = || self.published.iter().flatten().find_map(|entry| entry.hostname.clone());
        self.node.canonical_hostname.clone().or_else(published)
    }

    /// What the objects are.
    pub(crate) fn state(&self) -> &'c ClusterState {
        self.state
    }

    /// What they compile to.
    pub(crate) fn compiled(&self) -> &'c Compiled {
        self.compiled
    }

    /// Name of this router in the status of Routes.
    pub(crate) fn router_name(&self) -> &'c str {
        &self.node.options.router_name
    }
}

/// `IPAddressPool.status` as MetalLB writes it; counts that do not fit are the greatest that does.
pub(crate) fn pool(usage: &PoolUsage) -> Value {
    let count = |count: u128| i64::try_from(count).unwrap_or(i64::MAX);
    json!({
        "assignedIPv4": count(usage.assigned_v4),
        "assignedIPv6": count(usage.assigned_v6),
        "availableIPv4": count(usage.available_v4),
        "availableIPv6": count(usage.available_v6),
    })
}

fn status(kind: &'static str, key: &ObjectKey, status: Value) -> ObjectStatus {
    let object = ObjectRef::new(kind, key.clone());
    ObjectStatus { object, api_version: api_version(kind), status }
}

/// `status` with these entries.
pub(crate) fn load_balancer<E: Serialize>(entries: &[E]) -> Value {
    match entries {
        [] => json!({ "loadBalancer": {} }),
        entries => json!({ "loadBalancer": { "ingress": entries } }),
    }
}

fn ingress_entry(ip: IpAddr) -> IngressLoadBalancerIngress {
    IngressLoadBalancerIngress { ip: Some(ip.to_string()), ..Default::default() }
}

/// Where clients come in by a Service: what its status says, then `externalIPs`; the name that an
/// `ExternalName` Service stands for.
fn published(service: &Service) -> Vec<IngressLoadBalancerIngress> {
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let name = spec.and_then(|spec| spec.external_name.clone());
        let entry =
            |name| IngressLoadBalancerIngress { hostname: Some(name), ..Default::default() };
        return name.map(entry).into_iter().collect();
    }
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let told = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default().iter();
    let told = told.map(|entry| IngressLoadBalancerIngress {
        hostname: entry.hostname.clone(),
        ip: entry.ip.clone(),
        ports: None,
    });
    let ips = spec.and_then(|spec| spec.external_ips.as_deref()).unwrap_or_default().iter();
    let ips =
        ips.map(|ip| IngressLoadBalancerIngress { ip: Some(ip.clone()), ..Default::default() });
    told.chain(ips).collect()
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
