//! Manifests in files and folders: [`load`] reads them once, [`FileSource`] follows them.
//!
//! The rules: folders are read recursively (`.yaml`, `.yml`, `.json`; names that begin with a dot are
//! skipped, so that ConfigMap volumes work), in the order of their paths. A document that cannot be read takes
//! no other with it, and while there is one, all that its file said before stays; so do the objects of a path
//! of the command line that is gone, until it is back. Of several objects with one name the last one wins.
//! Nothing here knows what an object means.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Sender},
    thread::{self, JoinHandle},
    time::SystemTime,
};

use gatehouse_routes::{
    objects::{ObjectRef, SourceTrust},
    problem::Problem,
};
use tokio::sync::{Notify, oneshot};

use super::{
    Change, Event, Kind, Object, Source, SourceId,
    manifest::{Manifest, ManifestError, in_parallel},
};
use crate::regular_file;

mod index;
mod memory;
mod problems;
mod walk;
mod watch;

use index::Index;
pub use memory::Memory;
pub use problems::PROBLEM_KIND;
pub(crate) use problems::place;
use problems::{about, file_ref};

/// Name of this source.
const ID: SourceId = SourceId("files");

/// This source, to be told to the owner of the cluster state. A user who may write the manifests owns the
/// host, and no cluster is behind them.
pub const SOURCE: Source = Source {
    id: ID,
    trust: SourceTrust { loopback_endpoints: true, standalone: true },
    kinds: Kind::ALL,
    by_name: &[],
    whole_batches: true,
};

/// Reads files and folders. What cannot be read is a problem ([`Loaded::unreadable`]), as it is later.
///
/// # Errors
/// Paths that are not there; all of them are named.
pub fn load(paths: &[PathBuf]) -> Result<Loaded, LoadError> {
    load_after(paths, None)
}

/// The same where a process has been before, or still is: of files that cannot be read, what `memory` has of them stays
/// in use, and what stays in use later is kept there.
///
/// # Errors
/// Paths that are not there; all of them are named.
pub fn load_after(paths: &[PathBuf], memory: Option<Memory>) -> Result<Loaded, LoadError> {
    let mut tree = Tree::new(paths);
    tree.before = memory.as_ref().map(Memory::load).unwrap_or_default();
    tree.rescan(&mut |_| {}, &|_, _| true);
    tree.before.clear();
    let missing = tree.missing.iter().map(|(path, why)| format!("{}: {why}", path.display()));
    let errors: Vec<String> = missing.collect();
    if errors.is_empty() { Ok(Loaded { tree, memory }) } else { Err(LoadError { errors }) }
}

/// Manifests as they were when they were read.
#[derive(Debug)]
pub struct Loaded {
    tree: Tree,
    memory: Option<Memory>,
}

impl Loaded {
    /// Everything as events, [`Event::Synced`] for each kind last.
    pub fn events(&mut self) -> Vec<Event> {
        let mut events = self.tree.events();
        events.extend(Kind::ALL.iter().map(|kind| Event::Synced(ID, *kind)));
        events
    }

    /// `file:line` of every object that counts.
    pub fn places(&self) -> BTreeMap<ObjectRef, String> {
        let numbers =
            self.tree.files.iter().filter_map(|(place, file)| Some((file.number?, &*place.path)));
        let paths: HashMap<u32, &Path> = numbers.collect();
        let places = self.tree.index.places();
        places
            .filter_map(|(name, file, line)| {
                Some((name.clone(), format!("{}:{line}", paths.get(&file)?.display())))
            })
            .collect()
    }

    /// What cannot be read, one line each: `file:line: Kind namespace/name: field: what`.
    pub fn unreadable(&self) -> Vec<String> {
        let files = self.tree.files.iter();
        files
            .flat_map(|(place, file)| {
                file.errors()
                    .map(|error| format!("{}: {error}", file_ref(&place.path, error.line).key))
            })
            .collect()
    }
}

/// Why manifests could not be loaded.
#[derive(Debug)]
pub struct LoadError {
    /// One line for each path that is not there.
    pub errors: Vec<String>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.errors.join("\n"))
    }
}

impl std::error::Error for LoadError {}

