//! How names of headers are spelled in HTTP/1, both ways, on raw sockets: in lower case, as listed for objects that ask
//! for it, or as they came.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use gatehouse_testbed::gatehouse::{
    backend::{Act, Backend},
    client::send,
    gateway::{Gateway, Plan},
    h2raw::{self, H2},
    manifests::{ingress, prefix, service},
    strict::Field,
};

const ASKED: &str =
    "Host: HOST\r\nX-CUSTOM-Id: 1\r\nX-Other: 2\r\nx-Twice: a\r\nX-tWice: b\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nSET-COOKIE: b=2\r\nX-Vendor-ID: 7\r\n\r\nok";

fn app() -> Backend {
    Backend::scripted("app", |_| vec![Act::Send(ANSWER.into())])
}

/// A gateway before `app`: `plain.test` asks for nothing, `adjusted.test` for the listed spellings.
fn gateway(app: &Backend, args: &[&str]) -> Gateway {
    let asks = "haproxy.router.openshift.io/h1-adjust-case: \"true\"";
    let rule = |host| [prefix(host, "/", "app")];
    let text = service("app", &[app.addr])
        + &ingress("plain", "", "", &rule("plain.test"))
        + &ingress("adjusted", asks, "", &rule("adjusted.test"));
    Plan::default().manifest("app.yaml", text).args(args).start()
}

fn names(fields: &[Field]) -> Vec<&str> {
    fields.iter().map(|field| &*field.name).collect()
}

/// The names that the backend and the client get.
fn exchanged(gateway: &Gateway, app: &Backend, host: &str, line: &str) -> (String, String) {
    let seen = send(gateway.http, (line.to_owned() + &ASKED.replace("HOST", host)).as_bytes());
    let answer = seen.responses.first().unwrap_or_else(|| panic!("{seen:?}"));
    assert_eq!(answer.status, 200, "{seen:?}");
    let request = app.requests().pop().unwrap();
    (names(&request.fields).join(" "), names(&answer.fields).join(" "))
}

fn has(text: &str, names: &[&str]) {
    for name in names {
        assert!(text.split(' ').any(|word| word == *name), "{name} in {text}");
    }
}

#[test]
fn by_default_names_are_in_lower_case_on_both_sides() {
    let app = app();
    let gateway = gateway(&app, &[]);
    for host in ["plain.test", "adjusted.test"] {
        let (request, answer) = exchanged(&gateway, &app, host, "GET / HTTP/1.1\r\n");
        assert_eq!(request, request.to_ascii_lowercase());
        assert_eq!(answer, answer.to_ascii_lowercase());
    }
}

#[test]
fn listed_names_are_spelled_as_listed_for_backends_of_objects_that_ask_and_for_all_clients() {
    let app = app();
    let list =
        "Host,X-Custom-ID,X-TWICE,X-Forwarded-For,Content-Length,Set-COOKIE,Transfer-Encoding";
    let gateway = gateway(&app, &["--header-case", list, "--header-case", "Date"]);
    let (request, answer) = exchanged(&gateway, &app, "adjusted.test", "GET / HTTP/1.1\r\n");
    has(&request, &["Host", "X-Custom-ID", "X-Forwarded-For", "x-other", "x-real-ip"]);
    assert_eq!(request.matches("X-TWICE").count(), 2, "each field of the name: {request}");
    has(&answer, &["Content-Length", "x-vendor-id", "Date"]);
    assert_eq!(answer.matches("Set-COOKIE").count(), 2, "{answer}");

    let (request, answer) = exchanged(&gateway, &app, "plain.test", "GET / HTTP/1.1\r\n");
    assert_eq!(request, request.to_ascii_lowercase(), "it did not ask");
    has(&answer, &["Content-Length", "Set-COOKIE"]);

    // What this gateway says itself is an answer like any other.
    let seen = send(gateway.http, b"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n");
    assert_eq!(seen.status(), 404, "{seen:?}");
    has(&names(&seen.responses[0].fields).join(" "), &["Content-Length", "Date", "server"]);

    let chunked = "POST / HTTP/1.1\r\nHost: adjusted.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    assert_eq!(send(gateway.http, chunked.as_bytes()).status(), 200);
    let request = app.requests().pop().unwrap();
    assert_eq!(request.body, b"hi");
    has(&names(&request.fields).join(" "), &["Transfer-Encoding", "Host"]);
}

#[test]
fn preserved_names_are_spelled_as_the_other_side_spelled_them() {
    let app = app();
    let gateway = gateway(&app, &["--preserve-header-case"]);
    for (host, line) in [
        ("plain.test", "GET / HTTP/1.1\r\n"),
        ("adjusted.test", "GET / HTTP/1.1\r\n"),
        ("plain.test", "POST / HTTP/1.1\r\nContent-LENGTH: 0\r\n"),
        ("plain.test", "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"),
    ] {
        let (request, answer) = exchanged(&gateway, &app, host, line);
        has(&request, &["Host", "X-CUSTOM-Id", "X-Other", "x-Twice", "X-tWice", "x-real-ip"]);
        has(&answer, &["Content-Length", "Set-Cookie", "SET-COOKIE", "X-Vendor-ID"]);
    }
}

#[test]
fn a_client_of_http2_gets_lower_case_and_has_no_spelling_to_preserve() {
    for args in [&["--preserve-header-case"][..], &["--header-case=X-Vendor-ID,Host"]] {
        let app = app();
        let gateway = gateway(&app, args);
        let mut client = H2::connect(gateway.https, "plain.test");
        let answer = client.request(1, &h2raw::get("plain.test", "/"), None);
        assert_eq!(answer.status, 200, "{answer:?}");
        let request = app.requests().pop().unwrap();
        let sent = names(&request.fields).join(" ");
        assert_eq!(sent, sent.to_ascii_lowercase());
    }
}
