//! Services that want traffic kept near, their own address in place of their endpoints, and clients kept by address.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpStream},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        client::{get, send},
        gateway::{Gateway, Plan},
        manifests::{ingress, prefix, service},
    },
    wait::comes_true,
};

/// A Service whose `spec` has these fields too, with an endpoint in each zone.
fn in_zones(spec: &str, endpoints: &[(&str, SocketAddr)]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: app, namespace: default}}\n\
         spec: {{ports: [{{name: http, port: 80}}], {spec}}}\n---\n"
    );
    for (at, (zone, address)) in endpoints.iter().enumerate() {
        let (ip, port) = (address.ip(), address.port());
        text += &format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: app-{at}, namespace: default, labels: {{kubernetes.io/service-name: app}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: {port}}}]\n\
             endpoints: [{{addresses: [{ip}], zone: {zone}}}]\n---\n"
        );
    }
    text
}

fn start(app: String, annotations: &str, args: &[&str]) -> Gateway {
    Plan::default()
        .manifest("app.yaml", app)
        .manifest("site.yaml", ingress("x", annotations, "", &[prefix("x.test", "/", "app")]))
        .threads(2)
        .args(args)
        .start()
}

fn requests(gateway: &Gateway, count: usize) {
    for _ in 0..count {
        let seen = get(gateway.http, "x.test", "/");
        assert_eq!(seen.status(), 200, "{seen:?}");
    }
}

#[test]
fn requests_stay_in_the_zone_while_an_endpoint_is_fit_there() {
    for annotations in ["", "gatehouse.io/load-balance: least-request"] {
        let [near, also_near, far] = ["near", "also-near", "far"].map(Backend::echo);
        let all = [("a", near.addr), ("a", also_near.addr), ("b", far.addr)];
        let app = in_zones("trafficDistribution: PreferSameZone", &all);
        let node = "apiVersion: v1\nkind: Node\n\
                    metadata: {name: test-node, labels: {topology.kubernetes.io/zone: a}}\n";
        let gateway = start(app + node, annotations, &[]);
        requests(&gateway, 40);
        assert!(far.requests().is_empty(), "{annotations}: {}", gateway.output());
        assert!(!near.requests().is_empty() && !also_near.requests().is_empty());
        // One is left there, then none.
        for gone in [near, also_near] {
            assert!(far.requests().is_empty());
            let addr = gone.addr;
            drop(gone);
            assert!(comes_true(|| TcpStream::connect(addr).is_err()));
            requests(&gateway, 20);
        }
        assert_eq!(far.requests().len(), 20, "{annotations}");
    }
}

#[test]
fn a_process_that_does_not_know_its_zone_uses_all_endpoints() {
    let [a, b] = ["a", "b"].map(Backend::echo);
    let app = in_zones("trafficDistribution: PreferClose", &[("a", a.addr), ("b", b.addr)]);
    let gateway = start(app, "", &[]);
    requests(&gateway, 20);
    assert!(!a.requests().is_empty() && !b.requests().is_empty());
}

#[test]
fn the_address_of_a_service_stands_for_its_endpoints_where_asked() {
    let (whole, endpoint) = (Backend::echo("whole"), Backend::echo("endpoint"));
    let app = service("app", &[endpoint.addr]);
    let port = whole.addr.port();
    let app = app.replace("port: 80,", &format!("port: {port},"));
    let (named, headless) = (
        app.replacen("spec:\n", "spec:\n  clusterIP: 127.0.0.1\n", 1),
        app.replacen("spec:\n", "spec:\n  clusterIP: None\n", 1),
    );
    let on = "nginx.ingress.kubernetes.io/service-upstream: \"true\"";
    for (app, annotations, at_whole) in [(&named, on, 5), (&named, "", 0), (&headless, on, 0)] {
        whole.take();
        let site = ingress("x", annotations, "", &[prefix("x.test", "/", "app")]);
        let site = site.replace("number: 80", &format!("number: {port}"));
        let gateway = Plan::default().manifest("app.yaml", app).manifest("site.yaml", site).start();
        requests(&gateway, 5);
        assert_eq!(whole.requests().len(), at_whole, "{annotations} {app}");
    }
}

#[test]
fn a_service_keeps_its_clients_by_their_address() {
    let backends = ["a", "b", "c"].map(Backend::echo);
    let all = backends.each_ref().map(|backend| ("a", backend.addr));
    let app = in_zones("sessionAffinity: ClientIP", &all);
    let gateway = start(app, "", &["--trusted-proxy", "127.0.0.0/8"]);
    let served_by = |client: usize| {
        let from = format!("10.0.{client}.1");
        let bytes = format!("GET / HTTP/1.1\r\nHost: x.test\r\nX-Forwarded-For: {from}\r\n\r\n");
        let seen = send(gateway.http, bytes.as_bytes());
        seen.responses.first().unwrap().text().split(' ').next().unwrap().to_owned()
    };
    let first: Vec<_> = (0..30).map(served_by).collect();
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "{first:?}");
    assert!((0..30).map(served_by).eq(first));
}
