//! HTTP/2 over TLS: requests that must not survive the way down to HTTP/1.1 (P15).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;

use gatehouse_testbed::{
    gatehouse::{
        backend::{Backend, Record, Request, describe},
        bed::{Bed, Seen},
        client::{Want, listen},
        gateway::Plan,
        h2raw::{Answer, END_HEADERS, END_STREAM, GOOD, H2, block, frame, get, kind, probe},
        manifests, tls,
    },
    wait::comes_true,
};

/// A request over HTTP/2 and what is to become of it.
struct Case {
    name: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    body: Option<&'static [u8]>,
    expect: Expect,
}

/// What must hold for the request at the backend.
type Check = fn(&Request) -> bool;

enum Expect {
    /// 4xx, 501, RST_STREAM or GOAWAY, and no whole request at a backend.
    Refused,
    /// As above, but a request without a body was whole before it was known to be wrong.
    RefusedWithoutBody,
    /// A status that a rule gives; no request at a backend.
    Status(u16),
    /// 200, and exactly one request at this backend that passes.
    Served(&'static str, Check),
    /// Either refused or served cleanly.
    Either(Check),
}

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&GOOD[..], more].concat()
}

fn path(path: &'static str) -> Vec<(&'static str, &'static str)> {
    get("good.test", path)
}

fn post(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut fields = with(more);
    fields[0].1 = "POST";
    fields
}

fn served(
    name: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    check: fn(&Request) -> bool,
) -> Case {
    Case { name, fields, body: None, expect: Expect::Served("app", check) }
}

fn refused(name: &'static str, fields: Vec<(&'static str, &'static str)>) -> Case {
    Case { name, fields, body: None, expect: Expect::Refused }
}

fn either(
    name: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    check: fn(&Request) -> bool,
) -> Case {
    Case { name, fields, body: None, expect: Expect::Either(check) }
}

