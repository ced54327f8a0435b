//! Answers on their way back that cannot be told by one request and its answer: what leaves when, and what counts how
//! long.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Gate, echo_answer},
        client::{self, Step, Want, dial, exchange},
        gateway::Plan,
        manifests::{ingress, prefix, service},
    },
    wait,
};

fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n").into_bytes()
}

#[test]
fn an_event_leaves_when_it_comes_however_it_is_compressed() {
    const EVENT: &[u8] = b"data: 1\n\n";
    let gate = Gate::default();
    let opens = gate.clone();
    let app = Backend::scripted("app", move |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunk =
            |text: &[u8]| [format!("{:x}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
        vec![
            Act::Send([head.as_bytes(), &chunk(EVENT)].concat()),
            Act::Until(gate.clone()),
            Act::Send([&*chunk(EVENT), b"0\r\n\r\n"].concat()),
        ]
    });
    let compress = "gatehouse.io/compress: gzip, gatehouse.io/compress-types: text/event-stream";
    let gateway = Plan::default()
        .manifest("app.yaml", service("app", &[app.addr]))
        .manifest("ingress.yaml", ingress("a", compress, "", &[prefix("a.test", "/", "app")]))
        .start();
    let mut client = dial(gateway.http);
    client.write_all(&get("/", "Accept-Encoding: gzip\r\n")).unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    // The backend says no more before this one event is here, readable.
    let event = loop {
        let length = client.read(&mut part).unwrap();
        assert!(length > 0, "{:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..length]);
        let mut event = [0; EVENT.len()];
        if flate2::read::GzDecoder::new(&*body(&answer)).read_exact(&mut event).is_ok() {
            break event;
        }
    };
    assert_eq!(event, EVENT);
    opens.open();
    while !answer.ends_with(b"0\r\n\r\n") {
        let length = client.read(&mut part).unwrap();
        assert!(length > 0);
        answer.extend_from_slice(&part[..length]);
    }
    let mut all = Vec::new();
    flate2::read::GzDecoder::new(&*body(&answer)).read_to_end(&mut all).unwrap();
    assert_eq!(all, [EVENT, EVENT].concat());
}

/// What has come of a chunked body.
fn body(answer: &[u8]) -> Vec<u8> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let mut rest = head.map_or(&[][..], |at| &answer[at + 4..]);
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        let Some(chunk) = rest.get(at + 2..at + 2 + length) else { break };
        body.extend_from_slice(chunk);
        rest = rest.get(at + 4 + length..).unwrap_or_default();
    }
    body
}

#[test]
fn a_request_counts_until_its_answer_has_left() {
    let gate = Gate::default();
    let waits = gate.clone();
    let app = Backend::scripted("app", move |request| {
        let mut acts = vec![Act::Send(echo_answer("app", request))];
        if request.target == "/slow" {
            acts.insert(0, Act::Until(waits.clone()));
        }
        acts
    });
    let limit = "nginx.ingress.kubernetes.io/limit-connections: \"1\"";
    let gateway = Plan::default()
        .manifest("app.yaml", service("app", &[app.addr]))
        .manifest("ingress.yaml", ingress("a", limit, "", &[prefix("a.test", "/", "app")]))
        .start();
    let status = || {
        let seen = exchange(gateway.http, &[Step::Send(get("/", ""))], Want::responses(1));
        seen.responses[0].status
    };
    assert_eq!(status(), 200);
    let mut slow = dial(gateway.http);
    slow.write_all(&get("/slow", "")).unwrap();
    let came = wait::comes_true(|| app.arrived().iter().any(|it| it.target == "/slow"));
    assert!(came);
    assert_eq!(status(), 429);
    gate.open();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert!(wait::comes_true(|| status() == 200));
}

#[test]
fn errors_of_the_gateway_are_worded_as_the_process_says_from_the_moment_that_it_does() {
    let page = |text: &str| {
        format!(
            "apiVersion: v1
kind: ConfigMap
metadata: {{name: pages, namespace: openshift-config}}
data:
  error-page-503.http: |
    HTTP/1.0 503 Service Unavailable
    Pragma: no-cache
    Content-Type: text/html; charset=utf-8
    Retry-After: 7

    <p>{text}</p>
  404.html: <p>nothing at {{{{status}}}}</p>
"
        )
    };
    let own = "gatehouse.io/error-pages: own";
    let rules = [prefix("a.test", "/none", "none"), prefix("a.test", "/app", "app")];
    let app = Backend::scripted("app", |_| {
        vec![Act::Send(b"HTTP/1.1 503 Down\r\nContent-Length: 5\r\n\r\ntheir".to_vec())]
    });
    let gateway = Plan::default()
        .args(&["--error-pages", "openshift-config/pages"])
        .manifest("pages.yaml", page("closed for today"))
        .manifest("none.yaml", service("none", &[]))
        .manifest("app.yaml", service("app", &[app.addr]))
        .manifest("ingress.yaml", ingress("a", "", "", &rules))
        .manifest("own.yaml", ingress("own", own, "", &[prefix("b.test", "/", "none")]))
        .manifest(
            "own-pages.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own, namespace: default}\ndata: {5xx: own words}\n",
        )
        .start();
    let ask = |host: &str, path: &str| {
        let mut answer = client::get(gateway.http, host, path);
        (answer.status(), answer.responses.remove(0))
    };
    let (status, answer) = ask("a.test", "/none");
    assert_eq!((status, answer.one("pragma").as_deref()), (503, Some("no-cache")));
    assert_eq!(answer.one("retry-after").as_deref(), Some("7"));
    assert!(answer.text().starts_with("<p>closed for today</p>"));
    let (status, answer) = ask("unknown.test", "/");
    assert_eq!((status, answer.text()), (404, "<p>nothing at 404</p>".to_owned()));
    let (status, answer) = ask("b.test", "/");
    assert_eq!((status, answer.text()), (503, "own words".to_owned()));
    let (status, answer) = ask("a.test", "/app");
    assert_eq!((status, answer.text()), (503, "their".to_owned()), "the backend's own");

    gateway.save("pages.yaml", &page("open again soon"));
    let changed = wait::look(|| ask("a.test", "/none").1.text().contains("soon").then_some(()));
    assert!(changed.is_some(), "a change is live");
}
