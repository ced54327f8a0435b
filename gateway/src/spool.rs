//! Where bodies wait: those of requests that are read in whole before a backend hears of them
//! (`proxy-request-buffering`), and those of answers whose clients are slow (`proxy-buffering`, see [`reservoir`]); in
//! memory as far as the rule allows and the process has room, then in a file without a name.
//!
//! A [`Spool`] is the account of memory and disk for the whole process; what is dropped gives its share back.
//! A data thread fills a [`Keeping`], which becomes a [`Kept`] that any number of [`Reader`]s send. Files are
//! written, read and freed on blocking threads, so that a slow disk holds up nobody but its own requests.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
};

pub(crate) mod reservoir;

/// Bytes that are written to a file, or read from it, at one time. A body that takes no more of memory anyway
/// stays there.
const PIECE: usize = 64 * 1024;
/// The same for a reader for whom there is no room in memory: no more than its connection takes anyway.
const SMALL_PIECE: usize = 16 * 1024;

/// The room that all bodies of the process have together.
#[derive(Clone, Debug)]
pub(crate) struct Spool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    memory: Arc<Room>,
    disk: Arc<Room>,
    files: AtomicU64,
    spilled: AtomicU64,
}

/// How much of the room is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolFacts {
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of files.
    pub disk: u64,
    /// Files that are open.
    pub files: u64,
    /// Bodies since the start that did not fit into memory.
    pub spilled: u64,
}

/// Why a body cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// All bodies together would take more of the disk than they may.
    #[error("the room for bodies on the disk is full (--body-disk)")]
    Full,
    /// The file cannot be made or written.
    #[error("a body cannot be written to a file in {}", folder.display())]
    File {
        /// Where it would be.
        folder: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

impl Spool {
    /// Room of so many bytes in memory, and so many in files of this folder.
    pub(crate) fn new(folder: PathBuf, memory: u64, disk: u64) -> Self {
        let (memory, disk) = (Arc::new(Room::of(memory)), Arc::new(Room::of(disk)));
        let (files, spilled) = Default::default();
        Self(Arc::new(Shared { folder, memory, disk, files, spilled }))
    }

    /// Makes the folder if it is not there, and a file in it: an operator who names a folder hears at the start that it cannot
    /// be used, not with the first body.
    ///
    /// # Errors
    /// One of them cannot be made.
    pub(crate) fn try_folder(&self) -> io::Result<()> {
        create(&self.0.folder).map(drop)
    }

    /// While memory is spared, no body takes more of it: those that grow go to files, with what they have.
    pub(crate) fn spare_memory(&self, spared: bool) {
        self.0.memory.closed.store(spared, Relaxed);
    }

    /// How much is in use.
    pub(crate) fn facts(&self) -> SpoolFacts {
        let Shared { memory, disk, files, spilled, .. } = &*self.0;
        let [memory, disk, files, spilled] =
            [&memory.used, &disk.used, files, spilled].map(|count| count.load(Relaxed));
        SpoolFacts { memory, disk, files, spilled }
    }

    /// Begins to keep a body, with so many bytes of it in memory at most (64 KiB where it is less), of which so many
    /// are expected.
    ///
    /// # Errors
    /// There is no room for what is expected.
    pub(crate) fn keep(&self, most: usize, expected: Option<u64>) -> Result<Keeping, KeepError> {
        let most = most.max(PIECE);
        let for_file = expected.filter(|expected| *expected > most as u64);
        if for_file.is_some_and(|expected| !self.0.disk.has(expected)) {
            return Err(KeepError::Full);
        }
        Ok(Keeping {
            spool: self.clone(),
            memory: Vec::new(),
            share: Share::none(&self.0.memory),
            most: if for_file.is_some() { PIECE } else { most },
            expected: expected.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0),
            file: None,
        })
    }
}

/// A number of bytes that may be in use.
#[derive(Debug)]
struct Room {
    most: u64,
    used: AtomicU64,
    /// No more may be taken.
    closed: AtomicBool,
}

impl Room {
    fn of(most: u64) -> Self {
        Self { most, used: AtomicU64::new(0), closed: AtomicBool::new(false) }
    }

    fn has(&self, bytes: u64) -> bool {
        self.used.load(Relaxed).saturating_add(bytes) <= self.most
    }

    fn take(&self, bytes: u64) -> bool {
        let taken = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.most);
        !self.closed.load(Relaxed) && self.used.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }
}

/// A part of a room, given back when it is dropped.
#[derive(Debug)]
struct Share {
    room: Arc<Room>,
    bytes: u64,
}

impl Share {
    fn none(room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), bytes: 0 }
    }

    /// Takes so many bytes more, if there are.
    fn grow(&mut self, more: u64) -> bool {
        let taken = self.room.take(more);
        self.bytes += if taken { more } else { 0 };
        taken
    }

    /// Gives back all but so many bytes.
    fn shrink(&mut self, to: u64) {
        let less = self.bytes.saturating_sub(to);
        self.room.used.fetch_sub(less, Relaxed);
        self.bytes -= less;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// A file of a body: it has no name, so that nothing is left of it whatever becomes of the process.
#[derive(Debug)]
struct SpoolFile {
    /// `None` once it is being closed.
    file: Option<File>,
    share: Share,
    spool: Spool,
}

impl SpoolFile {
    fn create(spool: &Spool) -> io::Result<Self> {
        let file = create(&spool.0.folder)?;
        spool.0.files.fetch_add(1, Relaxed);
        spool.0.spilled.fetch_add(1, Relaxed);
        let share = Share::none(&spool.0.disk);
        Ok(Self { file: Some(file), share, spool: spool.clone() })
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Bytes that are written.
    fn len(&self) -> u64 {
        self.share.bytes
    }

    fn read(&self, at: u64, most: usize) -> io::Result<Bytes> {
        let mut piece = vec![0; most];
        let read = self.file()?.read_at(&mut piece, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(read);
        Ok(piece.into())
    }
}

fn create(folder: &Path) -> io::Result<File> {
    match tempfile::tempfile_in(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            tempfile::tempfile_in(folder)
        }
        created => created,
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.spool.0.files.fetch_sub(1, Relaxed);
        // The kernel frees the blocks of a large file with its last descriptor, which may take its time.
        let closing =
            (self.file.take(), std::mem::replace(&mut self.share, Share::none(&self.spool.0.disk)));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(closing));
        }
    }
}