fn is_host(r: &Request) -> bool {
    r.one("host").as_deref() == Some("good.test")
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        served("plain", with(&[]), |r| {
            is_host(r)
                && r.target == "/a"
                && r.one("x-forwarded-proto").as_deref() == Some("https")
                && r.one("x-forwarded-for").as_deref() == Some("127.0.0.1")
        }),
        served("query", path("/a?b=c%20d"), |r| r.target == "/a?b=c%20d"),
        served("cookie crumbs are joined", with(&[("cookie", "a=1"), ("cookie", "b=2")]), |r| {
            r.all("cookie") == ["a=1; b=2"]
        }),
        served(
            "three crumbs",
            with(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]),
            |r| r.all("cookie") == ["a=1; b=2; c=3"],
        ),
        served("host agrees with authority", with(&[("host", "good.test")]), is_host),
        served("authority in upper case", get("GOOD.test", "/a"), |r| r.all("host").len() == 1),
        served("authority with port", get("good.test:8443", "/a"), |r| r.all("host").len() == 1),
        served("te trailers", with(&[("te", "trailers")]), |r| r.all("te").is_empty()),
        served(
            "spoofed forwarded",
            with(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "http")]),
            |r| {
                r.all("x-forwarded-for") == ["127.0.0.1"] && r.all("x-forwarded-proto") == ["https"]
            },
        ),
        served("underscore alias", with(&[("x_forwarded_for", "6.6.6.6")]), |r| {
            r.all("x_forwarded_for").is_empty()
        }),
        served("proxy field", with(&[("proxy", "http://evil.test")]), |r| {
            r.all("proxy").is_empty()
        }),
        served("http2-settings field", with(&[("http2-settings", "AAMAAABk")]), |r| {
            r.all("http2-settings").is_empty()
        }),
        served("dot segments", path("/a/../b"), |r| r.target == "/b"),
        Case {
            expect: Expect::Served("secret", |r| r.target == "/private"),
            ..refused("dot segments into private", path("/a/../private"))
        },
        Case {
            expect: Expect::Served("other", |r| r.target == "/a"),
            ..refused("other host", get("other.test", "/a"))
        },
        Case { expect: Expect::Status(404), ..refused("unknown host", get("unknown.test", "/a")) },
        Case { expect: Expect::Status(503), ..refused("no endpoints", get("empty.test", "/a")) },
        Case { body: Some(b"hello"), ..served("body", post(&[]), |r| r.body == b"hello") },
        Case {
            body: Some(b"hello"),
            ..served(
                "one length, said three times",
                post(&[("content-length", "5"), ("content-length", "5"), ("content-length", "5")]),
                |r| r.body == b"hello" && r.all("content-length") == ["5"],
            )
        },
        Case {
            body: Some(b"hello"),
            ..served("body with length", post(&[("content-length", "5")]), |r| r.body == b"hello")
        },
        Case {
            body: Some(b"0\r\n\r\nGET /private HTTP/1.1\r\nHost: good.test\r\n\r\n"),
            ..served("body that is a request", post(&[]), |r| r.body.starts_with(b"0\r\n\r\nGET"))
        },
        served(
            "no authority but host",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/a"), ("host", "good.test")],
            is_host,
        ),
        either(
            "scheme http",
            vec![
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "good.test"),
                (":path", "/a"),
            ],
            |r| r.all("x-forwarded-proto") == ["https"],
        ),
        either(
            "no scheme",
            vec![(":method", "GET"), (":authority", "good.test"), (":path", "/a")],
            is_host,
        ),
        // The h2 library cuts a fragment off and adds the missing slash before anyone can look; what is
        // left has one meaning.
        either("fragment", path("/a#b"), |r| r.target == "/a"),
        either("query only", path("?a"), |r| r.target == "/?a"),
        // Requests whose meaning nobody can agree upon.
        refused("authority and host differ", with(&[("host", "other.test")])),
        refused("two host fields", with(&[("host", "good.test"), ("host", "good.test")])),
        refused("two authorities", with(&[(":authority", "good.test")])),
        refused(
            "no authority, two hosts",
            vec![
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/a"),
                ("host", "good.test"),
                ("host", "other.test"),
            ],
        ),
        refused(
            "no authority, no host",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/a")],
        ),
        refused("empty authority", get("", "/a")),
        refused("authority with userinfo", get("user@good.test", "/a")),
        refused("authority with path", get("good.test/private", "/a")),
        refused("authority with bad port", get("good.test:abc", "/a")),
        refused("authority with a comma", get("good.test,other.test", "/a")),
        refused("authority with a space", get("good.test other.test", "/a")),
        refused("authority with CRLF", get("good.test\r\nX: y", "/a")),
        refused(
            "no path",
            vec![(":method", "GET"), (":scheme", "https"), (":authority", "good.test")],
        ),
        refused(
            "no method",
            vec![(":scheme", "https"), (":authority", "good.test"), (":path", "/a")],
        ),
        refused("two methods", with(&[(":method", "POST")])),
        refused("two paths", with(&[(":path", "/private")])),
        refused("unknown pseudo-field", with(&[(":evil", "1")])),
        refused("response pseudo-field", with(&[(":status", "200")])),
        refused(
            "pseudo-field after field",
            vec![
                (":method", "GET"),
                (":scheme", "https"),
                ("x", "y"),
                (":authority", "good.test"),
                (":path", "/a"),
            ],
        ),
        refused("protocol without extended connect", with(&[(":protocol", "websocket")])),
        refused("connect", vec![(":method", "CONNECT"), (":authority", "good.test:443")]),
        refused(
            "connect with path",
            vec![
                (":method", "CONNECT"),
                (":scheme", "https"),
                (":authority", "good.test"),
                (":path", "/a"),
            ],
        ),
        refused(
            "extended connect",
            vec![
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":authority", "good.test"),
                (":path", "/a"),
            ],
        ),
        refused(
            "trace",
            vec![
                (":method", "TRACE"),
                (":scheme", "https"),
                (":authority", "good.test"),
                (":path", "/a"),
            ],
        ),
        refused(
            "method with a space",
            vec![
                (":method", "GET /private HTTP/1.1\r\n"),
                (":scheme", "https"),
                (":authority", "good.test"),
                (":path", "/a"),
            ],
        ),
        refused(
            "empty method",
            vec![
                (":method", ""),
                (":scheme", "https"),
                (":authority", "good.test"),
                (":path", "/a"),
            ],
        ),
        refused(
            "scheme with CRLF",
            vec![
                (":method", "GET"),
                (":scheme", "https\r\nX: y"),
                (":authority", "good.test"),
                (":path", "/a"),
            ],
        ),
    ];
    for (name, target) in [
        ("empty path", ""),
        ("relative path", "a"),
        ("absolute path", "http://good.test/a"),
        ("path of another host", "http://other.test/a"),
        ("star path", "*"),
        ("space in path", "/a b"),
        ("request line in path", "/a HTTP/1.1\r\nX: y"),
        ("LF in path", "/a\nb"),
        ("CR in path", "/a\rb"),
        ("NUL in path", "/a\0b"),
        ("tab in path", "/a\tb"),
        ("eight bit path", "/caf\u{e9}"),
        ("escaped slash that leads above root", "/a%2f..%2f..%2fb"),
        ("escaped backslash that does", "/..%5cb"),
        ("escaped NUL", "/a%00"),
        ("bad escape", "/a%zz"),
        ("above root", "/../a"),
        ("backslash", "/a\\b"),
    ] {
        cases.push(refused(name, path(target)));
    }
    for (name, field, value) in [
        ("connection close", "connection", "close"),
        ("connection names a field", "connection", "x-a"),
        ("keep-alive", "keep-alive", "timeout=5"),
        ("proxy-connection", "proxy-connection", "keep-alive"),
        ("transfer-encoding chunked", "transfer-encoding", "chunked"),
        ("transfer-encoding identity", "transfer-encoding", "identity"),
        ("upgrade", "upgrade", "websocket"),
        ("upgrade h2c", "upgrade", "h2c"),
        ("te gzip", "te", "gzip"),
        ("te trailers and more", "te", "trailers, gzip"),
        ("upper case name", "X-Upper", "1"),
        ("upper case host", "Host", "other.test"),
        ("empty name", "", "1"),
        ("name with colon", "x:y", "1"),
        ("name with a space", "x y", "1"),
        ("name with CRLF", "x\r\ny", "1"),
        ("name with colon and CRLF", "x: y\r\nhost", "other.test"),
        ("name with NUL", "x\0", "1"),
        ("name of eight bits", "x\u{e9}", "1"),
        ("value with CRLF", "x-a", "b\r\nHost: other.test"),
        ("value with CR", "x-a", "b\rc"),
        ("value with LF", "x-a", "b\nc"),
        ("value with NUL", "x-a", "b\0c"),
        ("length is a word", "content-length", "five"),
        ("length with plus", "content-length", "+0"),
        ("length without body", "content-length", "5"),
    ] {
        cases.push(refused(name, with(&[(field, value)])));
    }
    let body =
        |name, fields, body: &'static [u8]| Case { body: Some(body), ..refused(name, fields) };
    cases.extend([
        body("body shorter than length", post(&[("content-length", "50")]), b"hello"),
        body("body longer than length", post(&[("content-length", "2")]), b"hello"),
        body("two lengths", post(&[("content-length", "5"), ("content-length", "6")]), b"hello"),
        body("two lengths", post(&[("content-length", "6"), ("content-length", "5")]), b"hello"),
        body(
            "no second length",
            post(&[("content-length", "5"), ("content-length", "")]),
            b"hello",
        ),
        body(
            "a third length",
            post(&[("content-length", "5"), ("content-length", "5"), ("content-length", "50")]),
            b"hello",
        ),
        body(
            "length and chunked",
            post(&[("content-length", "5"), ("transfer-encoding", "chunked")]),
            b"hello",
        ),
        Case {
            expect: Expect::RefusedWithoutBody,
            ..body(
                "length zero with body",
                post(&[("content-length", "0")]),
                b"GET /private HTTP/1.1\r\n\r\n",
            )
        },
    ]);
    cases
}

