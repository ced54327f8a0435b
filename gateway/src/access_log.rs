//! The access log: one line per request, to standard output or to a file.
//!
//! Every worker has an [`AccessLogger`] that builds lines in its own buffer and hands them over in chunks;
//! one thread writes. Data threads never wait for it: when the reader of the log is too slow, whole
//! chunks are dropped and counted ([`AccessLog::dropped`]). What a line says and looks like stands in
//! `entry`, `field` and `format`.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use crate::process::ProcessProblems;

mod choice;
mod entry;
mod field;
mod format;
mod sink;

use choice::Sampler;
pub use choice::{Share, Statuses};
pub use entry::Entry;
pub use field::NAMES;
use field::Second;
pub use format::Format;
pub use sink::{LogFile, Sink};

/// A chunk is handed over when it holds this many bytes, or at the next [`AccessLogger::tick`].
const CHUNK: usize = 8 * 1024;
/// Chunks that may wait for the writer, over all workers: at most about 2 MiB.
const QUEUE: usize = 256;
/// Reason of the problem that lines cannot be written.
const NOT_WRITABLE: &str = "AccessLogNotWritable";

/// Which requests are written, and how.
#[derive(Clone, Debug, Default)]
pub struct AccessLogOptions {
    /// How a line is written.
    pub format: Format,
    /// Statuses of the answers that are written.
    pub statuses: Statuses,
    /// The share of them.
    pub share: Share,
}

/// The writer thread and the way to it.
#[derive(Debug)]
pub struct AccessLog {
    options: AccessLogOptions,
    chunks: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    done: Receiver<()>,
}

impl AccessLog {
    /// Starts the writer thread. Whatever keeps it from writing is raised as a problem.
    ///
    /// # Errors
    /// There are no more threads.
    pub fn start(
        sink: impl Sink + 'static,
        options: AccessLogOptions,
        problems: &ProcessProblems,
    ) -> io::Result<Self> {
        let (chunks, queue) = mpsc::sync_channel(QUEUE);
        let (finished, done) = mpsc::sync_channel(1);
        let (dropped, reopen) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let mut writer = Writer {
            sink,
            dropped: Arc::clone(&dropped),
            reopen: Arc::clone(&reopen),
            problems: problems.clone(),
            failing: false,
        };
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            writer.write_all(&queue);
            // Nobody may be waiting any more.
            let _ = finished.send(());
        })?;
        Ok(Self { options, chunks, dropped, reopen, done })
    }

    /// A logger for one worker.
    pub fn logger(&self) -> AccessLogger {
        AccessLogger {
            names_users: self.options.format.names_users(),
            format: self.options.format.clone(),
            statuses: self.options.statuses,
            sampler: Sampler::new(self.options.share),
            buffer: Vec::with_capacity(2 * CHUNK),
            lines: 0,
            second: Second::default(),
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

    /// Opens the file anew before the next line is written.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // Wakes the writer; one with a full queue looks soon enough.
        let _ = self.chunks.try_send(Vec::new());
    }

    /// Waits until everything handed over is written, for at most `timeout`; true if it is. All loggers
    /// must be gone by then.
    pub fn finish(self, timeout: Duration) -> bool {
        drop(self.chunks);
        self.done.recv_timeout(timeout).is_ok()
    }
}

/// Builds lines for one worker.
#[derive(Debug)]
pub struct AccessLogger {
    format: Format,
    names_users: bool,
    statuses: Statuses,
    sampler: Sampler,
    buffer: Vec<u8>,
    lines: u64,
    second: Second,
    chunks: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLogger {
    /// Adds a line, if the request is one of those that are written. Allocates nothing; hands over the chunk
    /// when it is full.
    pub fn write(&mut self, entry: &Entry<'_>) {
        if !self.statuses.contain(entry.status) || !self.sampler.takes(entry.status) {
            return;
        }
        self.format.line(entry, &mut self.second, &mut self.buffer);
        self.lines += 1;
        if self.buffer.len() >= CHUNK {
            self.flush();
        }
    }

    /// Whether a line names the user of a request.
    pub fn names_users(&self) -> bool {
        self.names_users
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
}

impl Drop for AccessLogger {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What the writer thread has.
struct Writer<S> {
    sink: S,
    dropped: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    problems: ProcessProblems,
    failing: bool,
}

impl<S: Sink> Writer<S> {
    fn write_all(&mut self, queue: &Receiver<Vec<u8>>) {
        while let Ok(chunk) = queue.recv() {
            if self.reopen.swap(false, Ordering::Acquire) {
                let reopened = self.sink.reopen();
                self.note(
                    "the file cannot be opened anew; lines go where they went before",
                    reopened,
                );
            }
            if chunk.is_empty() {
                continue;
            }
            let written = self.sink.write_all(&chunk).and_then(|()| self.sink.flush());
            if written.is_err() {
                let lines = memchr::memchr_iter(b'\n', &chunk).count();
                self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
            }
            self.note("lines are lost", written);
        }
    }

    /// Raises what went wrong; what goes well ends it.
    fn note(&mut self, effect: &str, result: io::Result<()>) {
        match result {
            Err(error) => {
                let hint = "make room, or let the user of this process write there";
                let message = format!("{error}: {effect}");
                self.problems.warning(NOT_WRITABLE, "--access-log", message, hint);
                self.failing = true;
            }
            Ok(()) if self.failing => {
                self.problems.clear(NOT_WRITABLE);
                self.failing = false;
            }
            Ok(()) => (),
        }
    }
}

#[cfg(test)]
mod tests;
