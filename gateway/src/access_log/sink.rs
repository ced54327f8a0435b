//! Where lines go: standard output, or a file that can be opened anew after log rotation has moved it away.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Stdout, Write},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
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
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o640);
    let is_pipe = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    if !is_pipe {
        return options.open(path);
    }
    // One that nobody reads would keep us waiting. It is open until the other is, or who reads it would see its end.
    let trial = options.clone().custom_flags(libc::O_NONBLOCK).open(path);
    let _trial = trial.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => io::Error::new(error.kind(), "it is a pipe, and nobody reads it"),
        _ => error,
    })?;
    options.open(path)
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, thread};

    use super::*;
    use crate::regular_file::tests::make_pipe;

    #[test]
    fn a_pipe_takes_lines_once_somebody_reads_it_and_keeps_nobody_waiting_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        make_pipe(&path);
        let why = LogFile::open(&path).unwrap_err().to_string();
        assert_eq!(why, "it is a pipe, and nobody reads it");
        let reader = thread::spawn({
            let path = path.clone();
            move || {
                let mut text = String::new();
                File::open(path).unwrap().read_to_string(&mut text).map(|_| text)
            }
        });
        let mut log = loop {
            match LogFile::open(&path) {
                Ok(log) => break log,
                Err(_) => thread::yield_now(),
            }
        };
        log.write_all(b"a line").unwrap();
        drop(log);
        assert_eq!(reader.join().unwrap().unwrap(), "a line");
    }
}
