//! Endpoints that refuse connections: passed over, tried again, and used all the same when no other is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpListener, TcpStream};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, echo_answer},
        client::{get, send},
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

    // No client notices, and after one connect no request tries any more, on whatever thread.
    answered(&gateway, 200);
    assert_eq!(connects_failed(&gateway), 1.0, "{}", gateway.output());
    assert!(is_ejected(&gateway, gone));
    let status: serde_json::Value = serde_json::from_str(&gateway.page("/status")).unwrap();
    let row = serde_json::json!([{"service": "default/app", "endpoint": gone.to_string()}]);
    assert_eq!(status["ejected"], row);
    assert_eq!(metric(&gateway, "gatehouse_endpoint_ejections_total"), Some(1.0));
    let shares = [&a, &c].map(|backend| backend.requests().len());
    assert!(shares.iter().all(|share| *share > 90), "of 230 requests: {shares:?}");

    // A new configuration does not forget it.
    let generation = || metric(&gateway, "gatehouse_snapshot_generation").unwrap();
    let before = generation();
    gateway.save("app.yaml", &service("app", &[all[0], all[1]]));
    assert!(comes_true(|| generation() > before));
    answered(&gateway, 30);
    assert_eq!(connects_failed(&gateway), 1.0);
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
    assert_eq!(connects_failed(&gateway), 2.0);
    assert!(is_ejected(&gateway, gone));

    let back = at("b", gone);
    let asked = || {
        answered(&gateway, 3);
        !back.requests().is_empty()
    };
    assert!(comes_true(asked), "no request comes to it: {}", gateway.output());
    assert!(!is_ejected(&gateway, gone));
    assert_eq!(connects_failed(&gateway), 2.0, "no request was used for a trial");
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

#[test]
fn while_one_endpoint_lives_every_request_is_answered_and_each_dead_one_costs_one_connect() {
    // One address has no way to it (a family without a route), the others refuse.
    let no_way: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
    for dead in [1, 2, 6] {
        let app = Backend::echo("app");
        let refusing = (1..dead).map(|_| free_address()).chain([no_way]);
        let all: Vec<_> = [app.addr].into_iter().chain(refusing).collect();
        let gateway = start(&all);
        answered(&gateway, 60);
        let failed = connects_failed(&gateway);
        assert!(failed <= f64::from(dead), "{failed} connects of {dead}: {}", gateway.output());
        assert!(all[1..].iter().all(|addr| is_ejected(&gateway, *addr)), "of {all:?}");
    }
}

/// Accepts no connection, as a host that is gone without a word: what is dialled waits.
struct Silent {
    addr: SocketAddr,
    _queued: (socket2::Socket, Vec<TcpStream>),
}

impl Silent {
    fn start() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let addr = socket.local_addr().unwrap().as_socket().unwrap();
        let connects = std::iter::from_fn(|| {
            TcpStream::connect_timeout(&addr, std::time::Duration::from_millis(300)).ok()
        });
        let queued = connects.take(16).collect();
        Self { addr, _queued: (socket, queued) }
    }
}

#[test]
fn an_endpoint_that_says_nothing_at_all_is_paid_for_once() {
    let (app, silent) = (Backend::echo("app"), Silent::start());
    let gateway = start(&[app.addr, silent.addr]);
    answered(&gateway, 60);
    assert_eq!(connects_failed(&gateway), 1.0, "{}", gateway.output());
    assert!(is_ejected(&gateway, silent.addr));
}

#[test]
fn the_connections_of_an_endpoint_that_dies_fail_no_request() {
    let [a, b] = ["a", "b"].map(|name| at(name, free_address()));
    let gateway = start(&[a.addr, b.addr]);
    answered(&gateway, 20);
    end(b);
    answered(&gateway, 60);
}

#[test]
fn a_request_that_may_be_repeated_goes_on_to_another_endpoint_and_no_other_one_does() {
    let broken = Backend::scripted("broken", |_| vec![Act::Close]);
    let app = Backend::echo("app");
    let gateway = start(&[broken.addr, app.addr]);
    answered(&gateway, 40);
    assert!(broken.requests().len() >= 10, "nothing but connects counts against an endpoint");
    app.requests();
    let post = b"POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 2\r\n\r\nhi";
    let statuses: Vec<_> = (0..10).map(|_| send(gateway.http, post).status()).collect();
    assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
    assert_eq!(broken.requests().len() + app.requests().len(), 10, "each sent once");
}

#[test]
fn a_request_is_sent_to_three_endpoints_at_most() {
    let broken: Vec<_> =
        (0..5).map(|_| Backend::scripted("broken", |_| vec![Act::Close])).collect();
    let addrs: Vec<_> = broken.iter().map(|backend| backend.addr).collect();
    let gateway = start(&addrs);
    assert_eq!(get(gateway.http, "x.test", "/").status(), 502);
    let sent: usize = broken.iter().map(|backend| backend.requests().len()).sum();
    assert_eq!(sent, 3);
}
