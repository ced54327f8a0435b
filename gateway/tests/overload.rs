//! A process whose memory nears its limit takes less on, and is as before when there is room again (P24d).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{io::Write as _, net::TcpStream};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        client::{Response, Want, dial, listen},
        gateway::{Gateway, Plan},
        manifests::{ingress, prefix, service},
    },
    wait,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const MIB: u64 = 1 << 20;
/// What the process may have.
const LIMIT: u64 = 64 * MIB;
/// What the body of one more client takes, less than what lies between the two pressures.
const STEP: u64 = MIB;

fn gateway(app: &Backend) -> Gateway {
    let whole = "gatehouse.io/request-buffering: \"on\", nginx.ingress.kubernetes.io/proxy-body-size: \"0\", \
                 nginx.ingress.kubernetes.io/client-body-buffer-size: 1g";
    let limit = LIMIT.to_string();
    Plan::default()
        .manifest("app.yaml", service("app", &[app.addr]))
        .manifest("plain.yaml", ingress("plain", "", "", &[prefix("a.test", "/", "app")]))
        .manifest("whole.yaml", ingress("whole", whole, "", &[prefix("whole.test", "/", "app")]))
        .args(&["--memory-limit", &limit, "--body-memory", &limit])
        .start()
}

/// How bad the shortage of memory is, in the words of the status.
fn shortage(gateway: &Gateway) -> Option<String> {
    let status: serde_json::Value = serde_json::from_str(&gateway.page("/status")).unwrap();
    let problems = status["problems"].as_array().unwrap();
    let of_memory = problems.iter().find(|problem| problem["reason"] == "MemoryShort")?;
    Some(of_memory["severity"].as_str().unwrap().to_owned())
}

/// Memory that the process has of its own.
fn used(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Clients with bodies that take memory as long as they do not end: more than there may be.
fn uploads(gateway: &Gateway) -> impl Iterator<Item = TcpStream> + use<> {
    let head = "POST / HTTP/1.1\r\nHost: whole.test\r\nContent-Length: 1000000000\r\n\r\n";
    let begun = (0..LIMIT / STEP).map(|_| {
        let mut client = dial(gateway.http);
        client.write_all(head.as_bytes()).unwrap();
        client
    });
    begun.collect::<Vec<_>>().into_iter()
}

/// Has clients go on with their bodies until memory is short; returns them.
fn fill(gateway: &Gateway, clients: impl Iterator<Item = TcpStream>) -> Vec<TcpStream> {
    let mut sent = Vec::new();
    for mut client in clients {
        let kept = || gateway.kept("memory") + gateway.kept("file");
        let before = kept();
        client.write_all(&vec![b'x'; STEP as usize]).unwrap();
        sent.push(client);
        assert!(wait::comes_true(|| kept() >= before + STEP));
        if used(gateway) >= LIMIT * 85 / 100 {
            return sent;
        }
    }
    panic!("bodies take no memory");
}

/// Clients with heads that take memory as long as they do not end.
fn heads(gateway: &Gateway) -> Vec<TcpStream> {
    let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nlong: {}", "x".repeat(60_000));
    let accepted = || gateway.count("gatehouse_connections_accepted_total");
    let before = accepted();
    let mut clients: Vec<_> = (0..LIMIT / 4 / 60_000).map(|_| dial(gateway.http)).collect();
    assert!(wait::comes_true(|| accepted() >= before + clients.len() as u64));
    clients.iter_mut().for_each(|client| client.write_all(head.as_bytes()).unwrap());
    clients
}

fn ask(client: &mut TcpStream) -> Response {
    client.write_all(GET).unwrap();
    listen(client, Want::responses(1), false).responses.remove(0)
}

#[test]
fn a_process_that_is_short_of_memory_takes_less_on_and_recovers() {
    let app = Backend::echo("app");
    let gateway = gateway(&app);
    let mut kept = dial(gateway.http);
    assert_eq!(ask(&mut kept).one("connection"), None);
    assert_eq!(shortage(&gateway), None);

    let mut bodies = fill(&gateway, uploads(&gateway));
    let is = |severity| wait::comes_true(|| shortage(&gateway).as_deref() == Some(severity));
    assert!(is("warning"), "{:?}", shortage(&gateway));
    let end = listen(&mut kept, Want { close: true, ..Want::responses(0) }, false);
    assert!(end.closed && !end.reset, "an idle connection ends: {end:?}");
    let answer = ask(&mut dial(gateway.http));
    assert_eq!((answer.status, answer.one("connection").as_deref()), (200, Some("close")));

    bodies[0].write_all(b"more").unwrap();
    assert!(wait::comes_true(|| gateway.kept("file") > STEP), "a body that grows goes to a file");

    let mut early = dial(gateway.http);
    let heads = heads(&gateway);
    assert!(is("error"), "{:?}", shortage(&gateway));
    let answer = ask(&mut early);
    assert_eq!((answer.status, answer.one("connection").as_deref()), (503, Some("close")));
    assert_eq!(answer.one("retry-after").as_deref(), Some("1"));
    // A listener that waits already takes one more in.
    assert_eq!(ask(&mut dial(gateway.http)).status, 503);
    let mut late = dial(gateway.http);
    late.write_all(GET).unwrap();

    drop((bodies, heads));
    let answer = listen(&mut late, Want::responses(1), false);
    assert_eq!(answer.status(), 200, "it was accepted when there was room again");
    assert_eq!(gateway.count("gatehouse_errors_total{reason=\"overloaded\"}"), 2);
    assert!(wait::comes_true(|| shortage(&gateway).is_none()));
    let mut kept = dial(gateway.http);
    assert_eq!(ask(&mut kept).one("connection"), None);
    assert_eq!(ask(&mut kept).status, 200);
}
