//! HTTP/2 frames as they pass: of a byte stream their kinds, flags and lengths, and what an endpoint sends too many of.

use std::{
    borrow::Borrow,
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::flood::{Flood, MOST};

/// Kinds of frames (RFC 9113 §6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
/// Flag of DATA: some of it is padding.
const PADDED: u8 = 8;
/// Most bytes of it, with the one that says how many.
const MOST_PADDING: usize = 256;
/// Bytes with which a client begins (RFC 9113 §3.4).
pub(crate) const PREFACE: usize = 24;

/// Frames that carry nothing which one side may send at once.
pub(crate) const BURST: u64 = 1_000;
/// So many of them a second are earned by being there (`BURST` in ten seconds).
const PER_SECOND: u64 = 100;
/// So many are earned by a request: priorities, window updates and a reset may come with it.
pub(crate) const PER_REQUEST: u64 = 4;
/// Bytes of body, in either direction, that earn one: who takes a large body opens the window again every few KiB.
pub(crate) const BYTES_PER_FRAME: u64 = 1024;

/// Cuts a byte stream into HTTP/2 frames (RFC 9113 §4.1) without keeping their payload.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Bytes of preface or payload still to skip.
    skip: usize,
    header: [u8; 9],
    have: usize,
}

impl Frames {
    /// Those behind so many bytes.
    pub(crate) fn after(skip: usize) -> Self {
        Self { skip, ..Self::default() }
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8, u8, usize)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (9 - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == 9 {
                let [a, b, c, kind, flags, ..] = self.header;
                self.have = 0;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                each(kind, flags, self.skip);
            }
        }
    }

    pub(crate) fn at_boundary(&self) -> bool {
        self.skip == 0 && self.have == 0
    }
}

/// What pays for frames that carry nothing: a token bucket, filled by time and by what is moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    tokens: u64,
    /// Bytes that have not earned a frame yet.
    moved: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { tokens: BURST, moved: 0 }
    }
}

impl Allowance {
    /// One more such frame; false: it is one too many.
    pub(crate) fn spend(&mut self) -> bool {
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }

    /// So many frames may come besides.
    pub(crate) fn earn(&mut self, frames: u64) {
        self.tokens = self.tokens.saturating_add(frames).min(BURST);
    }

    /// What comes with the bytes of a body, in either direction.
    pub(crate) fn move_bytes(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        self.earn(self.moved / BYTES_PER_FRAME);
        self.moved %= BYTES_PER_FRAME;
    }

    /// What so many milliseconds are good for.
    pub(crate) fn earned_in(millis: u64) -> u64 {
        millis.saturating_mul(PER_SECOND) / 1_000
    }

    #[cfg(test)]
    pub(crate) fn left(self) -> u64 {
        self.tokens
    }
}

/// Whether a DATA frame carries nothing, or may be nothing but padding (RFC 9113 §6.1).
pub(crate) fn is_hollow(flags: u8, length: usize) -> bool {
    length == 0 || (flags & PADDED != 0 && length <= MOST_PADDING)
}

/// What an endpoint may still send without saying anything: what its requests are good for.
#[derive(Debug)]
pub(super) struct Due {
    /// Header blocks. An interim answer is one, and h2 keeps all of them until they are polled.
    blocks: Cell<usize>,
    /// Frames that carry nothing. Each costs work, and most of them an answer.
    idle: Cell<Allowance>,
    /// Up to when time has paid for some. It is looked at only where they are used up.
    paid: Cell<Instant>,
    flood: Cell<Option<Flood>>,
}

impl Due {
    pub(super) fn since(now: Instant) -> Self {
        Self {
            blocks: Cell::default(),
            idle: Cell::default(),
            paid: Cell::new(now),
            flood: Cell::default(),
        }
    }

    /// One more request goes there: as many interim answers, an answer and its trailers may come.
    pub(super) fn request(&self) {
        self.blocks.set(self.blocks.get().saturating_add(MOST + 2));
    }

    /// What the endpoint has sent too many of.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    fn received(
        &self,
        frames: &mut Frames,
        bytes: &[u8],
        now: impl Fn() -> Instant,
    ) -> Result<(), Flood> {
        frames.feed(bytes, |kind, flags, length| {
            let within = match kind {
                HEADERS => self.block(),
                DATA if !is_hollow(flags, length) => {
                    self.change(|idle| idle.move_bytes(length));
                    Ok(())
                }
                _ => self.spend(&now),
            };
            if let Err(flood) = within {
                self.flood.set(Some(flood));
            }
        });
        self.flood.get().map_or(Ok(()), Err)
    }

    /// What we send: an endpoint may measure the way and open its windows with each frame of ours.
    fn sent(&self, frames: &mut Frames, bytes: &[u8]) {
        frames.feed(bytes, |kind, _, length| {
            if matches!(kind, DATA | HEADERS) {
                self.change(|idle| {
                    idle.earn(PER_REQUEST);
                    idle.move_bytes(length);
                });
            }
        });
    }

    fn block(&self) -> Result<(), Flood> {
        let left = self.blocks.get().checked_sub(1).ok_or(Flood::Interim)?;
        self.blocks.set(left);
        Ok(())
    }

    fn spend(&self, now: impl Fn() -> Instant) -> Result<(), Flood> {
        if self.change(Allowance::spend) {
            return Ok(());
        }
        let now = now();
        let passed = now.saturating_duration_since(self.paid.replace(now)).as_millis();
        let earned = Allowance::earned_in(u64::try_from(passed).unwrap_or(u64::MAX));
        let within = self.change(|idle| {
            idle.earn(earned);
            idle.spend()
        });
        if within { Ok(()) } else { Err(Flood::Frames) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Allowance) -> T) -> T {
        let mut idle = self.idle.get();
        let outcome = change(&mut idle);
        self.idle.set(idle);
        outcome
    }
}

