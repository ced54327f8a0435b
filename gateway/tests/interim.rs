//! Interim answers: what a backend says before its answer reaches the client, and nothing is said in its name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Gate, echo_answer},
        bed::Bed,
        client::{dial, get, send},
        gateway::{Gateway, Plan},
        h2raw::{self, H2},
        manifests::{ingress, prefix, service},
    },
    wait,
};

/// Reads until this text has come.
fn until(stream: &mut TcpStream, text: &str, read: &mut String) {
    let mut chunk = [0; 4096];
    while !read.contains(text) {
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "the end, and no {text:?} in {read:?}");
        *read += std::str::from_utf8(&chunk[..n]).unwrap();
    }
}

#[test]
fn what_comes_before_an_answer_is_passed_on_at_once() {
    for (before, expected) in [
        (
            vec!["HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"],
            "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n",
        ),
        (
            vec!["HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n"],
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b>\r\n\r\n",
        ),
        (
            vec!["HTTP/1.1 10", "3 Early Hints\r\nLink: <", "/c>\r\nKeep-Alive: 5\r\n\r\n"],
            "HTTP/1.1 103 Early Hints\r\nlink: </c>\r\n\r\n",
        ),
    ] {
        let gate = Gate::default();
        let until_open = gate.clone();
        let app = Backend::scripted("app", move |request| {
            let pieces = before.iter().flat_map(|piece| {
                [Act::Send((*piece).into()), Act::Wait(Duration::from_millis(20))]
            });
            let answer = Act::Send(echo_answer("app", request));
            pieces.chain([Act::Until(until_open.clone()), answer]).collect()
        });
        let bed = Bed::around(app, Backend::echo("other"), Backend::echo("secret"), &[]);
        let mut client = dial(bed.http);
        let get = b"GET /a HTTP/1.1\r\nHost: good.test\r\n\r\n";
        client.write_all(get).unwrap();
        let mut read = String::new();
        until(&mut client, expected, &mut read);
        assert!(!read.contains("200 OK"), "the answer is not there yet: {read:?}");
        gate.open();
        until(&mut client, "app GET /a\n", &mut read);
        assert!(read.starts_with(&format!("{expected}HTTP/1.1 200 OK\r\n")), "{read:?}");
        // The connection is in step, and whoever does not understand gets the answer alone.
        client.write_all(get).unwrap();
        read.clear();
        until(&mut client, "app GET /a\n", &mut read);
        let mut old = dial(bed.http);
        old.write_all(b"GET /a HTTP/1.0\r\nHost: good.test\r\n\r\n").unwrap();
        read.clear();
        old.read_to_string(&mut read).unwrap();
        assert!(!read.contains(" 103 ") && read.contains("app GET /a\n"), "{read:?}");
        let answer =
            H2::connect(bed.https, "good.test").request(1, &h2raw::get("good.test", "/a"), None);
        assert_eq!((answer.status, &*answer.body), (200, &b"app GET /a\n"[..]));
    }
}

/// What a backend does with a request whose head has come, and with it whatever has come of its body.
type Play = fn(&mut TcpStream, &mpsc::Receiver<()>, String);

/// A gateway before a backend that plays by hand; it goes on when it is told.
fn by_hand(play: Play) -> (Gateway, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (go, told) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = String::new();
        until(&mut stream, "\r\n\r\n", &mut read);
        play(&mut stream, &told, read);
    });
    let rules = ingress("site", "", "", &[prefix("x.test", "/", "app")]);
    let plan = Plan::default().manifest("all.yaml", service("app", &[addr]) + &rules);
    (plan.start(), go)
}

const POST: &[u8] =
    b"POST /p HTTP/1.1\r\nHost: x.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
const DONE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_body_is_asked_for_when_the_backend_asks_and_not_before() {
    let (gateway, go) = by_hand(|stream, told, mut read| {
        assert!(read.to_lowercase().contains("expect: 100-continue"), "{read}");
        told.recv().unwrap();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        until(stream, "hello", &mut read);
        stream.write_all(DONE).unwrap();
    });
    let mut client = dial(gateway.http);
    client.write_all(POST).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = client.read(&mut [0; 100]);
    assert!(early.is_err(), "{early:?}: nobody has asked for the body");
    client.set_read_timeout(None).unwrap();
    go.send(()).unwrap();
    let mut read = String::new();
    until(&mut client, "\r\n\r\n", &mut read);
    assert_eq!(read, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").unwrap();
    until(&mut client, "\r\n\r\nok", &mut read);
    assert_eq!(read.matches("100 Continue").count(), 1, "{read}");
}

#[test]
fn an_answer_instead_of_100_is_passed_on_and_no_body_asked_for() {
    for answer in ["417 Expectation Failed", "401 Unauthorized", "413 Content Too Large", "200 OK"]
    {
        let (gateway, go) = by_hand(|stream, told, _| {
            let answer = told.recv().is_ok().then(|| ANSWER.lock().unwrap().clone()).unwrap();
            let head = format!("HTTP/1.1 {answer}\r\nContent-Length: 2\r\n\r\nno");
            stream.write_all(head.as_bytes()).unwrap();
            let mut rest = Vec::new();
            drop(stream.read_to_end(&mut rest));
            assert!(rest.is_empty(), "{rest:?}");
        });
        answer.clone_into(&mut ANSWER.lock().unwrap());
        go.send(()).unwrap();
        let mut client = dial(gateway.http);
        client.write_all(POST).unwrap();
        let mut read = String::new();
        client.read_to_string(&mut read).unwrap();
        assert!(read.starts_with(&format!("HTTP/1.1 {answer}\r\n")), "{read:?}");
        assert!(read.to_lowercase().contains("connection: close"), "{read:?}");
    }
}

/// What the backend of the test above answers.
static ANSWER: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());

