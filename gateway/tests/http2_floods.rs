//! Floods of HTTP/2 frames (P20 to P22) and responses that nobody takes (P23): the connection ends,
//! and nothing else notices.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, echo_answer},
        bed::Bed,
        h2raw::{END_HEADERS, END_STREAM, GOOD, H2, block, frame, get, integer, kind, probe},
    },
    wait,
};

/// A flood: what opens it, what is repeated, and the frames within which it must have ended.
struct Flood {
    name: &'static str,
    open: fn() -> Vec<u8>,
    repeat: fn(u32) -> Vec<u8>,
    within: u32,
}

/// Frames that are written at a time.
const BATCH: u32 = 50;

fn floods() -> Vec<Flood> {
    let none: fn() -> Vec<u8> = Vec::new;
    let open_post: fn() -> Vec<u8> = || {
        let mut fields = GOOD;
        fields[0].1 = "POST";
        frame(kind::HEADERS, END_HEADERS, 1, &block(&fields))
    };
    let open_block: fn() -> Vec<u8> = || frame(kind::HEADERS, END_STREAM, 1, &block(&GOOD));
    vec![
        Flood {
            name: "rapid reset",
            open: none,
            repeat: |n| {
                [
                    frame(kind::HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block(&GOOD)),
                    frame(kind::RST_STREAM, 0, 2 * n + 1, &8u32.to_be_bytes()),
                ]
                .concat()
            },
            within: 200,
        },
        Flood {
            name: "made you reset",
            open: none,
            repeat: |n| {
                [
                    frame(kind::HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block(&GOOD)),
                    frame(kind::WINDOW_UPDATE, 0, 2 * n + 1, &0u32.to_be_bytes()),
                ]
                .concat()
            },
            within: 200,
        },
        Flood {
            name: "continuation",
            open: open_block,
            repeat: |_| frame(kind::CONTINUATION, 0, 1, &block(&[("x-flood", &"x".repeat(200))])),
            within: 400,
        },
        Flood {
            name: "empty continuation",
            open: open_block,
            repeat: |_| frame(kind::CONTINUATION, 0, 1, &[]),
            within: 200,
        },
        Flood {
            name: "empty data",
            open: open_post,
            repeat: |_| frame(kind::DATA, 0, 1, &[]),
            within: 1_000,
        },
        Flood {
            name: "ping",
            open: none,
            repeat: |_| frame(kind::PING, 0, 0, &[7; 8]),
            within: 1_000,
        },
        Flood {
            name: "settings",
            open: none,
            repeat: |_| frame(kind::SETTINGS, 0, 0, &[]),
            within: 1_000,
        },
        Flood {
            name: "settings that change",
            open: none,
            repeat: |n| {
                let value = if n % 2 == 0 { 65_535u32 } else { 65_536 };
                frame(
                    kind::SETTINGS,
                    0,
                    0,
                    &[&4u16.to_be_bytes()[..], &value.to_be_bytes()].concat(),
                )
            },
            within: 1_000,
        },
        Flood {
            name: "priority",
            open: none,
            repeat: |n| frame(kind::PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 16]),
            within: 1_000,
        },
        Flood {
            name: "window update",
            open: none,
            repeat: |_| frame(kind::WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()),
            within: 1_000,
        },
        Flood {
            name: "unknown frame",
            open: none,
            repeat: |_| frame(0x77, 0, 0, b"?"),
            within: 1_000,
        },
        Flood {
            name: "goaway",
            open: none,
            repeat: |_| frame(kind::GOAWAY, 0, 0, &[0; 8]),
            within: 1_000,
        },
        Flood {
            name: "ping acknowledgements",
            open: none,
            repeat: |_| frame(kind::PING, 1, 0, &[7; 8]),
            within: 1_000,
        },
        Flood {
            name: "data of one byte, padded",
            open: open_post,
            repeat: |_| frame(kind::DATA, 8, 1, &[0]),
            within: 1_000,
        },
    ]
}

