//! The objects of the large cluster, as JSON.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// The Service whose address statuses say, as `--publish-service` takes it.
pub(super) const PUBLISHED: &str = "cloud/edge";
/// Namespace of the Services of type LoadBalancer.
pub(super) const BALANCERS: &str = "balancers";
/// Namespace of [`PUBLISHED`].
const CLOUD: &str = "cloud";
/// Services in one namespace.
const PER_NAMESPACE: u32 = 20;

/// How many there are of what.
pub(super) struct Site {
    pub(super) ingresses: u32,
    pub(super) routes: u32,
    pub(super) services: u32,
    /// Where endpoints are, and where they move to.
    pub(super) endpoints: [SocketAddr; 2],
}

impl Site {
    pub(super) fn namespaces(&self) -> u32 {
        self.services.div_ceil(PER_NAMESPACE)
    }

    /// What the other objects need: namespaces, the class, the pool.
    pub(super) fn foundation(&self) -> Vec<Value> {
        let namespaces = (0..self.namespaces()).map(namespace);
        let namespaces = namespaces.chain([BALANCERS, CLOUD].map(str::to_owned));
        let mut objects: Vec<Value> = namespaces
            .map(|name| {
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
            })
            .collect();
        objects.push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": { "name": "gatehouse" },
            "spec": { "controller": "gatehouse.io/ingress" },
        }));
        objects
    }

    /// Everything else, Services first.
    pub(super) fn objects(&self) -> impl Iterator<Item = Value> {
        let services =
            (0..self.services).flat_map(|at| [service(at), self.slice(at, self.endpoints[0])]);
        let ingresses = (0..self.ingresses).map(|at| self.ingress(at));
        let routes = (0..self.routes).map(|at| self.route(at));
        [published(), pool()].into_iter().chain(services).chain(ingresses).chain(routes)
    }

    /// How many that are.
    pub(super) fn count(&self) -> u32 {
        2 * self.services + self.ingresses + self.routes
    }

    /// The hosts of all Ingresses and Routes.
    pub(super) fn hosts(&self) -> impl Iterator<Item = String> {
        let ingresses = (0..self.ingresses).map(ingress_host);
        ingresses.chain((0..self.routes).map(route_host))
    }

    /// The Service that an Ingress or a Route leads to.
    pub(super) fn service_of(&self, at: u32) -> u32 {
        at % self.services
    }

    fn slice(&self, at: u32, endpoint: SocketAddr) -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": name(at), "namespace": namespace(at / PER_NAMESPACE),
                "labels": { "kubernetes.io/service-name": name(at) },
            },
            "addressType": "IPv4",
            "ports": ports(endpoint),
            "endpoints": [{ "addresses": [endpoint.ip()], "conditions": { "ready": true } }],
        })
    }

    fn ingress(&self, at: u32) -> Value {
        let service = self.service_of(at);
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {
                "name": name(at), "namespace": namespace(service / PER_NAMESPACE),
                "annotations": { "nginx.ingress.kubernetes.io/ssl-redirect": "false" },
            },
            "spec": {
                "ingressClassName": "gatehouse",
                "rules": [{
                    "host": ingress_host(at),
                    "http": { "paths": [{
                        "path": "/", "pathType": "Prefix",
                        "backend": { "service": { "name": name(service), "port": { "number": 80 } } },
                    }] },
                }],
            },
        })
    }

    fn route(&self, at: u32) -> Value {
        let service = self.service_of(at);
        json!({
            "apiVersion": "route.openshift.io/v1", "kind": "Route",
            "metadata": { "name": name(at), "namespace": namespace(service / PER_NAMESPACE) },
            "spec": {
                "host": route_host(at),
                "to": { "kind": "Service", "name": name(service), "weight": 100 },
                "port": { "targetPort": "http" },
            },
        })
    }

    /// Namespace and name of an Ingress or a Route.
    pub(super) fn key(&self, at: u32) -> (String, String) {
        (namespace(self.service_of(at) / PER_NAMESPACE), name(at))
    }
}

/// The ports of a slice.
pub(super) fn ports(endpoint: SocketAddr) -> Value {
    json!([{ "name": "http", "protocol": "TCP", "port": endpoint.port() }])
}

/// The host of an Ingress.
pub(super) fn ingress_host(at: u32) -> String {
    format!("i{at}.cluster.test")
}

/// The host of a Route.
pub(super) fn route_host(at: u32) -> String {
    format!("r{at}.cluster.test")
}

/// A Service of type LoadBalancer.
pub(super) fn balancer(at: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": format!("balancer-{at}"), "namespace": BALANCERS },
        "spec": {
            "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "ports": [{ "port": 80 }],
        },
    })
}

fn service(at: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name(at), "namespace": namespace(at / PER_NAMESPACE) },
        "spec": {
            "clusterIP": "None",
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
        },
    })
}

/// What stands for a cloud's balancer before the gateway.
fn published() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "edge", "namespace": CLOUD },
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "cloud.example/balancer",
            "ports": [{ "port": 80 }],
        },
    })
}

fn pool() -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": { "name": "pool", "namespace": BALANCERS },
        "spec": { "addresses": ["10.20.0.0/20"] },
    })
}

fn namespace(number: u32) -> String {
    format!("team-{number}")
}

fn name(at: u32) -> String {
    format!("site-{at:06}")
}
