//! gzip (RFC 1952) with states that are used again.
//!
//! A state has 400 KB; to get and to clear that costs as much as to compress a small page. Each worker keeps a few.

use std::{cell::RefCell, io};

use flate2::{Compress, Compression, FlushCompress, Status};

/// States that a worker keeps for the next bodies.
const KEPT: usize = 8;
/// Bytes by which the output grows at least.
const ROOM: usize = 4096;
/// The library's level 1 makes answers half as long again as zlib's does; its level 2 is as cheap as zlib's 1, and its
/// answers are a little shorter.
const LEAST_LEVEL: u8 = 2;
/// The logarithm of the window.
const WINDOW: u8 = 15;

thread_local! {
    static STATES: RefCell<Vec<(u8, Compress)>> = const { RefCell::new(Vec::new()) };
}

/// One body on its way.
pub(super) struct Gzip {
    level: u8,
    /// `None` once it has been given back.
    state: Option<Compress>,
    out: Vec<u8>,
}

impl Gzip {
    /// `level` is zlib's, 1 to 9.
    pub(super) fn new(level: u8) -> Self {
        let level = level.max(LEAST_LEVEL);
        let kept = STATES.with_borrow_mut(|states| {
            let at = states.iter().position(|(kept, _)| *kept == level)?;
            Some(states.swap_remove(at).1)
        });
        let new = || Compress::new_gzip(Compression::new(u32::from(level)), WINDOW);
        Self { level, state: Some(kept.unwrap_or_else(new)), out: Vec::new() }
    }

    pub(super) fn write(&mut self, part: &[u8]) -> io::Result<()> {
        self.run(part, FlushCompress::None)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.run(&[], FlushCompress::Sync)
    }

    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        self.run(&[], FlushCompress::Finish)?;
        Ok(self.take())
    }

    /// What has come of it so far.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn run(&mut self, mut part: &[u8], flush: FlushCompress) -> io::Result<()> {
        let Some(state) = &mut self.state else { return Ok(()) };
        loop {
            if self.out.len() == self.out.capacity() {
                self.out.reserve(ROOM);
            }
            let before = state.total_in();
            let status = state.compress_vec(part, &mut self.out, flush)?;
            let taken = usize::try_from(state.total_in() - before).unwrap_or(part.len());
            part = part.get(taken..).unwrap_or_default();
            // Room that is left over says that nothing more was to be written.
            let room = self.out.len() < self.out.capacity();
            if status == Status::StreamEnd || room && part.is_empty() {
                return Ok(());
            }
        }
    }
}

impl Drop for Gzip {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        let _ = STATES.try_with(|states| {
            let mut states = states.borrow_mut();
            if states.len() < KEPT {
                state.reset();
                states.push((self.level, state));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn decoded(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn a_state_that_is_used_again_knows_nothing_of_the_body_before() {
        let secret = b"a body that another client got, and that ended somewhere".repeat(40);
        let mut first = Gzip::new(6);
        first.write(&secret).unwrap();
        first.flush().unwrap();
        drop(first);
        let mut second = Gzip::new(6);
        second.write(b"short").unwrap();
        let alone = second.finish().unwrap();
        assert_eq!(decoded(&alone), b"short");
        let mut fresh = Gzip {
            level: 6,
            state: Some(Compress::new_gzip(Compression::new(6), WINDOW)),
            out: Vec::new(),
        };
        fresh.write(b"short").unwrap();
        assert_eq!(fresh.finish().unwrap(), alone, "the same bytes as from a new state");
    }

    #[test]
    fn a_worker_keeps_a_few_states_and_gives_them_by_level() {
        let many: Vec<_> = (0..20).map(|n| Gzip::new(4 + n % 2)).collect();
        drop(many);
        STATES.with_borrow(|states| assert_eq!(states.len(), KEPT));
        let other = Gzip::new(9);
        STATES.with_borrow(|states| assert_eq!(states.len(), KEPT));
        let known = Gzip::new(4);
        STATES.with_borrow(|states| assert_eq!(states.len(), KEPT - 1));
        assert_eq!((other.level, known.level, Gzip::new(1).level), (9, 4, LEAST_LEVEL));
    }
}
