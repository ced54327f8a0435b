//! A client that never waits: every few milliseconds a new TCP connection and one HTTP request over it.
//!
//! Used by the fail-over tests and benchmark to see an outage as clients do. An attempt does not wait for
//! earlier ones and is given up after a while, so a hanging server hides nothing. What an outage is, is
//! decided by [`outage`] from the record of attempts.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime,
    task::LocalSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{namespace::Namespace, wait};

/// How fast and how patient a client is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time from one attempt to the next.
    pub every: Duration,
    /// An attempt that has no answer after this time has failed.
    pub timeout: Duration,
}

impl Pace {
    /// An outage is measured to 5 ms, on a machine that has time for it.
    pub const MEASURING: Self =
        Self { every: Duration::from_millis(5), timeout: Duration::from_secs(1) };
    /// A busy machine keeps up, and is not taken for a server that does not answer.
    pub const TESTING: Self =
        Self { every: Duration::from_millis(20), timeout: Duration::from_secs(4) };
}

/// Attempts at one time: twice what a [`Pace`] gives.
const IN_FLIGHT: usize = 400;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With status 200 and a whole answer.
    Answered,
    /// With another status.
    Status(u16),
    /// The connection was refused.
    Refused,
    /// The connection ended before the answer did.
    Broken,
    /// Nothing within [`Pace::timeout`].
    Silent,
    /// No route or no neighbour.
    Unreachable,
}

/// One connection with one request.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Before the connection.
    pub started: Instant,
    /// until the end of the answer or of that time.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

impl Attempt {
    /// True when the client got what it asked for.
    pub fn good(&self) -> bool {
        self.outcome == Outcome::Answered
    }
}