/// Follows files and folders on a thread of its own until it is dropped.
#[derive(Debug)]
pub struct FileSource {
    stop: Option<oneshot::Sender<()>>,
    reload: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl FileSource {
    /// Sends what has been loaded, then every change. Fails if the kernel gives no inotify instance.
    pub fn start(mut loaded: Loaded, events: Sender<Event>) -> io::Result<Self> {
        let watch = watch::Watch::new()?;
        let (stop, stopped) = oneshot::channel();
        let reload = Arc::new(Notify::new());
        let asked = Arc::clone(&reload);
        let thread = thread::Builder::new().name("files".to_owned()).spawn(move || {
            for event in loaded.events() {
                if events.send(event).is_err() {
                    return;
                }
            }
            watch.run((loaded.tree, loaded.memory), &events, stopped, &asked);
        })?;
        Ok(Self { stop: Some(stop), reload, thread: Some(thread) })
    }

    /// Reads every file again, whether it seems to have changed or not.
    pub fn reload(&self) {
        self.reload.notify_one();
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        // Dropping the sender is the signal.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already, and there is nothing left to tear down.
            let _ = thread.join();
        }
    }
}

/// All files of the paths on the command line, as last read.
#[derive(Debug)]
struct Tree {
    roots: Vec<PathBuf>,
    files: BTreeMap<Place, File>,
    /// What files said that a process before this one could not read any more; known at the first look.
    before: HashMap<PathBuf, Manifest>,
    /// Paths of the command line that are not there, and why.
    missing: BTreeMap<PathBuf, String>,
    /// Links that were followed, and where they lead.
    ways: BTreeSet<PathBuf>,
    /// Files whose objects are to be compared with what has been told.
    dirty: BTreeSet<Place>,
    /// Files that are gone: their number and what they claimed.
    gone: Vec<(u32, Vec<ObjectRef>)>,
    index: Index,
    /// What has been told.
    problems: Vec<Problem>,
    /// Kinds that have been mentioned in the log.
    mentioned: HashSet<String>,
}

/// Position of a file: number of the path on the command line, then path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    root: usize,
    path: PathBuf,
}

#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    /// As last understood.
    manifest: Manifest,
    /// Why there is no present content.
    broken: Option<ManifestError>,
    /// What is wrong with the present content, and what is left out on purpose, for the receiver.
    problems: Vec<Problem>,
    /// Rises with the place; the upper half of the order of its objects. There are gaps, so that a new
    /// file leaves the order of all others alone. `None`: new.
    number: Option<u32>,
    /// What it claims in the index.
    claimed: Vec<ObjectRef>,
}

/// A file that has been read and does not count yet.
#[derive(Debug)]
struct Prepared {
    place: Place,
    stamp: Stamp,
    read: Result<Manifest, ManifestError>,
}

/// Tells whether a file has been written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: SystemTime,
}

impl File {
    /// What is wrong with the present content.
    fn errors(&self) -> impl Iterator<Item = ManifestError> {
        // The manifest is that of an older content if there is nothing to read.
        let documents = self.broken.is_none().then(|| self.manifest.errors());
        self.broken.iter().cloned().chain(documents.into_iter().flatten())
    }

    /// What it does not say, and what stays in use of it all the same.
    fn held(&self) -> impl Iterator<Item = &Object> {
        let all = self.broken.is_some().then(|| self.manifest.objects().map(|one| one.object));
        let held = self.broken.is_none().then(|| self.manifest.held());
        all.into_iter().flatten().chain(held.into_iter().flatten())
    }
}

impl Tree {
    fn new(paths: &[PathBuf]) -> Self {
        Self {
            roots: paths.to_vec(),
            files: BTreeMap::new(),
            before: HashMap::new(),
            missing: BTreeMap::new(),
            ways: BTreeSet::new(),
            dirty: BTreeSet::new(),
            gone: Vec::new(),
            index: Index::default(),
            problems: Vec::new(),
            mentioned: HashSet::new(),
        }
    }

    /// Paths of the command line.
    fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// True if some path of the command line is not there.
    fn is_incomplete(&self) -> bool {
        !self.missing.is_empty()
    }

    /// True if a file of this path would be read.
    fn is_file_of_ours(&self, path: &Path) -> bool {
        self.place(path).is_some()
    }

    /// True if files are reached through this link, or are what it leads to.
    fn leads_through(&self, path: &Path) -> bool {
        self.ways.contains(path)
    }

    /// True if some file is known below this path.
    fn has_below(&self, path: &Path) -> bool {
        self.files.keys().any(|place| place.path.starts_with(path))
    }

