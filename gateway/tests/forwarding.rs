//! What objects say of the way to their backends: how long these may take, and when another endpoint is tried.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use gatehouse_testbed::gatehouse::{
    backend::{Act, Backend, Gate, echo_answer},
    client::{Step, Want, dial, exchange, get, listen, send},
    gateway::{Gateway, Plan, free_address},
    manifests::{ingress, prefix, service},
};

const HOST: &str = "x.test";
const NGINX: &str = "nginx.ingress.kubernetes.io";

/// A gateway with one Ingress of these annotations in front of these endpoints.
fn start(endpoints: &[SocketAddr], annotations: &[(&str, &str)], args: &[&str]) -> Gateway {
    let annotations = annotations.iter().map(|(name, value)| match name.contains('/') {
        true => format!("{name}: \"{value}\""),
        false => format!("{NGINX}/{name}: \"{value}\""),
    });
    let site =
        ingress("x", &annotations.collect::<Vec<_>>().join(", "), "", &[prefix(HOST, "/", "app")]);
    let plan = Plan::default().manifest("app.yaml", service("app", endpoints));
    plan.manifest("site.yaml", site).args(args).start()
}

/// A backend whose answers wait for a gate.
fn behind(gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::scripted("late", move |request| {
        vec![Act::Until(gate.clone()), Act::Send(echo_answer("late", request))]
    })
}

/// A backend that has this status for every request.
fn answers(name: &str, status: u16) -> Backend {
    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
    Backend::scripted(name, move |_| vec![Act::Send(answer.clone().into_bytes())])
}

fn request(method: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("{method} / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n{body}").into_bytes()
}

#[test]
fn a_backend_is_waited_for_as_long_as_its_ingress_says() {
    let gate = Gate::default();
    let app = behind(&gate);
    let gateway = start(&[app.addr], &[("proxy-read-timeout", "1")], &[]);
    let began = Instant::now();
    assert_eq!(get(gateway.http, HOST, "/").status(), 504);
    assert!(began.elapsed() >= Duration::from_secs(1));
    drop(gateway);

    let gateway = start(&[app.addr], &[("proxy-read-timeout", "600")], &["--upstream-timeout=1"]);
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(2_500));
        gate.open();
    });
    assert_eq!(get(gateway.http, HOST, "/").status(), 200);
    late.join().unwrap();
}

#[test]
fn a_client_that_takes_its_time_with_a_body_is_not_the_backends_delay() {
    // The body takes twice as long as the backend may, and the backend answers only then.
    let app = Backend::scripted("app", |request| {
        vec![Act::Wait(Duration::from_millis(600)), Act::Send(echo_answer("app", request))]
    });
    let gateway = start(&[app.addr], &[], &["--upstream-timeout=2"]);
    let mut steps = vec![Step::Send(request("POST", "Content-Length: 60\r\n", ""))];
    for _ in 0..6 {
        steps.extend([Step::Pause(Duration::from_millis(700)), Step::Send(b"0123456789".to_vec())]);
    }
    let seen = exchange(gateway.http, &steps, Want::responses(1));
    assert_eq!(seen.status(), 200, "{seen:?}");
    assert_eq!(app.requests()[0].body.len(), 60);
}

#[test]
fn a_backend_that_takes_nothing_of_a_body_is_waited_for_as_long_as_its_ingress_says() {
    // It accepts the connection and never reads.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let annotations = [("proxy-send-timeout", "1"), ("proxy-read-timeout", "600")];
    let gateway = start(&[silent.local_addr().unwrap()], &annotations, &[]);
    let body = "x".repeat(16 << 20);
    let fields = format!("Content-Length: {}\r\n", body.len());
    let mut wire = dial(gateway.http);
    let sender = {
        let mut wire = wire.try_clone().unwrap();
        // Ends when the gateway reads no further.
        std::thread::spawn(move || wire.write_all(&request("POST", &fields, &body)))
    };
    let seen = listen(&mut wire, Want::responses(1), false);
    assert_eq!(seen.status(), 504, "{seen:?}");
    drop((wire, gateway));
    let _ = sender.join().unwrap();
}

