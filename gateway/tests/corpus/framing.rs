//! Content-Length and Transfer-Encoding: one framing per message (RFC 9112 section 6).

use gatehouse_testbed::gatehouse::client::Step;

use super::{CLOSED, Case, either, get, post, refuse, serve};

const REFUSED: &[u16] = &[400];
const TE_REFUSED: &[u16] = &[400, 501];

/// The cases of this class.
pub fn cases() -> Vec<Case> {
    [content_length(), transfer_encoding(), both()].into_iter().flatten().collect()
}

fn content_length() -> Vec<Case> {
    let mut cases = vec![
        serve("cl/plain", post("Content-Length: 5\r\n", "hello")).body(b"hello"),
        serve("cl/zero", post("Content-Length: 0\r\n", "")).body(b""),
        serve("cl/none-on-post", post("", "")).body(b""),
        serve("cl/on-get", get("/g", "Content-Length: 0\r\n")).body(b""),
        serve("cl/get-with-body", {
            let mut bytes = get("/g", "Content-Length: 5\r\n");
            bytes.extend_from_slice(b"hello");
            bytes
        })
        .body(b"hello"),
        serve("cl/odd-case", post("cOnTeNt-LeNgTh: 5\r\n", "hello")).body(b"hello"),
        serve("cl/tabs-around", post("Content-Length:\t5\t\r\n", "hello")).body(b"hello"),
        serve("cl/body-is-a-request", {
            let inner = "GET /private HTTP/1.1\r\nHost: good.test\r\n\r\n";
            post(&format!("Content-Length: {}\r\n", inner.len()), inner)
        })
        .body(b"GET /private HTTP/1.1\r\nHost: good.test\r\n\r\n"),
        serve("cl/two-in-a-row", {
            let mut bytes = post("Content-Length: 5\r\n", "hello");
            bytes.extend_from_slice(&get("/second", ""));
            bytes
        })
        .and(&[200])
        .target("/second"),
        serve("cl/close-then-more", {
            let mut bytes = post("Content-Length: 5\r\nConnection: close\r\n", "hello");
            bytes.extend_from_slice(&get("/after-close", ""));
            bytes
        })
        .closes(),
        either("cl/leading-zeros", post("Content-Length: 0005\r\n", "hello"), REFUSED)
            .body(b"hello"),
        either(
            "cl/twice-same",
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            REFUSED,
        )
        .body(b"hello"),
        either("cl/list-same", post("Content-Length: 5, 5\r\n", "hello"), REFUSED).body(b"hello"),
        serve("cl/underscore-twin", post("Content_Length: 99\r\nContent-Length: 5\r\n", "hello"))
            .body(b"hello")
            .without("content_length"),
        refuse("cl/short-then-end", post("Content-Length: 50\r\n", "hello"), &[400, 408, CLOSED])
            .then(Step::Finish)
            .may_begin()
            .closes(),
        refuse("cl/short-then-stall", post("Content-Length: 50\r\n", "hello"), &[400, 408, CLOSED])
            .may_begin()
            .closes(),
    ];
    for (name, value) in [
        ("plus", "+5"),
        ("minus", "-5"),
        ("minus-zero", "-0"),
        ("hex", "0x5"),
        ("float", "5.0"),
        ("exponent", "5e0"),
        ("empty", ""),
        ("space-inside", "5 5"),
        ("letters-after", "5a"),
        ("letters-before", "a5"),
        ("quoted", "\"5\""),
        ("parameter", "5;x=1"),
        ("list-different", "5, 6"),
        ("list-empty-item", "5,"),
        ("list-empty-first", ",5"),
        ("vertical-tab", "\x0b5"),
        ("form-feed", "5\x0c"),
        ("two-to-the-64", "18446744073709551616"),
        ("two-to-the-64-and-5", "18446744073709551621"),
        ("forty-digits", "1000000000000000000000000000000000000005"),
        ("arabic-digit", "\u{665}"),
        ("underscore", "1_0"),
        ("chunked", "chunked"),
    ] {
        let bytes = post(&format!("Content-Length: {value}\r\n"), "hello");
        cases.push(refuse(&format!("cl/{name}"), bytes, REFUSED).closes());
    }
    for (name, fields) in [
        ("twice-different", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("twice-one-empty", "Content-Length: 5\r\nContent-Length:\r\n"),
        ("twice-one-bad", "Content-Length: 5\r\nContent-Length: x\r\n"),
        ("space-before-colon", "Content-Length : 5\r\n"),
        ("tab-before-colon", "Content-Length\t: 5\r\n"),
        ("folded", "Content-Length:\r\n 5\r\n"),
        ("nul-after", "Content-Length: 5\0\r\n"),
        ("nul-in-name", "Content-Length\0: 5\r\n"),
        ("bare-cr-after", "Content-Length: 5\rX: y\r\n"),
    ] {
        cases.push(refuse(&format!("cl/{name}"), post(fields, "hello"), REFUSED).closes());
    }
    cases
}

fn transfer_encoding() -> Vec<Case> {
    const HELLO: &str = "5\r\nhello\r\n0\r\n\r\n";
    let mut cases = vec![
        serve("te/chunked", post("Transfer-Encoding: chunked\r\n", HELLO)).body(b"hello"),
        serve("te/odd-case-name", post("tRANSFER-eNCODING: chunked\r\n", HELLO)).body(b"hello"),
        either("te/odd-case-value", post("Transfer-Encoding: Chunked\r\n", HELLO), TE_REFUSED)
            .body(b"hello"),
        either("te/tabs-around", post("Transfer-Encoding:\tchunked\t\r\n", HELLO), TE_REFUSED)
            .body(b"hello"),
        serve("te/chunked-get", {
            let mut bytes = get("/g", "Transfer-Encoding: chunked\r\n");
            bytes.extend_from_slice(HELLO.as_bytes());
            bytes
        })
        .body(b"hello"),
        serve("te/chunked-then-next", {
            let mut bytes = post("Transfer-Encoding: chunked\r\n", HELLO);
            bytes.extend_from_slice(&get("/second", ""));
            bytes
        })
        .and(&[200])
        .target("/second"),
        serve(
            "te/underscore-twin",
            post("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "hello"),
        )
        .body(b"hello")
        .without("transfer_encoding"),
        refuse(
            "te/http10",
            format!(
                "POST /p HTTP/1.0\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n{HELLO}"
            ),
            REFUSED,
        )
        .closes(),
        refuse(
            "te/http10-keep-alive",
            format!(
                "POST /p HTTP/1.0\r\nHost: good.test\r\nConnection: keep-alive\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{HELLO}"
            ),
            REFUSED,
        )
        .closes(),
    ];
    for (name, value) in [
        ("gzip-chunked", "gzip, chunked"),
        ("identity-chunked", "identity, chunked"),
        ("chunked-identity", "chunked, identity"),
        ("chunked-gzip", "chunked, gzip"),
        ("chunked-chunked", "chunked, chunked"),
        ("identity", "identity"),
        ("gzip", "gzip"),
        ("empty", ""),
        ("xchunked", "xchunked"),
        ("chunkedx", "chunkedx"),
        ("chunked-parameter", "chunked;q=1"),
        ("chunked-dash", "chunked-"),
        ("quoted", "\"chunked\""),
        ("single-quoted", "'chunked'"),
        ("comma-after", "chunked,"),
        ("comma-before", ",chunked"),
        ("vertical-tab", "\x0bchunked"),
        ("form-feed-after", "chunked\x0c"),
        ("nul-after", "chunked\0"),
        ("space-inside", "chunked foo"),
        ("cow", "cow"),
        ("chunked-cow", "chunked, cow"),
        ("utf8-bom", "\u{feff}chunked"),
        ("no-break-space", "\u{a0}chunked"),
    ] {
        let bytes = post(&format!("Transfer-Encoding: {value}\r\n"), HELLO);
        cases.push(refuse(&format!("te/{name}"), bytes, TE_REFUSED).closes());
    }
    for (name, fields) in [
        ("twice-chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("twice-identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("twice-identity-first", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        ("twice-cow", "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n"),
        ("space-before-colon", "Transfer-Encoding : chunked\r\n"),
        ("folded", "Transfer-Encoding:\r\n chunked\r\n"),
        ("folded-after", "Transfer-Encoding: chunked\r\n , identity\r\n"),
        ("name-with-nul", "Transfer-Encoding\0: chunked\r\n"),
        ("line-starts-with-space", "X: y\r\n Transfer-Encoding: chunked\r\n"),
        ("bare-cr-before", "X: y\rTransfer-Encoding: chunked\r\n"),
    ] {
        cases.push(refuse(&format!("te/{name}"), post(fields, HELLO), TE_REFUSED).closes());
    }
    cases
}

fn both() -> Vec<Case> {
    let smuggled = "0\r\n\r\nGET /private HTTP/1.1\r\nHost: good.test\r\nX: ";
    let mut cases = Vec::new();
    for (name, fields) in [
        ("cl-te", format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", smuggled.len())),
        ("te-cl", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n".to_owned()),
        ("zero-cl", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n".to_owned()),
        ("te-list-cl", "Transfer-Encoding: identity, chunked\r\nContent-Length: 5\r\n".to_owned()),
        ("te-cow-cl", "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n".to_owned()),
        ("te-empty-cl", "Transfer-Encoding:\r\nContent-Length: 5\r\n".to_owned()),
        (
            "cl-named-away",
            "Connection: Content-Length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
                .to_owned(),
        ),
        (
            "te-named-away",
            "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"
                .to_owned(),
        ),
    ] {
        cases.push(refuse(&format!("tecl/{name}"), post(&fields, smuggled), TE_REFUSED).closes());
    }
    let mut bytes = post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n");
    bytes.extend_from_slice(&get("/after-tecl", ""));
    cases.push(refuse("tecl/then-pipelined", bytes, REFUSED).closes());
    cases
}
