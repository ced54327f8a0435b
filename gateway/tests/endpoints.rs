//! Endpoints that refuse connections: passed over, tried again, and used all the same when no other is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpListener, TcpStream};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, echo_answer},
        client::get,
        gateway::{Gateway, Plan, free_address},
        manifests::{ingress, prefix, service},
    },
    wait::comes_true,
};

/// A backend on an address that it can come back to.
fn at(name: &str, addr: SocketAddr) -> Backend {
    let own = name.to_owned();
    let answer = move |request: &_| vec![Act::Send(echo_answer(&own, request))];
    Backend::on(name, TcpListener::bind(addr).unwrap(), answer)
}

/// Ends a backend and waits until its address refuses connections.
fn end(backend: Backend) -> SocketAddr {
    let addr = backend.addr;
    drop(backend);
    assert!(comes_true(|| TcpStream::connect(addr).is_err()), "{addr} still listens");
    addr
}

/// Two data threads in front of these endpoints, with rules for these hosts.
fn start(endpoints: &[SocketAddr]) -> Gateway {
    let plan = Plan::default().manifest("app.yaml", service("app", endpoints));
    plan.manifest("site.yaml", site("x.test")).threads(2).start()
}

fn site(host: &str) -> String {
    ingress(host, "", "", &[prefix(host, "/", "app")])
}

/// The value of a metric, if it is shown.
fn metric(gateway: &Gateway, name: &str) -> Option<f64> {
    let page = gateway.page("/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

fn is_ejected(gateway: &Gateway, addr: SocketAddr) -> bool {
    let name = format!("gatehouse_endpoint_ejected{{service=\"default/app\",endpoint=\"{addr}\"}}");
    metric(gateway, &name).is_some()
}

fn connects_failed(gateway: &Gateway) -> f64 {
    metric(gateway, "gatehouse_upstream_connect_failures_total").unwrap()
}

/// Requests, each on a connection of its own, that are all answered.
fn answered(gateway: &Gateway, requests: usize) {
    for n in 0..requests {
        let seen = get(gateway.http, "x.test", "/");
        assert_eq!(seen.status(), 200, "request {n}: {seen:?}");
    }
}

#[test]
fn an_endpoint_that_refuses_connections_is_passed_over_until_it_accepts_them_again() {
    let [a, b, c] = ["a", "b", "c"].map(|name| at(name, free_address()));
    let all = [a.addr, b.addr, c.addr];
    let gateway = start(&all);
    answered(&gateway, 30);
    assert!(b.connections() > 0);
    let gone = end(b);

    // No client notices, and after three connects no request tries any more, on whatever thread.
    answered(&gateway, 200);
    assert_eq!(connects_failed(&gateway), 3.0, "{}", gateway.output());
    assert!(is_ejected(&gateway, gone));
    assert_eq!(metric(&gateway, "gatehouse_endpoint_ejections_total"), Some(1.0));
    let shares = [&a, &c].map(|backend| backend.requests().len());
    assert!(shares.iter().all(|share| *share > 90), "of 230 requests: {shares:?}");

    // A new configuration does not forget it.
    let generation = || metric(&gateway, "gatehouse_snapshot_generation").unwrap();
    let before = generation();
    gateway.save("app.yaml", &service("app", &[all[0], all[1]]));
    assert!(comes_true(|| generation() > before));
    answered(&gateway, 30);
    assert_eq!(connects_failed(&gateway), 3.0);
    assert!(is_ejected(&gateway, gone));

    // One without the endpoint does.
    let before = generation();
    gateway.save("app.yaml", &service("app", &[all[0], all[2]]));
    assert!(comes_true(|| generation() > before));
    assert!(!is_ejected(&gateway, gone));
    let before = generation();
    gateway.save("app.yaml", &service("app", &all));
    assert!(comes_true(|| generation() > before));
    answered(&gateway, 100);
    assert_eq!(connects_failed(&gateway), 6.0);
    assert!(is_ejected(&gateway, gone));

    let back = at("b", gone);
    let asked = || {
        answered(&gateway, 3);
        !back.requests().is_empty()
    };
    assert!(comes_true(asked), "no request comes to it: {}", gateway.output());
    assert!(!is_ejected(&gateway, gone));
    assert_eq!(connects_failed(&gateway), 6.0, "no request was used for a trial");
}

#[test]
fn when_all_endpoints_are_ejected_all_are_used() {
    for count in [1, 2] {
        let backends: Vec<_> = (0..count).map(|_| at("app", free_address())).collect();
        let addrs: Vec<_> = backends.iter().map(|backend| backend.addr).collect();
        let gateway = start(&addrs);
        answered(&gateway, 4);
        assert!(backends.into_iter().map(end).eq(addrs.iter().copied()));
        let failed = |_| get(gateway.http, "x.test", "/").status() == 502;
        assert!((0..20).all(failed), "{}", gateway.output());
        assert!(addrs.iter().all(|addr| is_ejected(&gateway, *addr)), "{addrs:?}");
        // Each request tries as if nothing was known, so the first one after its return gets there.
        let _back = at("app", addrs[0]);
        answered(&gateway, 20);
        assert!(!is_ejected(&gateway, addrs[0]));
    }
}
