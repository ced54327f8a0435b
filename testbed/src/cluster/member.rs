//! One process of a cluster: started, stopped and started again with the same flags, from any thread.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

use anyhow::Context as _;

use crate::process::{Process, Signal};

/// A process that may run.
#[derive(Debug)]
pub(super) struct Member {
    name: String,
    words: Vec<String>,
    folder: PathBuf,
    life: Mutex<Life>,
}

#[derive(Debug, Default)]
struct Life {
    process: Option<Process>,
    /// Each start has a log of its own.
    starts: usize,
}

impl Member {
    /// Not started yet. `prefix`: words before the command, such as those that lead to a host; they have to
    /// end in executing it.
    pub(super) fn new(
        name: &str,
        prefix: &[String],
        program: &Path,
        flags: Vec<String>,
        folder: &Path,
    ) -> Self {
        let mut words = prefix.to_vec();
        words.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
        words.push(program.display().to_string());
        words.extend(flags);
        Self { name: name.to_owned(), words, folder: folder.to_owned(), life: Mutex::default() }
    }

    /// Starts it, if it does not run.
    pub(super) fn start(&self) -> anyhow::Result<()> {
        let mut life = self.life();
        if life.process.is_some() {
            return Ok(());
        }
        life.starts += 1;
        let log = self.folder.join(format!("{}-{}.log", self.name, life.starts));
        let (name, words) = (self.name.clone(), self.words.clone());
        let started = on_keeper(move || {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            Process::spawn(&name, command, Some(&log))
        });
        life.process = Some(started??);
        Ok(())
    }

    /// Kills it. An API server that is asked to end waits a minute for its watches first.
    pub(super) fn stop(&self) {
        if let Some(mut process) = self.life().process.take() {
            process.kill();
        }
    }

    /// Stops it where it is (SIGSTOP).
    pub(super) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on where it was.
    pub(super) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// An error with its last words when it has ended by itself.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.life().process.as_mut().map_or(Ok(()), Process::check)
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        self.life().process.as_ref().map(Process::log_tail).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.life().process {
            process.signal(signal);
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop();
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on a thread that ends with the process. The kernel ends a child with the THREAD that started
/// it, and the thread of the test that starts a cluster for all others of its program ends before them.
/// A child is in the network namespace of that thread, so each namespace has a thread of its own.
pub(super) fn on_keeper<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    // By inode of the namespace, which no other gets while the thread is in it.
    static KEEPERS: Mutex<BTreeMap<u64, mpsc::Sender<Job>>> = Mutex::new(BTreeMap::new());
    let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
    let (answer, result) = mpsc::channel();
    let mut keepers = KEEPERS.lock().unwrap_or_else(PoisonError::into_inner);
    let keeper = keepers.entry(namespace).or_insert_with(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::spawn(move || jobs.iter().for_each(|job| job()));
        sender
    });
    let job = Box::new(move || drop(answer.send(job())));
    keeper.send(job).ok().context("the thread that starts processes is gone")?;
    drop(keepers);
    result.recv().context("the thread that starts processes is gone")
}
