//! Follows the files of a [`Tree`] with inotify and tells the differences.
//!
//! Runs on the thread of the [`FileSource`](super::FileSource). A file is read when its writer has
//! closed it, never before: until then it stands in [`Pending::writing`]. Events are collected until
//! nothing has happened to manifests for 10 ms, but for no more than 100 ms, so that a save of many files becomes one
//! batch. Files are read meanwhile; what was read counts when the batch ends, unless a writer has begun to
//! write the file again. The kernel tells of that a moment after it has cut the file to nothing: a file that has become
//! empty counts when it has been so for a while.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc::Sender,
    time::{Duration, SystemTime},
};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::{
    io::unix::AsyncFd,
    runtime::Runtime,
    sync::{Notify, oneshot},
    time::{Instant, sleep_until, timeout_at},
};

use super::{Event, Memory, Prepared, Tree, walk};

/// So much quiet ends a batch; the timer adds 1 to 2 ms.
const QUIET: Duration = Duration::from_millis(8);
/// A batch is sent after this time even if there is no quiet.
const AT_MOST: Duration = Duration::from_millis(100);
/// How often a path of the command line that is not there is looked for.
const MISSING: Duration = Duration::from_millis(100);
/// A file that was found by listing a folder and is younger than this may still be open in a program
/// whose first write came before the watch.
const FRESH: Duration = Duration::from_millis(20);

/// A file that has become empty counts after this time: its writer may be about to be heard of.
const EMPTIED: Duration = Duration::from_millis(200);

/// What is said of a file whose content is not complete yet, or the same as before.
const UNFINISHED: EventMask = EventMask::MODIFY.union(EventMask::ATTRIB);

/// Sockets and runtime of the watching thread.
pub(super) struct Watch {
    inotify: Inotify,
    runtime: Runtime,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { inotify: Inotify::init()?, runtime })
    }

    /// Follows the tree until `stop` is closed or nobody receives any more.
    pub(super) fn run(
        self,
        (tree, memory): (Tree, Option<Memory>),
        events: &Sender<Event>,
        stop: oneshot::Receiver<()>,
        reload: &Notify,
    ) {
        let follow = async {
            let folders = Folders::default();
            // The descriptor must be registered from within the runtime.
            #[expect(deprecated, reason = "the replacement is unsafe; Inotify owns its descriptor")]
            let inotify = AsyncFd::new(self.inotify)?;
            Follower { inotify, folders, tree, memory, reload }.follow(events).await
        };
        self.runtime.block_on(async {
            tokio::select! {
                _ = stop => {}
                result = follow => if let Err(error) = result {
                    tracing::error!(%error, "manifests are no longer watched");
                }
            }
        });
    }
}

struct Follower<'r> {
    inotify: AsyncFd<Inotify>,
    folders: Folders,
    tree: Tree,
    /// What a process after this one will know, if there is a folder for it.
    memory: Option<Memory>,
    /// Notified when everything is to be read again.
    reload: &'r Notify,
}

/// Which watch belongs to which folder. One folder can be reached by several paths.
#[derive(Default)]
struct Folders {
    by_path: HashMap<PathBuf, WatchDescriptor>,
    by_watch: HashMap<WatchDescriptor, BTreeSet<PathBuf>>,
    /// Folders that are no longer watched, or are others by now: what was being written there is not
    /// heard of any more.
    lost: Vec<PathBuf>,
}

/// What has to be looked at.
#[derive(Default)]
struct Pending {
    rescan: bool,
    /// Files that were closed, replaced or deleted.
    files: BTreeSet<PathBuf>,
    /// Those of them that have been read.
    read: BTreeMap<PathBuf, Prepared>,
    /// Those of them that are gone, or new.
    others: BTreeSet<PathBuf>,
    /// The last look at everything found files that may be incomplete.
    incomplete: bool,
    /// Files that a program has open for writing. Outlives a batch.
    writing: HashSet<PathBuf>,
    /// Look at everything again at this time, for files that may be incomplete or paths that are missing.
    /// Stays until that is done, whatever else happens.
    again: Option<Instant>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        !self.rescan && self.files.is_empty() && self.read.is_empty() && self.others.is_empty()
    }

    /// Something has happened to a file: what was known of it is old.
    fn forget(&mut self, path: &Path) {
        self.files.remove(path);
        self.read.remove(path);
        self.others.remove(path);
    }
}

