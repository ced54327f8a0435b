//! Copies of requests for a mirror, on real sockets: what they are, and that no request notices them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Request, echo_answer},
        client::{Step, Want, dial, exchange, get, send},
        gateway::{Gateway, Plan, free_address},
        manifests::{ingress, prefix, service},
    },
    wait,
};

const MIRROR: &str = "nginx.ingress.kubernetes.io/mirror";

/// A gateway whose Ingress has these annotations.
fn gateway(app: &Backend, annotations: &str) -> Gateway {
    Plan::default()
        .manifest("app.yaml", service("app", &[app.addr]))
        .manifest("ingress.yaml", ingress("a", annotations, "", &[prefix("a.test", "/", "app")]))
        .start()
}

fn target(addr: SocketAddr, path: &str) -> String {
    format!("{MIRROR}-target: \"http://{addr}{path}\"")
}

fn count(gateway: &Gateway, result: &str) -> u64 {
    let line = format!("gatehouse_mirrored_requests_total{{result=\"{result}\"}} ");
    let page = gateway.page("/metrics");
    page.lines().find_map(|it| it.strip_prefix(&line)).unwrap().parse().unwrap()
}

/// So many copies, waited for.
fn copies(mirror: &Backend, wanted: usize) -> Vec<Request> {
    let mut all = Vec::new();
    let came = wait::comes_true(|| {
        all.append(&mut mirror.arrived());
        all.len() >= wanted
    });
    assert!(came, "{} copies instead of {wanted}", all.len());
    all
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn a_copy_has_the_fields_and_the_body_that_the_backend_gets_and_its_answer_goes_nowhere() {
    let (app, mirror) = (Backend::echo("app"), Backend::echo("mirror"));
    let gateway = gateway(&app, &target(mirror.addr, ""));
    let body: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
    let seen = send(gateway.http, &post("/a/b?c=d", &body));
    assert!(seen.responses[0].text().contains("app"), "{}", seen.responses[0].text());
    let (original, copy) = (app.requests().remove(0), copies(&mirror, 1).remove(0));
    assert_eq!((&*copy.method, &*copy.target), ("POST", "/a/b?c=d"));
    assert!(copy.body == body && original.body == body);
    assert_eq!(copy.one("host").as_deref(), Some("127.0.0.1"), "the host of the target");
    for name in ["x-forwarded-for", "x-request-id", "x-forwarded-host", "content-length"] {
        assert_eq!(
            (copy.one(name), copy.one(name).is_some()),
            (original.one(name), true),
            "{name}"
        );
    }
    assert!(copy.leaks.is_empty(), "{:?}", copy.leaks);
    assert!(wait::comes_true(|| count(&gateway, "answered") == 1));
    // The connection is kept for the next one.
    get(gateway.http, "a.test", "/again");
    assert_eq!(copies(&mirror, 1)[0].target, "/again");
    assert_eq!(mirror.connections(), 1);
}

#[test]
fn a_chunked_body_is_copied_as_it_passes() {
    let (app, mirror) = (Backend::echo("app"), Backend::echo("mirror"));
    let gateway = gateway(&app, &target(mirror.addr, "/copy"));
    let mut client = dial(gateway.http);
    let head = "POST /x?y=z HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(b"5\r\nfirst\r\n").unwrap();
    // Nothing waits for the end of the body: the mirror has a part of it while the client goes on.
    assert!(wait::comes_true(|| mirror.arriving() > 0 && app.arriving() > 0));
    client.write_all(b"6\r\nsecond\r\n0\r\n\r\n").unwrap();
    let copy = copies(&mirror, 1).remove(0);
    assert_eq!((&*copy.target, &*copy.body), ("/copy?y=z", &b"firstsecond"[..]));
}

#[test]
fn variables_are_filled_in_and_host_and_body_are_the_authors_to_say() {
    let (app, mirror) = (Backend::echo("app"), Backend::echo("mirror"));
    let annotations = format!(
        "{}, {MIRROR}-host: shadow.test, {MIRROR}-request-body: \"off\"",
        target(mirror.addr, "/$host$request_uri")
    );
    let gateway = gateway(&app, &annotations);
    assert_eq!(send(gateway.http, &post("/a?b", b"body")).status(), 200);
    let copy = copies(&mirror, 1).remove(0);
    assert_eq!((&*copy.target, &*copy.body), ("/a.test/a?b", &b""[..]));
    assert_eq!(copy.one("host").as_deref(), Some("shadow.test"));
    assert_eq!(app.requests()[0].body, b"body");
}

#[test]
fn a_copy_asks_for_the_path_that_its_request_asks_for_without_dot_segments() {
    for (path, mirrored) in [("", "/b?c"), ("/x$request_uri", "/x/b?c"), ("/x$uri", "/x/b")] {
        let (app, mirror) = (Backend::echo("app"), Backend::echo("mirror"));
        let gateway = gateway(&app, &target(mirror.addr, path));
        assert_eq!(get(gateway.http, "a.test", "/a/../b?c").status(), 200);
        assert_eq!(copies(&mirror, 1)[0].target, mirrored);
        assert_eq!(app.requests()[0].target, "/b?c");
    }
}

#[test]
fn a_service_of_the_namespace_gets_copies_at_its_endpoints() {
    let (app, mirror) = (Backend::echo("app"), Backend::echo("mirror"));
    let annotations = format!("{MIRROR}-target: \"http://shadow.default.svc.cluster.local\"");
    let gateway = Plan::default()
        .manifest("app.yaml", service("app", &[app.addr]))
        .manifest("shadow.yaml", service("shadow", &[mirror.addr]))
        .manifest("ingress.yaml", ingress("a", &annotations, "", &[prefix("a.test", "/", "app")]))
        .start();
    assert_eq!(get(gateway.http, "a.test", "/").status(), 200);
    let host = copies(&mirror, 1)[0].one("host");
    assert_eq!(host.as_deref(), Some("shadow.default.svc.cluster.local"));
}

#[test]
fn a_mirror_that_is_away_or_says_nothing_costs_its_requests_nothing() {
    let app = Backend::echo("app");
    let away = gateway(&app, &target(free_address(), ""));
    assert_eq!(get(away.http, "a.test", "/").status(), 200);
    assert!(wait::comes_true(|| count(&away, "failed") == 1));

    let silent = Backend::scripted("silent", |_| vec![Act::Hang]);
    let gateway = gateway(&app, &target(silent.addr, ""));
    for _ in 0..300 {
        assert_eq!(get(gateway.http, "a.test", "/").status(), 200);
    }
    // Only so many are under way at once.
    assert!(
        wait::comes_true(|| count(&gateway, "dropped") == 300 - 256),
        "{}",
        gateway.page("/metrics")
    );
    assert!(wait::comes_true(|| silent.open() == 256));
}

/// More than the buffers of all sockets on the way to a mirror hold.
const LARGE: usize = 32 * 1024 * 1024;

/// Takes one request with a large body and says how much of it came.
fn takes_all(listener: &TcpListener) -> usize {
    let (mut stream, _) = listener.accept().unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let (mut taken, mut part) = (0, vec![0; 256 * 1024]);
    while taken < LARGE {
        match stream.read(&mut part).unwrap() {
            0 => break,
            bytes => taken += bytes,
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    taken
}

#[test]
fn a_mirror_that_takes_a_body_too_slowly_is_broken_off_and_the_backend_gets_all_of_it() {
    let [app, mirror] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let gateway = Plan::default()
        .manifest("app.yaml", service("app", &[app.local_addr().unwrap()]))
        .manifest(
            "ingress.yaml",
            ingress(
                "a",
                &target(mirror.local_addr().unwrap(), ""),
                "",
                &[prefix("a.test", "/", "app")],
            ),
        )
        .start();
    let backend = thread::spawn(move || takes_all(&app));
    let want = Want { limit: Duration::from_secs(60), ..Want::responses(1) };
    // The mirror does not even take its connection before the request is over.
    let seen = exchange(gateway.http, &[Step::Send(post("/", &vec![7; LARGE]))], want);
    assert_eq!((seen.status(), backend.join().unwrap()), (200, LARGE));
    assert!(wait::comes_true(|| count(&gateway, "dropped") == 1), "{}", gateway.page("/metrics"));
    let mut copied = Vec::new();
    let _ = mirror.accept().unwrap().0.read_to_end(&mut copied);
    assert!(copied.len() < LARGE, "the copy ends in the middle");
}

#[test]
fn a_request_that_its_client_breaks_off_breaks_its_copy_off() {
    let (app, mirror) = (Backend::echo("app"), Backend::echo("mirror"));
    let gateway = gateway(&app, &target(mirror.addr, ""));
    let mut client = dial(gateway.http);
    client.write_all(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    assert!(wait::comes_true(|| mirror.arriving() > 0));
    drop(client);
    assert!(wait::comes_true(|| count(&gateway, "failed") == 1 && mirror.open() == 0));
    assert!(mirror.requests().is_empty());
}

#[test]
fn there_is_no_copy_of_a_copy() {
    let app = Backend::echo("app");
    let http = free_address();
    let gateway = Plan::default()
        .args(&["--http", &http.to_string()])
        .manifest("app.yaml", service("app", &[app.addr]))
        .manifest(
            "ingress.yaml",
            ingress(
                "a",
                &format!("{}, {MIRROR}-host: a.test", target(http, "/copy")),
                "",
                &[prefix("a.test", "/", "app")],
            ),
        )
        .start();
    assert_eq!(get(gateway.http, "a.test", "/original").status(), 200);
    assert!(wait::comes_true(|| count(&gateway, "answered") == 1));
    let mut targets: Vec<_> = app.requests().into_iter().map(|request| request.target).collect();
    // Each goes its own way: either may be there first.
    targets.sort();
    assert_eq!(targets, ["/copy", "/original"]);
}

#[test]
fn a_share_of_the_requests_is_copied() {
    let (app, mirror) = (
        Backend::echo("app"),
        Backend::scripted("mirror", |it| vec![Act::Send(echo_answer("m", it))]),
    );
    let none =
        gateway(&app, &format!("{}, gatehouse.io/mirror-percent: \"0\"", target(mirror.addr, "")));
    let some =
        gateway(&app, &format!("{}, gatehouse.io/mirror-percent: \"50\"", target(mirror.addr, "")));
    for _ in 0..200 {
        get(none.http, "a.test", "/none");
        get(some.http, "a.test", "/some");
    }
    let all = copies(&mirror, 40);
    assert!(all.iter().all(|copy| copy.target == "/some"));
    assert!(wait::comes_true(|| count(&some, "answered") > 40));
    // Below 40 or above 160 of 200 by chance: once in 10^17 runs.
    assert!(count(&some, "answered") < 160);
}
