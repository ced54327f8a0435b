//! Child processes of a run: started here, measured here, ended here.
//!
//! Used by the quickstart, the benchmark, the scale test and the test bed. Owns nothing else. A [`Process`] ends its
//! child when dropped; should this process be killed, the kernel ends the child (`setpriv --pdeathsig`), and
//! the [`guard`] whatever is left. Start processes from a thread that outlives them: that signal is tied to it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::guard;

/// How long a child may take to end after SIGTERM before it is killed.
const END_LIMIT: Duration = Duration::from_secs(5);

/// `USER_HZ`: what the kernel counts CPU time in for user space, on every Linux architecture we ship.
const TICKS_PER_SECOND: u64 = 100;

/// Set by [`catch_signals`] when the run is to end.
static STOP: AtomicBool = AtomicBool::new(false);

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts `program`, its output in the file `log`, or in ours when there is none.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        log: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(program).args(arguments);
        Self::spawn(name, command, log)
    }

    /// Starts a command that is put together already.
    pub fn spawn(name: &str, mut command: Command, log: Option<&Path>) -> anyhow::Result<Self> {
        guard::mark(&mut command);
        command.stdin(Stdio::null());
        if let Some(log) = log {
            let file = File::create(log)
                .with_context(|| format!("cannot create the log {}", log.display()))?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        let child =
            command.spawn().with_context(|| format!("cannot start {name} ({command:?})"))?;
        Ok(Self { name: name.to_owned(), child, log: log.map(Path::to_owned) })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the child, if it is still there.
    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Kills the child and waits until it is gone.
    pub fn kill(&mut self) {
        // It fails for a child that has ended already, and that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Kills the child's own children, then the child: none is left to clean up or to start another.
    pub fn kill_tree(&mut self) {
        for pid in self.tree().into_iter().rev() {
            send(pid, Signal::KILL);
        }
        self.kill();
    }

    /// Sends a signal to the child and its own children.
    pub fn signal_tree(&self, signal: Signal) {
        for pid in self.tree() {
            send(pid, signal);
        }
    }

    /// Waits at most `limit` for the end of the child.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(None) if started.elapsed() < limit => thread::sleep(Duration::from_millis(5)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }

    /// An error with the end of the log when the child is no longer there.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}){}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// The last lines of the log, for an error message.
    pub fn log_tail(&self) -> String {
        let text = self.log.as_ref().and_then(|log| fs::read_to_string(log).ok());
        let Some(text) = text else { return String::new() };
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(12)..];
        format!("; its last words:\n  {}", tail.join("\n  "))
    }

    /// CPU time, user and system, of the child, its threads and its own children.
    pub fn cpu(&self) -> Duration {
        let ticks: u64 = self.tree().iter().filter_map(|pid| cpu_ticks(*pid)).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// Memory of the child and its own children in KiB, pages that they share counted once.
    pub fn memory_kib(&self) -> u64 {
        self.tree().iter().filter_map(|pid| memory_kib(*pid)).sum()
    }

    /// Asks the child to end, waits, and kills it when it does not.
    pub fn end(&mut self) {
        if self.child.try_wait().ok().flatten().is_some() {
            return;
        }
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < END_LIMIT {
            if self.child.try_wait().ok().flatten().is_some() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    /// The child and its own children (the workers of nginx).
    fn tree(&self) -> Vec<u32> {
        let parent = self.child.id();
        let mut tree = vec![parent];
        let Ok(entries) = fs::read_dir("/proc") else { return tree };
        for entry in entries.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid
                && parent_of(pid) == Some(parent)
            {
                tree.push(pid);
            }
        }
        tree
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends a signal; a process that has gone does not mind.
pub fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Turns SIGINT and SIGTERM into a wish to stop, so that children and temporary folders are cleaned up.
pub fn catch_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            STOP.store(true, Ordering::Relaxed);
        });
    })?;
    Ok(())
}

/// Whether SIGINT or SIGTERM came.
pub fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// An error when SIGINT or SIGTERM came.
pub fn check_stopping() -> anyhow::Result<()> {
    if stopping() {
        bail!("interrupted");
    }
    Ok(())
}

/// A program by name: in `PATH`, or in the folders where Debian keeps daemons.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// A program that cargo has built beside the tests that run.
///
/// # Panics
/// When it is not there.
pub fn built(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("a process has a program");
    // target/PROFILE/deps/TEST
    let program = tests.ancestors().nth(2).unwrap_or(&tests).join(name);
    assert!(program.is_file(), "{} is not built: cargo build", program.display());
    program
}

/// CPU time, user and system, of each thread of a process, by the thread's name; threads of one name
/// together.
pub fn thread_cpu(pid: u32) -> BTreeMap<String, Duration> {
    let mut threads = BTreeMap::new();
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return threads };
    for entry in entries.flatten() {
        // schedstat(5): nanoseconds on a CPU come first; finer than the ticks of stat.
        let read = |file| fs::read_to_string(entry.path().join(file)).ok();
        let (Some(name), Some(spent)) = (read("comm"), read("schedstat")) else { continue };
        let nanos = spent.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
        *threads.entry(name.trim().to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    threads
}

/// Fields of `/proc/PID/stat` after the command name, from `state` (field 3 of proc(5)) on.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold spaces and parentheses itself.
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn parent_of(pid: u32) -> Option<u32> {
    stat_fields(pid)?.get(1)?.parse().ok()
}

/// `utime` and `stime`, fields 14 and 15 of proc(5).
fn cpu_ticks(pid: u32) -> Option<u64> {
    let fields = stat_fields(pid)?;
    let tick = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(tick(11)? + tick(12)?)
}

/// Proportional set size: a page that several processes share counts once over all of them. Where the
/// kernel does not let us see it, the resident set size.
fn memory_kib(pid: u32) -> Option<u64> {
    field_kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
        .or_else(|| field_kib(&format!("/proc/{pid}/status"), "VmRSS:"))
}

fn field_kib(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_and_memory_count_the_children_of_the_process() {
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done & wait; sleep 30";
        let process = Process::start("sh", Path::new("/bin/sh"), ["-c", script], None).unwrap();
        let started = Instant::now();
        let mut most = Duration::ZERO;
        while most.is_zero() && started.elapsed() < Duration::from_secs(20) {
            most = most.max(process.cpu());
            thread::sleep(Duration::from_millis(20));
        }
        assert!(most > Duration::ZERO);
        assert!(process.memory_kib() > 20);
    }

    #[test]
    fn a_dropped_process_is_gone_and_a_dead_one_tells_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut process = Process::start(
            "sh",
            Path::new("/bin/sh"),
            ["-c", "echo no such port; exit 3"],
            Some(&log),
        )
        .unwrap();
        process.child.wait().unwrap();
        let error = process.check().unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such port"), "{error}");
        let process = Process::start("sleep", Path::new("/bin/sleep"), ["60"], None).unwrap();
        let pid = process.child.id();
        drop(process);
        assert!(stat_fields(pid).is_none());
    }
}
