//! Response bodies of the echo backend.
//!
//! Used by [`super::answer`] only. A body of any size is cut from one static block, so that sending
//! 1 MiB costs the backend no allocation and no fill.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// The block that sized bodies are cut from: lines of eight words, so that a terminal survives it and a
/// compressor has something to do.
static FILL: LazyLock<Vec<u8>> = LazyLock::new(fill);

/// What the backend sends after the head.
#[derive(Debug)]
pub(super) struct EchoBody {
    /// Sent first, whole.
    text: Bytes,
    /// Bytes of fill still to send after it.
    fill: u64,
    /// Whether the length is told (`Content-Length`) or not (chunked).
    known_length: bool,
}

impl EchoBody {
    /// A short text with a known length.
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self { text: text.into(), fill: 0, known_length: true }
    }

    /// `size` bytes of fill.
    pub(super) fn fill(size: u64) -> Self {
        Self { text: Bytes::new(), fill: size, known_length: true }
    }

    /// Hides the length, so that HTTP/1.1 sends it chunked.
    pub(super) fn chunked(self) -> Self {
        Self { known_length: false, ..self }
    }
}

impl Body for EchoBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.text.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.text)))));
        }
        if self.fill == 0 {
            return Poll::Ready(None);
        }
        let block: &'static [u8] = &FILL;
        let length = usize::try_from(self.fill).map_or(block.len(), |left| left.min(block.len()));
        self.fill -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&block[..length])))))
    }

    fn is_end_stream(&self) -> bool {
        self.known_length && self.text.is_empty() && self.fill == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.known_length {
            SizeHint::with_exact(self.text.len() as u64 + self.fill)
        } else {
            SizeHint::default()
        }
    }
}

fn fill() -> Vec<u8> {
    const WORDS: [&[u8; 7]; 16] = [
        b"service",
        b"gateway",
        b"backend",
        b"\"name\":",
        b"address",
        b"\"port\":",
        b"8080808",
        b"10.0.12",
        b"default",
        b"{\"kind\"",
        b"pathway",
        b"machine",
        b"cluster",
        b"weights",
        b"100.000",
        b"-------",
    ];
    let mut block = Vec::with_capacity(256 * 1024);
    // A linear congruential generator (Numerical Recipes): the same text on every machine.
    let mut state = 1_u32;
    while block.len() < 256 * 1024 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        block.extend_from_slice(WORDS[(state >> 28) as usize]);
        block.push(if block.len() % 64 == 63 { b'\n' } else { b' ' });
    }
    block
}
