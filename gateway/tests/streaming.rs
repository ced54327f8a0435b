//! Back-pressure: bodies pass through, they are not kept. A large upload to a slow backend and a
//! large download to a slow client must not grow the gateway.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use gatehouse_testbed::{
    gatehouse::{
        client::{KeepAlive, dial},
        gateway::{Gateway, Plan},
        h2raw::{ACK, END_HEADERS, Frame, H2, block, frame, kind},
        manifests::{ingress, prefix, secret, service},
        tls::certificate,
    },
    wait,
};

const SIZE: u64 = 64 * 1024 * 1024;
/// What a body may add to the gateway, in KiB.
const GROWTH: u64 = 8 * 1024;

/// A backend that holds the first POST unread until it is told to go on; a GET is answered with
/// [`SIZE`] bytes; anything else with a few.
fn backend() -> (std::net::SocketAddr, Sender<()>, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Inherited by every connection: what the kernel holds must stay small beside the body.
    socket2::SockRef::from(&listener).set_recv_buffer_size(64 * 1024).unwrap();
    let addr = listener.local_addr().unwrap();
    let (go, wait) = channel();
    let moved = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&moved);
    std::thread::spawn(move || {
        let wait = Arc::new(std::sync::Mutex::new(wait));
        for stream in listener.incoming().flatten() {
            let (wait, count) = (Arc::clone(&wait), Arc::clone(&count));
            std::thread::spawn(move || serve(stream, &wait, &count));
        }
    });
    (addr, go, moved)
}

fn serve(mut stream: TcpStream, wait: &std::sync::Mutex<Receiver<()>>, moved: &AtomicU64) {
    let mut buf = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let Some(end) = buf.windows(4).position(|w| w == b"\r\n\r\n") else {
            match stream.read(&mut chunk[..1024]) {
                Ok(n @ 1..) => buf.extend_from_slice(&chunk[..n]),
                _ => return,
            }
            continue;
        };
        let method = buf.first().copied();
        let big = buf.windows(4).any(|w| w == b"/big");
        let mut read = (buf.len() - end - 4) as u64;
        buf.clear();
        if method == Some(b'P') {
            wait.lock().unwrap().recv().ok();
            while read < SIZE {
                match stream.read(&mut chunk) {
                    Ok(n @ 1..) => read += n as u64,
                    _ => return,
                }
                moved.store(read, Ordering::Relaxed);
            }
        }
        let length = if big && method == Some(b'G') { SIZE } else { 0 };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
        let mut written = 0;
        while written < length {
            match stream.write(&chunk) {
                Ok(n) => written += n as u64,
                Err(_) => return,
            }
            moved.store(written, Ordering::Relaxed);
        }
    }
}

fn start(addr: std::net::SocketAddr) -> Gateway {
    let text = secret("pair", &certificate(&["x.test"]))
        + &service("app", &[addr])
        + &ingress(
            "i",
            "nginx.ingress.kubernetes.io/ssl-redirect: \"false\"",
            "{hosts: [x.test], secretName: pair}",
            &[prefix("x.test", "/", "app")],
        );
    let gateway = Plan::default().manifest("a.yaml", text).start();
    let mut client = KeepAlive::to(gateway.http);
    for _ in 0..50 {
        assert_eq!(client.get("x.test", "/warm").unwrap().status, 200);
    }
    gateway
}

/// The most that the gateway grows, in KiB, until `done` or for `limit`.
fn growth(gateway: &Gateway, before: u64, limit: Duration, mut done: impl FnMut() -> bool) -> u64 {
    let mut most = 0;
    wait::look_for(limit, || {
        most = most.max(gateway.rss().saturating_sub(before));
        done().then_some(())
    });
    most
}

