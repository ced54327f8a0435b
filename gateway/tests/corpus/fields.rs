//! Header syntax, hop-by-hop fields, trust in forwarded fields, upgrades (RFC 9110 sections 5, 7).

use gatehouse_testbed::gatehouse::client::Step;

use super::{CLOSED, Case, either, get, post, refuse, serve};

const REFUSED: &[u16] = &[400, CLOSED];

/// The cases of this class.
pub fn cases() -> Vec<Case> {
    [syntax(), hop_by_hop(), forwarded(), upgrades(), expectations()]
        .into_iter()
        .flatten()
        .collect()
}

fn syntax() -> Vec<Case> {
    let mut cases = vec![
        serve("field/plain", get("/f", "X-A: b\r\n")).field("x-a", "b"),
        serve("field/empty-value", get("/f", "X-A:\r\n")).field("x-a", ""),
        serve("field/space-around", get("/f", "X-A: \t b \t \r\n")).field("x-a", "b"),
        serve("field/no-space", get("/f", "X-A:b\r\n")).field("x-a", "b"),
        serve("field/tab-inside", get("/f", "X-A: b\tc\r\n")).field("x-a", "b\tc"),
        serve("field/odd-token-name", get("/f", "X!#$%&'*+.^`|~: b\r\n")).target("/f"),
        serve("field/repeated-keeps-both", get("/f", "X-A: 1\r\nX-A: 2\r\n"))
            .check(|r| super::same("X-A", &r.all("x-a"), &vec!["1".to_owned(), "2".to_owned()])),
        serve("field/cookies-keep", get("/f", "Cookie: a=1; b=2\r\n")).field("cookie", "a=1; b=2"),
        serve("field/obs-text", {
            let mut bytes = get("/f", "X-A: ");
            bytes.truncate(bytes.len() - 2);
            bytes.extend_from_slice(b"caf\xe9\r\n\r\n");
            bytes
        }),
    ];
    for (name, fields) in [
        ("space-before-colon", "X-A : b\r\n"),
        ("tab-before-colon", "X-A\t: b\r\n"),
        ("no-colon", "X-A\r\n"),
        ("no-name", ": b\r\n"),
        ("space-in-name", "X A: b\r\n"),
        ("nul-in-name", "X\0A: b\r\n"),
        ("nul-in-value", "X-A: b\0c\r\n"),
        ("bell-in-value", "X-A: b\x07c\r\n"),
        ("escape-in-value", "X-A: \x1b[31m\r\n"),
        ("delete-in-value", "X-A: b\x7fc\r\n"),
        ("cr-in-value", "X-A: b\rc\r\n"),
        ("cr-before-crlf", "X-A: b\r\r\n"),
        ("cr-then-field", "X-A: b\rContent-Length: 5\r\n"),
        ("bracket-in-name", "X(A): b\r\n"),
        ("quote-in-name", "\"X-A\": b\r\n"),
        ("eight-bit-name", "X-\u{e9}: b\r\n"),
        ("fold-space", "X-A: b\r\n c\r\n"),
        ("fold-tab", "X-A: b\r\n\tc\r\n"),
        ("fold-first", " X-A: b\r\n"),
        ("fold-host", "X-A: b\r\n Host: other.test\r\n"),
    ] {
        cases.push(refuse(&format!("field/{name}"), get("/f", fields), REFUSED));
    }
    // A lone LF may be tolerated as a line end (RFC 9112 2.2) when it is re-framed cleanly.
    cases.push(
        either("field/lf-ends-field", get("/f", "X-A: b\nX-B: c\r\n"), REFUSED).field("x-b", "c"),
    );
    cases.push(refuse(
        "field/space-before-first",
        "GET /f HTTP/1.1\r\n Host: good.test\r\n\r\n",
        REFUSED,
    ));
    cases.push(refuse("field/fold-space-only", get("/f", "X-A: b\r\n \r\n"), REFUSED));
    cases
}

