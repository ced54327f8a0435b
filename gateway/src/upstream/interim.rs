//! Interim answers (1xx) of a backend, seen on their way in: hyper reads over them.
//!
//! Sits between hyper and the socket of every backend connection. It changes no byte; of a final answer it looks
//! at the first twelve bytes.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::stream::UpstreamStream;

/// Longest head of an interim answer that is passed on.
const MAX_HEAD: usize = 16 * 1024;
/// What an interim answer begins with.
const START: &[u8] = b"HTTP/1.1 1";

/// An interim answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interim {
    pub(crate) status: StatusCode,
    /// Fit for the client, as HTTP/1.1 has it.
    pub(crate) head: Vec<u8>,
}

/// What was seen of the answer that a connection is waiting for.
#[derive(Default)]
pub(crate) struct Lookout {
    looking: Cell<bool>,
    found: Cell<bool>,
    begun: RefCell<Vec<u8>>,
    seen: RefCell<VecDeque<Interim>>,
}

impl Lookout {
    /// An answer is due.
    pub(super) fn begin(&self) {
        self.looking.set(true);
        self.begun.borrow_mut().clear();
        self.seen.borrow_mut().clear();
        self.found.set(false);
    }

    /// The next interim answer, in the order in which they came.
    pub(super) fn next(&self) -> Option<Interim> {
        if !self.found.get() {
            return None;
        }
        let mut seen = self.seen.borrow_mut();
        let next = seen.pop_front();
        self.found.set(!seen.is_empty());
        next
    }

    fn received(&self, bytes: &[u8]) {
        let mut begun = self.begun.borrow_mut();
        if begun.is_empty() && matches!(Part::of(bytes), Part::Final) {
            self.looking.set(false);
            return;
        }
        begun.extend_from_slice(bytes);
        loop {
            match Part::of(&begun) {
                Part::Interim(length) => {
                    let head: Vec<u8> = begun.drain(..length).collect();
                    if let Some(interim) = fit(&head) {
                        self.seen.borrow_mut().push_back(interim);
                        self.found.set(true);
                    }
                }
                Part::Unfinished if begun.len() <= MAX_HEAD => return,
                Part::Unfinished | Part::Final => {
                    self.looking.set(false);
                    *begun = Vec::new();
                    return;
                }
            }
        }
    }
}

/// What the bytes of a stream begin with.
enum Part {
    /// The head of an interim answer of this length.
    Interim(usize),
    /// What may become one.
    Unfinished,
    /// Something else.
    Final,
}

impl Part {
    fn of(bytes: &[u8]) -> Self {
        let known = bytes.len().min(START.len());
        if bytes[..known] != START[..known] || bytes.get(9..12) == Some(b"101") {
            return Self::Final;
        }
        match bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            Some(at) if bytes.len() > 12 => Self::Interim(at + 4),
            _ => Self::Unfinished,
        }
    }
}

/// What a client gets of an interim answer; `None` if it makes no sense.
fn fit(head: &[u8]) -> Option<Interim> {
    let mut lines = head.strip_suffix(b"\r\n\r\n")?.split(|byte| *byte == b'\n');
    let status = StatusCode::from_bytes(lines.next()?.get(9..12)?).ok()?;
    let reason = status.canonical_reason().unwrap_or("");
    let mut fit = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        if !is_of_this_hop(&name) {
            fit.extend_from_slice(name.as_str().as_bytes());
            fit.extend_from_slice(b": ");
            fit.extend_from_slice(value.as_bytes());
            fit.extend_from_slice(b"\r\n");
        }
    }
    fit.extend_from_slice(b"\r\n");
    Some(Interim { status, head: fit })
}

/// Fields that say something of this connection, or of a body that an interim answer has not.
fn is_of_this_hop(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
    ]
    .contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// The byte stream of a backend connection.
pub(crate) struct UpstreamIo {
    stream: UpstreamStream,
    lookout: Rc<Lookout>,
}

impl UpstreamIo {
    pub(super) fn new(stream: UpstreamStream, lookout: Rc<Lookout>) -> Self {
        Self { stream, lookout }
    }

    /// The bare stream.
    pub(super) fn into_stream(self) -> UpstreamStream {
        self.stream
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.lookout.looking.get() && polled.is_ready() && buf.filled().len() > before {
            self.lookout.received(&buf.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for UpstreamIo {
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

    /// What is seen of a stream that comes in pieces of this size.
    fn seen(stream: &str, size: usize) -> Vec<(u16, String)> {
        let lookout = Lookout::default();
        lookout.begin();
        for piece in stream.as_bytes().chunks(size) {
            if lookout.looking.get() {
                lookout.received(piece);
            }
        }
        assert!(lookout.begun.borrow().len() <= MAX_HEAD + size);
        let heads = std::iter::from_fn(|| lookout.next());
        heads.map(|it| (it.status.as_u16(), String::from_utf8(it.head).unwrap())).collect()
    }

    #[test]
    fn interim_answers_are_seen_in_pieces_of_any_size_and_lose_the_fields_of_their_hop() {
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\nHTTP/1.1 103 X\r\n\r\n";
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nlink:</b> \r\n\r\n";
        let stream = format!("HTTP/1.1 100 Continue\r\n\r\n{hints}HTTP/1.1 199 \r\n\r\n{last}");
        for size in [1, 2, 7, 11, 12, 13, 50, 1_000] {
            let heads = seen(&stream, size);
            let fit = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n";
            assert_eq!(heads.len(), 3, "{size}: {heads:?}");
            assert_eq!(heads[0], (100, "HTTP/1.1 100 Continue\r\n\r\n".to_owned()));
            assert_eq!(heads[1], (103, fit.to_owned()));
            assert_eq!(heads[2].0, 199);
        }
    }

    #[test]
    fn what_is_none_or_makes_no_sense_is_not_passed_on() {
        for stream in [
            "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_owned(),
            "HTTP/1.0 103 Early Hints\r\n\r\n".to_owned(),
            "HTTP/1.1 103 Early Hints\r\nno colon\r\n\r\n".to_owned(),
            "HTTP/1.1 103 Early Hints\r\nA: b\r\n folded\r\n\r\n".to_owned(),
            "HTTP/1.1 103 Early Hints\r\nA: b\rX: c\r\n\r\n".to_owned(),
            format!("HTTP/1.1 103 Early Hints\r\nA: {}\r\n\r\n", "x".repeat(MAX_HEAD + 1_000)),
            String::new(),
        ] {
            assert_eq!(seen(&stream, 100), [], "{stream:?}");
        }
    }
}