#[test]
fn an_upload_to_a_slow_backend_waits_outside_of_the_gateway() {
    let (addr, go, moved) = backend();
    let gateway = start(addr);
    let before = gateway.rss();
    let mut stream = dial(gateway.http);
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let client = std::thread::spawn(move || {
        let head = format!("POST /big HTTP/1.1\r\nHost: x.test\r\nContent-Length: {SIZE}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = vec![b'x'; 64 * 1024];
        for _ in 0..SIZE / chunk.len() as u64 {
            stream.write_all(&chunk).unwrap();
            count.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    });
    let stalled = growth(&gateway, before, Duration::from_millis(1500), || false);
    let waiting = sent.load(Ordering::Relaxed);
    assert!(waiting < SIZE / 2, "{waiting} bytes were taken with nobody to read them");
    go.send(()).unwrap();
    let flowing = growth(&gateway, before, wait::LIMIT, || client.is_finished());
    client.join().unwrap();
    assert_eq!(moved.load(Ordering::Relaxed), SIZE);
    let most = stalled.max(flowing);
    assert!(most <= GROWTH, "the gateway grew by {most} KiB");
}

#[test]
fn a_download_to_a_slow_client_waits_outside_of_the_gateway() {
    let (addr, _go, moved) = backend();
    let gateway = start(addr);
    let before = gateway.rss();
    let mut stream = dial(gateway.http);
    socket2::SockRef::from(&stream).set_recv_buffer_size(64 * 1024).unwrap();
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: x.test\r\n\r\n").unwrap();
    let stalled = growth(&gateway, before, Duration::from_millis(1500), || false);
    let waiting = moved.load(Ordering::Relaxed);
    assert!(waiting < SIZE / 2, "{waiting} bytes were taken with nobody to read them");
    let client = std::thread::spawn(move || {
        let mut chunk = vec![0; 64 * 1024];
        let mut read = 0;
        while read < SIZE {
            match stream.read(&mut chunk).unwrap() {
                0 => break,
                n => read += n as u64,
            }
        }
        read
    });
    let flowing = growth(&gateway, before, wait::LIMIT, || client.is_finished());
    assert!(client.join().unwrap() >= SIZE);
    let most = stalled.max(flowing);
    assert!(most <= GROWTH, "the gateway grew by {most} KiB");
}

#[test]
fn an_upload_over_h2_waits_for_the_window() {
    let (addr, go, _moved) = backend();
    let gateway = start(addr);
    let before = gateway.rss();
    let mut client = H2::connect(gateway.https, "x.test");
    let length = SIZE.to_string();
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "x.test"),
        (":path", "/big"),
        ("content-length", &*length),
    ];
    client.write(&frame(kind::HEADERS, END_HEADERS, 1, &block(&fields)));
    let mut credit = Credit::default();
    let chunk = vec![b'x'; 16 * 1024];
    let mut sent = 0u64;
    let mut told = false;
    while sent < SIZE {
        if credit.take(chunk.len()) {
            let last = u8::from(sent + chunk.len() as u64 == SIZE);
            assert!(client.write(&frame(kind::DATA, last, 1, &chunk)), "after {sent} bytes");
            sent += chunk.len() as u64;
            continue;
        }
        match client.read(if told { wait::LIMIT } else { Duration::from_millis(700) }) {
            Ok(frame) => {
                credit.note(&frame);
                if frame.kind == kind::SETTINGS && frame.flags & ACK == 0 {
                    client.write(&self::frame(kind::SETTINGS, ACK, 0, &[]));
                }
            }
            Err(false) if !told => {
                assert!(sent < SIZE / 2, "{sent} bytes were taken with nobody to read them");
                go.send(()).unwrap();
                told = true;
            }
            Err(closed) => panic!("stuck after {sent} bytes (closed: {closed})"),
        }
    }
    assert!(told, "the gateway took {SIZE} bytes without a pause");
    assert_eq!(client.answer(1).status, 200);
    let most = gateway.rss().saturating_sub(before);
    assert!(most <= GROWTH, "the gateway grew by {most} KiB");
}

/// The two windows that an upload spends (RFC 9113 section 5.2).
struct Credit {
    initial: i64,
    stream: i64,
    connection: i64,
}

impl Default for Credit {
    fn default() -> Self {
        Self { initial: 65_535, stream: 65_535, connection: 65_535 }
    }
}

impl Credit {
    fn take(&mut self, length: usize) -> bool {
        let length = length as i64;
        let enough = self.stream >= length && self.connection >= length;
        if enough {
            self.stream -= length;
            self.connection -= length;
        }
        enough
    }

    fn note(&mut self, frame: &Frame) {
        let number = |at: usize| {
            i64::from(u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap()))
        };
        match (frame.kind, frame.stream) {
            (kind::WINDOW_UPDATE, 0) => self.connection += number(0),
            (kind::WINDOW_UPDATE, _) => self.stream += number(0),
            (kind::SETTINGS, _) if frame.flags & 1 == 0 => {
                for at in (0..frame.payload.len()).step_by(6) {
                    if frame.payload[at..at + 2] == [0, 4] {
                        self.stream += number(at + 2) - self.initial;
                        self.initial = number(at + 2);
                    }
                }
            }
            (kind::RST_STREAM | kind::GOAWAY, _) => panic!("refused: {frame:?}"),
            _ => {}
        }
    }
}