    /// Takes every file for changed.
    fn distrust(&mut self) {
        self.files.values_mut().for_each(|file| file.stamp = None);
    }

    /// Walks all paths and reads every file that is new or changed, if `may_read` says that nobody is
    /// writing it. `on_folder` is called for each folder before it is listed.
    fn rescan(
        &mut self,
        on_folder: &mut dyn FnMut(&Path),
        may_read: &dyn Fn(&Path, SystemTime) -> bool,
    ) {
        let found = walk::walk(&self.roots, on_folder);
        self.ways = found.ways;
        let missing: HashSet<usize> = found.missing.iter().map(|(root, _)| *root).collect();
        let left =
            |place: &Place| !missing.contains(&place.root) && !found.files.contains_key(place);
        let left: Vec<Place> = self.files.keys().filter(|place| left(place)).cloned().collect();
        left.iter().for_each(|place| self.remove(place));
        self.missing = found
            .missing
            .into_iter()
            .map(|(root, error)| (self.roots[root].clone(), error.to_string()))
            .collect();
        let changed: Vec<(Place, Stamp)> = found
            .files
            .into_iter()
            .filter(|(place, stamp)| {
                let known = self.files.get(place).and_then(|file| file.stamp);
                known != Some(*stamp) && may_read(&place.path, stamp.modified)
            })
            .collect();
        self.read(&changed);
    }

    /// Reads a known file, to be taken over by [`Tree::take`]. `None` if it is not known or not there.
    fn prepare(&self, path: &Path) -> Option<Prepared> {
        let place = self.known(path)?;
        let stamp = walk::stamp(path).ok()?;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let read = read_file(path, self.files.get(&place).map(|file| &file.manifest), threads);
        Some(Prepared { place, stamp, read })
    }

    /// Forgets a known file that is gone. False if it is there or not known: then only a [`Tree::rescan`] can tell
    /// whether it is new or another name of a known one.
    fn forget(&mut self, path: &Path) -> bool {
        let Some(place) = self.known(path).filter(|_| walk::stamp(path).is_err()) else {
            return false;
        };
        let root = &self.roots[place.root];
        match walk::stamp(root) {
            // A path of the command line is missed with all that was in it, any other file is simply gone.
            Err(error) => {
                self.missing.insert(root.clone(), error.to_string());
            }
            Ok(_) => self.remove(&place),
        }
        true
    }

    fn known(&self, path: &Path) -> Option<Place> {
        self.place(path).filter(|place| self.files.contains_key(place))
    }

    /// The differences since the last call, and the problems if they are others than before.
    fn events(&mut self) -> Vec<Event> {
        self.number_new_files();
        for (number, mut claimed) in std::mem::take(&mut self.gone) {
            self.index.replace(number, &mut claimed, None);
        }
        for place in std::mem::take(&mut self.dirty) {
            if let Some(file) = self.files.get_mut(&place)
                && let Some(number) = file.number
            {
                self.index.replace(number, &mut file.claimed, Some(&file.manifest));
            }
        }
        let changes = self.index.take_changes();
        let mut events = Vec::with_capacity(2);
        let problems = self.all_problems();
        if problems != self.problems {
            self.problems.clone_from(&problems);
            events.push(Event::Problems(ID, problems));
        }
        if !changes.is_empty() {
            events.push(Event::Batch(ID, changes));
        }
        events
    }

    fn all_problems(&self) -> Vec<Problem> {
        let missing = self.missing.iter().map(|(path, why)| {
            Problem::error(
                &file_ref(path, 0),
                "ManifestMissing",
                "",
                format!("{why}; its last objects stay in use"),
                "put it back, or restart without it",
            )
        });
        // A file that went while it was read went with its folder.
        let left = |(place, file): &(&Place, &File)| {
            file.broken.is_some() && self.missing.contains_key(&self.roots[place.root])
        };
        let of_files =
            self.files.iter().filter(|it| !left(it)).flat_map(|(_, file)| &file.problems);
        let mut problems: Vec<Problem> = missing.chain(of_files.cloned()).collect();
        problems.extend(self.index.duplicates(|number| {
            let mut files = self.files.iter();
            let (place, _) = files.find(|(_, file)| file.number == Some(number))?;
            Some(&*place.path)
        }));
        problems
    }

