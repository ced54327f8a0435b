//! Clients of every age and temper that are in the right: HTTP/1.0, `Expect: 100-continue`, uploads
//! that are answered early, cookies by the dozen, half-closed connections.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    time::Duration,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, echo_answer},
        bed::Bed,
        client::{End, KeepAlive, Want, dial, get, listen, read_some, send},
        curl::Curl,
        gateway::Plan,
        h2raw::{self, H2},
        manifests::{ingress, prefix, service},
        show, strict,
    },
    wait,
};

/// A bed whose `app` answers everything with these bytes.
fn answering(bytes: &'static str) -> Bed {
    let app = Backend::scripted("app", move |request| {
        if request.target.starts_with("/probe") {
            return vec![Act::Send(echo_answer("app", request))];
        }
        vec![Act::Send(bytes.into())]
    });
    Bed::around(app, Backend::echo("other"), Backend::echo("secret"), &[])
}

const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";

#[test]
fn a_client_of_http10_never_sees_a_chunk() {
    let bed = answering(CHUNKED);
    for extra in ["", "Connection: keep-alive\r\n"] {
        let request = format!("GET / HTTP/1.0\r\nHost: good.test\r\n{extra}\r\n");
        let seen = send(bed.http, request.as_bytes());
        let response = &seen.responses[0];
        assert_eq!(strict::all(&response.fields, "transfer-encoding"), Vec::<String>::new());
        let connection = strict::all(&response.fields, "connection");
        assert_eq!(
            connection,
            Vec::<String>::new(),
            "nothing but its end tells where the answer ends"
        );
        assert!(response.text() == "hello world" && response.end != End::Cut, "{seen:?}");
    }
    bed.probe().unwrap();
}

#[test]
fn a_target_may_be_as_long_as_the_process_is_told() {
    let bed = Bed::gateway(&["--max-uri", "12000"]);
    let target = |length: usize| format!("/{}", "a".repeat(length - 1));
    for (length, status) in [(8_193, 200), (12_000, 200), (12_001, 414)] {
        let request = format!("GET {} HTTP/1.1\r\nHost: good.test\r\n\r\n", target(length));
        assert_eq!(send(bed.http, request.as_bytes()).status(), status, "{length} bytes");
    }
    // There the host is a part of it.
    for (length, status) in [(11_900, 200), (12_001, 414)] {
        let target = target(length);
        let fields = h2raw::get("good.test", &target);
        let answer = H2::connect(bed.https, "good.test").request(1, &fields, None);
        assert_eq!(answer.status, status, "{length} bytes: {answer:?}");
    }
    bed.probe().unwrap();
}

#[test]
fn a_client_of_http10_never_sees_an_interim_answer() {
    let bed = answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let seen = send(bed.http, b"GET / HTTP/1.0\r\nHost: good.test\r\n\r\n");
    assert!(seen.status() == 200 && seen.interim.is_empty(), "{seen:?}");
}

#[test]
fn a_client_that_expects_100_is_told_to_go_on() {
    let bed = Bed::gateway(&[]);
    let mut client = dial(bed.http);
    let head =
        "POST /e HTTP/1.1\r\nHost: good.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    // Nobody sends the body before that.
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        assert!(read_some(&mut client, wait::LIMIT, &mut bytes).unwrap() > 0);
    }
    assert!(bytes.starts_with(b"HTTP/1.1 100 "), "{}", show(&bytes));
    client.write_all(b"hello").unwrap();
    assert_eq!(listen(&mut client, Want::responses(1), false).status(), 200);
    assert_eq!(bed.app.requests()[0].body, b"hello");
    // Where nobody will read the body, nobody asks for it.
    let head = head.replace("good.test", "unknown.test");
    let seen = send(bed.http, head.as_bytes());
    assert!(seen.status() == 404 && seen.interim.is_empty(), "{seen:?}");
}

