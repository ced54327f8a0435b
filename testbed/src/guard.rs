//! Nothing is left behind, however a run ends: a process apart that outlives the run and cleans up.
//!
//! What the bed makes goes by itself when it goes out of scope, also by a panic. A run that is killed drops
//! nothing, so each has a guard: a shell that reads the run's pipe, and at its end kills what carries the
//! run's mark in its environment and removes the run's folders. Namespaces and interfaces go with the
//! processes in them. Used by everything here that starts processes or makes folders.

use std::{
    ffi::OsStr,
    io::Write as _,
    process::{self, ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use tempfile::TempDir;

/// The environment variable with the mark.
pub const VARIABLE: &str = "GATEHOUSE_TESTBED";

/// Reads folders, one a line, until the run is over; `$1` is the mark as it stands in an environment.
/// Processes that are being born while it looks are found in the next round.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
mark=$1
shift
while IFS= read -r folder; do set -- "$@" "$folder"; done
for round in 1 2 3 4 5 6 7 8; do
    left=$(grep -lzx -e "$mark" /proc/[0-9]*/environ 2>/dev/null | cut -d / -f 3)
    [ -n "$left" ] || break
    kill -KILL $left 2>/dev/null
    sleep 0.1
done
rm -rf -- "$@"
"#;

/// The guard of this process.
static GUARD: OnceLock<Guard> = OnceLock::new();

struct Guard {
    mark: String,
    input: Mutex<ChildStdin>,
}

/// A program that is killed with the thread that starts it, and in any case with this process.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    mark(&mut command);
    command
}

/// Makes the process that a command starts, and what that starts, end with this process.
pub fn mark(command: &mut Command) {
    command.env(VARIABLE, &guard().mark);
}

/// A folder that is removed when it goes out of scope, and in any case with this process.
pub fn folder(prefix: &str) -> anyhow::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir()?;
    let mut input = guard().input.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(input, "{}", folder.path().display()).context("the guard of this run has gone")?;
    Ok(folder)
}

/// # Panics
/// When no shell can be started.
fn guard() -> &'static Guard {
    GUARD.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mark = format!("{}-{}", process::id(), now.as_nanos());
        // In a session of its own: what ends the group of this process spares it.
        let child = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "guard", &format!("{VARIABLE}={mark}")])
            .env_remove(VARIABLE)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let input = child.map(|child| child.stdin);
        let Ok(Some(input)) = input else { panic!("cannot start setsid (util-linux): {input:?}") };
        Guard { mark, input: Mutex::new(input) }
    })
}