#[test]
fn a_malformed_request_does_not_survive_the_way_down_to_http1() {
    let bed = Bed::gateway(&["--time-scale=0.2"]);
    let cases = cases();
    let mut failures = Vec::new();
    for case in &cases {
        drop(bed.take());
        let mut client = H2::connect(bed.https, sni(case));
        let answer = client.request(1, &case.fields, case.body);
        let healthy = bed.probe().and_then(|()| probe(bed.https));
        let seen = bed.take();
        let verdict = healthy.and_then(|()| judge(case, &answer, &seen));
        if let Err(why) = verdict {
            let (name, fields) = (case.name, &case.fields);
            failures.push(format!(
                "\n{name}: {why}\n  sent: {fields:?}\n  got: {answer:?}\n{}",
                seen.describe()
            ));
        }
    }
    let (failed, total) = (failures.len(), cases.len());
    assert!(failures.is_empty(), "{failed} of {total} cases failed:\n{}", failures.concat());
}

/// The name that an honest client would ask for; authority and SNI that differ are another matter.
fn sni(case: &Case) -> &'static str {
    let mut named = case.fields.iter().filter(|(name, _)| *name == ":authority");
    match (named.next(), &case.expect) {
        (Some((_, authority)), Expect::Served("other", _) | Expect::Status(_)) => authority,
        _ => "good.test",
    }
}