/// A body that is being read.
pub(crate) struct Keeping {
    spool: Spool,
    /// What is not in the file yet.
    memory: Vec<u8>,
    share: Share,
    /// Bytes that may be in memory.
    most: usize,
    /// Bytes that are likely to come; 0: nobody knows.
    expected: usize,
    file: Option<SpoolFile>,
}

impl Keeping {
    /// Adds what has come.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) async fn add(&mut self, part: Bytes) -> Result<(), KeepError> {
        if self.fits(part.len()) {
            self.memory.extend_from_slice(&part);
            return Ok(());
        }
        self.most = PIECE;
        let (file, mut memory) = (self.file.take(), std::mem::take(&mut self.memory));
        let spool = self.spool.clone();
        // A request that ends meanwhile drops what comes of this, and with it the file.
        let written = spawn_blocking(move || {
            write(&spool, file, [&memory, &part]).map(|file| {
                memory.clear();
                memory.shrink_to(PIECE);
                (file, memory)
            })
        });
        let (file, memory) = match written.await {
            Ok(written) => written?,
            Err(error) => return Err(self.spool.failed(io::Error::other(error))),
        };
        self.share.shrink(memory.capacity() as u64);
        (self.file, self.memory) = (Some(file), memory);
        Ok(())
    }

    /// Whether there is room in memory for so many bytes more.
    fn fits(&mut self, more: usize) -> bool {
        let (needed, have) = (self.memory.len() + more, self.memory.capacity());
        if needed > self.most {
            return false;
        }
        if needed <= have {
            return true;
        }
        // As few copies as with a vector that grows, and no more than will be needed.
        let wanted = needed.max(2 * have).max(self.expected).min(self.most);
        let capacity = [wanted, needed].into_iter().find(|to| self.share.grow((to - have) as u64));
        if let Some(capacity) = capacity {
            self.memory.reserve_exact(capacity - self.memory.len());
        }
        capacity.is_some()
    }

    /// The body as it is.
    pub(crate) fn done(self) -> Kept {
        let Self { memory, share, file, .. } = self;
        Kept { file: file.map(Arc::new), tail: memory.into(), _share: share }
    }
}

impl Spool {
    fn failed(&self, source: io::Error) -> KeepError {
        KeepError::File { folder: self.0.folder.clone(), source }
    }
}

/// Adds to a file, which is made if there is none.
fn write(
    spool: &Spool,
    file: Option<SpoolFile>,
    parts: [&[u8]; 2],
) -> Result<SpoolFile, KeepError> {
    let failed = |error| spool.failed(error);
    let mut file = file.map_or_else(|| SpoolFile::create(spool), Ok).map_err(failed)?;
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    if !file.share.grow(bytes as u64) {
        return Err(KeepError::Full);
    }
    let mut to = file.file().map_err(failed)?;
    parts.iter().try_for_each(|part| to.write_all(part)).map_err(failed)?;
    Ok(file)
}

/// A body that was read in whole.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The first part of it.
    file: Option<Arc<SpoolFile>>,
    tail: Bytes,
    /// The memory of the tail.
    _share: Share,
}

impl Kept {
    /// Bytes.
    pub(crate) fn len(&self) -> u64 {
        self.in_file() + self.tail.len() as u64
    }

    fn in_file(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.len())
    }
}

/// Sends a body from its beginning.
pub(crate) struct Reader {
    kept: Rc<Kept>,
    at: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// The memory of what is being read.
    share: Option<Share>,
}

impl Reader {
    pub(crate) fn of(kept: &Rc<Kept>) -> Self {
        Self { kept: Rc::clone(kept), at: 0, reading: None, share: None }
    }

    /// The body that is read.
    pub(crate) fn kept(&self) -> &Rc<Kept> {
        &self.kept
    }

    /// Bytes that are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.kept.len().saturating_sub(self.at)
    }

    /// The next part, or the end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let part = if let (Some(file), true) = (&self.kept.file, self.at < self.kept.in_file()) {
            let at = self.at;
            let share = self.share.get_or_insert_with(|| {
                let mut share = Share::none(&file.spool.0.memory);
                share.grow(PIECE as u64);
                share
            });
            let reading = self.reading.get_or_insert_with(|| {
                let piece = if share.bytes == 0 { SMALL_PIECE } else { PIECE };
                let left = usize::try_from(file.len() - at).unwrap_or(piece);
                let file = Arc::clone(file);
                spawn_blocking(move || file.read(at, piece.min(left)))
            });
            let read = std::task::ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            match read.map_err(io::Error::other).and_then(|read| read) {
                Ok(part) => part,
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        } else if self.left() > 0 {
            self.kept.tail.clone()
        } else {
            return Poll::Ready(None);
        };
        self.at += part.len() as u64;
        Poll::Ready(Some(Ok(part)))
    }
}

#[cfg(test)]
mod tests;