/// A running client. Ends when dropped.
#[derive(Debug)]
pub struct Prober {
    pace: Pace,
    record: Arc<Record>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What a client knows of its attempts.
#[derive(Debug, Default)]
struct Record {
    /// In the order of their ends.
    ended: Mutex<Vec<Attempt>>,
    /// Those under way, by their beginnings and numbers.
    running: Mutex<BTreeSet<(Instant, u64)>>,
}

impl Record {
    fn ended(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, BTreeSet<(Instant, u64)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prober {
    /// Begins to ask `server` for `/` of `name`, from `host`.
    pub fn start(
        host: &Namespace,
        server: SocketAddr,
        name: &str,
        pace: Pace,
    ) -> anyhow::Result<Self> {
        let host = host.clone();
        let record = Arc::new(Record::default());
        let stop = Arc::new(AtomicBool::new(false));
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (kept, ended) = (Arc::clone(&record), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || {
                if let Err(error) = host.move_in() {
                    // Nothing is recorded, so whoever waits for an answer will fail.
                    eprintln!("prober: {error:#}");
                    return;
                }
                LocalSet::new()
                    .block_on(&runtime, probe(server, request.into(), pace, kept, &ended));
            })
            .context("cannot start the prober's thread")?;
        Ok(Self { pace, record, stop, thread: Some(thread) })
    }

    /// The attempts that have ended so far, in the order of their ends.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.record.ended().clone()
    }

    /// Forgets the attempts so far.
    pub fn clear(&self) {
        self.record.ended().clear();
    }

    /// Waits until all attempts begun in a span of `quiet` after `since` were answered; false when that
    /// does not happen.
    pub fn wait_quiet(&self, since: Instant, quiet: Duration) -> bool {
        wait::comes_true(|| {
            quiet_from(&self.attempts(), self.pace.every, since, quiet, Instant::now())
        })
    }

    /// Waits until every attempt begun before `moment` has ended.
    pub fn settle(&self, moment: Instant) {
        thread::sleep(moment.saturating_duration_since(Instant::now()));
        let first = || self.record.running().first().map(|(started, _)| *started);
        while first().is_some_and(|started| started <= moment) {
            thread::sleep(self.pace.every);
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The clients' view of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// From the event to the start of the first answered attempt after the last one that failed; zero when
    /// none failed, none when no answer came any more. An answer in between does not end an outage: the
    /// attempt may have begun just before the strike took effect, or have lived on a SYN sent again.
    pub lasted: Option<Duration>,
    /// Attempts that failed, also those that were under way at the event.
    pub failed: usize,
}

/// What happened from `event` on, by attempts that have all ended.
pub fn outage(attempts: &[Attempt], event: Instant) -> Outage {
    let failed = failed_since(attempts, event);
    let Some(last) = failed.last().map(|attempt| attempt.started) else {
        return Outage { lasted: Some(Duration::ZERO), failed: 0 };
    };
    let good = attempts.iter().filter(|attempt| attempt.good() && attempt.started > last);
    let again = good.map(|attempt| attempt.started).min();
    let lasted = again.map(|again| again.saturating_duration_since(event));
    Outage { lasted, failed: failed.len() }
}

/// The attempts that failed from `event` on, also those that were under way then, in the order of their
/// beginnings.
pub fn failed_since(attempts: &[Attempt], event: Instant) -> Vec<Attempt> {
    let touched = attempts.iter().filter(|attempt| attempt.started + attempt.took >= event);
    let mut failed: Vec<Attempt> = touched.filter(|attempt| !attempt.good()).copied().collect();
    failed.sort_by_key(|attempt| attempt.started);
    failed
}

/// As [`failed_since`], as a person can read them: when each began, how long it took and what became of it.
pub fn failures(attempts: &[Attempt], event: Instant) -> String {
    let line = |attempt: &Attempt| {
        let (sign, offset) = match attempt.started.checked_duration_since(event) {
            Some(after) => ('+', after),
            None => ('-', event.saturating_duration_since(attempt.started)),
        };
        format!("  {sign}{offset:?} {:?} after {:?}\n", attempt.outcome, attempt.took)
    };
    failed_since(attempts, event).iter().map(line).collect()
}

/// True when attempts over at least the last `quiet` before now were all answered. One that fails silently
/// is only known after its time-out, so such a span begins earlier than one might think.
fn quiet_from(
    attempts: &[Attempt],
    every: Duration,
    since: Instant,
    quiet: Duration,
    now: Instant,
) -> bool {
    let after = || attempts.iter().filter(|attempt| attempt.started >= since);
    let failed = after().filter(|attempt| !attempt.good()).map(|attempt| attempt.started).max();
    let from = failed.unwrap_or(since);
    let answered = after().filter(|attempt| attempt.good() && attempt.started > from);
    // A quarter of the attempts of the span must be there: none at all is no quiet.
    let wanted = quiet.as_millis() / every.as_millis() / 4;
    now.saturating_duration_since(from) > quiet && answered.count() as u128 > wanted
}

async fn probe(
    server: SocketAddr,
    request: Arc<str>,
    pace: Pace,
    record: Arc<Record>,
    ended: &AtomicBool,
) {
    let mut ticks = interval(pace.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut number = 0;
    while !ended.load(Ordering::Relaxed) {
        ticks.tick().await;
        let started = Instant::now();
        number += 1;
        {
            let mut running = record.running();
            if running.len() >= IN_FLIGHT {
                continue;
            }
            running.insert((started, number));
        }
        let (request, record) = (Arc::clone(&request), Arc::clone(&record));
        tokio::task::spawn_local(async move {
            let outcome = timeout(pace.timeout, ask(server, &request)).await;
            let outcome = outcome.unwrap_or(Outcome::Silent);
            record.ended().push(Attempt { started, took: started.elapsed(), outcome });
            record.running().remove(&(started, number));
        });
    }
}

async fn ask(server: SocketAddr, request: &str) -> Outcome {
    let mut answer = Vec::with_capacity(1024);
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut answer).await
    };
    match exchange.await {
        Ok(_) => judge(&answer),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Outcome::Unreachable,
            _ => Outcome::Broken,
        },
    }
}

/// A whole answer has its status, and as many bytes as it announced.
fn judge(answer: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Outcome::Broken };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match (status, length) {
        (Some(200), Some(length)) if length == body.len() => Outcome::Answered,
        (Some(200), _) | (None, _) => Outcome::Broken,
        (Some(status), _) => Outcome::Status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(zero: Instant, start_ms: u64, took_ms: u64, outcome: Outcome) -> Attempt {
        let started = zero + Duration::from_millis(start_ms);
        Attempt { started, took: Duration::from_millis(took_ms), outcome }
    }

    #[test]
    fn an_outage_ends_with_the_first_answer_after_the_last_failure() {
        let zero = Instant::now();
        let attempts = [
            attempt(zero, 90, 2, Outcome::Answered),
            attempt(zero, 99, 1000, Outcome::Silent),
            attempt(zero, 105, 1000, Outcome::Silent),
            attempt(zero, 300, 0, Outcome::Refused),
            attempt(zero, 350, 2, Outcome::Answered),
            attempt(zero, 360, 2, Outcome::Broken),
            attempt(zero, 370, 2, Outcome::Answered),
            // Failed and over before the event.
            attempt(zero, 10, 2, Outcome::Refused),
        ];
        let event = zero + Duration::from_millis(100);
        let lasted = Some(Duration::from_millis(270));
        assert_eq!(outage(&attempts, event), Outage { lasted, failed: 4 });
        assert_eq!(outage(&attempts[..6], event), Outage { lasted: None, failed: 4 });
        let none = Outage { lasted: Some(Duration::ZERO), failed: 0 };
        assert_eq!(outage(&attempts[6..], event), none);
    }

    #[test]
    fn it_is_quiet_when_answers_came_for_long_enough_and_no_failure_since() {
        let zero = Instant::now();
        let ms = Duration::from_millis;
        let good: Vec<Attempt> =
            (0..200).map(|n| attempt(zero, n * 5, 1, Outcome::Answered)).collect();
        let now = zero + ms(1001);
        assert!(quiet_from(&good, ms(5), zero, ms(500), now));
        assert!(!quiet_from(&good, ms(5), zero + ms(600), ms(500), now));
        assert!(!quiet_from(&[], ms(5), zero, ms(500), now));
        let mut bad = good;
        bad[150].outcome = Outcome::Refused;
        assert!(!quiet_from(&bad, ms(5), zero, ms(500), now));
        assert!(quiet_from(&bad, ms(5), zero, ms(100), now));
    }

    #[test]
    fn only_a_whole_answer_counts() {
        #[rustfmt::skip]
        let cases: [(&[u8], Outcome); 6] = [
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Outcome::Answered),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", Outcome::Broken),
            (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", Outcome::Status(503)),
            (b"HTTP/1.1 200 OK\r\ncontent-", Outcome::Broken),
            (b"", Outcome::Broken),
            (b"SSH-2.0\r\n\r\n", Outcome::Broken),
        ];
        for (answer, expected) in cases {
            assert_eq!(judge(answer), expected, "{}", String::from_utf8_lossy(answer));
        }
    }
}
