//! Files that a process writes for the one after it: a reader, or a start after a power cut, finds the old content or
//! the new one, never a part.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Puts what `write` writes in the place of a file, with these rights; makes its folder if need be.
///
/// # Errors
/// The folder cannot be written, or `write` fails. The file is as it was then.
pub(crate) fn replace(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let new = beside(path);
    let mut file = BufWriter::new(create(&new, mode)?);
    write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

/// A new file in place of what is there, such as what an interrupted write left: that may have other rights.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn create(path: &Path, mode: u32) -> io::Result<File> {
    remove(path)?;
    File::options().write(true).create_new(true).mode(mode).open(path)
}

/// Removes a file, if it is there.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where the new content is until it is whole: `.NAME.new`.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/state");
        replace(&path, 0o600, |file| file.write_all(b"old")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // What an interrupted write left may be readable by all.
        fs::write(beside(&path), "half").unwrap();
        let failed = replace(&path, 0o600, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::other("no more"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        replace(&path, 0o600, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!beside(&path).exists());
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