fn hop_by_hop() -> Vec<Case> {
    vec![
        serve("hop/connection-close", get("/h", "Connection: close\r\n")).closes(),
        serve(
            "hop/connection-names-field",
            get("/h", "Connection: X-Drop\r\nX-Drop: 1\r\nX-Keep: 2\r\n"),
        )
        .without("x-drop")
        .field("x-keep", "2"),
        serve(
            "hop/connection-names-two",
            get("/h", "Connection: close, X-A\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 1\r\n"),
        )
        .without("x-a")
        .without("x-b")
        .closes(),
        serve("hop/connection-odd-case", get("/h", "CONNECTION: x-DROP\r\nX-Drop: 1\r\n"))
            .without("x-drop"),
        either("hop/connection-names-host", get("/h", "Connection: Host\r\n"), &[400])
            .field("host", "good.test"),
        either(
            "hop/connection-names-length",
            post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"),
            &[400],
        )
        .body(b"hello"),
        either(
            "hop/connection-names-te",
            post(
                "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            &[400],
        )
        .body(b"hello"),
        serve(
            "hop/connection-names-ours",
            get(
                "/h",
                "Connection: X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, X-Forwarded-Host, \
                 X-Request-ID\r\nX-Forwarded-For: 6.6.6.6\r\n",
            ),
        ),
        serve(
            "hop/connection-names-authorization",
            get("/h", "Connection: X-A\r\nX-A: 1\r\nAuthorization: Basic eA==\r\n"),
        )
        .without("x-a")
        .field("authorization", "Basic eA=="),
        serve("hop/keep-alive", get("/h", "Keep-Alive: timeout=5\r\nConnection: keep-alive\r\n"))
            .without("keep-alive"),
        serve("hop/proxy-connection", get("/h", "Proxy-Connection: keep-alive\r\n"))
            .without("proxy-connection"),
        serve("hop/te", get("/h", "TE: trailers, deflate\r\nConnection: TE\r\n")),
        serve("hop/te-without-connection", get("/h", "TE: gzip\r\n")),
        serve("hop/trailer", get("/h", "Trailer: X-Sum\r\n")),
        serve("hop/proxy-field", get("/h", "Proxy: http://evil.test/\r\n")).without("proxy"),
        serve("hop/connection-empty", get("/h", "Connection:\r\n")),
        serve("hop/connection-commas", get("/h", "Connection: ,, ,\r\n")),
    ]
}

/// P16: nobody is trusted by default, whatever spelling the lie has.
fn forwarded() -> Vec<Case> {
    let spoof = |fields: &str| get("/x", fields);
    vec![
        serve("trust/for", spoof("X-Forwarded-For: 6.6.6.6\r\n")),
        serve("trust/for-twice", spoof("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\n")),
        serve("trust/for-odd-case", spoof("x-FORWARDED-for: 6.6.6.6\r\n")),
        serve("trust/proto", spoof("X-Forwarded-Proto: https\r\n")),
        serve("trust/host", spoof("X-Forwarded-Host: other.test\r\n"))
            .field("x-forwarded-host", "good.test"),
        serve("trust/port", spoof("X-Forwarded-Port: 443\r\n")).check(|r| {
            if r.all("x-forwarded-port") == ["443"] { Err("spoofed port".into()) } else { Ok(()) }
        }),
        serve("trust/real-ip", spoof("X-Real-IP: 6.6.6.6\r\n")),
        serve("trust/forwarded", spoof("Forwarded: for=6.6.6.6;proto=https\r\n")).check(|r| {
            if r.all("forwarded").iter().any(|v| v.contains("6.6.6.6")) {
                Err("spoofed Forwarded".into())
            } else {
                Ok(())
            }
        }),
        serve("trust/underscore-for", spoof("X_Forwarded_For: 6.6.6.6\r\n"))
            .without("x_forwarded_for"),
        serve(
            "trust/underscore-mixed",
            spoof("X-Forwarded_Proto: https\r\nX_Real-IP: 6.6.6.6\r\n"),
        )
        .without("x-forwarded_proto")
        .without("x_real-ip"),
        serve("trust/underscore-host", spoof("X_Forwarded_Host: other.test\r\n"))
            .without("x_forwarded_host"),
        serve("trust/underscore-other-passes", spoof("My_Field: 1\r\n")).field("my_field", "1"),
        serve("trust/request-id-kept", spoof("X-Request-ID: abc-123\r\n"))
            .field("x-request-id", "abc-123"),
        serve("trust/request-id-long", spoof(&format!("X-Request-ID: {}\r\n", "a".repeat(4000))))
            .check(|r| {
                if r.all("x-request-id").iter().all(|v| v.len() <= 256) {
                    Ok(())
                } else {
                    Err("4000 bytes of request id".into())
                }
            }),
        serve("trust/request-id-twice", spoof("X-Request-ID: a\r\nX-Request-ID: b\r\n")),
    ]
}

/// P9: no tunnel before a backend said 101, and only for `websocket`.
fn upgrades() -> Vec<Case> {
    let plain = |fields: &str| get("/up", fields);
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    vec![
        serve("upgrade/h2c", plain(h2c)).without("upgrade").without("http2-settings"),
        serve("upgrade/h2c-then-more", [plain(h2c), get("/next", "")].concat())
            .and(&[200])
            .target("/next"),
        serve("upgrade/tls", plain("Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n")).without("upgrade"),
        serve("upgrade/list", plain("Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n")),
        serve("upgrade/without-connection", plain("Upgrade: websocket\r\n")).without("upgrade"),
        serve("upgrade/unknown", plain("Connection: Upgrade\r\nUpgrade: evil\r\n")).without("upgrade"),
        // The backend answers 200: the connection stays HTTP, and what follows is a request.
        serve(
            "upgrade/websocket-refused-then-more",
            [
                plain(
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
                ),
                get("/next", ""),
            ]
            .concat(),
        )
        .and(&[200])
        .target("/next"),
        either(
            "upgrade/websocket-with-body",
            post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n", "hello"),
            &[400],
        )
        .body(b"hello"),
        either("upgrade/websocket-http10", "GET /up HTTP/1.0\r\nHost: good.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", &[400])
            .without("upgrade"),
    ]
}

fn expectations() -> Vec<Case> {
    vec![
        serve("expect/100-continue", post("Expect: 100-continue\r\nContent-Length: 5\r\n", ""))
            .then(Step::Pause(std::time::Duration::from_millis(100)))
            .then(Step::Send(b"hello".to_vec()))
            .body(b"hello"),
        serve("expect/body-sent-at-once", post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"))
            .body(b"hello"),
        serve("expect/without-body", get("/e", "Expect: 100-continue\r\n")),
        either("expect/unknown", get("/e", "Expect: the-unexpected\r\n"), &[400, 417]),
        either("expect/http10", "POST /p HTTP/1.0\r\nHost: good.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", &[400, 417])
            .body(b"hello"),
    ]
}