    /// What stays in use of files that do not say it any more.
    fn held(&self) -> impl Iterator<Item = (PathBuf, Object)> {
        let files = self.files.iter();
        files.flat_map(|(place, file)| file.held().map(|it| (place.path.clone(), it.clone())))
    }

    /// Gives every new file a number between those of its neighbours.
    fn number_new_files(&mut self) {
        let mut new: Vec<&mut File> = Vec::new();
        let mut below = 0;
        let mut full = false;
        for file in self.files.values_mut() {
            match file.number {
                None => new.push(file),
                Some(above) => {
                    full |= !spread(&mut new, below, above);
                    below = above;
                }
            }
        }
        full |= !spread(&mut new, below, u32::MAX);
        if full {
            let known = self.files.iter_mut().filter_map(|(place, file)| {
                let claimed = std::mem::take(&mut file.claimed);
                self.dirty.insert(place.clone());
                Some((file.number.take()?, claimed))
            });
            self.gone.extend(known);
            spread(&mut self.files.values_mut().collect(), 0, u32::MAX);
        }
    }

    fn remove(&mut self, place: &Place) {
        if let Some(File { number: Some(number), claimed, .. }) = self.files.remove(place) {
            self.gone.push((number, claimed));
        }
    }

    fn read(&mut self, changed: &[(Place, Stamp)]) {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        // Either there are many files, or a few with many documents.
        let inner = if changed.len() < 64 { threads } else { 1 };
        let (files, before) = (&self.files, &self.before);
        let read = in_parallel(changed.len(), threads, |index| {
            let place = &changed[index].0;
            let known = files.get(place).map(|file| &file.manifest);
            read_file(&place.path, known.or_else(|| before.get(&place.path)), inner)
        });
        for ((place, stamp), read) in changed.iter().zip(read) {
            self.take(Prepared { place: place.clone(), stamp: *stamp, read });
        }
    }

    /// Whether nothing was read of a file that has said something before.
    fn empties(&self, Prepared { place, read, .. }: &Prepared) -> bool {
        let is_empty = |read: &Manifest| read.len() == 0 && read.errors().next().is_none();
        let said = self.files.get(place).map_or(0, |file| file.manifest.len());
        said > 0 && read.as_ref().is_ok_and(is_empty)
    }

    /// What has been read counts from now on.
    fn take(&mut self, Prepared { place, stamp, read }: Prepared) {
        self.missing.remove(&place.path);
        let file = self.files.entry(place.clone()).or_default();
        if let Some(before) = self.before.remove(&place.path) {
            file.manifest = before;
            self.dirty.insert(place.clone());
        }
        // What could not be read is tried at each look: it may be as it was, and readable.
        file.stamp = read.is_ok().then_some(stamp);
        match read {
            Ok(manifest) => {
                for kind in manifest.ignored() {
                    if self.mentioned.insert(kind.to_owned()) {
                        tracing::debug!(kind, "objects of this kind are ignored");
                    }
                }
                (file.manifest, file.broken) = (manifest, None);
            }
            Err(error) => file.broken = Some(error),
        }
        file.problems = about(&place.path, file);
        if file.broken.is_none() {
            self.dirty.insert(place);
        }
    }

    fn place(&self, path: &Path) -> Option<Place> {
        let mut roots = self.roots.iter().enumerate();
        let (root, _) = roots.find(|(_, root)| walk::belongs_to(path, root))?;
        Some(Place { root, path: path.to_owned() })
    }
}

fn read_file(
    path: &Path,
    previous: Option<&Manifest>,
    threads: usize,
) -> Result<Manifest, ManifestError> {
    let unreadable = |error| ManifestError::at(0, format!("cannot be read: {error}"));
    let bytes = regular_file::read(path).map_err(unreadable)?;
    let json = path.extension().is_some_and(|extension| extension == "json");
    Ok(Manifest::parse_bytes(&bytes, json, previous, threads))
}

/// Numbers files evenly between two bounds, excluded, and empties the list; false if there is no room.
fn spread(files: &mut Vec<&mut File>, below: u32, above: u32) -> bool {
    let count = u32::try_from(files.len()).unwrap_or(u32::MAX);
    let gap = (above - below) / count.saturating_add(1);
    for (file, position) in files.drain(..).zip(1..) {
        file.number = (gap > 0).then(|| below + gap * position);
    }
    gap > 0 || count == 0
}

#[cfg(test)]
mod tests;
