//! Interim answers (1xx) of a backend, seen on their way in: hyper reads over them, however many there are.
//!
//! Sits between hyper and the socket of every backend connection. It changes no byte; of a final answer it looks
//! at the first twelve bytes. A backend that goes on with interim answers instead of giving one is cut off here:
//! hyper would never come to an end with them.
//!
//! What one has said goes before that it does not listen any more: it may have answered a request and gone before it had
//! all of the body. hyper would give up with the first byte that cannot be written, and what has come in would be lost.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, ErrorKind},
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::{
    flood::{Flood, MOST, MOST_BYTES},
    stream::UpstreamStream,
};

/// Longest head of an interim answer that is passed on.
const MAX_HEAD: usize = 16 * 1024;
/// A backend that answers so is spoken to in HTTP/1.0 from then on, and takes no body without a length.
const OLD: &[u8; 8] = b"HTTP/1.0";
/// What an interim answer begins with; hyper takes one of HTTP/1.0 for one, too.
const STARTS: [&[u8; 10]; 2] = [b"HTTP/1.1 1", b"HTTP/1.0 1"];

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
    /// It takes no more bytes.
    deaf: Cell<bool>,
    /// It has answered in HTTP/1.0.
    old: Cell<bool>,
    sight: RefCell<Sight>,
}

#[derive(Default)]
struct Sight {
    /// An interim answer that is not all there.
    begun: Vec<u8>,
    /// Bytes of it that its end was looked for in.
    searched: usize,
    seen: VecDeque<Interim>,
    /// How many have come, also of those that make no sense.
    count: usize,
    /// Their bytes.
    bytes: usize,
    /// One of them, or what came after them, is of HTTP/1.0.
    old: bool,
}

impl Lookout {
    /// An answer is due.
    pub(super) fn begin(&self) {
        self.looking.set(true);
        self.found.set(false);
        let Sight { begun, searched, seen, count, bytes, old } = &mut *self.sight.borrow_mut();
        begun.clear();
        seen.clear();
        (*searched, *count, *bytes, *old) = (0, 0, 0, false);
    }

    /// The next interim answer, in the order in which they came.
    pub(super) fn next(&self) -> Option<Interim> {
        if !self.found.get() {
            return None;
        }
        let seen = &mut self.sight.borrow_mut().seen;
        let next = seen.pop_front();
        self.found.set(!seen.is_empty());
        next
    }

    /// Whether the connection is to carry no more requests, though it may still have an answer to one: it takes no
    /// more bytes, or hyper would say `HTTP/1.0` on it, which a body of unknown length cannot follow.
    pub(super) fn is_last(&self) -> bool {
        self.deaf.get() || self.old.get()
    }

    fn received(&self, bytes: &[u8]) -> Result<(), Flood> {
        let sight = &mut *self.sight.borrow_mut();
        if sight.begun.is_empty() && matches!(Part::of(bytes, 0), Part::Final) {
            self.looking.set(false);
            self.old.set(bytes.starts_with(OLD));
            return Ok(());
        }
        self.looking.set(sight.received(bytes)?);
        self.old.set(sight.old);
        self.found.set(!sight.seen.is_empty());
        Ok(())
    }
}

