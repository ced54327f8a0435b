//! Hostile and clumsy backends (P8, P11): what a client may see of their answers, and that a
//! connection out of step is never used again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Request, echo_answer},
        bed::{Bed, manifest},
        client::{End, Exchange, Step, Want, dial, exchange, get, send},
        gateway::Plan,
        h2raw::{self, H2},
        show, strict,
    },
    wait::comes_true,
};

/// An answer by script, and what the client may see of it.
struct Case {
    name: &'static str,
    acts: Vec<Act>,
    method: &'static str,
    see: See,
}

enum See {
    /// 502, whole.
    BadGateway,
    /// Exactly this status and body.
    Served(u16, Vec<u8>),
    /// An answer that visibly lacks its end, or 502.
    Cut,
    /// Either a clean 502 or exactly this status and body.
    Either(u16, Vec<u8>),
}

fn answer(bytes: impl AsRef<[u8]>) -> Vec<Act> {
    vec![Act::Send(bytes.as_ref().to_vec())]
}

fn bad(name: &'static str, bytes: impl AsRef<[u8]>) -> Case {
    let acts = [answer(bytes), vec![Act::Wait(Duration::from_millis(30)), Act::Close]].concat();
    Case { name, acts, method: "GET", see: See::BadGateway }
}

fn served(name: &'static str, bytes: impl AsRef<[u8]>, status: u16, body: &[u8]) -> Case {
    Case { name, acts: answer(bytes), method: "GET", see: See::Served(status, body.to_vec()) }
}

fn cut(name: &'static str, bytes: impl AsRef<[u8]>) -> Case {
    Case { see: See::Cut, ..bad(name, bytes) }
}

fn either(name: &'static str, bytes: impl AsRef<[u8]>, status: u16, body: &[u8]) -> Case {
    Case { see: See::Either(status, body.to_vec()), ..bad(name, bytes) }
}

fn cases() -> Vec<Case> {
    let ok = "HTTP/1.1 200 OK\r\n";
    let five = "Content-Length: 5\r\n";
    let flood =
        |lines: usize| format!("{ok}{}{five}\r\nhello", "X-Flood: 0123456789\r\n".repeat(lines));
    [refused(ok, five, &flood), kept(ok, five, &flood), cuts(ok), interim(ok, five)]
        .into_iter()
        .flatten()
        .collect()
}