impl Follower<'_> {
    async fn follow(mut self, events: &Sender<Event>) -> io::Result<()> {
        // Whatever changed since the files were loaded is found by the first look.
        let mut pending = Pending { rescan: true, ..Pending::default() };
        let mut limit = Instant::now() + AT_MOST;
        loop {
            self.look(&mut pending)?;
            // What happened meanwhile may have been seen in part: it belongs to the same batch. So do files
            // that cannot be read yet.
            self.drain(&mut pending)?;
            pending.rescan |= pending.incomplete;
            if pending.is_empty() || Instant::now() >= limit {
                // Incomplete even so: looked at again in a while.
                pending.rescan &= !pending.incomplete;
                let told = self.tree.events();
                if let Some(memory) = &mut self.memory {
                    memory.keep(&self.tree);
                }
                for event in told {
                    if events.send(event).is_err() {
                        return Ok(());
                    }
                }
                self.wait(&mut pending).await?;
                limit = Instant::now() + AT_MOST;
            }
            self.settle(&mut pending, limit).await?;
        }
    }

    /// Waits for something to happen.
    async fn wait(&mut self, pending: &mut Pending) -> io::Result<()> {
        while pending.is_empty() {
            let again = pending.again;
            let wait = async {
                match again {
                    Some(time) => sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = self.inotify.readable_mut() => {
                    ready?.clear_ready();
                    self.drain(pending)?;
                }
                () = self.reload.notified() => {
                    self.tree.distrust();
                    pending.rescan = true;
                }
                () = wait => pending.rescan = true,
            }
        }
        Ok(())
    }

    /// Waits for quiet, until `limit` at most, and reads meanwhile. What happens beside the manifests does not disturb it.
    async fn settle(&mut self, pending: &mut Pending, limit: Instant) -> io::Result<()> {
        let mut last = Instant::now();
        loop {
            self.prepare(pending);
            match timeout_at((last + QUIET).min(limit), self.inotify.readable_mut()).await {
                Ok(ready) => {
                    ready?.clear_ready();
                    if self.drain(pending)? {
                        last = Instant::now();
                    }
                }
                Err(_) => return Ok(()),
            }
            if Instant::now() >= limit {
                return Ok(());
            }
        }
    }

    /// Takes all events that the kernel has. True if any was about manifests.
    fn drain(&mut self, pending: &mut Pending) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let mut any = false;
        loop {
            let events = match self.inotify.get_mut().read_events(&mut buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for event in events {
                any |= self.folders.note(&self.tree, &event, pending);
            }
        }
    }

    /// Reads the files that have been closed.
    fn prepare(&self, pending: &mut Pending) {
        for path in std::mem::take(&mut pending.files) {
            match self.tree.prepare(&path) {
                Some(prepared) => drop(pending.read.insert(path, prepared)),
                None => drop(pending.others.insert(path)),
            }
        }
    }

    fn look(&mut self, pending: &mut Pending) -> io::Result<()> {
        self.prepare(pending);
        // A file that is being written again may have been read in part: it waits for its writer.
        self.drain(pending)?;
        let mut closed = std::mem::take(&mut pending.others);
        for path in &closed {
            pending.rescan |= !self.tree.forget(path);
        }
        for (path, prepared) in std::mem::take(&mut pending.read) {
            if self.tree.empties(&prepared) && is_younger(&path, EMPTIED) {
                pending.files.insert(path);
                continue;
            }
            self.tree.take(prepared);
            closed.insert(path);
        }
        if std::mem::take(&mut pending.rescan) {
            pending.again = None;
            let mut seen = HashSet::new();
            let mut watches = self.inotify.get_ref().watches();
            for root in self.tree.roots() {
                // The folder above tells when the path itself is replaced.
                if let Some(parent) = root.parent() {
                    let parent =
                        if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                    self.folders.watch(&mut watches, parent, &mut seen);
                }
            }
            let folders = &mut self.folders;
            let incomplete = std::cell::Cell::new(false);
            self.tree.rescan(
                &mut |folder| folders.watch(&mut watches, folder, &mut seen),
                &|path, modified| {
                    // What has been closed since the last look was closed by its writer.
                    let unsure = is_less_ago(modified, FRESH) && !closed.contains(path);
                    incomplete.set(incomplete.get() || unsure);
                    !unsure && !pending.writing.contains(path)
                },
            );
            folders.forget_others(&mut watches, &seen);
            let lost = std::mem::take(&mut folders.lost);
            let before = pending.writing.len();
            pending.writing.retain(|path| !lost.iter().any(|lost| is_in(path, lost)));
            pending.incomplete = incomplete.get() || pending.writing.len() < before;
            if pending.incomplete {
                pending.again = Some(Instant::now() + FRESH);
            }
        }
        if self.tree.is_incomplete() {
            pending.again.get_or_insert_with(|| Instant::now() + MISSING);
        }
        Ok(())
    }
}

