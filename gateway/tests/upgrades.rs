//! Upgrades other than to `websocket` (P9), on raw sockets: only what the object names, only after the backend's 101
//! that names the same, and every byte arrives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};

use gatehouse_testbed::gatehouse::{
    backend::{Act, Backend, echo_answer},
    call::Caller,
    client::{Want, dial, listen, send},
    gateway::{Gateway, Plan},
    manifests::{ingress, prefix, service},
};

/// Takes the upgrade that it is asked for, or answers as always.
fn app() -> Backend {
    Backend::scripted("app", |request| match request.one("upgrade") {
        None => vec![Act::Send(echo_answer("app", request))],
        Some(asked) => {
            let named = if request.target == "/other" { "websocket" } else { &asked };
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {named}\r\n\
                 X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
            );
            vec![Act::Send(head.into()), Act::Echo]
        }
    })
}

fn gateway(app: &Backend) -> Gateway {
    let asks = "gatehouse.io/upgrades: \"SPDY/3.1, tcp\"";
    let text = service("app", &[app.addr])
        + &ingress("plain", "", "", &[prefix("plain.test", "/", "app")])
        + &ingress("exec", asks, "", &[prefix("exec.test", "/", "app")])
        + &ingress("wrong", "gatehouse.io/upgrades: h2c", "", &[prefix("wrong.test", "/", "app")]);
    Plan::default().manifest("app.yaml", text).start()
}

/// What `kubectl exec` asks for, with this protocol.
fn exec(host: &str, target: &str, protocol: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: Upgrade\r\n\
         Upgrade: {protocol}\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
    )
}

#[test]
fn what_an_object_names_becomes_a_tunnel() {
    let app = app();
    let gateway = gateway(&app);
    for protocol in ["SPDY/3.1", "spdy/3.1", "tcp", "websocket"] {
        let mut client = dial(gateway.http);
        client.write_all(exec("exec.test", "/exec", protocol).as_bytes()).unwrap();
        let seen = listen(&mut client, Want::responses(1), false);
        assert_eq!(seen.status(), 101, "{protocol}: {seen:?}");
        let answer = &seen.responses[0];
        assert_eq!(answer.one("upgrade").as_deref(), Some(protocol));
        assert_eq!(answer.one("x-stream-protocol-version").unwrap(), "v4.channel.k8s.io");
        // Control frames of SPDY, and more than any buffer holds.
        let sent: Vec<u8> = b"\x80\x03\0\x01\x01".iter().copied().cycle().take(300_000).collect();
        let (copy, mut writer) = (sent.clone(), client.try_clone().unwrap());
        let writing = std::thread::spawn(move || writer.write_all(&copy).unwrap());
        let mut received = vec![0; sent.len()];
        client.read_exact(&mut received).unwrap();
        writing.join().unwrap();
        assert!(received == sent, "{protocol}: the bytes came back changed");
        let request = app.requests().pop().unwrap();
        assert_eq!(request.one("upgrade").as_deref(), Some(protocol));
        assert_eq!(request.one("connection").as_deref(), Some("upgrade"));
    }
}

#[test]
fn what_no_object_names_is_an_ordinary_request() {
    let app = app();
    let gateway = gateway(&app);
    for (host, protocol) in [
        ("plain.test", "SPDY/3.1"),
        ("plain.test", "tcp"),
        ("exec.test", "SPDY/3"),
        ("exec.test", "SPDY/3.1, tcp"),
        ("exec.test", "h2c"),
        ("wrong.test", "h2c"),
    ] {
        let seen = send(gateway.http, exec(host, "/exec", protocol).as_bytes());
        assert_eq!(seen.status(), 200, "{host} {protocol}: {seen:?}");
        let request = app.requests().pop().unwrap();
        assert_eq!(request.one("upgrade"), None, "{host} {protocol}");
        assert_eq!(request.one("connection"), None, "{host} {protocol}");
    }
    let snapshot = gateway.page("/snapshot");
    assert!(snapshot.contains("behind which requests would pass unseen"), "{snapshot}");
}

#[test]
fn a_101_that_names_another_protocol_than_asked_for_is_a_bad_gateway() {
    let app = app();
    let gateway = gateway(&app);
    let seen = send(gateway.http, exec("exec.test", "/other", "SPDY/3.1").as_bytes());
    assert_eq!(seen.status(), 502, "{seen:?}");
}

#[tokio::test]
async fn whoever_must_change_the_protocol_is_told_which_and_an_offer_stays_with_its_hop() {
    let app = Backend::scripted("app", |request| {
        let status = if request.target == "/offer" { "200 OK" } else { "426 Upgrade Required" };
        let answer = format!(
            "HTTP/1.1 {status}\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/1.1\r\n\
             Content-Length: 2\r\n\r\nno"
        );
        vec![Act::Send(answer.into())]
    });
    let gateway = gateway(&app);
    for version in ["1.1", "1.0"] {
        let get = |target: &str| {
            let head = format!("GET {target} HTTP/{version}\r\nHost: plain.test\r\n\r\n");
            send(gateway.http, head.as_bytes())
        };
        let refused = get("/");
        let answer = &refused.responses[0];
        assert_eq!(answer.status, 426, "{version}: {refused:?}");
        assert_eq!(answer.one("upgrade").as_deref(), Some("TLS/1.2, HTTP/1.1"), "{refused:?}");
        assert_eq!(answer.one("connection").as_deref(), Some("upgrade"), "{refused:?}");
        let offered = get("/offer");
        assert_eq!((offered.status(), offered.responses[0].one("upgrade")), (200, None));
    }
    let mut caller = Caller::connect(gateway.https, "plain.test").await;
    let called = caller.get("/").await;
    assert_eq!((called.status, &*called.body), (426, &b"no"[..]));
    for name in ["upgrade", "connection"] {
        assert!(!called.fields.contains_key(name), "{:?}", called.fields);
    }
}