/// Heads that must become 502.
fn refused(ok: &str, five: &str, flood: &dyn Fn(usize) -> String) -> Vec<Case> {
    vec![
        bad("length twice, different", format!("{ok}{five}Content-Length: 6\r\n\r\nhello!")),
        bad("length is a word", format!("{ok}Content-Length: five\r\n\r\nhello")),
        bad("length with plus", format!("{ok}Content-Length: +5\r\n\r\nhello")),
        bad("length negative", format!("{ok}Content-Length: -5\r\n\r\nhello")),
        bad("length overflows", format!("{ok}Content-Length: 18446744073709551621\r\n\r\nhello")),
        bad("length list, different", format!("{ok}Content-Length: 5, 6\r\n\r\nhello!")),
        bad(
            "length and chunked",
            format!("{ok}{five}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        bad(
            "chunked and length",
            format!("{ok}Transfer-Encoding: chunked\r\n{five}\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        bad(
            "length lies beside chunked",
            format!(
                "{ok}Content-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
        ),
        bad("coding unknown", format!("{ok}Transfer-Encoding: cow\r\n\r\n5\r\nhello\r\n0\r\n\r\n")),
        bad(
            "coding chunked twice",
            format!("{ok}Transfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        bad(
            "coding chunked not last",
            format!("{ok}Transfer-Encoding: chunked, gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        bad(
            "coding in HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        bad("status of five digits", format!("HTTP/1.1 99999 X\r\n{five}\r\nhello")),
        bad("status of four digits", format!("HTTP/1.1 1000 X\r\n{five}\r\nhello")),
        bad("status of two digits", format!("HTTP/1.1 20 X\r\n{five}\r\nhello")),
        bad("status zero", format!("HTTP/1.1 000 X\r\n{five}\r\nhello")),
        bad("status 099", format!("HTTP/1.1 099 X\r\n{five}\r\nhello")),
        bad("status of letters", format!("HTTP/1.1 abc X\r\n{five}\r\nhello")),
        bad("status negative", format!("HTTP/1.1 -20 X\r\n{five}\r\nhello")),
        bad("no status", format!("HTTP/1.1\r\n{five}\r\nhello")),
        bad("version 2.0", format!("HTTP/2.0 200 OK\r\n{five}\r\nhello")),
        bad("no HTTP at all", "220 mail.test ESMTP\r\n"),
        bad("HTTP/0.9 text", "<html>hello</html>"),
        bad("nothing", ""),
        bad("half a head", format!("{ok}Content-Le")),
        bad("TLS bytes", b"\x15\x03\x01\x00\x02\x02\x46"),
        bad("more than 256 KiB of fields", flood(14_000)),
        bad("2 001 fields", flood(2_000)),
        bad(
            "one field of 300 KiB",
            format!("{ok}X-Big: {}\r\n{five}\r\nhello", "x".repeat(300_000)),
        ),
        bad("NUL in a value", format!("{ok}X-A: b\0c\r\n{five}\r\nhello")),
        bad("NUL in a name", format!("{ok}X\0A: b\r\n{five}\r\nhello")),
        bad("CR in a value", format!("{ok}X-A: b\rc\r\n{five}\r\nhello")),
        bad("control in a value", format!("{ok}X-A: b\x07c\r\n{five}\r\nhello")),
        bad("no colon", format!("{ok}X-A\r\n{five}\r\nhello")),
        bad("space before colon", format!("{ok}Content-Length : 5\r\n\r\nhello")),
        bad(
            "unasked 101",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nsurprise",
        ),
        bad("unasked 101 without fields", "HTTP/1.1 101 Switching Protocols\r\n\r\nsurprise"),
    ]
}

/// Odd, but with one meaning: served clean, or refused.
fn kept(ok: &str, five: &str, flood: &dyn Fn(usize) -> String) -> Vec<Case> {
    vec![
        served("plain", format!("{ok}{five}\r\nhello"), 200, b"hello"),
        served(
            "chunked",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            200,
            b"hello",
        ),
        served(
            "chunked with trailer",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
            200,
            b"hello",
        ),
        served(
            "chunked with extension",
            format!("{ok}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n"),
            200,
            b"hello",
        ),
        served("no reason phrase", format!("HTTP/1.1 200 \r\n{five}\r\nhello"), 200, b"hello"),
        served("no reason, no space", format!("HTTP/1.1 200\r\n{five}\r\nhello"), 200, b"hello"),
        served("status 418", format!("HTTP/1.1 418 Teapot\r\n{five}\r\nhello"), 418, b"hello"),
        served("status 299", format!("HTTP/1.1 299 X\r\n{five}\r\nhello"), 299, b"hello"),
        served("status 500", format!("HTTP/1.1 500 X\r\n{five}\r\nhello"), 500, b"hello"),
        served("204", "HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        served(
            "304 with length",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            304,
            b"",
        ),
        served("length zero", format!("{ok}Content-Length: 0\r\n\r\n"), 200, b""),
        either("length twice, same", format!("{ok}{five}{five}\r\nhello"), 200, b"hello"),
        either("status 600", format!("HTTP/1.1 600 X\r\n{five}\r\nhello"), 600, b"hello"),
        either("status 999", format!("HTTP/1.1 999 X\r\n{five}\r\nhello"), 999, b"hello"),
        either("folded field", format!("{ok}X-A: b\r\n c\r\n{five}\r\nhello"), 200, b"hello"),
        either(
            "90 KiB of fields",
            flood(80).replace("0123456789", &"v".repeat(1_000)),
            200,
            b"hello",
        ),
        served("300 fields", flood(300), 200, b"hello"),
        served("1 900 fields", flood(1_900), 200, b"hello"),
        either(
            "204 with length",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
            204,
            b"",
        ),
        Case {
            acts: [answer(format!("{ok}Connection: close\r\n\r\nhello")), vec![Act::Close]]
                .concat(),
            ..served("until close", "", 200, b"hello")
        },
        Case {
            acts: [answer("HTTP/1.0 200 OK\r\n\r\nhello"), vec![Act::Close]].concat(),
            ..served("HTTP/1.0 until close", "", 200, b"hello")
        },
        Case {
            method: "HEAD",
            ..served("HEAD with length", format!("{ok}Content-Length: 12345\r\n\r\n"), 200, b"")
        },
        Case {
            method: "HEAD",
            ..served(
                "HEAD with chunked",
                format!("{ok}Transfer-Encoding: chunked\r\n\r\n"),
                200,
                b"",
            )
        },
    ]
}

/// Bodies that end too early must look so.
fn cuts(ok: &str) -> Vec<Case> {
    let chunked = format!("{ok}Transfer-Encoding: chunked\r\n\r\n");
    vec![
        cut("length not reached", format!("{ok}Content-Length: 500\r\n\r\nhello")),
        cut("chunk size is bad", format!("{chunked}5\r\nhello\r\nzz\r\nhello\r\n0\r\n\r\n")),
        cut(
            "chunk size overflows",
            format!("{chunked}5\r\nhello\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ),
        cut("chunk too long", format!("{chunked}5\r\nhello!!\r\n0\r\n\r\n")),
        cut("chunk without end", format!("{chunked}5\r\nhello\r\n")),
        cut("half a chunk", format!("{chunked}50\r\nhello")),
        cut("last chunk half", format!("{chunked}5\r\nhello\r\n0\r\n")),
        cut("first chunk size is bad", format!("{chunked}-5\r\nhello\r\n0\r\n\r\n")),
        Case {
            acts: [
                answer(format!("{ok}Content-Length: 500\r\n\r\nhello")),
                vec![Act::Wait(Duration::from_millis(30)), Act::Reset],
            ]
            .concat(),
            ..cut("reset in the body", "")
        },
    ]
}

/// Interim answers come before the final one and never instead of it.
fn interim(ok: &str, five: &str) -> Vec<Case> {
    let last = format!("{ok}{five}\r\nhello");
    vec![
        served("100 first", format!("HTTP/1.1 100 Continue\r\n\r\n{last}"), 200, b"hello"),
        served(
            "103 first",
            format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{last}"),
            200,
            b"hello",
        ),
        served(
            "102 and 100 first",
            format!("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n{last}"),
            200,
            b"hello",
        ),
        bad("interim and then nothing", "HTTP/1.1 100 Continue\r\n\r\n"),
    ]
}

/// A bed whose `app` plays case N for `/case/N` and echoes everything else.
fn bed_of(scripts: Vec<Vec<Act>>, args: &[&str]) -> Bed {
    let app = Backend::scripted("app", move |request| match script(request) {
        Some(n) => scripts[n].clone(),
        None => vec![Act::Send(echo_answer("app", request))],
    });
    Bed::around(app, Backend::echo("other"), Backend::echo("secret"), args)
}

fn script(request: &Request) -> Option<usize> {
    request.target.strip_prefix("/case/").and_then(|n| n.parse().ok())
}

#[test]
fn a_backend_cannot_make_the_gateway_say_what_is_not_http() {
    let cases = cases();
    let bed = bed_of(cases.iter().map(|c| c.acts.clone()).collect(), &[]);
    let mut failures = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let bytes = format!("{} /case/{n} HTTP/1.1\r\nHost: good.test\r\n\r\n", case.method);
        let seen = send(bed.http, bytes.as_bytes());
        if let Err(why) = judge(case, &seen).and_then(|()| bed.probe()) {
            let (name, got) = (case.name, show(&seen.received));
            failures.push(format!(
                "\n{name}: {why}\n  answer: {}\n  client got: {got}",
                play(&case.acts)
            ));
        }
    }
    let (failed, total) = (failures.len(), cases.len());
    assert!(failures.is_empty(), "{failed} of {total} failed:\n{}", failures.concat());
}

/// What a script sends, as text.
fn play(acts: &[Act]) -> String {
    let sent: Vec<u8> = acts
        .iter()
        .flat_map(|a| if let Act::Send(bytes) = a { bytes.clone() } else { vec![] })
        .collect();
    show(&sent)
}

fn judge(case: &Case, seen: &Exchange) -> Result<(), String> {
    if let Some(what) = &seen.violation {
        return Err(format!("the client was sent what is no HTTP: {what}"));
    }
    let [response] = &seen.responses[..] else {
        if matches!(case.see, See::Cut) && seen.closed && seen.responses.is_empty() {
            return Ok(());
        }
        return Err(format!("{} responses, not 1", seen.responses.len()));
    };
    let refused = response.status == 502 && response.end == End::Complete;
    let clean = response.end != End::Cut;
    let is = |status: u16, body: &[u8]| response.status == status && response.body == body && clean;
    let leaked = ["keep-alive", "upgrade", "proxy-connection"]
        .iter()
        .find(|n| !strict::all(&response.fields, n).is_empty());
    if let Some(name) = leaked {
        return Err(format!("relayed {name} to the client"));
    }
    let right = match &case.see {
        See::BadGateway => refused,
        See::Served(status, body) => is(*status, body),
        See::Either(status, body) => refused || is(*status, body),
        See::Cut => refused || (response.end == End::Cut && seen.closed),
    };
    if right { Ok(()) } else { Err(format!("status {}, end {:?}", response.status, response.end)) }
}

#[test]
fn hop_by_hop_fields_of_a_backend_stay_behind() {
    let head = "HTTP/1.1 200 OK\r\nConnection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\
                Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-Kept: 1\r\nContent-Length: 5\r\n\r\nhello";
    let bed = bed_of(vec![answer(head)], &[]);
    let seen = get(bed.http, "good.test", "/case/0");
    let response = &seen.responses[0];
    for name in ["x-secret", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(strict::all(&response.fields, name), Vec::<String>::new(), "{name}");
    }
    assert_eq!(response.one("x-kept").as_deref(), Some("1"));
}

#[test]
fn a_connection_with_stray_bytes_is_not_used_again() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let stray = format!("{whole}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
    let late = vec![
        Act::Send(whole.into()),
        Act::Wait(Duration::from_millis(50)),
        Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison".to_vec()),
    ];
    let bed = bed_of(vec![answer(&stray), late], &[]);
    for n in 0..2 {
        for _ in 0..20 {
            let path = format!("/case/{n}");
            let seen = get(bed.http, "good.test", &path);
            assert!(seen.status() == 200 && seen.responses[0].body == b"hello", "{seen:?}");
            if n == 1 {
                // The late bytes are on the connection, and the gateway has had time to see them.
                assert!(comes_true(|| bed.app.is_done()));
                std::thread::sleep(Duration::from_millis(20));
            }
            bed.probe().unwrap_or_else(|why| panic!("after stray bytes ({path}): {why}"));
        }
    }
}

#[test]
fn a_head_answer_with_body_bytes_does_not_poison_the_next() {
    let acts = answer("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
    let no_content = answer("HTTP/1.1 204 No Content\r\n\r\npoison");
    let bed = bed_of(vec![acts, no_content], &[]);
    for _ in 0..10 {
        let seen = send(bed.http, b"HEAD /case/0 HTTP/1.1\r\nHost: good.test\r\n\r\n");
        assert!(seen.violation.is_none() && seen.received.ends_with(b"\r\n\r\n"), "{seen:?}");
        bed.probe().unwrap();
        let seen = get(bed.http, "good.test", "/case/1");
        assert!(seen.violation.is_none() && seen.received.ends_with(b"\r\n\r\n"), "{seen:?}");
        bed.probe().unwrap();
    }
}

#[test]
fn an_upstream_connection_is_reused_when_it_is_in_step() {
    let bed = bed_of(vec![], &[]);
    for n in 0..20 {
        assert_eq!(get(bed.http, "good.test", &format!("/{n}")).status(), 200);
    }
    assert!(bed.app.connections() <= 2, "{} upstream connections", bed.app.connections());
}

/// An `app` that drops a connection, without a word, on the second request that it brings.
fn forgetful(args: &[&str]) -> Bed {
    let app = Backend::scripted("app", |request| {
        if request.target.starts_with("/once") && request.nth > 0 {
            return vec![Act::Close];
        }
        vec![Act::Send(echo_answer("app", request))]
    });
    Bed::around(app, Backend::echo("other"), Backend::echo("secret"), args)
}

#[test]
fn a_safe_request_on_a_connection_that_died_idle_is_sent_again_once() {
    let bed = forgetful(&[]);
    for n in 0..10 {
        assert_eq!(get(bed.http, "good.test", "/warm").status(), 200);
        let path = format!("/once-{n}");
        let seen = get(bed.http, "good.test", &path);
        assert_eq!(seen.status(), 200, "GET {path}: {seen:?}");
    }
    let twice = bed.app.requests().iter().filter(|r| r.target == "/once-3").count();
    assert_eq!(twice, 2, "sent once on the dead connection and once on a new one");
}

#[test]
fn a_request_with_effects_is_not_sent_twice() {
    let bed = forgetful(&[]);
    assert_eq!(get(bed.http, "good.test", "/warm").status(), 200);
    let post = b"POST /once HTTP/1.1\r\nHost: good.test\r\nContent-Length: 5\r\n\r\nhello";
    let seen = send(bed.http, post);
    let times = bed.app.requests().iter().filter(|r| r.target == "/once").count();
    assert_eq!(times, 1, "the backend saw the POST {times} times");
    assert_eq!(seen.status(), 502, "{seen:?}");
}

#[test]
fn a_connection_closed_while_idle_costs_no_request_of_any_method() {
    let app = Backend::scripted("app", |request| {
        let bytes = echo_answer("app", request);
        vec![Act::Send(bytes), Act::Wait(Duration::from_millis(20)), Act::Close]
    });
    let bed = Bed::around(app, Backend::echo("other"), Backend::echo("secret"), &[]);
    let post = b"POST /p HTTP/1.1\r\nHost: good.test\r\nContent-Length: 5\r\n\r\nhello";
    for n in 0..20 {
        let seen = if n % 2 == 0 { get(bed.http, "good.test", "/g") } else { send(bed.http, post) };
        assert_eq!(seen.status(), 200, "request {n}: {seen:?}");
        assert!(comes_true(|| bed.app.is_done()), "the connection is closed");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_backend_that_says_nothing_is_a_gateway_timeout() {
    let hang = vec![Act::Hang];
    let drip = vec![Act::Send(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec()), Act::Hang];
    let bed = bed_of(vec![hang, drip], &["--upstream-timeout=1"]);
    for n in 0..2 {
        let start = Instant::now();
        let seen = get(bed.http, "good.test", &format!("/case/{n}"));
        assert_eq!(seen.status(), 504, "case {n}: {seen:?}");
        assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
        bed.probe().unwrap();
    }
}

#[test]
fn a_backend_that_refuses_connections_is_a_bad_gateway() {
    let app = Backend::echo("app");
    let gone = app.addr;
    drop(app);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = manifest([gone, listener.local_addr().unwrap(), gone]);
    let gateway = Plan::default().manifest("bed.yaml", text).start();
    let seen = get(gateway.http, "good.test", "/");
    assert_eq!(seen.status(), 502, "{seen:?}");
    assert!(!seen.responses[0].body.is_empty(), "an answer of ours says why");
}

#[test]
fn a_client_that_leaves_takes_its_upstream_request_with_it() {
    let app = Backend::scripted("app", |request| {
        if request.target == "/slow" {
            return vec![
                Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec()),
                Act::Hang,
            ];
        }
        vec![Act::Send(echo_answer("app", request))]
    });
    let bed = Bed::around(app, Backend::echo("other"), Backend::echo("secret"), &[]);
    let steps = [Step::Send(b"GET /slow HTTP/1.1\r\nHost: good.test\r\n\r\n".to_vec())];
    let want = Want { responses: 1, close: false, limit: Duration::from_millis(300) };
    drop(exchange(bed.http, &steps, want));
    assert!(
        comes_true(|| bed.app.open() == 0),
        "{} upstream connections are still open",
        bed.app.open()
    );
}

#[test]
fn an_answer_over_the_limit_is_called_so_and_one_below_it_passes_over_h1_and_h2() {
    let five = "Content-Length: 5\r\n\r\nhello";
    let fields = |lines: usize, value: usize| {
        let line = format!("X-Flood: {}\r\n", "v".repeat(value));
        format!("HTTP/1.1 200 OK\r\n{}{five}", line.repeat(lines))
    };
    let cases = [(fields(300, 10), 200), (fields(1_000, 4), 200), (fields(2_000, 4), 502)];
    let cases = [&cases[..], &[(fields(60, 1_000), 200), (fields(40, 8_000), 502)]].concat();
    let bed = bed_of(cases.iter().map(|(bytes, _)| answer(bytes)).collect(), &[]);
    for (n, (bytes, status)) in cases.iter().enumerate() {
        let path = format!("/case/{n}");
        let seen = get(bed.http, "good.test", &path);
        let over_h2 =
            H2::connect(bed.https, "good.test").request(1, &h2raw::get("good.test", &path), None);
        let says = |text: &str| text.contains("2000 fields and 256 KiB");
        assert_eq!((seen.status(), over_h2.status), (*status, *status), "{} bytes", bytes.len());
        if *status == 502 {
            assert!(says(&seen.responses[0].text()), "{seen:?}");
            assert!(says(&String::from_utf8_lossy(&over_h2.body)), "{over_h2:?}");
        }
    }
}

#[test]
fn an_http_1_0_backend_is_answered_for_in_our_own_version_and_framing() {
    let close = |text: &str| vec![Act::Send(text.into()), Act::Close];
    let bed = bed_of(
        vec![
            close("HTTP/1.0 200 OK\r\n\r\nhello"),
            close("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
            close("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"),
            close("HTTP/1.0 404 Not Found\r\n\r\nhello"),
        ],
        &[],
    );
    // All over one connection, which stays open.
    let all = "GET /case/0 HTTP/1.1\r\nHost: good.test\r\n\r\n";
    let all: String = (0..4).map(|n| all.replace("/0", &format!("/{n}"))).collect();
    let seen = exchange(bed.http, &[Step::Send(all.into_bytes())], Want::responses(4));
    let statuses: Vec<u16> = seen.responses.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 404], "{seen:?}");
    for answer in &seen.responses {
        assert_eq!(answer.text(), "hello");
        let framed =
            answer.one("transfer-encoding").is_some() || answer.one("content-length").is_some();
        assert!(framed && answer.one("connection").is_none(), "{answer:?}");
    }
    let mut raw = dial(bed.http);
    raw.write_all(b"GET /case/0 HTTP/1.1\r\nHost: good.test\r\n\r\n").unwrap();
    let mut line = [0; 15];
    raw.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 200 OK");
}

#[test]
fn what_follows_an_answer_of_http_1_0_reaches_the_backend_whole_and_in_http_1_1() {
    let old = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
    let bed = bed_of(vec![answer(old)], &[]);
    let head = "POST /new HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for _ in 0..10 {
        assert_eq!(get(bed.http, "good.test", "/case/0").status(), 200);
        assert_eq!(
            send(bed.http, format!("{head}5\r\nhello\r\n0\r\n\r\n").as_bytes()).status(),
            200
        );
        let requests = bed.app.requests();
        let new = requests.last().unwrap();
        assert!(new.raw.starts_with(b"POST /new HTTP/1.1\r\n") && new.body == b"hello", "{new:?}");
    }
}

#[test]
fn a_client_that_ends_its_half_after_a_whole_request_gets_its_answer() {
    let app = Backend::scripted("app", |request| {
        let answer = Act::Send(echo_answer("app", request));
        vec![Act::Wait(Duration::from_millis(300)), answer]
    });
    let bed = Bed::around(app, Backend::echo("other"), Backend::echo("secret"), &[]);
    let head = "POST / HTTP/1.1\r\nHost: good.test\r\n";
    for (request, answers) in [
        ("GET /a HTTP/1.1\r\nHost: good.test\r\n\r\n".to_owned(), 1),
        ("GET /a HTTP/1.0\r\nHost: good.test\r\n\r\n".to_owned(), 1),
        ("GET /a HTTP/1.1\r\nHost: good.test\r\n\r\n".repeat(2), 2),
        (format!("{head}Content-Length: 5\r\n\r\nhello"), 1),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), 1),
        (format!("{head}Content-Length: 5\r\n\r\nhell"), 0),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), 0),
    ] {
        let mut client = dial(bed.http);
        client.write_all(request.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        // The connection ends after the answer: it is not kept for what cannot come.
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer.matches(" 200 OK").count(), answers, "{request:?}: {answer:?}");
    }
}
