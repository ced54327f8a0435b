//! The access log: one JSON line per request on standard output.
//!
//! Every worker has an [`AccessLogger`] that builds lines in its own buffer and hands them over in chunks;
//! one thread writes. Data threads never wait for it: when the reader of the log is too slow, whole
//! chunks are dropped and counted ([`AccessLog::dropped`]).

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gatehouse_routes::objects::{ObjectKey, ObjectRef};

/// A chunk is handed over when it holds this many bytes, or at the next [`AccessLogger::tick`].
const CHUNK: usize = 8 * 1024;
/// Chunks that may wait for the writer, over all workers: at most about 2 MiB.
const QUEUE: usize = 256;

/// The writer thread and the way to it.
#[derive(Debug)]
pub struct AccessLog {
    chunks: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    done: Receiver<()>,
}

impl AccessLog {
    /// Starts the writer thread; `sink` is normally standard output.
    pub fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (chunks, queue) = mpsc::sync_channel(QUEUE);
        let (finished, done) = mpsc::sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            write_all(&queue, sink, &counter);
            // Nobody may be waiting any more.
            let _ = finished.send(());
        })?;
        Ok(Self { chunks, dropped, done })
    }

    /// A logger for one worker.
    pub fn logger(&self) -> AccessLogger {
        AccessLogger {
            buffer: Vec::with_capacity(2 * CHUNK),
            lines: 0,
            second: (u64::MAX, String::new()),
            chunks: self.chunks.clone(),
            dropped: Arc::clone(&self.dropped),
        }
    }

    /// Lines dropped so far because the reader was too slow or went away.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The counter behind [`AccessLog::dropped`], for metrics.
    pub fn dropped_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Waits until everything handed over is written, for at most `timeout`; true if it is. All loggers
    /// must be gone by then.
    pub fn finish(self, timeout: Duration) -> bool {
        drop(self.chunks);
        self.done.recv_timeout(timeout).is_ok()
    }
}

/// What is said about one request.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When its head had been read.
    pub time: SystemTime,
    /// Who sent it, as far as it can be believed.
    pub client: IpAddr,
    /// Method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host as received, without port.
    pub host: &'a [u8],
    /// Raw request target, query included.
    pub path: &'a [u8],
    /// HTTP version of the request.
    pub version: http::Version,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Status of the answer; 0 if the client went away before one.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From the head of the request to the end of the answer.
    pub duration: Duration,
    /// The object whose rule answered.
    pub route: Option<&'a ObjectRef>,
    /// The Service that it was sent to.
    pub backend: Option<&'a ObjectKey>,
    /// The address that it was sent to.
    pub endpoint: Option<SocketAddr>,
    /// From sending it on to the head of the backend's answer.
    pub upstream: Option<Duration>,
    /// How often it was sent again.
    pub retries: u32,
    /// Why we answered ourselves; empty if the backend answered.
    pub error: &'static str,
    /// Value of `X-Request-ID`.
    pub request_id: &'a [u8],
}

/// Builds lines for one worker.
#[derive(Debug)]
pub struct AccessLogger {
    buffer: Vec<u8>,
    lines: u64,
    /// The last second that was printed, and its text.
    second: (u64, String),
    chunks: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLogger {
    /// Adds a line. Allocates nothing; hands over the chunk when it is full.
    pub fn write(&mut self, entry: &Entry<'_>) {
        self.line(entry);
        self.lines += 1;
        if self.buffer.len() >= CHUNK {
            self.flush();
        }
    }

    /// To be called every 50 ms or so: hands over what has been written, so that a quiet log is prompt.
    pub fn tick(&mut self) {
        self.flush();
    }

    /// Hands over what has been written.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let chunk = std::mem::take(&mut self.buffer);
        match self.chunks.try_send(chunk) {
            Ok(()) => self.buffer = Vec::with_capacity(2 * CHUNK),
            Err(TrySendError::Full(chunk) | TrySendError::Disconnected(chunk)) => {
                self.dropped.fetch_add(self.lines, Ordering::Relaxed);
                self.buffer = chunk;
                self.buffer.clear();
            }
        }
        self.lines = 0;
    }

