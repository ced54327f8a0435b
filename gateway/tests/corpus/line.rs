//! The request line and the method (RFC 9112 section 3, RFC 9110 section 9).

use gatehouse_testbed::gatehouse::backend::Request;

use super::{CLOSED, Case, either, get, refuse, serve};

const REFUSED: &[u16] = &[400, CLOSED];

/// The cases of this class.
pub fn cases() -> Vec<Case> {
    [lines(), versions(), methods()].into_iter().flatten().collect()
}

fn lines() -> Vec<Case> {
    let rest = "Host: good.test\r\n\r\n";
    let mut cases = vec![
        serve("line/plain", get("/a", "")).target("/a"),
        serve("line/query", get("/a?b=c&d=%20", "")).target("/a?b=c&d=%20"),
        serve("line/empty-line-before", format!("\r\nGET /a HTTP/1.1\r\n{rest}")).target("/a"),
        serve("line/keep-alive-two", [get("/one", ""), get("/two", "")].concat())
            .and(&[200])
            .target("/two"),
    ];
    for (name, line) in [
        ("two-spaces", "GET  /a HTTP/1.1\r\n"),
        ("two-spaces-before-version", "GET /a  HTTP/1.1\r\n"),
        ("space-first", " GET /a HTTP/1.1\r\n"),
        ("space-last", "GET /a HTTP/1.1 \r\n"),
        ("tab-between", "GET\t/a HTTP/1.1\r\n"),
        ("space-in-target", "GET /a b HTTP/1.1\r\n"),
        ("two-targets", "GET /a /private HTTP/1.1\r\n"),
        ("no-target", "GET HTTP/1.1\r\n"),
        ("no-version", "GET /a\r\n"),
        ("bare-cr", "GET /a HTTP/1.1\r"),
        ("cr-in-target", "GET /a\rb HTTP/1.1\r\n"),
        ("lf-in-target", "GET /a\nb HTTP/1.1\r\n"),
        ("nul-in-target", "GET /a\0b HTTP/1.1\r\n"),
        ("nul-in-method", "GE\0T /a HTTP/1.1\r\n"),
        ("vertical-tab", "GET\x0b/a HTTP/1.1\r\n"),
        ("delete-in-target", "GET /a\x7f HTTP/1.1\r\n"),
        ("escape-in-target", "GET /a\x1b HTTP/1.1\r\n"),
        ("eight-bit-target", "GET /\u{e9} HTTP/1.1\r\n"),
        ("colon-in-method", "GET: /a HTTP/1.1\r\n"),
        ("bracket-in-method", "GE(T /a HTTP/1.1\r\n"),
        ("eight-bit-method", "G\u{c9}T /a HTTP/1.1\r\n"),
        ("relative-target", "GET a HTTP/1.1\r\n"),
        ("fragment", "GET /a#b HTTP/1.1\r\n"),
        ("fragment-then-path", "GET /a#/../private HTTP/1.1\r\n"),
        ("fragment-only", "GET # HTTP/1.1\r\n"),
        ("fragment-in-query", "GET /a?b#c HTTP/1.1\r\n"),
        ("backslash-target", "GET \\a HTTP/1.1\r\n"),
        ("question-target", "GET ?a HTTP/1.1\r\n"),
        ("star-get", "GET * HTTP/1.1\r\n"),
        ("nothing-but-noise", "\x01\x02\x03\x04\r\n"),
        ("tls-on-plain", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n"),
    ] {
        cases.push(refuse(&format!("line/{name}"), format!("{line}{rest}"), REFUSED));
    }
    // A lone LF as line end is allowed to be tolerated (RFC 9112 2.2), if it is re-framed cleanly.
    cases.push(
        either("line/lf-ends-lines", "GET /a HTTP/1.1\nHost: good.test\n\n", REFUSED).target("/a"),
    );
    cases.push(
        either("line/lf-ends-request-line", format!("GET /a HTTP/1.1\n{rest}"), REFUSED)
            .target("/a"),
    );
    cases
}

fn versions() -> Vec<Case> {
    let rest = "Host: good.test\r\n\r\n";
    let mut cases = vec![
        serve("version/http10", format!("GET /a HTTP/1.0\r\n{rest}")).target("/a").closes(),
        serve(
            "version/http10-keep-alive",
            format!("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n{rest}"),
        )
        .target("/a"),
        refuse("version/http10-no-host", "GET /a HTTP/1.0\r\n\r\n", &[404, 400]),
        refuse("version/http11-no-host", "GET /a HTTP/1.1\r\n\r\n", &[400]),
    ];
    for (name, version) in [
        ("http2", "HTTP/2.0"),
        ("http3", "HTTP/3"),
        ("http12", "HTTP/1.2"),
        ("http19", "HTTP/1.9"),
        ("http09", "HTTP/0.9"),
        ("lower-case", "http/1.1"),
        ("double-digit", "HTTP/1.10"),
        ("double-zero", "HTTP/01.1"),
        ("no-minor", "HTTP/1"),
        ("comma", "HTTP/1,1"),
        ("other-name", "HTTX/1.1"),
        ("space-inside", "HTTP /1.1"),
        ("plus", "HTTP/1.+1"),
    ] {
        cases.push(refuse(
            &format!("version/{name}"),
            format!("GET /a {version}\r\n{rest}"),
            &[400, 505, CLOSED],
        ));
    }
    cases.push(refuse(
        "version/h2-preface-on-plain",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        &[400, 505, CLOSED],
    ));
    cases
}

fn methods() -> Vec<Case> {
    let with = |method: &str, target: &str, extra: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: good.test\r\n{extra}\r\n")
    };
    let mut cases = vec![
        serve("method/head", with("HEAD", "/h", "")).check(|r| is_method(r, "HEAD")),
        either("method/options-star", with("OPTIONS", "*", ""), &[204, 404, 400]),
        serve("method/options-path", with("OPTIONS", "/o", "")).target("/o"),
        serve("method/unknown-token", with("BREW", "/pot", "")).check(|r| is_method(r, "BREW")),
        serve("method/lower-case-is-another", with("get", "/g", "")).check(|r| is_method(r, "get")),
        serve("method/odd-token", with("M-S!#$%&'*+.^`|~1", "/g", "")),
        refuse("method/connect-authority", with("CONNECT", "other.test:443", ""), &[501, 405, 400])
            .closes(),
        refuse("method/connect-good-host", with("CONNECT", "good.test:80", ""), &[501, 405, 400])
            .closes(),
        refuse("method/connect-path", with("CONNECT", "/a", ""), &[501, 405, 400]).closes(),
        refuse(
            "method/connect-then-more",
            with("CONNECT", "good.test:80", "") + &with("GET", "/private", ""),
            &[501, 405, 400],
        )
        .closes(),
        refuse(
            "method/connect-lower-case-authority",
            with("connect", "good.test:80", ""),
            &[400, 501],
        ),
        refuse("method/trace", with("TRACE", "/t", ""), &[405, 501]),
        refuse(
            "method/trace-max-forwards-0",
            with("TRACE", "/t", "Max-Forwards: 0\r\n"),
            &[200, 405, 501],
        ),
        refuse(
            "method/options-max-forwards-0",
            with("OPTIONS", "/o", "Max-Forwards: 0\r\n"),
            &[200, 204],
        ),
        serve("method/options-max-forwards-5", with("OPTIONS", "/o", "Max-Forwards: 5\r\n"))
            .field("max-forwards", "4"),
        serve("method/get-max-forwards-0", with("GET", "/g", "Max-Forwards: 0\r\n")).target("/g"),
        refuse("method/33-chars", with(&"A".repeat(33), "/a", ""), &[400, 501]),
        refuse("method/long", with(&"A".repeat(5_000), "/a", ""), &[400, 501, 414, 431]),
        refuse("method/pri", with("PRI", "*", ""), &[400, 501, CLOSED]),
    ];
    for method in ["PUT", "PATCH", "DELETE"] {
        let bytes = with(method, "/x", "Content-Length: 2\r\n") + "ok";
        let name = format!("method/{}", method.to_ascii_lowercase());
        cases.push(serve(&name, bytes).body(b"ok").check(move |r| is_method(r, method)));
    }
    cases
}

fn is_method(request: &Request, method: &str) -> Result<(), String> {
    super::same("method", &&*request.method, &method)
}
