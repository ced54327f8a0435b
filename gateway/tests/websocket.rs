//! Upgrades (P9): a tunnel only for `websocket`, only after the backend's 101 that names it, and no
//! byte of it early, late or lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Record, echo_answer},
        bed::Bed,
        client::{End, Exchange, Want, Wire, dial, listen, read_some},
        show,
        tls::Tls,
    },
    wait::{self, comes_true},
};

const HELLO: &str = "GET /chat HTTP/1.1\r\nHost: good.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A bed whose `app` plays these acts for a WebSocket handshake and echoes everything else.
fn bed(acts: Vec<Act>, args: &[&str]) -> Bed {
    let app = Backend::scripted("app", move |request| {
        if request.one("upgrade").as_deref() == Some("websocket") {
            acts.clone()
        } else {
            vec![Act::Send(echo_answer("app", request))]
        }
    });
    Bed::around(app, Backend::echo("other"), Backend::echo("secret"), args)
}

fn tunnel() -> Vec<Act> {
    vec![Act::Send(ACCEPT.into()), Act::Echo]
}

/// Reads until `wanted` is there, then says what came before it.
fn until(wire: &mut impl Wire, wanted: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let start = Instant::now();
    loop {
        if let Some(at) = bytes.windows(wanted.len()).position(|w| w == wanted) {
            bytes.truncate(at);
            return bytes;
        }
        let left = wait::LIMIT.saturating_sub(start.elapsed());
        let read = read_some(wire, left, &mut bytes).unwrap_or(0);
        assert!(read > 0, "{:?} did not come: {}", wanted, show(&bytes));
    }
}

/// A connection whose handshake is answered, and the answer.
fn greeted<W: Wire>(wire: std::io::Result<W>) -> Result<(W, Exchange), String> {
    let mut wire = wire.map_err(|error| error.to_string())?;
    wire.write_all(HELLO.as_bytes()).map_err(|error| error.to_string())?;
    let seen = listen(&mut wire, Want::responses(1), false);
    if seen.status() == 101 { Ok((wire, seen)) } else { Err(format!("{seen:?}")) }
}

