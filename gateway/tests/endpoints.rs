//! Endpoints that refuse connections: passed over, tried again, and used all the same when no other is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpListener, TcpStream};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Gate, echo_answer},
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

fn is_ejected(gateway: &Gateway, addr: SocketAddr) -> bool {
    let name = format!("gatehouse_endpoint_ejected{{service=\"default/app\",endpoint=\"{addr}\"}}");
    gateway.metric(&name).is_some()
}

fn connects_failed(gateway: &Gateway) -> f64 {
    gateway.metric("gatehouse_upstream_connect_failures_total").unwrap()
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
    let row = serde_json::json!([{"service": "default/app", "endpoint": gone.to_string(), "why": "connects"}]);
    assert_eq!(status["ejected"], row);
    assert_eq!(gateway.metric("gatehouse_endpoint_ejections_total"), Some(1.0));
    let shares = [&a, &c].map(|backend| backend.requests().len());
    assert!(shares.iter().all(|share| *share > 90), "of 230 requests: {shares:?}");

    // A new configuration does not forget it.
    let generation = || gateway.metric("gatehouse_snapshot_generation").unwrap();
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

/// A Service of type ExternalName.
fn external(name: &str, host: &str, port: u16) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default}}, spec: {{\
         type: ExternalName, externalName: {host}, ports: [{{port: 80, targetPort: {port}, name: http}}]}}}}\n"
    )
}

#[test]
fn a_backend_that_leads_back_here_is_refused_and_takes_no_connections() {
    let (app, http) = (Backend::echo("app"), free_address());
    let rules = ingress(
        "site",
        "",
        "",
        &[
            prefix("x.test", "/name", "name"),
            prefix("x.test", "/slice", "slice"),
            prefix("x.test", "/ok", "app"),
        ],
    );
    let text = external("name", "localhost", http.port())
        + "---\n"
        + &service("slice", &[http])
        + &service("app", &[app.addr])
        + &rules;
    let gateway =
        Plan::default().manifest("all.yaml", text).args(&[&format!("--http={http}")]).start();
    for _ in 0..5 {
        assert_eq!(get(http, "x.test", "/name").status(), 508, "{}", gateway.output());
        assert_eq!(get(http, "x.test", "/slice").status(), 503, "{}", gateway.output());
        assert_eq!(get(http, "x.test", "/ok").status(), 200);
    }
    assert!(gateway.output().contains("leads to this gateway itself"), "{}", gateway.output());
}

#[test]
fn a_request_that_goes_round_through_others_ends_after_a_few_hops() {
    // Two gateways that are each other's backend.
    let (one, two) = (free_address(), free_address());
    let start = |http: SocketAddr, backend: SocketAddr| {
        let text = service("app", &[backend]) + &site("x.test");
        Plan::default().manifest("all.yaml", text).args(&[&format!("--http={http}")]).start()
    };
    let (first, second) = (start(one, two), start(two, one));
    assert_eq!(get(one, "x.test", "/").status(), 508);
    let warned = [&first, &second].iter().filter(|it| it.output().contains("goes round")).count();
    assert_eq!(warned, 1);
    let accepted = |it: &Gateway| it.metric("gatehouse_connections_accepted_total").unwrap();
    assert!(accepted(&first) + accepted(&second) <= 8.0, "one request, a few hops");
    // What a client says of hops can only bring it nearer to the end.
    for (hops, status) in [("6", 508), ("-9", 508), ("x", 508)] {
        let request = format!("GET / HTTP/1.1\r\nHost: x.test\r\nGatehouse-Hops: {hops}\r\n\r\n");
        assert_eq!(send(two, request.as_bytes()).status(), status, "{hops}");
    }
}

#[test]
fn connections_to_an_endpoint_are_bounded_and_said_to_be_at_the_bound() {
    let gate = Gate::default();
    let until = gate.clone();
    let app = Backend::scripted("app", move |request| {
        vec![Act::Until(until.clone()), Act::Send(echo_answer("app", request))]
    });
    let plan = Plan::default().manifest("app.yaml", service("app", &[app.addr]) + &site("x.test"));
    let gateway = plan.args(&["--max-endpoint-connections=2"]).threads(1).start();
    let http = gateway.http;
    let held: Vec<_> =
        (0..2).map(|_| std::thread::spawn(move || get(http, "x.test", "/").status())).collect();
    assert!(comes_true(|| app.open() == 2));
    let seen = get(http, "x.test", "/");
    assert_eq!(seen.status(), 503, "{seen:?}");
    assert!(seen.responses[0].text().contains("too many connections"), "{seen:?}");
    gate.open();
    assert!(held.into_iter().all(|one| one.join().unwrap() == 200));
    answered(&gateway, 4);
}