impl Folders {
    fn watch(
        &mut self,
        watches: &mut inotify::Watches,
        folder: &Path,
        seen: &mut HashSet<PathBuf>,
    ) {
        if !seen.insert(folder.to_owned()) {
            return;
        }
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MODIFY
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        match watches.add(folder, mask) {
            Ok(watch) => {
                // The same path may be another folder by now.
                self.forget(watches, folder, Some(&watch));
                self.by_watch.entry(watch.clone()).or_default().insert(folder.to_owned());
                self.by_path.insert(folder.to_owned(), watch);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "changes here will not be noticed");
            }
        }
    }

    fn forget_others(&mut self, watches: &mut inotify::Watches, seen: &HashSet<PathBuf>) {
        let gone: Vec<PathBuf> =
            self.by_path.keys().filter(|path| !seen.contains(*path)).cloned().collect();
        for path in gone {
            self.forget(watches, &path, None);
        }
    }

    /// Ends the watch of a path, unless it is `keep` or another path needs it.
    fn forget(
        &mut self,
        watches: &mut inotify::Watches,
        path: &Path,
        keep: Option<&WatchDescriptor>,
    ) {
        let Some(watch) = self.by_path.get(path).filter(|watch| keep != Some(watch)).cloned()
        else {
            return;
        };
        self.by_path.remove(path);
        self.lost.push(path.to_owned());
        let Some(paths) = self.by_watch.get_mut(&watch) else { return };
        paths.remove(path);
        if paths.is_empty() {
            self.by_watch.remove(&watch);
            // The kernel has dropped it already if the folder is gone.
            let _ = watches.remove(watch);
        }
    }

    /// True if the event is about manifests: folders above them are watched as well.
    fn note(&self, tree: &Tree, event: &inotify::Event<&OsStr>, pending: &mut Pending) -> bool {
        let mask = event.mask;
        if mask.contains(EventMask::Q_OVERFLOW) {
            // Events were lost, among them perhaps the end of a write, or its beginning.
            pending.writing.clear();
            pending.read.clear();
            pending.rescan = true;
            return true;
        }
        let Some(folders) = self.by_watch.get(&event.wd) else { return false };
        let Some(name) = event.name else {
            let moved = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
            pending.rescan |= mask.intersects(moved);
            return mask.intersects(moved);
        };
        let mut any = false;
        for folder in folders {
            let folder = if folder == Path::new(".") { Path::new("") } else { folder };
            let path = folder.join(name);
            let way = tree.leads_through(&path) && !mask.intersects(UNFINISHED);
            pending.rescan |= way;
            any |= way | note_entry(tree, &path, mask, pending);
        }
        any
    }
}

