//! Floods of HTTP/2 frames (P20 to P22) and responses that nobody takes (P23): the connection ends,
//! and nothing else notices.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use support::backend::{Act, Backend};
use support::bed::Bed;
use support::h2raw::{END_HEADERS, END_STREAM, GOOD, H2, block, frame, get, integer, kind, probe};

/// A flood: what opens it, what is repeated, and the frames within which it must have ended.
struct Flood {
    name: &'static str,
    open: fn() -> Vec<u8>,
    repeat: fn(u32) -> Vec<u8>,
    within: u32,
}

/// Frames in flight between two looks at the answer: the promise is met up to this many later.
const BATCH: u32 = 50;
const MOST: u32 = 20_000;

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
        let ended = drown(&mut client, &flood);
        // Frames that were written before the end could be seen.
        let limit = flood.within + 2 * BATCH;
        match ended {
            Some(n) if n <= limit => {}
            Some(n) => {
                failures.push(format!("{}: ended only after {n} (limit {limit})", flood.name))
            }
            None => failures.push(format!("{}: open after {MOST}", flood.name)),
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

/// Writes the flood in batches until the connection ends; says after how many frames it had.
fn drown(client: &mut H2, flood: &Flood) -> Option<u32> {
    let mut sent = 0;
    while sent < MOST {
        let batch: Vec<u8> = (sent..sent + BATCH).flat_map(flood.repeat).collect();
        let written = client.write(&batch);
        sent += BATCH;
        if !written {
            return Some(sent);
        }
        loop {
            match client.read(Duration::from_millis(2)) {
                Ok(frame) if frame.kind == kind::GOAWAY => return Some(sent),
                Ok(_) => {}
                Err(true) => return Some(sent),
                Err(false) => break,
            }
        }
    }
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        match client.read(Duration::from_millis(50)) {
            Ok(frame) if frame.kind == kind::GOAWAY => return Some(sent),
            Err(true) => return Some(sent),
            Ok(_) | Err(false) => {}
        }
    }
    None
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
            return vec![Act::Send(support::backend::echo_answer("app", request))];
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
    while end.is_none() && start.elapsed() < Duration::from_secs(8) {
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
