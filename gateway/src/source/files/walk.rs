//! Which files the paths of the command line stand for.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Place, Stamp};

/// So many links in one path are followed, as the kernel does (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// What a walk found.
pub(super) struct Found {
    pub(super) files: BTreeMap<Place, Stamp>,
    /// Numbers of the paths that are not there, and why.
    pub(super) missing: Vec<(usize, io::Error)>,
    /// Where symbolic links stand that were followed, and what they lead to in the end. What changes there
    /// may change any file.
    pub(super) ways: BTreeSet<PathBuf>,
}

/// Walks all paths. `on_folder` is called for each folder before it is listed, so that a watch set there
/// misses nothing.
pub(super) fn walk(roots: &[PathBuf], on_folder: &mut dyn FnMut(&Path)) -> Found {
    let mut walk = Walk {
        found: Found { files: BTreeMap::new(), missing: Vec::new(), ways: BTreeSet::new() },
        seen: HashSet::new(),
        on_folder,
    };
    for (root, path) in roots.iter().enumerate() {
        if let Err(error) = walk.root(root, path) {
            walk.found.missing.push((root, error));
        }
    }
    walk.found
}

/// Stamp of the file that a path leads to.
pub(super) fn stamp(path: &Path) -> io::Result<Stamp> {
    fs::metadata(path).and_then(|metadata| stamp_of(&metadata))
}

/// True if a file would be read because of this path of the command line: it is that path, or a
/// manifest below it.
pub(super) fn belongs_to(path: &Path, root: &Path) -> bool {
    let Ok(inner) = path.strip_prefix(root) else { return false };
    let mut names = inner.iter();
    inner.as_os_str().is_empty() || (names.all(|name| !is_hidden(name)) && is_manifest(path))
}

/// True for names that begin with a dot: editors' temporary files, and the machinery of ConfigMap
/// volumes.
pub(super) fn is_hidden(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// True for the names of manifests.
pub(super) fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}

struct Walk<'w> {
    found: Found,
    /// Files and folders that have been visited, links followed.
    seen: HashSet<(u64, u64)>,
    on_folder: &'w mut dyn FnMut(&Path),
}

impl Walk<'_> {
    fn root(&mut self, root: usize, path: &Path) -> io::Result<()> {
        self.follow(path);
        let metadata = fs::metadata(path)?;
        if !metadata.is_dir() {
            self.file(root, path, &metadata);
            // Following the file means watching the folder that it is in.
            (self.on_folder)(parent(path));
            return Ok(());
        }
        self.folder(root, path, &metadata)?;
        // Files of a folder that was moved away meanwhile seemed to be gone.
        let after = fs::metadata(path)?;
        if (after.dev(), after.ino()) != (metadata.dev(), metadata.ino()) {
            return Err(io::Error::other("it was replaced while it was read"));
        }
        Ok(())
    }

    /// Notes the links on a path; the folders in which they stand are watched before they are read.
    fn follow(&mut self, path: &Path) {
        let mut rest: Vec<OsString> =
            path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
        let (mut at, mut links) = (PathBuf::new(), 0);
        while let Some(part) = rest.pop() {
            at.push(part);
            if !fs::symlink_metadata(&at).is_ok_and(|found| found.is_symlink()) {
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return;
            }
            (self.on_folder)(parent(&at));
            self.found.ways.insert(at.clone());
            let Ok(target) = fs::read_link(&at) else { return };
            at.pop();
            rest.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
        }
        if links > 0 {
            (self.on_folder)(parent(&at));
            self.found.ways.insert(at);
        }
    }

    fn folder(&mut self, root: usize, path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
        // A link may lead back to a folder above.
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        (self.on_folder)(path);
        // In order, so that of several names of one file always the same one counts.
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            names.push((entry.file_name(), entry.file_type().is_ok_and(|kind| kind.is_symlink())));
        }
        names.sort_unstable();
        for (name, is_link) in names.into_iter().filter(|(name, _)| !is_hidden(name)) {
            let path = path.join(name);
            if is_link {
                self.follow(&path);
            }
            // What went away since it was listed is not there; a dangling link is nothing either.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                // A folder below that cannot be listed hides its files, as if it were gone; the
                // operator learns of it.
                if let Err(error) = self.folder(root, &path, &metadata) {
                    tracing::warn!(folder = %path.display(), %error, "folder cannot be read");
                }
            } else if is_manifest(&path) {
                self.file(root, &path, &metadata);
            }
        }
        Ok(())
    }

    fn file(&mut self, root: usize, path: &Path, metadata: &fs::Metadata) {
        let Ok(stamp) = stamp_of(metadata) else { return };
        if self.seen.insert((stamp.device, stamp.inode)) {
            self.found.files.insert(Place { root, path: path.to_owned() }, stamp);
        }
    }
}

/// The folder in which a path stands.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn stamp_of(metadata: &fs::Metadata) -> io::Result<Stamp> {
    Ok(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: metadata.modified()?,
    })
}
