//! The folder of a cluster: gone when it is dropped, and when the process that made it has been killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use tempfile::TempDir;

/// Reads until the process at the other end of the pipe has ended, then removes the folder; tries again
/// while other children of that process, which end at the same time, still write into it.
const GUARD: &str =
    "cat; for i in 1 2 3 4 5 6 7 8 9; do rm -rf -- \"$1\" && exit; sleep 0.3; done 2>/dev/null";

/// A folder below the one for temporary files.
#[derive(Debug)]
pub(super) struct Folder {
    folder: TempDir,
    guard: Child,
}

impl Folder {
    /// A new one.
    pub(super) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("gatehouse-cluster-").tempdir()?;
        // In a session of its own: what interrupts us at the terminal must not end it first.
        let guard = Command::new("setsid")
            .args(["sh", "-c", GUARD, "sh"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start setsid (util-linux)")?;
        Ok(Self { folder, guard })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into it; returns its path.
    pub(super) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let file = self.folder.path().join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // It fails when it has been ended by hand; the folder is removed by `TempDir` as well.
        let _ = self.guard.wait();
    }
}
