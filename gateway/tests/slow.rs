//! Slow clients (P24): every way to hold a connection without using it comes to an end, and nobody
//! else notices. All protective timeouts are scaled down by the same factor.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, echo_answer},
        bed::Bed,
        client::{Wire, dial, get, read_some},
        h2raw::{self, END_HEADERS, END_STREAM, H2, PREFACE, block, frame, kind},
        tls::Tls,
    },
    wait::{self, Until, comes_true},
};

/// 1/10 of the real limits: 10 s become 1 s, the 75 s of an idle connection 7.5 s. An honest client on a busy
/// machine must not look like a slow one.
const SCALE: f64 = 0.1;

/// A way to be slow, the real limit in seconds after which it ends, and the client that is it.
/// The client returns when the gateway has ended the connection or the deadline has passed.
struct Row {
    name: &'static str,
    limit: f64,
    play: fn(&Bed, Instant) -> bool,
}

const ROWS: &[Row] = &[
    Row {
        name: "connects and says nothing",
        limit: 10.0,
        play: |bed, until| quiet(bed.http, b"", until),
    },
    Row {
        name: "stalls inside the request line",
        limit: 10.0,
        play: |bed, until| quiet(bed.http, b"GET / HT", until),
    },
    Row {
        name: "stalls inside the header",
        limit: 10.0,
        play: |bed, until| quiet(bed.http, b"GET / HTTP/1.1\r\nHost: good.test\r\nX: ", until),
    },
    Row {
        name: "drips the header",
        limit: 10.0,
        play: |bed, until| drip(bed.http, b"GET / HTTP/1.1\r\nHost: good.test\r\nX: ", b"y", until),
    },
    Row {
        name: "drips header lines",
        limit: 10.0,
        play: |bed, until| {
            drip(bed.http, b"GET / HTTP/1.1\r\nHost: good.test\r\n", b"X: y\r\n", until)
        },
    },
    Row {
        name: "stalls inside the body",
        limit: 30.0,
        play: |bed, until| quiet(bed.http, &[POST, b"hello"].concat(), until),
    },
    Row {
        name: "drips the body",
        limit: 30.0,
        play: |bed, until| drip(bed.http, POST, b"y", until),
    },
    Row {
        name: "drips chunks",
        limit: 30.0,
        play: |bed, until| {
            let head = b"POST / HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n";
            drip(bed.http, head, b"1\r\ny\r\n", until)
        },
    },
    Row {
        name: "drips a body that nobody reads",
        limit: 1.0,
        play: |bed, until| {
            let head = b"POST / HTTP/1.1\r\nHost: unknown.test\r\nContent-Length: 60000\r\n\r\n";
            drip(bed.http, head, b"y", until)
        },
    },
    Row {
        name: "is idle after an answer",
        limit: 75.0,
        play: |bed, until| quiet(bed.http, b"GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", until),
    },
    Row {
        name: "stalls before the TLS handshake",
        limit: 10.0,
        play: |bed, until| quiet(bed.https, b"", until),
    },
    Row {
        name: "stalls inside the ClientHello",
        limit: 10.0,
        play: |bed, until| quiet(bed.https, b"\x16\x03\x01\x02\x00\x01\x00", until),
    },
    Row {
        name: "completes TLS and says nothing",
        limit: 10.0,
        play: |bed, until| {
            let mut tls = Tls::connect(bed.https, "good.test", &["http/1.1"]).unwrap();
            ends(&mut tls, until)
        },
    },
    Row {
        name: "agrees on h2 and says nothing",
        limit: 10.0,
        play: |bed, until| {
            let mut tls = Tls::connect(bed.https, "good.test", &["h2"]).unwrap();
            ends(&mut tls, until)
        },
    },
    Row {
        name: "sends half of the h2 preface",
        limit: 10.0,
        play: |bed, until| {
            let mut tls = Tls::connect(bed.https, "good.test", &["h2"]).unwrap();
            tls.write_all(&PREFACE[..10]).unwrap();
            ends(&mut tls, until)
        },
    },
    Row {
        name: "sends the h2 preface without settings",
        limit: 10.0,
        play: |bed, until| {
            let mut tls = Tls::connect(bed.https, "good.test", &["h2"]).unwrap();
            tls.write_all(PREFACE).unwrap();
            ends(&mut tls, until)
        },
    },
    Row {
        name: "opens h2 and no stream",
        limit: 10.0,
        play: |bed, until| ends(&mut H2::connect(bed.https, "good.test").wire, until),
    },
    Row {
        name: "never ends the header of an h2 stream",
        limit: 10.0,
        play: |bed, until| {
            let mut client = H2::connect(bed.https, "good.test");
            let fields = block(&h2raw::get("good.test", "/"));
            client.write(&frame(kind::HEADERS, END_STREAM, 1, &fields));
            ends(&mut client.wire, until)
        },
    },
    Row {
        name: "stalls the body of an h2 stream",
        limit: 30.0,
        play: |bed, until| {
            let mut client = H2::connect(bed.https, "good.test");
            let mut fields = h2raw::get("good.test", "/");
            fields[0].1 = "POST";
            client.write(&frame(kind::HEADERS, END_HEADERS, 1, &block(&fields)));
            client.write(&frame(kind::DATA, 0, 1, b"hello"));
            while Instant::now() < until {
                match client.read(Duration::from_millis(50)) {
                    Ok(frame) if frame.kind == kind::RST_STREAM || frame.kind == kind::GOAWAY => {
                        return true;
                    }
                    // An answer such as 408 that ends the stream is an end, too.
                    Ok(frame) if frame.stream == 1 && frame.flags & END_STREAM != 0 => return true,
                    Err(true) => return true,
                    Ok(_) | Err(false) => {}
                }
            }
            false
        },
    },
];

