//! Clients that ask over kept connections and look closely at what they get.
//!
//! Each asks for a path of its own making and knows the answer, so that a cut answer, another's answer and
//! silence are all told apart. A connection that fails is replaced, as a browser would.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use gatehouse_testbed::{client::percentile, lan::Host};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime,
    task::LocalSet,
    time::{sleep, timeout},
};

use super::backend;

/// Clients of a proxy at a time.
const CLIENTS: usize = 10;

/// From one request of a client to its next, where a load lasts for a time.
const PACE: Duration = Duration::from_millis(30);

/// After this time a client gives a request up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a load is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Span {
    /// So many requests of all clients together, as fast as they are answered.
    Requests(usize),
    /// At a steady pace.
    Time(Duration),
}

/// What clients saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Of the good answers, in microseconds.
    pub(super) latencies: Vec<u32>,
    /// Answers with another status than 200.
    pub(super) refused: usize,
    /// Answers that ended early, and connections that ended without any.
    pub(super) broken: usize,
    /// Nothing within [`PATIENCE`].
    pub(super) silent: usize,
    /// Whole answers that are not the right one: the worst that can happen.
    pub(super) wrong: usize,
    /// Who gave the good answers.
    pub(super) backends: BTreeSet<String>,
    /// The first answer with another status.
    pub(super) refusal: Option<String>,
}

impl Seen {
    fn count(&mut self, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Good(backend) => {
                self.backends.insert(backend);
                self.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            }
            Outcome::Status(answer) => {
                self.refused += 1;
                self.refusal.get_or_insert(answer);
            }
            Outcome::Broken => self.broken += 1,
            Outcome::Silent => self.silent += 1,
            Outcome::Wrong => self.wrong += 1,
        }
    }

    pub(super) fn failed(&self) -> usize {
        self.refused + self.broken + self.silent + self.wrong
    }

    pub(super) fn all(&self) -> usize {
        self.latencies.len() + self.failed()
    }

    /// Of the latencies of good answers.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        percentile(&mut self.latencies.clone(), percent)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} requests, {} failed ({} refused, {} broken, {} silent, {} wrong), p50 {:.0?}, p99 {:.0?}",
            self.all(),
            self.failed(),
            self.refused,
            self.broken,
            self.silent,
            self.wrong,
            self.percentile(50),
            self.percentile(99),
        )?;
        self.refusal.iter().try_for_each(|refusal| write!(formatter, "; such as: {refusal}"))
    }
}

/// The clients of one proxy.
pub(super) struct Clients {
    host: Host,
    proxy: SocketAddr,
}

/// What became of a request.
enum Outcome {
    /// From this backend.
    Good(String),
    /// The whole answer.
    Status(String),
    Broken,
    Silent,
    Wrong,
}

impl Clients {
    pub(super) fn new(host: &Host, proxy: SocketAddr) -> Self {
        Self { host: host.clone(), proxy }
    }

    /// Asks until the span is over.
    pub(super) fn load(&self, span: Span) -> anyhow::Result<Seen> {
        self.host.enter(|| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(LocalSet::new().block_on(&runtime, load(self.proxy, span)))
        })?
    }
}

async fn load(proxy: SocketAddr, span: Span) -> Seen {
    let (seen, asked) = (RefCell::new(Seen::default()), Cell::new(0));
    let started = Instant::now();
    let over = || match span {
        Span::Requests(count) => asked.get() >= count,
        Span::Time(time) => started.elapsed() >= time,
    };
    let client = async |number: usize| {
        let mut connection = None;
        while !over() {
            asked.set(asked.get() + 1);
            let path = format!("/client-{number}/request-{}", asked.get());
            let begun = Instant::now();
            let outcome = timeout(PATIENCE, ask(proxy, &mut connection, &path)).await;
            let outcome = outcome.unwrap_or(Outcome::Silent);
            if !matches!(outcome, Outcome::Good(_) | Outcome::Status(_)) {
                connection = None;
            }
            let took = begun.elapsed();
            seen.borrow_mut().count(outcome, took);
            if let Span::Time(_) = span {
                sleep(PACE.saturating_sub(took)).await;
            }
        }
    };
    futures_util::future::join_all((0..CLIENTS).map(client)).await;
    seen.take()
}

/// One request. The connection is kept where it may be.
async fn ask(proxy: SocketAddr, connection: &mut Option<TcpStream>, path: &str) -> Outcome {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => match TcpStream::connect(proxy).await {
            Ok(stream) => stream,
            Err(_) => return Outcome::Broken,
        },
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: chaos.test\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return Outcome::Broken;
    }
    let (mut answer, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => answer.extend_from_slice(&buffer[..read]),
            Ok(0) | Err(_) => return Outcome::Broken,
        }
        if let Some((outcome, keep)) = judge(&answer, path) {
            if keep {
                *connection = Some(stream);
            }
            return outcome;
        }
    }
}

/// What an answer is, once it is whole, and whether its connection may be used again.
fn judge(answer: &[u8], path: &str) -> Option<(Outcome, bool)> {
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(known, _)| *known == name).map(|(_, value)| value)
    };
    // All three send the length on: the backends say it.
    let length: usize = field("content-length")?.parse().ok()?;
    if answer.len() < end + length {
        return None;
    }
    let keep = field("connection") != Some("close");
    Some(if !head.starts_with("http/1.1 200") {
        (Outcome::Status(String::from_utf8_lossy(answer).escape_debug().to_string()), keep)
    } else if answer[end..] == backend::body(path) {
        (Outcome::Good(field(backend::NAME).unwrap_or_default().to_owned()), keep)
    } else {
        (Outcome::Wrong, false)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_answer_to_what_was_asked_is_good() {
        let answer = |path: &str, more: &[u8]| {
            let body = backend::body(path);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            [head.as_bytes(), &body, more].concat()
        };
        let right = answer("/a", b"");
        assert!(matches!(judge(&right, "/a"), Some((Outcome::Good(_), true))));
        assert!(judge(&right[..right.len() - 1], "/a").is_none());
        assert!(matches!(judge(&right, "/b"), Some((Outcome::Wrong, false))));
        assert!(matches!(judge(&answer("/a", b"HTTP/1.1 200"), "/a"), Some((Outcome::Wrong, _))));
        let refusal = b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert!(matches!(judge(refusal, "/a"), Some((Outcome::Status(_), false))));
    }
}
