//! The whole with a real router: a client that reaches the gateway only by what FRR has heard of it.
//!
//! client – router (FRR) – node (gatehouse), each a network namespace. Needs root, iproute2, curl and
//! the Debian package frr; fails without them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ecmp;
mod upgrade;

use std::{net::TcpListener, time::Duration};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, echo_answer, ok},
        gateway::{Gateway, Plan, signal},
        manifests::service,
    },
    routers::{Config, Kind, Peer, Route, Router, lab::Lab},
    wait::eventually,
};

const VIP: &str = "192.0.2.10";
const VIP6: &str = "2001:db8:1::10";
const ROUTES: [&str; 2] = ["192.0.2.10/32", "2001:db8:1::10/128"];
/// The node's addresses, by family of the routes.
const NODE: [&str; 2] = ["10.79.0.2", "2001:db8:79::2"];

/// A client behind a router, a node, and the backend on the node.
struct Scene {
    lab: Lab,
    backend: Backend,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new(&[("router", 1), ("node", 2)]);
        lab.host("client");
        lab.veth(("client", "eth0"), ("router", "eth1"));
        for (host, interface, n) in [("client", "eth0", 2), ("router", "eth1", 1)] {
            lab.address(host, interface, &format!("10.80.0.{n}/24"));
            lab.address(host, interface, &format!("2001:db8:80::{n}/64"));
        }
        lab.ip("client", "route add default via 10.80.0.1");
        lab.ip("client", "-6 route add default via 2001:db8:80::1");
        lab.ip("node", "route add 10.80.0.0/24 via 10.79.0.1");
        lab.ip("node", "-6 route add 2001:db8:80::/64 via 2001:db8:79::1");
        let backend = backend(&lab, "node", "app");
        Self { lab, backend }
    }

    fn router(&self) -> Router<'_> {
        let node = Peer { v6: true, bfd: Some(BFD), ..Peer::new(NODE[0], 64512) };
        let node = Peer { password: Some("opensesame".into()), ..node.from("10.79.0.1") };
        self.lab.router(Kind::Frr, "router", Config::new(64501, [10, 79, 0, 1], vec![node]))
    }

    fn gateway(&self) -> Gateway {
        gateway(&self.lab, "node", MANIFEST, &[])
    }

    /// What curl says on a host.
    fn curl(&self, host: &str, url: &str) -> String {
        let mut curl = self.lab.command(host, "curl");
        let output = curl.args(["-gsS", "-m", "60", "-H", "Host: app.test", url]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Waits until a page or an answer contains something.
    fn wait_says(&self, host: &str, url: &str, text: &str) {
        eventually(&format!("{text} at {url}"), || match self.curl(host, url) {
            said if said.contains(text) => Ok(()),
            said => Err(said),
        });
    }

    fn loopback(&self) -> String {
        self.lab.ip("node", "-br address show dev lo")
    }
}

/// Interval in ms and multiplier, as in [`MANIFEST`]: whoever is found dead by these is dead, not late on a busy
/// machine.
const BFD: (u16, u8) = (300, 10);

/// Bytes of `/big`.
const BIG: usize = 16 << 20;

/// The backend of a host, which takes its time for `/slow`, and has much to say about `/big`.
fn backend(lab: &Lab, host: &str, name: &str) -> Backend {
    let listener = lab.namespace(host).enter(|| TcpListener::bind("127.0.0.1:8000"));
    let own = name.to_owned();
    Backend::on(name, listener.unwrap().unwrap(), move |request| {
        let slow = request.target == "/slow";
        let pause = slow.then_some(Act::Wait(Duration::from_millis(2500)));
        let answer = match &*request.target {
            "/big" => ok(&"x".repeat(BIG), false),
            _ => echo_answer(&own, request),
        };
        pause.into_iter().chain([Act::Send(answer)]).collect()
    })
}

/// A gateway on a host.
fn gateway(lab: &Lab, host: &str, manifest: &str, more: &[&str]) -> Gateway {
    let prefix = lab.namespace(host).prefix();
    let plan = Plan::default().manifest("bgp.yaml", manifest);
    let backend = "127.0.0.1:8000".parse().unwrap();
    plan.manifest("app.yaml", service("app", &[backend]))
        .node(host)
        .args(&["--bgp-grace", "8"])
        .args(more)
        .via(&prefix.each_ref().map(String::as_str))
        .spawn()
}

const MANIFEST: &str = r#"
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: ["192.0.2.10/32", "2001:db8:1::10/128"]}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec:
  myASN: 64512
  peerASN: 64501
  peerAddress: 10.79.0.1
  holdTime: 9s
  dualStackAddressFamily: true
  bfdProfile: fast
  passwordSecret: {name: tor}
