//! Where lines go: standard output, or a file that can be opened anew after somebody has moved it away.

use std::{
    fs::{File, OpenOptions},
    io::{self, Stdout, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Takes chunks of lines.
pub trait Sink: Write + Send {
    /// Opens anew what lines are written to.
    ///
    /// # Errors
    /// It cannot be opened; what was open before stays in use.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Stdout {}

/// A file that lines are added to.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    /// Opens a file, or makes it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: open(path)? })
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for LogFile {
    fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }
}

/// Who asked for what is nobody else's business.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}
