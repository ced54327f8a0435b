//! Limits that a stranger cannot push (P5): 8 KiB of request line, 100 fields, 64 KiB of header.

use gatehouse_testbed::gatehouse::client::Step;

use super::{CLOSED, Case, get, post, refuse, serve};

/// The cases of this class.
pub fn cases() -> Vec<Case> {
    let target = |length: usize| format!("/{}", "a".repeat(length - 1));
    let fields = |count: usize| -> String { (0..count).map(|n| format!("X-{n}: v\r\n")).collect() };
    // Each field line is 1 KiB with its CRLF.
    let block = |kib: usize| -> String {
        (0..kib).map(|n| format!("X-{n:02}: {}\r\n", "v".repeat(1024 - 8))).collect()
    };
    let mut cases = vec![
        serve("limit/target-4k", get(&target(4 * 1024), "")),
        serve("limit/target-8000", get(&target(8000), "")),
        refuse("limit/target-9000", get(&target(9_000), ""), &[414]).closes(),
        refuse("limit/target-60k", get(&target(60_000), ""), &[414]).closes(),
        refuse("limit/target-200k", get(&target(200_000), ""), &[414, 431, 400, CLOSED]).closes(),
        refuse("limit/query-9000", get(&format!("/?{}", "q".repeat(9_000)), ""), &[414]).closes(),
        refuse(
            "limit/absolute-9000",
            get(&format!("http://good.test{}", target(9_000)), ""),
            &[414],
        )
        .closes(),
        // The Host field is one of the hundred.
        serve("limit/fields-99", get("/l", &fields(98))),
        serve("limit/fields-100", get("/l", &fields(99))),
        refuse("limit/fields-101", get("/l", &fields(100)), &[431]).closes(),
        refuse("limit/fields-1000", get("/l", &fields(1_000)), &[431]).closes(),
        refuse("limit/fields-20000-short", get("/l", &"A:\r\n".repeat(20_000)), &[431, CLOSED])
            .closes(),
        serve("limit/block-30k", get("/l", &block(30))),
        serve("limit/block-60k", get("/l", &block(60))),
        refuse("limit/block-70k", get("/l", &block(70)), &[431]).closes(),
        refuse("limit/block-300k", get("/l", &block(99).repeat(3)), &[431, CLOSED]).closes(),
        serve("limit/one-field-32k", get("/l", &format!("X-A: {}\r\n", "v".repeat(32 * 1024)))),
        refuse(
            "limit/one-field-100k",
            get("/l", &format!("X-A: {}\r\n", "v".repeat(100_000))),
            &[431, CLOSED],
        )
        .closes(),
        refuse(
            "limit/one-name-100k",
            get("/l", &format!("{}: v\r\n", "n".repeat(100_000))),
            &[431, 400, CLOSED],
        )
        .closes(),
        refuse(
            "limit/header-without-end",
            format!("GET / HTTP/1.1\r\nHost: good.test\r\nX: {}", "x".repeat(300_000)),
            &[431, CLOSED],
        )
        .closes(),
        refuse("limit/line-without-end", vec![b'G'; 300_000], &[400, 414, 431, 501, CLOSED])
            .closes(),
        refuse(
            "limit/header-never-ends",
            "GET / HTTP/1.1\r\nHost: good.test\r\nX: y\r\n",
            &[408, 400, CLOSED],
        )
        .closes(),
        refuse("limit/header-cut", "GET / HTTP/1.1\r\nHost: good.test\r\n", &[400, 408, CLOSED])
            .then(Step::Finish)
            .closes(),
        refuse("limit/line-cut", "GET / HT", &[400, 408, CLOSED]).then(Step::Finish).closes(),
        serve("limit/body-1m", post("Content-Length: 1000000\r\n", vec![b'x'; 1_000_000]))
            .check(|r| super::same("body length", &r.body.len(), &1_000_000)),
        serve("limit/chunked-many-small", {
            let body = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(20_000));
            post("Transfer-Encoding: chunked\r\n", body)
        })
        .check(|r| super::same("body length", &r.body.len(), &20_000)),
        serve("limit/empty-lines-before", [b"\r\n".repeat(3), get("/l", "")].concat()),
    ];
    let pipelined: Vec<u8> = (0..50).flat_map(|n| get(&format!("/pipe-{n}"), "")).collect();
    let mut fifty = serve("limit/pipeline-50", pipelined);
    for _ in 1..50 {
        fifty = fifty.and(&[200]);
    }
    cases.push(fifty.target("/pipe-49"));
    cases
}
