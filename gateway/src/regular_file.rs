//! Files that are read in whole, and only where they have an end: nothing waits for a pipe, a device or a socket that
//! stands in the place of a file.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// What a shell hands over has an end: `<(…)`, `/dev/stdin`.
const HANDED_OVER: [&str; 3] = ["/dev/fd", "/dev/stdin", "/proc/self/fd"];

/// Opens a file that has an end.
///
/// # Errors
/// It cannot be opened, or is none.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if HANDED_OVER.iter().any(|it| path.starts_with(it)) {
        return File::open(path);
    }
    // What is opened is looked at, and opening it waits for nobody.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// Fails for what is no such file, before a library opens it.
///
/// # Errors
/// It cannot be opened, or is none.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    // What is handed over can be read once only.
    match HANDED_OVER.iter().any(|it| path.starts_with(it)) {
        true => Ok(()),
        false => open(path).map(drop),
    }
}

/// All bytes of such a file.
///
/// # Errors
/// It cannot be opened or read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of such a file.
///
/// # Errors
/// It cannot be opened or read, or is no text.
pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, os::unix::fs::symlink, process::Command};

    use super::*;

    /// Puts a pipe there that nobody writes to or reads from.
    pub(crate) fn make_pipe(path: &Path) {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn what_has_no_end_is_refused_at_once_and_what_a_shell_hands_over_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        make_pipe(&at("pipe"));
        fs::create_dir(at("folder")).unwrap();
        symlink("/dev/zero", at("device")).unwrap();
        symlink(at("pipe"), at("link")).unwrap();
        for name in ["pipe", "folder", "device", "link"] {
            let why = read(&at(name)).unwrap_err().to_string();
            assert_eq!(why, "it is no regular file", "{name}");
            assert!(read_to_string(&at(name)).is_err(), "{name}");
        }
        fs::write(at("file"), "text").unwrap();
        symlink(at("file"), at("mounted")).unwrap();
        for name in ["file", "mounted"] {
            assert_eq!(read_to_string(&at(name)).unwrap(), "text", "{name}");
        }
        let handed_over = File::open(at("file")).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&handed_over);
        let path = format!("/dev/fd/{number}");
        assert_eq!(read(Path::new(&path)).unwrap(), b"text");
        assert_eq!(read(&at("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