#[test]
fn a_backend_that_does_not_know_the_question_gets_the_body_after_a_while() {
    for body_at_once in [false, true] {
        let (gateway, _go) = by_hand(|stream, _, mut read| {
            until(stream, "hello", &mut read);
            stream.write_all(DONE).unwrap();
        });
        let mut client = dial(gateway.http);
        client.write_all(POST).unwrap();
        if body_at_once {
            client.write_all(b"hello").unwrap();
        }
        let mut read = String::new();
        if !body_at_once {
            until(&mut client, "HTTP/1.1 100 Continue\r\n\r\n", &mut read);
            client.write_all(b"hello").unwrap();
        }
        until(&mut client, "\r\n\r\nok", &mut read);
    }
}

#[test]
fn an_expectation_without_a_body_or_of_http_1_0_is_not_passed_on() {
    let bed = Bed::gateway(&[]);
    for request in [
        "GET /a HTTP/1.1\r\nHost: good.test\r\nExpect: 100-continue\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: good.test\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        "POST /a HTTP/1.0\r\nHost: good.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let seen = send(bed.http, request.as_bytes());
        assert_eq!(seen.status(), 200, "{request:?}: {seen:?}");
    }
    assert!(bed.app.requests().iter().all(|request| request.all("expect").is_empty()));
}

/// A backend that never comes to its answer, but says so all the time; whoever connects is noted.
fn stammerer() -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (gave_up, ended) = mpsc::channel();
    thread::spawn(move || {
        let flood = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(1_000);
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            until(&mut stream, "\r\n\r\n", &mut String::new());
            while stream.write_all(&flood).is_ok() {}
            let _ = gave_up.send(());
        }
    });
    (addr, ended)
}

#[test]
fn a_backend_that_goes_on_with_interim_answers_loses_its_connection_and_holds_up_nobody() {
    let (stammerer, ended) = stammerer();
    let app = Backend::echo("app");
    let auth = format!("nginx.ingress.kubernetes.io/auth-url: \"http://{stammerer}/\"");
    let mirror = format!("nginx.ingress.kubernetes.io/mirror-target: \"http://{stammerer}/\"");
    let gateway = Plan::default()
        .manifest("app.yaml", service("app", &[app.addr]))
        .manifest("bad.yaml", service("bad", &[stammerer]))
        .manifest("a.yaml", ingress("a", "", "", &[prefix("backend.test", "/", "bad")]))
        .manifest("b.yaml", ingress("b", &auth, "", &[prefix("auth.test", "/", "app")]))
        .manifest("c.yaml", ingress("c", &mirror, "", &[prefix("mirror.test", "/", "app")]))
        .start();
    for (host, expected) in [("backend.test", 502), ("auth.test", 500), ("mirror.test", 200)] {
        let began = Instant::now();
        assert_eq!(get(gateway.http, host, "/").status(), expected, "{host}");
        let cut_off = ended.recv_timeout(wait::LIMIT);
        assert!(cut_off.is_ok(), "{host}: its connection goes on after {:?}", began.elapsed());
    }
    assert_eq!(get(gateway.http, "mirror.test", "/").status(), 200);
}

/// A backend that speaks HTTP/2: it waits for a request, or does not, then sends this without end.
fn flooder(flood: Vec<u8>, waits: bool) -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (gave_up, ended) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
            // HEADERS of the first stream (RFC 9113 §6.2).
            let asked =
                |read: &[u8]| read.windows(9).any(|it| it[3] == 1 && it[5..] == [0, 0, 0, 1]);
            while waits && !asked(&read) {
                let Ok(n @ 1..) = stream.read(&mut chunk) else { break };
                read.extend_from_slice(&chunk[..n]);
            }
            // What is said to us is read, or our answers would be what stops us.
            let mut other = stream.try_clone().unwrap();
            thread::spawn(move || std::io::copy(&mut other, &mut std::io::sink()));
            // SETTINGS, and it goes on.
            drop(stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]));
            while stream.write_all(&flood).is_ok() {}
            let _ = gave_up.send(());
        }
    });
    (addr, ended)
}

#[test]
fn a_backend_that_floods_in_http_2_loses_its_connection_as_well() {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        frame.extend_from_slice(payload);
        frame
    };
    let headers = frame(1, 4, 1, &[0x88]);
    for (name, begins, flood) in [
        ("interim answers", vec![], frame(1, 4, 1, &[8, 3, b'1', b'0', b'3'])),
        ("PING", vec![], frame(6, 0, 0, &[7; 8])),
        ("SETTINGS", vec![], frame(4, 0, 0, &[])),
        ("WINDOW_UPDATE", vec![], frame(8, 0, 0, &[0, 0, 0, 1])),
        ("what nobody knows", vec![], frame(99, 0, 0, &[0])),
        ("empty DATA", headers.clone(), frame(0, 0, 1, &[])),
        ("DATA of padding", headers, frame(0, 8, 1, &[0])),
    ] {
        let begun = !begins.is_empty();
        let (addr, ended) = flooder([begins, flood.repeat(1_000)].concat(), true);
        let http2 = "nginx.ingress.kubernetes.io/backend-protocol: GRPC";
        let gateway = Plan::default()
            .manifest("bad.yaml", service("bad", &[addr]))
            .manifest("a.yaml", ingress("a", http2, "", &[prefix("a.test", "/", "bad")]))
            .start();
        let began = Instant::now();
        let seen = get(gateway.http, "a.test", "/");
        // An answer that has begun is cut off.
        assert!(begun || seen.status() == 502, "{name}: {seen:?}");
        let cut_off = ended.recv_timeout(wait::LIMIT);
        assert!(cut_off.is_ok(), "{name}: its connection goes on after {:?}", began.elapsed());
    }
}