#[test]
fn a_flood_of_frames_ends_its_connection_and_nothing_else() {
    let bed = Bed::gateway(&[]);
    let before = bed.gateway.as_ref().unwrap().rss();
    let mut failures = Vec::new();
    for flood in floods() {
        let mut client = H2::connect(bed.https, "good.test");
        client.write(&(flood.open)());
        if !drowns(&mut client, &flood) {
            failures.push(format!("{}: open after {} frames", flood.name, flood.within));
        }
        if let Err(why) = bed.probe().and_then(|()| probe(bed.https)) {
            failures.push(format!("after {}: {why}", flood.name));
        }
    }
    let grown = bed.gateway.as_ref().unwrap().rss().saturating_sub(before);
    if grown > 16 * 1024 {
        failures.push(format!("memory grew by {grown} KiB"));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Writes as many frames as the flood may have, and a batch more, and says whether that ends the connection, however long the
/// gateway takes to come to it.
fn drowns(client: &mut H2, flood: &Flood) -> bool {
    for from in (0..=flood.within).step_by(BATCH as usize) {
        let batch: Vec<u8> = (from..from + BATCH).flat_map(flood.repeat).collect();
        // What the gateway answers is read, so that it never waits for this end.
        if !client.write(&batch) || ends(client, Duration::from_millis(2)) {
            return true;
        }
    }
    ends(client, wait::LIMIT)
}

/// Whether the connection ends while nothing comes for `quiet`.
fn ends(client: &mut H2, quiet: Duration) -> bool {
    loop {
        match client.read(quiet) {
            Ok(frame) if frame.kind == kind::GOAWAY => return true,
            Err(closed) => return closed,
            Ok(_) => {}
        }
    }
}

#[test]
fn a_header_bomb_is_refused_before_it_is_unpacked() {
    let bed = Bed::gateway(&[]);
    let before = bed.gateway.as_ref().unwrap().rss();
    let mut clients: Vec<H2> = (0..20).map(|_| H2::connect(bed.https, "good.test")).collect();
    for client in &mut clients {
        for n in 0..20 {
            // One long entry in the dynamic table, then thousands of references of a byte each.
            let mut bytes = block(&GOOD);
            bytes.push(0x40);
            integer(&mut bytes, 0, 7, 5);
            bytes.extend(b"x-big");
            integer(&mut bytes, 0, 7, 3_900);
            bytes.extend([b'v'; 3_900]);
            bytes.extend([0xbe; 4_000]);
            if !client.write(&frame(kind::HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &bytes)) {
                break;
            }
        }
    }
    for client in &mut clients {
        let answer = client.answer(39);
        assert_ne!(answer.status, 200, "{answer:?}");
    }
    let requests = bed.app.requests();
    assert!(requests.is_empty(), "{} bombs reached the backend", requests.len());
    let grown = bed.gateway.as_ref().unwrap().rss().saturating_sub(before);
    assert!(grown < 30 * 1024, "memory grew by {grown} KiB");
    bed.probe().unwrap();
}

#[test]
fn a_response_that_nobody_takes_is_given_up() {
    let big = vec![b'x'; 4 * 1024 * 1024];
    let app = Backend::scripted("app", move |request| {
        if request.target != "/big" {
            return vec![Act::Send(echo_answer("app", request))];
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", big.len());
        vec![Act::Send([head.as_bytes(), &big].concat())]
    });
    let (other, secret) = (Backend::echo("other"), Backend::echo("secret"));
    let bed = Bed::around(app, other, secret, &["--stall-timeout=1"]);
    let mut client = H2::connect(bed.https, "good.test");
    let fields = block(&get("good.test", "/big"));
    client.write(&frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &fields));
    // The window of 65,535 bytes is never enlarged; pings must not count as progress.
    let start = Instant::now();
    let mut end = None;
    let mut pinged = start;
    while end.is_none() && start.elapsed() < wait::LIMIT {
        if pinged.elapsed() > Duration::from_millis(200) {
            pinged = Instant::now();
            if !client.write(&frame(kind::PING, 0, 0, &[1; 8])) {
                end = Some("the connection was closed to writing".to_owned());
            }
        }
        match client.read(Duration::from_millis(200)) {
            Ok(f) if f.is_reset() || f.is_goaway_for_cause() => end = Some(format!("{f:?}")),
            Err(true) => end = Some("the connection was closed".into()),
            Ok(_) | Err(false) => {}
        }
    }
    let took = start.elapsed();
    assert!(end.is_some(), "the stalled stream is still open after {took:?}");
    assert!(took > Duration::from_millis(800), "ended after {took:?}: {end:?}");
    bed.probe().unwrap();
}
