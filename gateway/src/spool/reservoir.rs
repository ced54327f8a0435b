//! A body that comes at one speed and leaves at another: what has come and cannot leave yet waits in memory as far as the
//! rule allows and the process has room, then in a file, and leaves in the order in which it came.
//!
//! One task of a data thread fills it by the [`Inlet`], another one empties it by the [`Outlet`]. Where there is no room
//! the inlet waits, so that no body is lost for want of it; a disk that fails is told to both.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    io, mem,
    os::unix::fs::FileExt as _,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{KeepError, PIECE, SMALL_PIECE, Share, Spool, SpoolFile};

/// Bytes of memory that are taken at one time.
const BLOCK: usize = 16 * 1024;

/// Where a body comes in. To drop it without [`Inlet::end`] breaks the body off.
pub(crate) struct Inlet<End>(Rc<RefCell<Reservoir<End>>>);

/// Where a body leaves.
pub(crate) struct Outlet<End> {
    reservoir: Rc<RefCell<Reservoir<End>>>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// The memory of what is being read.
    share: Option<Share>,
}

/// What leaves.
#[derive(Debug)]
pub(crate) enum Next<End> {
    Part(Bytes),
    /// Everything has left.
    Over(End),
}

/// Bytes in memory, and how many of them the process has given.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    granted: u64,
}

impl Block {
    fn new(capacity: usize, granted: bool) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            granted: if granted { capacity as u64 } else { 0 },
        }
    }

    /// Takes in as much as there is room for; returns how much that is.
    fn fill(&mut self, part: &[u8]) -> usize {
        let bytes = part.len().min(self.bytes.capacity() - self.bytes.len());
        self.bytes.extend_from_slice(&part[..bytes]);
        bytes
    }
}

/// What waits: first that in memory, then that in the file, then `last`.
struct Reservoir<End> {
    spool: Spool,
    memory: VecDeque<Block>,
    /// Bytes there, and how many there may be.
    in_memory: usize,
    most: usize,
    /// The room of all blocks.
    share: Share,
    file: Option<Arc<SpoolFile>>,
    /// Bytes of the file that have left, and bytes of it.
    left: u64,
    written: u64,
    most_written: u64,
    disk: Share,
    /// What came last is on its way to the file.
    writing: bool,
    last: Block,
    end: Option<End>,
    /// The inlet is there.
    open: bool,
    inlet: Option<Waker>,
    outlet: Option<Waker>,
}

impl Spool {
    /// Room for a body on its way, of which so many bytes may wait in memory (64 KiB where it is less), and so many in a
    /// file.
    pub(crate) fn reservoir<End>(&self, memory: u64, file: u64) -> (Inlet<End>, Outlet<End>) {
        let reservoir = Rc::new(RefCell::new(Reservoir {
            spool: self.clone(),
            memory: VecDeque::new(),
            in_memory: 0,
            most: usize::try_from(memory).unwrap_or(usize::MAX).max(PIECE),
            share: Share::none(&self.0.memory),
            file: None,
            left: 0,
            written: 0,
            most_written: file,
            disk: Share::none(&self.0.disk),
            writing: false,
            last: Block::default(),
            end: None,
            open: true,
            inlet: None,
            outlet: None,
        }));
        let inlet = Inlet(Rc::clone(&reservoir));
        (inlet, Outlet { reservoir, reading: None, share: None })
    }
}

impl<End> Inlet<End> {
    /// Adds what has come, once there is room for it.
    ///
    /// # Errors
    /// The file cannot be written; the body is not complete any more.
    pub(crate) async fn add(&self, mut part: &[u8]) -> Result<(), KeepError> {
        loop {
            part = self.0.borrow_mut().take_in(part);
            if part.is_empty() {
                return Ok(());
            }
            let write = self.0.borrow_mut().next_write();
            match write {
                Some(write) => {
                    let spool = write.spool.clone();
                    // A body that ends meanwhile drops what comes of this, and with it the file.
                    let written = spawn_blocking(move || write.run()).await;
                    let written =
                        written.unwrap_or_else(|error| Err(spool.failed(io::Error::other(error))));
                    self.0.borrow_mut().wrote(written)?;
                }
                None => self.something_leaves().await,
            }
        }
    }

