//! Chunked bodies, trailers, and bodies that a local answer leaves unread.

use std::time::Duration;

use gatehouse_testbed::gatehouse::{backend::Request, client::Step};

use super::{CLOSED, Case, either, get, post, refuse, serve};

const BROKEN: &[u16] = &[400, 408, CLOSED];

/// The cases of this class.
pub fn cases() -> Vec<Case> {
    [chunks(), trailers(), drained()].into_iter().flatten().collect()
}

fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn chunks() -> Vec<Case> {
    let mut cases = vec![
        serve("chunk/two", chunked("3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")).body(b"abcdefg"),
        serve("chunk/empty", chunked("0\r\n\r\n")).body(b""),
        serve(
            "chunk/hex-upper-and-lower",
            chunked("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        )
        .body(b"01234567890123456789"),
        serve("chunk/leading-zeros", chunked("0003\r\nabc\r\n000\r\n\r\n")).body(b"abc"),
        serve("chunk/extension", chunked("3;name=value\r\nabc\r\n0\r\n\r\n")).body(b"abc"),
        serve("chunk/extension-quoted", chunked("3;n=\"a;b\"\r\nabc\r\n0;last\r\n\r\n"))
            .body(b"abc"),
        serve("chunk/crlf-in-data", chunked("4\r\n\r\n\r\n\r\n0\r\n\r\n")).body(b"\r\n\r\n"),
        serve("chunk/in-pieces", chunked("3\r"))
            .then(Step::Pause(Duration::from_millis(20)))
            .then(Step::Send(b"\nab".to_vec()))
            .then(Step::Pause(Duration::from_millis(20)))
            .then(Step::Send(b"c\r\n0\r\n\r".to_vec()))
            .then(Step::Pause(Duration::from_millis(20)))
            .then(Step::Send(b"\n".to_vec()))
            .body(b"abc"),
        refuse("chunk/ends-early", chunked("5\r\nhel"), BROKEN)
            .then(Step::Finish)
            .may_begin()
            .closes(),
        refuse("chunk/last-missing", chunked("5\r\nhello\r\n"), BROKEN)
            .then(Step::Finish)
            .may_begin()
            .closes(),
        refuse("chunk/final-crlf-missing", chunked("5\r\nhello\r\n0\r\n"), BROKEN)
            .then(Step::Finish)
            .may_begin()
            .closes(),
        refuse(
            "chunk/extension-flood",
            chunked(format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(20_000))),
            BROKEN,
        )
        .may_begin()
        .closes(),
        refuse(
            "chunk/many-extensions",
            chunked(format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "x".repeat(500)).repeat(60))),
            BROKEN,
        )
        .may_begin()
        .closes(),
    ];
    for (name, body) in [
        ("lf-after-size", "3\nabc\r\n0\r\n\r\n"),
        ("lf-after-data", "3\r\nabc\n0\r\n\r\n"),
        ("lf-after-last", "3\r\nabc\r\n0\n\r\n"),
        ("lf-at-the-end", "3\r\nabc\r\n0\r\n\n"),
        ("cr-after-size", "3\rabc\r\n0\r\n\r\n"),
        ("cr-in-size", "3\r\r\nabc\r\n0\r\n\r\n"),
        ("data-too-long", "3\r\nabcd\r\n0\r\n\r\n"),
        ("data-too-short", "5\r\nabc\r\n0\r\n\r\n"),
        ("no-size", "\r\nabc\r\n0\r\n\r\n"),
        ("empty-size-with-extension", ";a\r\nabc\r\n0\r\n\r\n"),
        ("minus", "-3\r\nabc\r\n0\r\n\r\n"),
        ("plus", "+3\r\nabc\r\n0\r\n\r\n"),
        ("hex-prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("letters-after", "3g\r\nabc\r\n0\r\n\r\n"),
        ("underscore", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
        ("space-before", " 3\r\nabc\r\n0\r\n\r\n"),
        ("two-to-the-64", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("twenty-digits", "ffffffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("nul-in-size", "3\0\r\nabc\r\n0\r\n\r\n"),
        ("nul-in-extension", "3;a\0b\r\nabc\r\n0\r\n\r\n"),
        ("lf-in-extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ("cr-in-extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
        ("comma-size", "3,3\r\nabc\r\n0\r\n\r\n"),
    ] {
        cases.push(refuse(&format!("chunk/{name}"), chunked(body), BROKEN).may_begin().closes());
    }
    cases.push(
        either(
            "chunk/seventy-zeros",
            chunked(format!("{}3\r\nabc\r\n0\r\n\r\n", "0".repeat(70))),
            BROKEN,
        )
        .body(b"abc"),
    );
    // A body made to look like heads, for whoever loses count, and then a real ambiguity.
    let data = "\r\nGET /x HTTP/1.1\r\n\r\n";
    let mut bytes = chunked(format!("{}{:x}\r\n{data}\r\n0\r\n\r\n", "0".repeat(70), data.len()));
    bytes.extend(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"));
    cases.push(
        either("chunk/lost-count-then-tecl", bytes, BROKEN)
            .and(&[400, 501, CLOSED])
            .body(data.as_bytes())
            .closes(),
    );
    cases.push(
        either("chunk/space-after-size", chunked("3 \r\nabc\r\n0\r\n\r\n"), BROKEN).body(b"abc"),
    );
    cases.push(
        either("chunk/tab-before-extension", chunked("3\t;a\r\nabc\r\n0\r\n\r\n"), BROKEN)
            .body(b"abc"),
    );
    cases
}

fn trailers() -> Vec<Case> {
    let with = |trailer: &str| chunked(format!("3\r\nabc\r\n0\r\n{trailer}\r\n"));
    let mut cases = vec![
        serve("trailer/plain", with("X-Sum: 1\r\n")).body(b"abc"),
        serve("trailer/of-framing", with("Content-Length: 99\r\nTransfer-Encoding: gzip\r\n"))
            .body(b"abc")
            .check(|r| no_trailer(r, &["content-length", "transfer-encoding"])),
        serve("trailer/of-routing", with("Host: other.test\r\nX-Forwarded-For: 6.6.6.6\r\n"))
            .body(b"abc")
            .field("host", "good.test")
            .check(|r| no_trailer(r, &["host", "x-forwarded-for"])),
        serve("trailer/then-next", {
            let mut bytes = with("X-Sum: 1\r\n");
            bytes.extend_from_slice(&get("/second", ""));
            bytes
        })
        .and(&[200])
        .target("/second"),
        refuse(
            "trailer/too-big",
            with(&format!("X-Sum: {}\r\n", "x".repeat(20_000))),
            &[400, 431, CLOSED],
        )
        .may_begin()
        .closes(),
        refuse("trailer/too-many", with(&"A: b\r\n".repeat(4_000)), &[400, 431, CLOSED])
            .may_begin()
            .closes(),
    ];
    for (name, trailer) in [
        ("bare-lf", "X-Sum: 1\nY: 2\r\n"),
        ("bare-cr", "X-Sum: 1\rY: 2\r\n"),
        ("nul", "X-Sum: 1\0\r\n"),
        ("no-colon", "X-Sum\r\n"),
        ("space-before-colon", "X-Sum : 1\r\n"),
    ] {
        cases.push(refuse(&format!("trailer/{name}"), with(trailer), BROKEN).may_begin().closes());
    }
    cases
}

fn no_trailer(request: &Request, names: &[&str]) -> Result<(), String> {
    let bad =
        request.trailers.iter().find(|t| names.iter().any(|n| t.name.eq_ignore_ascii_case(n)));
    bad.map_or(Ok(()), |t| Err(format!("trailer {} reached the backend", t.name)))
}

/// P6: what follows a body that nobody read must never be taken for a request, unless the body was
/// read to its end first.
fn drained() -> Vec<Case> {
    let inner = "GET /smuggled HTTP/1.1\r\nHost: good.test\r\n\r\n";
    let to = |host: &str, method: &str, length: usize| {
        format!("{method} /p HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut cases = Vec::new();
    for (name, host, status) in [
        ("not-found", "unknown.test", 404),
        ("no-endpoints", "empty.test", 503),
        ("redirect", "redirect.test", 308),
    ] {
        let mut bytes = to(host, "POST", inner.len()).into_bytes();
        bytes.extend_from_slice(inner.as_bytes());
        let mut body = refuse(&format!("drain/{name}"), &bytes, &[status]);
        body.statuses.truncate(1);
        cases.push(body);

        bytes.extend_from_slice(&get("/after", ""));
        let mut then = serve(&format!("drain/{name}-then-next"), &bytes).target("/after");
        then.statuses = vec![vec![status], vec![200, CLOSED]];
        let super::Expect::Requests(mut checks) = then.expect else {
            unreachable!("serve expects")
        };
        then.expect = super::Expect::AtMostOne(checks.remove(0));
        cases.push(then);

        let chunked = format!(
            "POST /p HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{inner}\r\n0\r\n\r\n",
            inner.len()
        );
        cases.push(refuse(&format!("drain/{name}-chunked"), chunked, &[status]));

        let bytes = to(host, "POST", 50_000_000) + inner;
        cases.push(refuse(&format!("drain/{name}-endless"), bytes, &[status]).closes());

        // Within 64 KiB it is read away, and the connection goes on.
        let mut bytes = to(host, "POST", 60_000).into_bytes();
        bytes.resize(bytes.len() + 60_000, b'x');
        bytes.extend_from_slice(&get("/after", ""));
        let mut whole = serve(&format!("drain/{name}-60k-then-next"), bytes).target("/after");
        whole.statuses.insert(0, vec![status]);
        cases.push(whole);

        let mut bytes = to(host, "POST", 300_000).into_bytes();
        bytes.resize(bytes.len() + 300_000, b'x');
        cases.push(refuse(&format!("drain/{name}-long"), bytes, &[status, CLOSED]));
    }
    cases.push(refuse(
        "drain/trace-with-body",
        to("good.test", "TRACE", inner.len()) + inner,
        &[405, 400],
    ));
    cases.push(refuse(
        "drain/bad-path-with-body",
        format!(
            "POST /a%zz HTTP/1.1\r\nHost: good.test\r\nContent-Length: {}\r\n\r\n{inner}",
            inner.len()
        ),
        &[400],
    ));
    cases.push(
        refuse(
            "drain/expect-not-found",
            "POST /p HTTP/1.1\r\nHost: unknown.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            &[404, 417],
        ),
    );
    cases
}