#[test]
fn an_upload_that_is_answered_early_gets_its_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 1024];
            drop(stream.read(&mut head));
            let refusal =
                "HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large";
            drop(stream.write_all(refusal.as_bytes()));
            drop(stream.shutdown(Shutdown::Write));
            // Gone with most of the body unread: the gateway meets a reset while it still sends.
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let text = service("app", &[addr]) + &ingress("i", "", "", &[prefix("x.test", "/", "app")]);
    let gateway = Plan::default().manifest("a.yaml", text).start();
    for n in 0..5 {
        let mut client = dial(gateway.http);
        let mut writer = client.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            let head = "POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 20000000\r\n\r\n";
            drop(writer.write_all(head.as_bytes()));
            for _ in 0..200 {
                if writer.write_all(&[b'x'; 100_000]).is_err() {
                    return;
                }
            }
        });
        let seen = listen(&mut client, Want::responses(1), false);
        drop(client.shutdown(Shutdown::Both));
        sending.join().unwrap();
        assert_eq!(seen.status(), 413, "upload {n}: {seen:?}");
        assert_eq!(seen.responses[0].text(), "too large");
    }
}

/// A socket that is closed with unread bytes in it is reset, and a reset takes the answer away from
/// a client that has not read it yet.
#[test]
fn a_refusal_can_be_read_by_a_client_that_was_still_sending() {
    // The gateway reads on for a while after a refusal: longer than a busy machine's client sends.
    let bed = Bed::gateway(&["--time-scale=10"]);
    for (fields, status) in [
        ("Host: good.test\r\nContent-Length: many\r\n", 400),
        ("Host: good.test\r\nContent-Length: 40000\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Host: good.test, other.test\r\nContent-Length: 40000\r\n", 400),
        ("Host: unknown.test\r\nContent-Length: 40000\r\n", 404),
        ("Host: unknown.test\r\nContent-Length: 60000\r\n", 404),
        ("Host: unknown.test\r\nContent-Length: 40000\r\nConnection: close\r\n", 404),
    ] {
        let mut client = dial(bed.http);
        client.write_all(format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap();
        for _ in 0..4 {
            let written = client.write_all(&[b'x'; 10_000]);
            assert!(written.is_ok(), "{fields:?}: reset before 64 KiB were sent");
            std::thread::sleep(Duration::from_millis(50));
        }
        let seen = listen(&mut client, Want::responses(1), false);
        assert_eq!(seen.status(), status, "{fields:?}: {seen:?}");
        assert!(!seen.reset, "{fields:?}: reset behind the answer");
    }
    bed.probe().unwrap();
}

#[test]
fn an_answer_before_the_end_of_a_large_upload_can_be_read_whoever_gives_it() {
    let early = "HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo large";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 1024];
            drop(stream.read(&mut head));
            drop(stream.write_all(early.as_bytes()));
        }
    });
    let limited = "nginx.ingress.kubernetes.io/proxy-body-size: 1k";
    let paths = |host| [prefix(host, "/", "app")];
    let text = service("app", &[app])
        + &ingress("early", "", "", &paths("early.test"))
        + &ingress("limited", limited, "", &paths("limited.test"));
    let gateway = Plan::default().manifest("a.yaml", text).args(&["--time-scale=10"]).start();
    for (host, status) in [("early.test", 413), ("limited.test", 413), ("unknown.test", 404)] {
        let mut client = dial(gateway.http);
        let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6000000\r\n\r\n");
        client.write_all(head.as_bytes()).unwrap();
        for part in 0..60 {
            let written = client.write_all(&[b'x'; 100_000]);
            assert!(written.is_ok(), "{host}: reset at part {part}, before the answer was read");
        }
        let seen = listen(&mut client, Want::responses(1), false);
        assert_eq!(seen.status(), status, "{host}: {seen:?}");
        assert!(!seen.reset, "{host}: reset behind the answer");
    }
}