---
apiVersion: v1
kind: Secret
metadata: {name: tor, namespace: metallb-system}
type: kubernetes.io/basic-auth
stringData: {password: opensesame}
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: fast, namespace: metallb-system}
spec: {transmitInterval: 300, receiveInterval: 300, detectMultiplier: 10}
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: names, namespace: metallb-system}
spec: {communities: [{name: web, value: "64512:80"}]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all, namespace: metallb-system}
spec: {communities: [web, "large:64512:1:2"]}
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: default}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  ipFamilies: [IPv4, IPv6]
  ports: [{name: http, port: 80}]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: gatehouse}
spec:
  controller: gatehouse.io/ingress
  parameters: {kind: Service, scope: Namespace, namespace: default, name: gateway}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: app, namespace: default}
spec:
  ingressClassName: gatehouse
  rules:
  - host: app.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}]}
"#;

/// Whether a route leads to the node, with these standard communities.
fn leads(route: Option<&Route>, node: &str, communities: &[&str]) -> bool {
    route.is_some_and(|route| {
        route.next_hops.contains(&node.parse().unwrap())
            && route.as_path == [64512]
            && route.communities == communities.iter().map(ToString::to_string).collect()
            && route.large == ["64512:1:2".to_owned()].into()
    })
}

#[test]
fn a_router_leads_clients_to_a_gateway_that_leaves_well() {
    let scene = Scene::new();
    let router = scene.router();
    let mut gateway = scene.gateway();
    for (prefix, node) in ROUTES.into_iter().zip(NODE) {
        router.wait_route(prefix, |route| leads(route, node, &["64512:80"]));
    }
    router.wait_bfd(NODE[0], true);
    let loopback = scene.loopback();
    assert!(loopback.contains(VIP) && loopback.contains(VIP6), "{loopback}");
    for url in [format!("http://{VIP}/"), format!("http://[{VIP6}]/")] {
        scene.wait_says("client", &url, "app GET /");
    }
    assert!(scene.backend.connections() > 0);

    let page = |path| format!("http://{}{path}", gateway.admin);
    scene.wait_says("node", &page("/metrics"), "metallb_bgp_session_up{peer=\"10.79.0.1:179\"} 1");
    scene.wait_says("node", &page("/metrics"), "gatehouse_bfd_session_up{peer=\"tor\"} 1");
    scene.wait_says("node", &page("/status"), "\"state\": \"established\"");
    scene.wait_says("node", &page("/status"), "\"here\": \"announced\"");
    scene.wait_says("node", &page("/status"), "\"problems\": []");

    gateway.terminate();
    for (prefix, node) in ROUTES.into_iter().zip(NODE) {
        router.wait_route(prefix, |route| leads(route, node, &["64512:80", "65535:0"]));
    }
    let answer = scene.curl("client", &format!("http://{VIP}/"));
    assert_eq!(answer, "app GET /\n", "while routers look for other ways");
    for prefix in ROUTES {
        router.wait_route(prefix, |route| route.is_none());
    }
    let status = gateway.wait().expect("the gateway ends");
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
    let loopback = scene.loopback();
    assert!(!loopback.contains(VIP) && !loopback.contains(VIP6), "given back: {loopback}");
}

#[test]
fn what_changes_is_told_without_touching_the_session() {
    let scene = Scene::new();
    let router = scene.router();
    let gateway = scene.gateway();
    let page = format!("http://{}/metrics", gateway.admin);
    router.wait_route(ROUTES[0], |route| leads(route, NODE[0], &["64512:80"]));
    gateway.save("bgp.yaml", &MANIFEST.replace("64512:80", "64512:81"));
    router.wait_route(ROUTES[0], |route| leads(route, NODE[0], &["64512:81"]));
    let only_v4 =
        MANIFEST.replace("64512:80", "64512:81").replace("RequireDualStack", "SingleStack");
    gateway.save("bgp.yaml", &only_v4.replace("[IPv4, IPv6]", "[IPv4]"));
    router.wait_route(ROUTES[1], |route| route.is_none());
    eventually("the address leaves loopback", || match scene.loopback() {
        text if text.contains(VIP6) => Err(text),
        _ => Ok(()),
    });
    router.wait_route(ROUTES[0], |route| leads(route, NODE[0], &["64512:81"]));
    scene.wait_says("node", &page, "gatehouse_bgp_sessions_established_total{peer=\"tor\"} 1");

    // A gateway that is killed: BFD tells the router long before the hold time.
    let mut gateway = gateway;
    signal(gateway.pid(), "KILL");
    router.wait_route(ROUTES[0], |route| route.is_none());
    assert!(gateway.wait().is_some());
}