/// The byte stream of an HTTP/2 connection to an endpoint, which ends where one sends more than that.
pub(super) struct Counted<S, D> {
    stream: S,
    inbound: Frames,
    outbound: Frames,
    due: D,
}

impl<S, D: Borrow<Due>> Counted<S, D> {
    pub(super) fn new(stream: S, due: D) -> Self {
        Self { stream, inbound: Frames::default(), outbound: Frames::after(PREFACE), due }
    }

    fn sent<'b>(&mut self, pieces: impl Iterator<Item = &'b [u8]>, mut written: usize) {
        for piece in pieces {
            let part = written.min(piece.len());
            self.due.borrow().sent(&mut self.outbound, &piece[..part]);
            written -= part;
        }
    }
}

impl<S: AsyncRead + Unpin, D: Borrow<Due> + Unpin> AsyncRead for Counted<S, D> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if polled.is_ready() {
            let bytes = &buf.filled()[before..];
            let received = this.due.borrow().received(&mut this.inbound, bytes, Instant::now);
            received.map_err(io::Error::other)?;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin, D: Borrow<Due> + Unpin> AsyncWrite for Counted<S, D> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.sent([bytes].into_iter(), written);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(written)) = polled {
            self.sent(slices.iter().map(|slice| &**slice), written);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn flagged(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        // What is in a frame is no frame.
        bytes.resize(9 + payload, HEADERS);
        bytes
    }

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        flagged(kind, 4, payload)
    }

    /// What an endpoint is told and what it says, at times of the test's choice.
    struct Bed {
        due: Due,
        inbound: Frames,
        outbound: Frames,
        now: Instant,
    }

    impl Bed {
        fn new() -> Self {
            let now = Instant::now();
            let (inbound, outbound) = Default::default();
            Self { due: Due::since(now), inbound, outbound, now }
        }

        /// How many of so many frames pass that come in pieces of this size.
        fn passed(&mut self, frame: &[u8], most: usize, size: usize) -> usize {
            (0..most)
                .take_while(|_| {
                    frame.chunks(size).all(|piece| {
                        self.due.received(&mut self.inbound, piece, || self.now).is_ok()
                    })
                })
                .count()
        }

        fn told(&mut self, frame: &[u8]) {
            self.due.sent(&mut self.outbound, frame);
        }
    }

    const PING: u8 = 6;

    #[test]
    fn as_many_header_blocks_may_come_as_requests_are_good_for_and_any_amount_of_data() {
        for size in [1, 7, 1_000, 100_000] {
            let mut bed = Bed::new();
            for _ in 0..3 {
                bed.due.request();
                let answers = [frame(HEADERS, 5), frame(DATA, 300)].concat().repeat(MOST);
                assert_eq!(bed.passed(&answers, 1, size), 1);
                let others = [frame(4, 12), frame(8, 4), frame(PING, 8)].concat().repeat(100);
                assert_eq!(bed.passed(&others, 1, size), 1);
                let last = [frame(HEADERS, 900), frame(HEADERS, 20)].concat();
                assert_eq!(bed.passed(&last, 1, size), 1);
            }
            assert_eq!(bed.passed(&frame(HEADERS, 5), 1, size), 0, "by {size}");
            assert_eq!(bed.due.flood(), Some(Flood::Interim));
        }
    }

    #[test]
    fn frames_that_carry_nothing_end_a_connection_whatever_their_kind() {
        let kinds = [
            frame(PING, 8),
            flagged(PING, 1, 8),
            frame(4, 0),
            frame(4, 6),
            frame(8, 4),
            frame(3, 4),
            frame(2, 5),
            frame(7, 8),
            frame(9, 1),
            frame(99, 1),
            flagged(DATA, 0, 0),
            flagged(DATA, 1, 0),
            flagged(DATA, PADDED, 1),
            flagged(DATA, PADDED, 256),
        ];
        for (one, size) in kinds.iter().flat_map(|one| [1, 7, 100_000].map(|size| (one, size))) {
            let mut bed = Bed::new();
            bed.due.request();
            assert_eq!(bed.passed(one, 5_000, size), BURST as usize, "{one:?} by {size}");
            assert_eq!(bed.due.flood(), Some(Flood::Frames));
            assert_eq!(bed.passed(&frame(DATA, 5), 1, size), 0, "the end is the end");
        }
    }

    #[test]
    fn time_body_and_what_we_send_pay_for_frames() {
        let ping = frame(PING, 8);
        let mut idle = Bed::new();
        for _ in 0..100 {
            // An endpoint that asks ten times a second whether we are there.
            idle.now += Duration::from_secs(1);
            assert_eq!(idle.passed(&ping, 10, 9), 10);
        }
        let mut busy = Bed::new();
        for _ in 0..100 {
            busy.now += Duration::from_secs(1);
            let passed = busy.passed(&ping, 100, 9);
            assert_eq!(passed, 100);
        }
        busy.now += Duration::from_secs(1);
        assert!(busy.passed(&ping, 5_000, 9) <= (BURST + PER_SECOND) as usize);

        let mut measuring = Bed::new();
        for _ in 0..5_000 {
            // As servers of gRPC do: with each message, however small, PING and both windows.
            measuring.told(&frame(DATA, 20));
            let reply = [frame(PING, 8), frame(8, 4), frame(8, 4)].concat();
            assert_eq!(measuring.passed(&reply, 1, 1_000), 1);
        }
        let mut sending = Bed::new();
        for _ in 0..5_000 {
            assert_eq!(sending.passed(&[frame(DATA, 2_048), frame(PING, 8)].concat(), 1, 900), 1);
        }
    }
}