    fn line(&mut self, entry: &Entry<'_>) {
        self.time(entry.time);
        let out = &mut self.buffer;
        display(out, "client", Some(entry.client));
        text(out, "method", entry.method.as_bytes());
        text(out, "scheme", entry.scheme.as_bytes());
        text(out, "host", entry.host);
        text(out, "path", entry.path);
        text(out, "http", version(entry.version).as_bytes());
        key(out, "tls");
        out.extend_from_slice(if entry.tls { b"true" } else { b"false" });
        number(out, "status", Some(entry.status.into()));
        number(out, "bytes_in", Some(entry.bytes_in));
        number(out, "bytes_out", Some(entry.bytes_out));
        number(out, "duration_us", Some(micros(entry.duration)));
        display(out, "route", entry.route);
        display(out, "backend", entry.backend);
        display(out, "endpoint", entry.endpoint);
        number(out, "upstream_us", entry.upstream.map(micros));
        number(out, "retries", Some(entry.retries.into()));
        text(out, "error", entry.error.as_bytes());
        text(out, "request_id", entry.request_id);
        out.extend_from_slice(b"}\n");
    }

    fn time(&mut self, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (second, text) = &mut self.second;
        if *second != since.as_secs() {
            *second = since.as_secs();
            text.clear();
            let stamp =
                i64::try_from(*second).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
            if let Some(stamp) = stamp {
                text.push_str(stamp.to_string().trim_end_matches('Z'));
            }
        }
        let millis = since.subsec_millis();
        let digit = |value: u32| b'0' + (value % 10) as u8;
        self.buffer.extend_from_slice(b"{\"time\":\"");
        self.buffer.extend_from_slice(text.as_bytes());
        let fraction = [b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z', b'"'];
        self.buffer.extend_from_slice(&fraction);
    }
}

impl Drop for AccessLogger {
    fn drop(&mut self) {
        self.flush();
    }
}

fn write_all(queue: &Receiver<Vec<u8>>, mut sink: impl Write, dropped: &AtomicU64) {
    while let Ok(chunk) = queue.recv() {
        if sink.write_all(&chunk).and_then(|()| sink.flush()).is_err() {
            let lines = memchr::memchr_iter(b'\n', &chunk).count();
            dropped.fetch_add(lines as u64, Ordering::Relaxed);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_11 => "1.1",
        http::Version::HTTP_2 => "2",
        _ => "other",
    }
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(out: &mut Vec<u8>, name: &str, value: Option<u64>) {
    if let Some(value) = value {
        key(out, name);
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

/// A value whose text needs no escaping: addresses, kinds, Kubernetes names.
fn display(out: &mut Vec<u8>, name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        key(out, name);
        out.push(b'"');
        write!(out, "{value}").expect("writing to a Vec cannot fail");
        out.push(b'"');
    }
}

fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(out, name);
    out.push(b'"');
    for chunk in value.utf8_chunks() {
        escape(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// RFC 8259 §7: quote, backslash and control characters.
fn escape(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f {
            continue;
        }
        out.extend_from_slice(&bytes[plain..index]);
        plain = index + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// A sink that keeps what it is given, and stands still while `blocked`.
    #[derive(Clone, Default)]
    struct Pipe(Arc<Shared>);

    #[derive(Default)]
    struct Shared {
        content: Mutex<(Vec<u8>, bool)>,
        changed: Condvar,
    }

    impl Pipe {
        fn block(&self, blocked: bool) {
            self.0.content.lock().unwrap().1 = blocked;
            self.0.changed.notify_all();
        }

        fn lines(&self) -> Vec<serde_json::Value> {
            let content = self.0.content.lock().unwrap();
            let lines = content.0.split_inclusive(|byte| *byte == b'\n');
            lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut content = self.0.content.lock().unwrap();
            while content.1 {
                content = self.0.changed.wait(content).unwrap();
            }
            content.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn entry<'a>(host: &'a [u8], path: &'a [u8]) -> Entry<'a> {
        Entry {
            time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
            client: "192.0.2.1".parse().unwrap(),
            method: "GET",
            scheme: "https",
            host,
            path,
            version: http::Version::HTTP_2,
            tls: true,
            status: 200,
            bytes_in: 0,
            bytes_out: 12,
            duration: Duration::from_micros(1234),
            route: None,
            backend: None,
            endpoint: None,
            upstream: None,
            retries: 0,
            error: "",
            request_id: b"abc",
        }
    }

    #[test]
    fn a_line_says_everything_about_a_request() {
        let pipe = Pipe::default();
        let log = AccessLog::start(pipe.clone()).unwrap();
        let mut logger = log.logger();
        let route = ObjectRef::new("Ingress", ObjectKey::new("shop", "web"));
        let backend = ObjectKey::new("shop", "echo");
        logger.write(&Entry {
            route: Some(&route),
            backend: Some(&backend),
            endpoint: Some("[fd00::1]:8080".parse().unwrap()),
            upstream: Some(Duration::from_millis(1)),
            retries: 1,
            ..entry(b"example.com", b"/a?b=c")
        });
        drop(logger);
        assert!(log.finish(Duration::from_secs(10)));
        let expected = serde_json::json!({
            "time": "2023-11-14T22:13:20.042Z", "client": "192.0.2.1", "method": "GET",
            "scheme": "https", "host": "example.com", "path": "/a?b=c", "http": "2", "tls": true,
            "status": 200, "bytes_in": 0, "bytes_out": 12, "duration_us": 1234,
            "route": "Ingress shop/web", "backend": "shop/echo", "endpoint": "[fd00::1]:8080",
            "upstream_us": 1000, "retries": 1, "error": "", "request_id": "abc",
        });
        assert_eq!(pipe.lines(), [expected]);
    }

    #[test]
    fn whatever_a_client_sends_stays_one_line_of_json() {
        let pipe = Pipe::default();
        let log = AccessLog::start(pipe.clone()).unwrap();
        let mut logger = log.logger();
        let every_byte: Vec<u8> = (0..=255).collect();
        for path in [&every_byte, "/\"\\\n\r\u{0}\u{7f}ü€😀".as_bytes(), b"\xc3", b""] {
            logger.write(&entry(b"a\"b", path));
        }
        drop(logger);
        assert!(log.finish(Duration::from_secs(10)));
        let lines = pipe.lines();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0]["path"].as_str(), Some(&*String::from_utf8_lossy(&every_byte)));
        assert_eq!(lines[1]["path"], "/\"\\\n\r\u{0}\u{7f}ü€😀");
        assert_eq!(lines[2]["path"], "\u{fffd}");
        assert_eq!(lines[0]["host"], "a\"b");
    }

    #[test]
    fn a_quiet_log_is_handed_over_at_the_next_tick() {
        let pipe = Pipe::default();
        let log = AccessLog::start(pipe.clone()).unwrap();
        let mut logger = log.logger();
        logger.write(&entry(b"a", b"/"));
        logger.tick();
        for _ in 0..500 {
            if !pipe.lines().is_empty() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the line never arrived");
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_but_never_stalls_a_request() {
        let pipe = Pipe::default();
        pipe.block(true);
        let log = AccessLog::start(pipe.clone()).unwrap();
        let mut logger = log.logger();
        let total = 60_000;
        for _ in 0..total {
            logger.write(&entry(b"example.com", b"/with/a/path?and=query"));
        }
        logger.flush();
        assert!(log.dropped() > 0, "the queue is bounded");
        drop(logger);
        let dropped = log.dropped();
        pipe.block(false);
        assert!(log.finish(Duration::from_secs(30)));
        assert_eq!(pipe.lines().len() as u64 + dropped, total);
    }

    #[test]
    fn lines_for_a_reader_that_went_away_are_counted() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::start(Broken).unwrap();
        let counter = log.dropped_counter();
        let mut logger = log.logger();
        logger.write(&entry(b"a", b"/"));
        logger.write(&entry(b"a", b"/"));
        drop(logger);
        assert!(log.finish(Duration::from_secs(10)));
        assert_eq!(counter.load(Ordering::Relaxed), 2);
    }
}