fn is_younger(path: &Path, age: Duration) -> bool {
    walk::stamp(path).is_ok_and(|stamp| is_less_ago(stamp.modified, age))
}

/// Whether a file that was modified then is younger than this.
fn is_less_ago(modified: SystemTime, age: Duration) -> bool {
    match SystemTime::now().duration_since(modified) {
        Ok(ago) => ago < age,
        // The clock that stamps files lags a little, the one that set a later time is another machine's.
        Err(ahead) => ahead.duration() < age,
    }
}

/// True for an entry of this very folder.
fn is_in(path: &Path, folder: &Path) -> bool {
    let folder = if folder == Path::new(".") { Path::new("") } else { folder };
    path.parent() == Some(folder)
}

/// What an event means for the path that it is about. True if that is a manifest, or may be one or lead to some.
fn note_entry(tree: &Tree, path: &Path, mask: EventMask, pending: &mut Pending) -> bool {
    let below_root = tree.roots().iter().any(|root| path.starts_with(root));
    if !below_root {
        return false;
    }
    // `..data` of a ConfigMap volume, which all of its files lead through.
    let machinery = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."));
    if machinery || mask.contains(EventMask::ISDIR) {
        let quiet = EventMask::MODIFY | EventMask::CLOSE_WRITE | EventMask::ATTRIB;
        pending.rescan |= !mask.intersects(quiet);
        return !mask.intersects(quiet);
    }
    if !tree.is_file_of_ours(path) {
        // A new link may lead to a folder.
        let link = || fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        let came = mask.intersects(EventMask::CREATE | EventMask::MOVED_TO) && link();
        let gone =
            mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM) && tree.has_below(path);
        pending.rescan |= came || gone;
        return came || gone;
    }
    if mask.contains(EventMask::MODIFY)
        || mask.contains(EventMask::CREATE) && is_being_written(path)
    {
        pending.forget(path);
        pending.writing.insert(path.to_owned());
        return true;
    }
    if !mask.contains(EventMask::ATTRIB) {
        pending.writing.remove(path);
    }
    if !pending.writing.contains(path) {
        pending.forget(path);
        pending.files.insert(path.to_owned());
    }
    true
}

/// A new regular file has a writer that will close it; a new link, hard or symbolic, has none.
fn is_being_written(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.nlink() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_manifests_delays_the_end_of_a_batch() {
        let guard = tempfile::tempdir().unwrap();
        let root = guard.path().join("manifests");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a.yaml"), "").unwrap();
        let tree = Tree::new(std::slice::from_ref(&root));
        let about = |name: &str, mask: EventMask| {
            let mut pending = Pending::default();
            let about = note_entry(&tree, &guard.path().join(name), mask, &mut pending);
            assert!(about || pending.is_empty(), "{name} {mask:?}");
            about
        };
        for (name, mask) in [
            ("log", EventMask::MODIFY),
            ("other/b.yaml", EventMask::CLOSE_WRITE),
            ("manifests/.a.yaml.swp", EventMask::MODIFY),
            ("manifests/log", EventMask::CLOSE_WRITE),
            ("manifests/folder", EventMask::ATTRIB | EventMask::ISDIR),
        ] {
            assert!(!about(name, mask), "{name} {mask:?}");
        }
        for (name, mask) in [
            ("manifests/a.yaml", EventMask::MODIFY),
            ("manifests/a.yaml", EventMask::CLOSE_WRITE),
            ("manifests/b.yaml", EventMask::MOVED_TO),
            ("manifests/a.yaml", EventMask::DELETE),
            ("manifests/..data", EventMask::MOVED_TO),
            ("manifests/folder", EventMask::CREATE | EventMask::ISDIR),
        ] {
            assert!(about(name, mask), "{name} {mask:?}");
        }
    }
}