const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 100000\r\n\r\n";

#[test]
fn every_slow_client_is_sent_away_and_fast_ones_are_served_meanwhile() {
    let bed = Bed::gateway(&[&format!("--time-scale={SCALE}")]);
    let done = AtomicBool::new(false);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let until = Until::dropped(&done);
        let fast = scope.spawn(|| {
            let mut waited = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                assert_eq!(get(bed.http, "good.test", "/fast").status(), 200, "a fast client");
                waited.push(start.elapsed());
                std::thread::sleep(Duration::from_millis(5));
            }
            waited.sort();
            waited[waited.len() / 2]
        });
        let rows: Vec<_> = ROWS.iter().map(|row| scope.spawn(|| judge(&bed, row))).collect();
        let failures = rows.into_iter().filter_map(|r| r.join().unwrap()).collect();
        drop(until);
        // Half of them: one or the other may wait for the machine.
        let half = fast.join().unwrap();
        assert!(half < Duration::from_secs(1), "fast clients waited {half:?}");
        failures
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    bed.probe().unwrap();
}

#[test]
fn a_client_that_takes_no_answer_is_given_up() {
    let big = vec![b'x'; 64 << 20];
    let app = Backend::scripted("app", move |request| {
        if request.target != "/big" {
            return vec![Act::Send(echo_answer("app", request))];
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", big.len());
        vec![Act::Send(head.into()), Act::Send(big.clone())]
    });
    let bed =
        Bed::around(app, Backend::echo("other"), Backend::echo("secret"), &["--stall-timeout=1"]);
    let mut client = dial(bed.http);
    socket2::SockRef::from(&client).set_recv_buffer_size(64 * 1024).unwrap();
    client.write_all(b"GET /big HTTP/1.1\r\nHost: good.test\r\n\r\n").unwrap();
    assert!(comes_true(|| bed.app.open() == 1), "the request arrives");
    let over = comes_true(|| bed.app.open() == 0);
    assert!(over, "the answer still waits in the gateway");
    drop(client);
    bed.probe().unwrap();
}

fn judge(bed: &Bed, row: &Row) -> Option<String> {
    let limit = Duration::from_secs_f64(row.limit * SCALE);
    // A busy machine may be late, never early.
    let start = Instant::now();
    let ended = (row.play)(bed, start + limit + wait::LIMIT);
    let took = start.elapsed();
    if !ended {
        return Some(format!("a client that {} is still there after {took:?}", row.name));
    }
    (took < limit / 4).then(|| format!("a client that {} was gone after {took:?}", row.name))
}

/// Sends these bytes and waits for the end.
fn quiet(addr: SocketAddr, bytes: &[u8], until: Instant) -> bool {
    let mut stream = dial(addr);
    stream.write_all(bytes).unwrap();
    ends(&mut stream, until)
}

/// Sends `first` and then `again` every 100 ms.
fn drip(addr: SocketAddr, first: &[u8], again: &[u8], until: Instant) -> bool {
    let mut stream: TcpStream = dial(addr);
    stream.write_all(first).unwrap();
    while Instant::now() < until {
        let mut sink = Vec::new();
        match read_some(&mut stream, Duration::from_millis(100), &mut sink) {
            Ok(0) => return true,
            Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return true,
            _ => {}
        }
        if stream.write_all(again).is_err() {
            return true;
        }
    }
    false
}

/// Reads away what comes until the end of the connection or of the time.
fn ends(wire: &mut impl Wire, until: Instant) -> bool {
    let mut sink = Vec::new();
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match read_some(wire, left, &mut sink) {
            Ok(0) => return true,
            Err(e)
                if !matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                return true;
            }
            _ => {}
        }
    }
    false
}