#[test]
fn it_passes_through_and_outlives_every_timeout_of_a_request() {
    let bed = bed(tunnel(), &["--time-scale=0.05", "--upstream-timeout=2"]);
    // Under that scale half a second is all that a handshake or a header may take: who is late on a busy machine comes again.
    let (mut plain, clear) = wait::eventually("a tunnel", || greeted(Ok(dial(bed.http))));
    let (mut tls, secure) = wait::eventually("a tunnel over TLS", || {
        greeted(Tls::connect(bed.https, "good.test", &["http/1.1"]))
    });
    for seen in [clear, secure] {
        let accept = seen.responses[0].one("sec-websocket-accept");
        assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(seen.responses[0].one("upgrade").as_deref(), Some("websocket"));
    }
    // Longer than the longest of them, the 75 s of an idle connection, under that scale.
    for _ in 0..5 {
        std::thread::sleep(Duration::from_secs(1));
        plain.write_all(b"\x81\x05hello").unwrap();
        until(&mut plain, b"\x81\x05hello");
        tls.write_all(b"\x81\x05hello").unwrap();
        until(&mut tls, b"\x81\x05hello");
    }
    let request = bed.app.requests().remove(0);
    assert_eq!(request.one("sec-websocket-key").as_deref(), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    drop((plain, tls));
    let over = comes_true(|| bed.app.open() == 0);
    assert!(over, "the tunnel ends with its client");
}

#[test]
fn frames_that_come_with_the_handshake_wait_for_the_101_and_are_not_lost() {
    // A backend that reads frames as soon as they come would find them before its own 101.
    let slow = [vec![Act::Wait(Duration::from_millis(200))], tunnel()].concat();
    let bed = bed(slow, &[]);
    let mut client = dial(bed.http);
    client.write_all(&[HELLO.as_bytes(), b"\x81\x05early"].concat()).unwrap();
    let head = until(&mut client, b"\x81\x05early");
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", show(&head));
}

#[test]
fn frames_that_come_with_the_101_are_not_lost() {
    let greeting = [ACCEPT.as_bytes(), b"\x81\x08greeting"].concat();
    let bed = bed(vec![Act::Send(greeting), Act::Echo], &[]);
    let mut client = dial(bed.http);
    client.write_all(HELLO.as_bytes()).unwrap();
    until(&mut client, b"\x81\x08greeting");
    client.write_all(b"\x81\x04more").unwrap();
    until(&mut client, b"\x81\x04more");
}

#[test]
fn a_backend_that_declines_leaves_the_connection_to_http() {
    let no = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let bed = bed(vec![Act::Send(no.into())], &[]);
    let mut client = dial(bed.http);
    let next = "GET /next HTTP/1.1\r\nHost: good.test\r\n\r\n";
    client.write_all([HELLO, next].concat().as_bytes()).unwrap();
    let seen = listen(&mut client, Want::responses(2), false);
    let statuses: Vec<u16> = seen.responses.iter().map(|r| r.status).collect();
    assert_eq!(statuses, [403, 200], "{seen:?}");
    bed.probe().unwrap();
}

#[test]
fn frames_to_a_backend_that_declined_reach_no_backend() {
    let no = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let bed = bed(vec![Act::Wait(Duration::from_millis(100)), Act::Send(no.into())], &[]);
    let mut client = dial(bed.http);
    client.write_all(&[HELLO.as_bytes(), b"\x81\x85\0\0\0\0early"].concat()).unwrap();
    let seen = listen(&mut client, Want { close: true, ..Want::responses(2) }, false);
    assert_eq!(seen.status(), 403, "{seen:?}");
    assert!(seen.responses.get(1).is_none_or(|r| r.status == 400), "{seen:?}");
    bed.probe().unwrap();
    let records = bed.take().app;
    assert!(
        records.iter().all(|r| matches!(r, Record::Request(r) if r.target == "/chat")),
        "{records:?}"
    );
}

#[test]
fn a_101_that_was_not_asked_for_or_names_something_else_is_a_bad_gateway() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\nx",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil, websocket\r\nConnection: Upgrade\r\n\r\nx",
        "HTTP/1.1 101 Switching Protocols\r\n\r\nx",
    ] {
        let bed = bed(vec![Act::Send(answer.into()), Act::Echo], &[]);
        let mut client = dial(bed.http);
        client.write_all(HELLO.as_bytes()).unwrap();
        let seen = listen(&mut client, Want::responses(1), false);
        assert_eq!(seen.status(), 502, "{answer:?}: {seen:?}");
        bed.probe().unwrap();
    }
}

#[test]
fn a_large_stream_arrives_whole_in_both_directions() {
    let bed = bed(tunnel(), &[]);
    let mut client = dial(bed.http);
    client.write_all(HELLO.as_bytes()).unwrap();
    assert_eq!(listen(&mut client, Want::responses(1), false).status(), 101);
    let sent: Vec<u8> = (0..8u32 << 20).map(|n| (n ^ n >> 11) as u8).collect();
    let mut writer: TcpStream = client.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    client.set_read_timeout(Some(wait::LIMIT)).unwrap();
    let mut received = vec![0; sent.len()];
    client.read_exact(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent, "the bytes came back changed");
}

#[test]
fn a_backend_that_goes_ends_the_tunnel() {
    let acts = vec![Act::Send(ACCEPT.into()), Act::Wait(Duration::from_millis(100)), Act::Close];
    let bed = bed(acts, &[]);
    let mut client = dial(bed.http);
    client.write_all(HELLO.as_bytes()).unwrap();
    let seen = listen(&mut client, Want { close: true, ..Want::responses(1) }, false);
    assert!(seen.status() == 101 && seen.closed, "{seen:?}");
    assert_eq!(seen.responses[0].end, End::Close);
}

#[test]
fn an_open_tunnel_does_not_hold_up_a_stop_longer_than_told() {
    let mut bed = bed(tunnel(), &["--drain-timeout=1"]);
    let mut client = dial(bed.http);
    client.write_all(HELLO.as_bytes()).unwrap();
    assert_eq!(listen(&mut client, Want::responses(1), false).status(), 101);
    let gateway = bed.gateway.as_mut().unwrap();
    gateway.terminate();
    let status = gateway.wait().expect("the hard deadline holds");
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
}
