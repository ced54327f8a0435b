//! HTTP/2 frames as they pass: of a byte stream their kinds, flags and lengths, and what an endpoint sends too many of.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::interim::{Flood, MOST};

/// Kinds of frames (RFC 9113 §6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;

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

/// How many header blocks an endpoint may still send: those that its requests are good for. An interim answer is one,
/// and h2 keeps all of them until somebody looks.
#[derive(Debug, Default)]
pub(super) struct Due(Cell<usize>);

impl Due {
    /// One more request goes there: as many interim answers, an answer and its trailers may come.
    pub(super) fn request(&self) {
        self.0.set(self.0.get().saturating_add(MOST + 2));
    }

    fn received(&self, frames: &mut Frames, bytes: &[u8]) -> Result<(), Flood> {
        let mut within = Ok(());
        frames.feed(bytes, |kind, _, _| {
            if kind == HEADERS {
                match self.0.get().checked_sub(1) {
                    Some(left) => self.0.set(left),
                    None => within = Err(Flood),
                }
            }
        });
        within
    }
}

/// The byte stream of an HTTP/2 connection to an endpoint, which ends where one sends more than that.
pub(super) struct Counted<S> {
    stream: S,
    frames: Frames,
    due: Rc<Due>,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, due: Rc<Due>) -> Self {
        Self { stream, frames: Frames::default(), due }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if polled.is_ready() {
            let received = this.due.received(&mut this.frames, &buf.filled()[before..]);
            received.map_err(io::Error::other)?;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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
    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, 4, 0, 0, 0, 1];
        // What is in a frame is no frame.
        bytes.resize(9 + payload, HEADERS);
        bytes
    }

    #[test]
    fn as_many_header_blocks_may_come_as_requests_are_good_for_and_any_number_of_other_frames() {
        for size in [1, 7, 1_000, 100_000] {
            let (due, mut frames) = (Due::default(), Frames::default());
            let mut passes = |bytes: &[u8]| {
                bytes.chunks(size).all(|piece| due.received(&mut frames, piece).is_ok())
            };
            for _ in 0..3 {
                due.request();
                assert!(passes(&[frame(HEADERS, 5), frame(DATA, 300)].concat().repeat(MOST)));
                assert!(passes(&[frame(4, 12), frame(8, 4), frame(6, 8)].concat().repeat(1_000)));
                assert!(passes(&[frame(HEADERS, 900), frame(HEADERS, 20)].concat()));
            }
            assert!(!passes(&frame(HEADERS, 5)), "by {size}");
        }
    }
}