fn judge(case: &Case, answer: &Answer, seen: &Seen) -> Result<(), String> {
    let (by, check): (&str, Option<Check>) = match case.expect {
        Expect::Refused | Expect::RefusedWithoutBody | Expect::Status(_) => ("app", None),
        Expect::Served(by, check) => (by, Some(check)),
        Expect::Either(check) => ("app", (answer.status == 200).then_some(check)),
    };
    let mut requests = Vec::new();
    for (name, records) in [("app", &seen.app), ("other", &seen.other), ("secret", &seen.secret)] {
        for record in records {
            match record {
                Record::Request(r) if name == by => requests.push(&**r),
                Record::Incomplete { .. } if check.is_none() => {}
                other => {
                    return Err(format!("{name} saw:\n{}", describe(std::slice::from_ref(other))));
                }
            }
        }
    }
    match (&case.expect, check) {
        (Expect::Status(status), _) if answer.status != *status => {
            return Err(format!("status {}, not {status}", answer.status));
        }
        (Expect::Refused | Expect::RefusedWithoutBody | Expect::Either(_), None)
            if !answer.refused() =>
        {
            return Err("was not refused".into());
        }
        _ => {}
    }
    if matches!(case.expect, Expect::RefusedWithoutBody) {
        requests.retain(|r| !r.body.is_empty());
    }
    let Some(check) = check else {
        return if requests.is_empty() { Ok(()) } else { Err("reached the backend".into()) };
    };
    let [request] = requests[..] else {
        return Err(format!("{} requests at {by}, not 1", requests.len()));
    };
    if answer.status != 200 || !answer.ended {
        return Err("was not served".into());
    }
    if !request.leaks.is_empty() {
        return Err(format!("relayed: {:?}", request.leaks));
    }
    if check(request) { Ok(()) } else { Err("the backend saw it otherwise".into()) }
}

#[test]
fn trailers_reach_no_backend_as_anything_but_trailers() {
    let bed = Bed::gateway(&["--time-scale=0.2"]);
    let mut fields = GOOD;
    fields[0].1 = "POST";
    for (trailers, legal) in [
        (vec![("x-sum", "1")], true),
        // Pseudo-fields are forbidden here (RFC 9113 section 8.1); the h2 library drops them.
        (vec![(":path", "/private")], true),
        (vec![(":status", "200")], true),
        (vec![("content-length", "99"), ("host", "other.test")], true),
        (vec![("x-a", "b\r\nX: y")], false),
        (vec![("X-Upper", "1")], false),
    ] {
        drop(bed.take());
        let mut client = H2::connect(bed.https, "good.test");
        let bytes = [
            frame(kind::HEADERS, END_HEADERS, 1, &block(&fields)),
            frame(kind::DATA, 0, 1, b"hello"),
            frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &block(&trailers)),
        ]
        .concat();
        client.write(&bytes);
        let answer = client.answer(1);
        let seen = bed.take();
        let about = || format!("{trailers:?}: {answer:?}\n{}", seen.describe());
        match &seen.app[..] {
            [Record::Request(r)] if legal => {
                assert!(answer.status == 200, "{}", about());
                assert!(r.body == b"hello" && r.target == "/a" && is_host(r), "{}", about());
                let known = r.trailers.iter().all(|t| t.name.eq_ignore_ascii_case("x-sum"));
                assert!(known, "{}", about());
            }
            [] | [Record::Incomplete { .. }] => assert!(answer.refused(), "{}", about()),
            _ => panic!("{}", about()),
        }
        assert!(trailers[0].0 != "x-sum" || answer.status == 200, "{}", about());
        bed.probe().unwrap();
    }
}