impl Sight {
    /// Takes what has come in; true if the answer has not begun.
    fn received(&mut self, bytes: &[u8]) -> Result<bool, Flood> {
        let mut begun = mem::take(&mut self.begun);
        begun.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = &begun[at..];
            // A parser skips them (RFC 9112 §2.2).
            let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if blank > 0 {
                at += blank;
                self.spend(blank)?;
                continue;
            }
            self.old |= rest.starts_with(OLD);
            match Part::of(rest, mem::take(&mut self.searched)) {
                Part::Interim(length) => {
                    at += length;
                    self.count += 1;
                    self.spend(length)?;
                    self.seen.extend(fit(&rest[..length]));
                }
                Part::Unfinished if self.bytes + rest.len() > MOST_BYTES => {
                    return Err(Flood::Interim);
                }
                Part::Unfinished => {
                    self.searched = rest.len();
                    begun.drain(..at);
                    self.begun = begun;
                    return Ok(true);
                }
                Part::Final => return Ok(false),
            }
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Flood> {
        self.bytes += bytes;
        if self.count > MOST || self.bytes > MOST_BYTES { Err(Flood::Interim) } else { Ok(()) }
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
    /// `searched`: so many bytes hold no end.
    fn of(bytes: &[u8], searched: usize) -> Self {
        let known = bytes.len().min(STARTS[0].len());
        if !STARTS.iter().any(|start| bytes[..known] == start[..known])
            || bytes.get(9..12) == Some(b"101")
        {
            return match bytes.first() {
                Some(b'\r' | b'\n') => Self::Unfinished,
                _ => Self::Final,
            };
        }
        // An empty line, which may end without CR as any line may (RFC 9112 §2.2).
        let from = searched.saturating_sub(2);
        let mut lines = bytes[from..].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        lines
            .find_map(|(at, _)| match bytes[from + at + 1..] {
                [b'\n', ..] => Some(Self::Interim(from + at + 2)),
                [b'\r', b'\n', ..] => Some(Self::Interim(from + at + 3)),
                _ => None,
            })
            .unwrap_or(Self::Unfinished)
    }
}

/// What a client gets of an interim answer; `None` if it makes no sense.
fn fit(head: &[u8]) -> Option<Interim> {
    let head = head.strip_prefix(b"HTTP/1.1 ").filter(|_| head.len() <= MAX_HEAD)?;
    let mut lines = head.trim_ascii_end().split(|byte| *byte == b'\n');
    let status = StatusCode::from_bytes(lines.next()?.get(..3)?).ok()?;
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
pub(crate) struct UpstreamIo<S = UpstreamStream> {
    stream: S,
    lookout: Rc<Lookout>,
}

impl<S> UpstreamIo<S> {
    pub(super) fn new(stream: S, lookout: Rc<Lookout>) -> Self {
        Self { stream, lookout }
    }

    /// The bare stream.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// Writes as `write` does, until the peer takes no more: from then on bytes go nowhere. Whether it has answered
    /// before that is told by reading, which comes to its end as well.
    fn poll_write_with(
        &mut self,
        all: usize,
        write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>>
    where
        S: Unpin,
    {
        if self.lookout.deaf.get() {
            return Poll::Ready(Ok(all));
        }
        let polled = write(Pin::new(&mut self.stream));
        if let Poll::Ready(Err(error)) = &polled
            && matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        {
            self.lookout.deaf.set(true);
            return Poll::Ready(Ok(all));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for UpstreamIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.lookout.looking.get() && polled.is_ready() && buf.filled().len() > before {
            self.lookout.received(&buf.filled()[before..]).map_err(io::Error::other)?;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for UpstreamIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(bytes.len(), |stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        self.poll_write_with(all, |stream| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lookout.deaf.get() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, task::Waker};

    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http::Request;
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::{body::Frame, client::conn::http1};
    use hyper_util::rt::TokioIo;
    use tokio::sync::oneshot;

    use super::*;

    /// What is seen of a stream that comes in pieces of this size, and whether it was cut off.
    fn look(stream: &[u8], size: usize) -> (Vec<Interim>, bool) {
        let lookout = Lookout::default();
        lookout.begin();
        let mut pieces = stream.chunks(size).filter(|_| lookout.looking.get());
        let flood = pieces.any(|piece| lookout.received(piece).is_err());
        assert!(lookout.sight.borrow().begun.len() <= MOST_BYTES);
        (std::iter::from_fn(|| lookout.next()).collect(), flood)
    }

    fn seen(stream: &str, size: usize) -> Vec<(u16, String)> {
        let (heads, flood) = look(stream.as_bytes(), size);
        assert!(!flood, "{stream:?} by {size}");
        let text = |it: Interim| (it.status.as_u16(), String::from_utf8(it.head).unwrap());
        heads.into_iter().map(text).collect()
    }

    const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\nHTTP/1.1 103 X\r\n\r\n";

    #[test]
    fn interim_answers_are_seen_in_pieces_of_any_size_and_lose_the_fields_of_their_hop() {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nlink:</b> \r\n\r\n";
        for stream in [
            format!("HTTP/1.1 100 Continue\r\n\r\n{hints}HTTP/1.1 199 \r\n\r\n{LAST}"),
            // What ends its lines without CR, or has empty lines before it, is one as well.
            format!("\r\n\nHTTP/1.1 100\n\n{}HTTP/1.1 199\n\r\n{LAST}", hints.replace('\r', "")),
        ] {
            for size in [1, 2, 7, 11, 12, 13, 50, 1_000] {
                let heads = seen(&stream, size);
                let fit = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n";
                assert_eq!(heads.len(), 3, "{size}: {heads:?}");
                assert_eq!(heads[0], (100, "HTTP/1.1 100 Continue\r\n\r\n".to_owned()));
                assert_eq!(heads[1], (103, fit.to_owned()));
                assert_eq!(heads[2].0, 199);
            }
        }
    }

    #[test]
    fn what_is_none_or_makes_no_sense_is_not_passed_on() {
        for stream in [
            "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_owned(),
            "HTTP/1.0 103 Early Hints\r\n\r\n".to_owned(),
            "HTTP/1.1 1\n\n".to_owned(),
            "HTTP/1.1 103 Early Hints\r\nno colon\r\n\r\n".to_owned(),
            "HTTP/1.1 103 Early Hints\r\nA: b\r\n folded\r\n\r\n".to_owned(),
            "HTTP/1.1 103 Early Hints\r\nA: b\rX: c\r\n\r\n".to_owned(),
            format!("HTTP/1.1 103 Early Hints\r\nA: {}\r\n\r\n", "x".repeat(MAX_HEAD + 1_000)),
            String::new(),
        ] {
            assert_eq!(seen(&stream, 100), [], "{stream:?}");
        }
    }

    #[test]
    fn a_backend_that_goes_on_with_interim_answers_is_cut_off_however_it_spells_them() {
        for one in [
            "HTTP/1.1 102 Processing\r\n\r\n",
            "HTTP/1.0 103\n\n",
            "\r\n\nHTTP/1.1 103\n\r\n",
            "HTTP/1.1 103 \r\nno colon\r\n\r\n",
        ] {
            for size in [1, 7, 1_000, 300_000] {
                let (_, flood) = look((one.repeat(MOST) + LAST).as_bytes(), size);
                assert!(!flood, "{one:?} by {size}: as many as may be");
                let (passed, flood) = look((one.repeat(20_000) + LAST).as_bytes(), size);
                assert!(flood && passed.len() <= MOST, "{one:?} by {size}: {}", passed.len());
            }
        }
    }

    #[test]
    fn their_bytes_have_a_bound_and_each_is_looked_at_once() {
        let one = format!("HTTP/1.1 103 X\r\nA: {}\r\n\r\n", "x".repeat(15_000));
        let endless = format!("HTTP/1.1 103 X\r\nA: {}", "x".repeat(10 * MOST_BYTES));
        for size in [1, 7, 300_000] {
            assert!(!look((one.repeat(4) + LAST).as_bytes(), size).1, "by {size}");
            assert!(look((one.repeat(5) + LAST).as_bytes(), size).1, "by {size}");
            assert!(look(endless.as_bytes(), size).1, "by {size}");
            assert!(look("\r\n".repeat(MOST_BYTES).as_bytes(), size).1, "by {size}");
        }
    }

    #[test]
    fn every_answer_may_have_as_many_before_it() {
        let lookout = Lookout::default();
        for _ in 0..3 {
            lookout.begin();
            let stream = "HTTP/1.1 102 Processing\r\n\r\n".repeat(MOST);
            assert!(lookout.received(stream.as_bytes()).is_ok());
            assert_eq!(std::iter::from_fn(|| lookout.next()).count(), MOST);
        }
    }

    /// A peer that says the first part when it is asked, and the second one, then the end, when it has stopped listening.
    struct Gone {
        says: [&'static str; 2],
        asked: bool,
        listens: usize,
        waits: Option<Waker>,
    }

    impl AsyncRead for Gone {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let at = usize::from(self.listens == 0);
            let said = if self.asked { mem::take(&mut self.says[at]) } else { "" };
            buf.put_slice(said.as_bytes());
            if said.is_empty() && self.listens > 0 {
                self.waits = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Gone {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.asked = true;
            self.waits.take().into_iter().for_each(Waker::wake);
            let taken = bytes.len().min(self.listens);
            self.listens -= taken;
            match taken {
                0 => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
                taken => Poll::Ready(Ok(taken)),
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.listens {
                0 => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
                _ => Poll::Ready(Ok(())),
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Sends the rest of a body once the head of the answer is there, if it comes before; says what is answered.
    async fn asked(says: [&'static str; 2], listens: usize) -> Result<Bytes, hyper::Error> {
        let lookout = Rc::<Lookout>::default();
        lookout.begin();
        let stream =
            UpstreamIo::new(Gone { says, asked: false, listens, waits: None }, Rc::clone(&lookout));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let (answered, answer) = oneshot::channel::<()>();
        let early = says[0].is_empty();
        let rest = async move {
            if !early {
                let _ = answer.await;
            }
            Bytes::from_static(&[b'x'; 100])
        };
        let body = stream::once(async { Bytes::from_static(b"begun") }).chain(stream::once(rest));
        let body = StreamBody::new(Box::pin(body.map(|it| Ok::<_, Infallible>(Frame::data(it)))));
        let exchange = async move {
            let response = sender.send_request(Request::post("/").body(body).unwrap()).await?;
            let _ = answered.send(());
            Ok(response.into_body().collect().await?.to_bytes())
        };
        let (_, answer) = tokio::join!(connection, exchange);
        assert!(lookout.is_last());
        answer
    }

    #[tokio::test]
    async fn an_answer_that_has_come_in_counts_though_its_backend_took_not_all_of_the_body() {
        let (head, body) = ("HTTP/1.1 413 No\r\nContent-Length: 8\r\n\r\n", "too much");
        for listens in [1, 30, 80] {
            let answer =
                asked(["", "HTTP/1.1 413 No\r\nContent-Length: 8\r\n\r\ntoo much"], listens);
            assert_eq!(answer.await.unwrap(), body, "after {listens}");
        }
        assert_eq!(asked([head, body], 80).await.unwrap(), body);
        assert!(asked(["", ""], 80).await.is_err(), "none is none");
        assert!(asked([head, "too"], 80).await.is_err(), "a part is no answer");
    }
}
