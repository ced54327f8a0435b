//! Child processes of a run: started here, measured here, ended here.
//!
//! Used by the quickstart, the benchmark and the scale test. Owns nothing else. A [`Process`] ends its
//! child when dropped; should this process be killed, the kernel ends the child (`setpriv --pdeathsig`).
//! Start processes from the main thread: that signal is tied to the thread that forked.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// How long a child may take to end after SIGTERM before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// `USER_HZ`: what the kernel counts CPU time in for user space, on every Linux architecture we ship.
const TICKS_PER_SECOND: u64 = 100;

/// Set by [`catch_signals`] when the run is to end.
static STOP: AtomicBool = AtomicBool::new(false);

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts `program`, its output in the file `log`, or in ours when there is none.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        log: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(program).args(arguments);
        command.stdin(Stdio::null());
        if let Some(log) = log {
            let file = File::create(log)
                .with_context(|| format!("cannot create the log {}", log.display()))?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name} (setpriv -- {})", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.map(Path::to_owned) })
    }

    /// An error with the end of the log when the child is no longer there.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}){}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// The last lines of the log, for an error message.
    pub(crate) fn log_tail(&self) -> String {
        let text = self.log.as_ref().and_then(|log| fs::read_to_string(log).ok());
        let Some(text) = text else { return String::new() };
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(12)..];
        format!("; its last words:\n  {}", tail.join("\n  "))
    }

    /// CPU time, user and system, of the child, its threads and its own children.
    pub(crate) fn cpu(&self) -> Duration {
        let ticks: u64 = self.tree().iter().filter_map(|pid| cpu_ticks(*pid)).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// Memory of the child and its own children in KiB, pages that they share counted once.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.tree().iter().filter_map(|pid| memory_kib(*pid)).sum()
    }

    /// Asks the child to end, waits, and kills it when it does not.
    pub(crate) fn end(&mut self) {
        if self.child.try_wait().ok().flatten().is_some() {
            return;
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < END_PATIENCE {
            if self.child.try_wait().ok().flatten().is_some() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Turns SIGINT and SIGTERM into a wish to stop, so that children and temporary folders are cleaned up.
pub(crate) fn catch_signals() -> anyhow::Result<()> {
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
pub(crate) fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// An error when SIGINT or SIGTERM came.
pub(crate) fn check_stopping() -> anyhow::Result<()> {
    if stopping() {
        bail!("interrupted");
    }
    Ok(())
}

/// A program by name: in `PATH`, or in the folders where Debian keeps daemons.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
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