#[test]
fn a_request_cut_short_is_never_whole_at_the_backend() {
    let bed = Bed::gateway(&["--time-scale=0.2"]);
    for end in [frame(kind::RST_STREAM, 0, 1, &8u32.to_be_bytes()), vec![]] {
        let mut client = H2::connect(bed.https, "good.test");
        let bytes = [
            frame(kind::HEADERS, END_HEADERS, 1, &block(&post(&[]))),
            frame(kind::DATA, 0, 1, b"half of a body"),
        ]
        .concat();
        client.write(&bytes);
        assert!(
            comes_true(|| bed.app.arriving() > 0),
            "bodies are streamed, so the beginning arrives"
        );
        client.write(&end);
        drop(client);
        assert!(
            comes_true(|| bed.app.arriving() == 0),
            "the backend's connection ends with the client's stream"
        );
        let seen = bed.take();
        assert!(
            seen.app.iter().all(|r| matches!(r, Record::Incomplete { .. })),
            "{}",
            seen.describe()
        );
        bed.probe().unwrap();
    }
}

/// Hosts of three namespaces; two of them share a certificate.
fn namespaces(app: std::net::SocketAddr) -> String {
    let shared = tls::certificate(&["*.shared.test", "alone.test"]);
    let other = tls::certificate(&["other.test"]);
    let host = |namespace: &str, host: &str, pair: &tls::Pair| {
        let hosts = format!("{{hosts: [\"{host}\"], secretName: pair}}");
        let rules = [manifests::prefix(host, "/", "app")];
        let text = manifests::secret("pair", pair)
            + &manifests::service("app", &[app])
            + &manifests::ingress("site", "", &hosts, &rules);
        text.replace("namespace: default", &format!("namespace: {namespace}"))
    };
    let site = [("a", "a.shared.test"), ("b", "b.shared.test"), ("c", "alone.test")];
    let sites: String = site.iter().map(|(space, name)| host(space, name, &shared)).collect();
    sites + &host("d", "other.test", &other)
}

#[test]
fn one_connection_serves_all_hosts_that_its_certificate_covers_and_no_others() {
    let app = Backend::echo("app");
    let gateway = Plan::default().manifest("sites.yaml", namespaces(app.addr)).start();
    for (sni, host, status) in [
        ("a.shared.test", "a.shared.test", 200),
        ("a.shared.test", "b.shared.test", 200),
        ("b.shared.test", "a.shared.test", 200),
        ("a.shared.test", "alone.test", 200),
        ("a.shared.test", "other.test", 421),
        ("other.test", "a.shared.test", 421),
        ("a.shared.test", "unknown.test", 404),
    ] {
        let mut client = H2::connect(gateway.https, sni);
        let answer = client.request(1, &get(host, "/"), None);
        assert_eq!(answer.status, status, "{host} on a connection to {sni}: {answer:?}");
        let mut client = tls::Tls::connect(gateway.https, sni, &["http/1.1"]).unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let seen = listen(&mut client, Want::responses(1), false);
        assert_eq!(seen.status(), status, "{host} on a connection to {sni}: {seen:?}");
    }
}

#[test]
fn a_stop_waits_for_no_client_that_leaves_the_closing_ping_unanswered() {
    let mut bed = Bed::gateway(&["--drain-timeout=600"]);
    let mut client = H2::connect(bed.https, "good.test");
    // Raw bytes from here on: nobody answers pings.
    client.write(&frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &block(&GOOD)));
    assert!(comes_true(|| !bed.app.requests().is_empty()));
    let gateway = bed.gateway.as_mut().unwrap();
    gateway.terminate();
    let status = gateway.wait().expect("it ends long before the drain timeout");
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
}
