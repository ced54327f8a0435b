//! Response bodies of the echo backend.
//!
//! Used by [`super::answer`] only. A body of any size is cut from one static block, so that sending
//! 1 MiB costs the backend no allocation and no fill.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// The block that sized bodies are cut from. Lines of 64 characters, so that a terminal survives it.
static FILL: [u8; 256 * 1024] = fill();

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
        let length = usize::try_from(self.fill).map_or(FILL.len(), |left| left.min(FILL.len()));
        self.fill -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&FILL[..length])))))
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

const fn fill() -> [u8; 256 * 1024] {
    let mut block = [b'x'; 256 * 1024];
    let mut at = 63;
    while at < block.len() {
        block[at] = b'\n';
        at += 64;
    }
    block
}