#[test]
fn a_tunnel_ends_when_nothing_moves_for_as_long_as_its_ingress_says() {
    let app = Backend::scripted("app", |_| {
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        vec![Act::Send(answer.to_vec()), Act::Echo]
    });
    let gateway = start(&[app.addr], &[("proxy-read-timeout", "1")], &[]);
    let hello = request(
        "GET",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "",
    );
    let mut wire = dial(gateway.http);
    wire.write_all(&hello).unwrap();
    let seen = listen(&mut wire, Want { close: true, ..Want::responses(1) }, false);
    assert_eq!((seen.status(), seen.closed), (101, true), "{seen:?}");
}

#[test]
fn a_status_that_stands_for_a_failure_goes_on_to_another_endpoint_and_the_last_one_has_the_word() {
    let [broken, whole] = [answers("broken", 503), answers("whole", 204)];
    let annotations = [("proxy-next-upstream", "error http_503")];
    let gateway = start(&[broken.addr, whole.addr], &annotations, &[]);
    for _ in 0..10 {
        assert_eq!(get(gateway.http, HOST, "/").status(), 204);
    }
    assert!(!broken.requests().is_empty());
    // A request that may do something is not repeated.
    let post = request("POST", "Content-Length: 2\r\n", "ab");
    let statuses: Vec<_> = (0..4).map(|_| send(gateway.http, &post).status()).collect();
    assert!(statuses.contains(&503) && statuses.contains(&204), "{statuses:?}");

    let other = answers("other", 503);
    let gateway = start(&[broken.addr, other.addr], &annotations, &[]);
    assert_eq!(get(gateway.http, HOST, "/").status(), 503, "the last answer is the backend's own");
}

#[test]
fn a_request_goes_to_as_many_endpoints_as_its_ingress_says() {
    let all: Vec<_> = (0..5).map(|n| answers(&n.to_string(), 502)).collect();
    let endpoints: Vec<_> = all.iter().map(|backend| backend.addr).collect();
    let asked = |annotations: &[(&str, &str)]| {
        let gateway = start(&endpoints, annotations, &[]);
        assert_eq!(get(gateway.http, HOST, "/").status(), 502);
        all.iter().map(|backend| backend.requests().len()).sum::<usize>()
    };
    let on = ("proxy-next-upstream", "http_502");
    assert_eq!(asked(&[]), 1, "a status is no failure by itself");
    assert_eq!(asked(&[on]), 3);
    assert_eq!(asked(&[on, ("proxy-next-upstream-tries", "2")]), 2);
    assert_eq!(asked(&[on, ("proxy-next-upstream-tries", "0")]), 5);
}

#[test]
fn where_no_failure_is_for_others_to_mend_the_first_endpoint_has_the_word() {
    let app = answers("app", 204);
    let endpoints = [free_address(), app.addr];
    let gateway = start(&endpoints, &[("proxy-next-upstream", "off")], &[]);
    let statuses: Vec<_> = (0..2).map(|_| get(gateway.http, HOST, "/").status()).collect();
    assert!(statuses.contains(&502), "{statuses:?}");
    let gateway = start(&endpoints, &[], &[]);
    for _ in 0..4 {
        assert_eq!(get(gateway.http, HOST, "/").status(), 204);
    }
}

#[test]
fn a_silent_endpoint_is_left_for_another_one_where_its_ingress_says_so() {
    let gate = Gate::default();
    let (late, app) = (behind(&gate), answers("app", 204));
    let annotations = [
        ("proxy-read-timeout", "1"),
        ("proxy-next-upstream", "error timeout"),
        ("proxy-next-upstream-timeout", "0"),
    ];
    let gateway = start(&[late.addr, app.addr], &annotations, &[]);
    for _ in 0..2 {
        assert_eq!(get(gateway.http, HOST, "/").status(), 204);
    }
    assert!(late.requests().len() + late.arriving_messages() > 0);
}

#[test]
fn a_client_may_fall_behind_with_its_body_for_as_long_as_its_ingress_says() {
    let app = Backend::echo("app");
    let steps = [
        Step::Send(request("POST", "Content-Length: 2\r\n", "a")),
        Step::Pause(Duration::from_millis(2_500)),
        Step::Send(b"b".to_vec()),
    ];
    let gateway = start(&[app.addr], &[("gatehouse.io/body-timeout", "1s")], &[]);
    assert_eq!(exchange(gateway.http, &steps, Want::responses(1)).status(), 408);
    let gateway =
        start(&[app.addr], &[("gatehouse.io/body-timeout", "10m")], &["--body-timeout=1"]);
    assert_eq!(exchange(gateway.http, &steps, Want::responses(1)).status(), 200);
}