    async fn something_leaves(&self) {
        let mut waits = false;
        poll_fn(|cx| {
            // Only the outlet wakes.
            if mem::replace(&mut waits, true) {
                return Poll::Ready(());
            }
            self.0.borrow_mut().inlet = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Everything has come, or this is why nothing more does.
    pub(crate) fn end(self, end: End) {
        self.0.borrow_mut().end = Some(end);
    }
}

impl<End> Drop for Inlet<End> {
    fn drop(&mut self) {
        let mut reservoir = self.0.borrow_mut();
        reservoir.open = false;
        reservoir.comes();
    }
}

impl<End> Reservoir<End> {
    /// Takes in as much as there is room for without the disk; returns the rest.
    fn take_in<'p>(&mut self, mut part: &'p [u8]) -> &'p [u8] {
        while !part.is_empty() {
            let straight = self.left == self.written && !self.writing;
            let waiting = self.last.bytes.len();
            if straight && waiting > 0 && self.in_memory + waiting <= self.most {
                self.in_memory += waiting;
                self.memory.push_back(mem::take(&mut self.last));
                continue;
            }
            let mut taken = if straight && waiting == 0 { self.fill_memory(part) } else { 0 };
            if taken == 0 {
                taken = self.fill_last(part);
            }
            if taken == 0 {
                break;
            }
            part = &part[taken..];
        }
        self.comes();
        part
    }

    fn fill_memory(&mut self, part: &[u8]) -> usize {
        let room = self.most.saturating_sub(self.in_memory);
        let full = |block: &Block| block.bytes.len() == block.bytes.capacity();
        if self.memory.back().is_none_or(full) {
            if room < BLOCK || !self.share.grow(BLOCK as u64) {
                return 0;
            }
            self.memory.push_back(Block::new(BLOCK, true));
        }
        let part = &part[..part.len().min(room)];
        let taken = self.memory.back_mut().map_or(0, |block| block.fill(part));
        self.in_memory += taken;
        taken
    }

    fn fill_last(&mut self, part: &[u8]) -> usize {
        if self.last.bytes.capacity() == 0 {
            let granted = self.share.grow(PIECE as u64);
            self.last = Block::new(if granted { PIECE } else { SMALL_PIECE }, granted);
        }
        self.last.fill(part)
    }

    /// What is to be written to the file, if there is room for it.
    fn next_write(&mut self) -> Option<Write> {
        let bytes = self.last.bytes.len() as u64;
        // What has left of the file in whole makes room for what comes.
        let again = self.left == self.written && self.written > 0;
        let (at, held) = if again { (0, self.disk.bytes) } else { (self.written, 0) };
        let fits = at.checked_add(bytes).is_some_and(|end| end <= self.most_written);
        if bytes == 0 || !fits || !self.disk.grow(bytes.saturating_sub(held)) {
            return None;
        }
        self.writing = true;
        let (spool, file) = (self.spool.clone(), self.file.clone());
        Some(Write { spool, file, at, again, block: mem::take(&mut self.last) })
    }

    fn wrote(&mut self, written: Result<Write, KeepError>) -> Result<(), KeepError> {
        self.writing = false;
        self.comes();
        let Write { file, at, again, mut block, .. } = written?;
        let bytes = block.bytes.len() as u64;
        if again {
            self.left = 0;
            self.disk.shrink(bytes);
        }
        self.written = at + bytes;
        self.file = file;
        block.bytes.clear();
        self.last = block;
        Ok(())
    }

    /// A block leaves, and its room is given back.
    fn leave(&mut self, block: Block) -> Bytes {
        self.share.shrink(self.share.bytes - block.granted);
        self.leaves();
        block.bytes.into()
    }

    fn comes(&mut self) {
        if let Some(outlet) = self.outlet.take() {
            outlet.wake();
        }
    }

    fn leaves(&mut self) {
        if let Some(inlet) = self.inlet.take() {
            inlet.wake();
        }
    }
}

impl<End> Drop for Reservoir<End> {
    fn drop(&mut self) {
        // The room on the disk is given back with the file.
        if let Some(file) = self.file.as_mut().and_then(Arc::get_mut) {
            mem::swap(&mut file.share, &mut self.disk);
        }
    }
}

/// A block on its way to the file.
struct Write {
    spool: Spool,
    file: Option<Arc<SpoolFile>>,
    at: u64,
    /// What the file holds has left.
    again: bool,
    block: Block,
}

impl Write {
    fn run(mut self) -> Result<Self, KeepError> {
        let written = self.write();
        written.map_err(|error| self.spool.failed(error))?;
        Ok(self)
    }

    fn write(&mut self) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => Arc::new(SpoolFile::create(&self.spool)?),
        };
        if self.again {
            file.file()?.set_len(0)?;
        }
        file.file()?.write_all_at(&self.block.bytes, self.at)?;
        self.file = Some(file);
        Ok(())
    }
}

impl<End> Outlet<End> {
    /// What leaves next.
    ///
    /// # Errors
    /// The file cannot be read, or the inlet is gone.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Next<End>>> {
        let mut reservoir = self.reservoir.borrow_mut();
        if let Some(block) = reservoir.memory.pop_front() {
            reservoir.in_memory -= block.bytes.len();
            return Poll::Ready(Ok(Next::Part(reservoir.leave(block))));
        }
        if reservoir.left < reservoir.written {
            let (at, spool) = (reservoir.left, &reservoir.spool);
            let share = self.share.get_or_insert_with(|| {
                let mut share = Share::none(&spool.0.memory);
                share.grow(PIECE as u64);
                share
            });
            let waiting = usize::try_from(reservoir.written - at).unwrap_or(PIECE);
            let piece = if share.bytes == 0 { SMALL_PIECE } else { PIECE }.min(waiting);
            let file = reservoir.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
            let reading = self.reading.get_or_insert_with(|| {
                let file = Arc::clone(file);
                spawn_blocking(move || file.read(at, piece))
            });
            let read = ready!(Pin::new(reading).poll(cx));
            self.reading = None;
            let part = read.map_err(io::Error::other).and_then(|read| read)?;
            reservoir.left += part.len() as u64;
            reservoir.leaves();
            return Poll::Ready(Ok(Next::Part(part)));
        }
        if !reservoir.writing {
            if !reservoir.last.bytes.is_empty() {
                let block = mem::take(&mut reservoir.last);
                return Poll::Ready(Ok(Next::Part(reservoir.leave(block))));
            }
            if let Some(end) = reservoir.end.take() {
                return Poll::Ready(Ok(Next::Over(end)));
            }
            if !reservoir.open {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        reservoir.outlet = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