/// curl 7 takes a reset behind the answer for the loss of it, and Debian's curl asks by HTTP/2 unless it is told otherwise.
#[test]
fn a_short_body_that_nobody_reads_costs_a_client_of_http2_no_answer() {
    let denied = "nginx.ingress.kubernetes.io/denylist-source-range: 127.0.0.0/8";
    let app = Backend::echo("app");
    let text = service("app", &[app.addr])
        + &ingress("denied", denied, "", &[prefix("denied.test", "/", "app")]);
    let gateway = Plan::default().manifest("a.yaml", text).start();
    let curl = Curl::of(gateway.https);
    for n in 0..20 {
        for (host, status) in [("unknown.test", 404), ("denied.test", 403)] {
            for body in ["x=1".to_owned(), "x".repeat(60_000)] {
                let more = ["--http2", "--data", &body];
                let seen = curl.ask(None, &more, &format!("https://{host}/"));
                assert_eq!(seen.status, status, "{host}, {} bytes, request {n}", body.len());
            }
        }
    }
}

#[test]
fn a_client_that_ends_its_half_after_the_request_still_gets_the_answer_or_a_clean_end() {
    let bed = Bed::gateway(&[]);
    let mut client = dial(bed.http);
    client.write_all(b"GET /half HTTP/1.1\r\nHost: good.test\r\n\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let seen = listen(&mut client, Want { close: true, ..Want::responses(1) }, false);
    assert!(seen.closed && seen.violation.is_none(), "{seen:?}");
    assert!(seen.responses.iter().all(|r| r.end != End::Cut), "{seen:?}");
}

#[test]
fn fields_that_repeat_are_kept_apart_and_in_order() {
    let bed = answering(
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2, c\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 2\r\n\r\nok",
    );
    let seen = get(bed.http, "good.test", "/");
    let fields = &seen.responses[0].fields;
    assert_eq!(strict::all(fields, "set-cookie"), ["a=1; Path=/", "b=2, c"]);
    assert_eq!(strict::all(fields, "x-a"), ["1", "2"]);
    bed.app.take();
    send(bed.http, b"GET /r HTTP/1.1\r\nHost: good.test\r\nX-B: 2\r\nX-A: 1\r\nX-B: 1\r\n\r\n");
    let request = bed.app.requests().remove(0);
    assert_eq!(request.all("x-b"), ["2", "1"]);
}

#[test]
fn an_answer_has_one_date_and_no_version_of_the_gateway() {
    let dated = "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 05:00:00 GMT\r\nServer: app\r\nContent-Length: 2\r\n\r\nok";
    let bed = answering(dated);
    let seen = get(bed.http, "good.test", "/");
    let fields = &seen.responses[0].fields;
    assert_eq!(strict::all(fields, "date"), ["Sat, 21 Nov 2026 05:00:00 GMT"]);
    assert_eq!(strict::all(fields, "server"), ["app"]);
    let seen = get(bed.http, "unknown.test", "/");
    let fields = &seen.responses[0].fields;
    assert_eq!(strict::all(fields, "date").len(), 1);
    assert_eq!(strict::all(fields, "server"), ["gatehouse"], "versions help attackers only");
}

#[test]
fn a_chunked_answer_arrives_whole_over_h2_and_a_cut_one_as_a_reset() {
    let bed = answering(CHUNKED);
    let mut client = H2::connect(bed.https, "good.test");
    let answer = client.request(1, &h2raw::get("good.test", "/"), None);
    assert!(answer.body == b"hello world" && answer.ended, "{answer:?}");
    let app = Backend::scripted("app", |_| {
        let half = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello";
        vec![Act::Send(half.into()), Act::Wait(Duration::from_millis(50)), Act::Close]
    });
    let bed = Bed::around(app, Backend::echo("other"), Backend::echo("secret"), &[]);
    let mut client = H2::connect(bed.https, "good.test");
    let answer = client.request(1, &h2raw::get("good.test", "/"), None);
    assert!(answer.reset.is_some() && !answer.ended, "a clean end would hide the loss: {answer:?}");
}

#[test]
fn a_thousand_requests_of_one_connection_are_all_answered() {
    let bed = Bed::gateway(&[]);
    let mut client = KeepAlive::to(bed.http);
    for n in 0..1_000 {
        let path = format!("/{n}");
        assert_eq!(client.get("good.test", &path).unwrap().text(), format!("app GET {path}\n"));
    }
    assert!(bed.app.connections() <= 2, "{} upstream connections", bed.app.connections());
}
