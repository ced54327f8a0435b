//! Bytes both ways between two sockets, until both have ended or one breaks.
//!
//! What comes in small pieces goes through one buffer that all connections of the worker share: an idle connection
//! holds no memory for bytes. A direction whose reads fill that buffer is spliced, by a pipe that it has only while
//! bytes are in it.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, ErrorKind},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};
use tokio_rustls::server::TlsStream;

use super::pipe::Pipe;
use crate::worker::{
    context::Worker,
    timeouts::{ConnTimers, Phase},
};

/// Bytes of the buffer.
const BUFFER: usize = 16 * 1024;
/// What a pipe holds unless it is told otherwise (pipe(7)).
const PIPE: usize = 64 * 1024;
/// Most empty pipes that are kept.
const MAX_PIPES: usize = 64;

/// What all relays of one worker share.
pub(crate) struct Relays {
    buffer: RefCell<Box<[u8]>>,
    pipes: RefCell<Vec<Pipe>>,
}

impl Default for Relays {
    fn default() -> Self {
        Self { buffer: RefCell::new(vec![0; BUFFER].into()), pipes: RefCell::default() }
    }
}

impl Relays {
    fn pipe(&self) -> io::Result<Pipe> {
        let kept = self.pipes.borrow_mut().pop();
        kept.map_or_else(Pipe::new, Ok)
    }

    /// Takes an empty pipe back.
    fn keep(&self, pipe: Pipe) {
        let mut pipes = self.pipes.borrow_mut();
        if pipes.len() < MAX_PIPES {
            pipes.push(pipe);
        }
    }
}

/// Bytes on their way between a client and a backend.
pub(crate) struct Relay {
    up: Way,
    down: Way,
}

impl Relay {
    /// `early` is for the backend before anything else.
    pub(crate) fn new(early: Vec<u8>) -> Self {
        Self { up: Way::with(early), down: Way::with(Vec::new()) }
    }

    /// How many bytes came from the client, and how many went to it.
    pub(crate) fn moved(&self) -> (u64, u64) {
        (self.up.moved, self.down.moved)
    }

    /// Passes bytes on; ready when both sides have ended, or the timers end it. A side that breaks off has the other
    /// broken off as well, unless that has been told everything; what the backend said before is still told.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (worker, timers): (&Worker, &ConnTimers),
        relays: &Relays,
        client: &mut TcpStream,
        backend: &mut TcpStream,
    ) -> Poll<()> {
        timers.register(cx);
        let whole = timers.expired().is_none()
            && ready!(self.pass_on(cx, (worker, timers), relays, client, backend));
        // A side that has been told all, its end included, gets what the kernel still holds for it.
        if !whole && !self.down.is_over() {
            break_off(client);
        }
        if !whole && !self.up.is_over() {
            break_off(backend);
        }
        Poll::Ready(())
    }

    /// Moves what can be moved; ready with whether both sides have ended as they should.
    fn pass_on(
        &mut self,
        cx: &mut Context<'_>,
        (worker, timers): (&Worker, &ConnTimers),
        relays: &Relays,
        client: &mut TcpStream,
        backend: &mut TcpStream,
    ) -> Poll<bool> {
        let Self { up, down } = self;
        let (mut from_client, mut to_client) = client.split();
        let (mut from_backend, mut to_backend) = backend.split();
        let before = up.moved + down.moved;
        let last = down.state == State::Ended;
        let there = up.poll(cx, relays, &mut from_client, &mut to_backend, last);
        let last = up.state == State::Ended;
        let back = down.poll(cx, relays, &mut from_backend, &mut to_client, last);
        if up.moved + down.moved != before {
            timers.enter(Phase::Tunnel, worker.now());
        }
        match (there, back) {
            // The backend takes no more, but what it has said may be on its way.
            (Poll::Ready(Err(Broken::To)), Poll::Pending) => {
                up.state = State::Refused;
                Poll::Pending
            }
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(false),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(true),
            _ => Poll::Pending,
        }
    }
}

/// Passes on what is within a client's TLS, until both sides have ended, one breaks off or the timers end it. Returns how
/// many bytes came from the client, and how many went to it. As in [`Relay::poll`], a side that has been told all is not
/// broken off, and what the backend said is still told when it takes no more.
pub(crate) async fn relay_tls(
    ends: (&Worker, &ConnTimers),
    client: &mut TlsStream<TcpStream>,
    backend: &mut TcpStream,
    early: Vec<u8>,
) -> (u64, u64) {
    let timers = ends.1;
    let mut client = Watched { stream: client, ends, came: 0, went: 0 };
    let (mut up, mut down) = (None, None);
    {
        let (mut from_client, mut to_client) = tokio::io::split(&mut client);
        let (mut from_backend, mut to_backend) = backend.split();
        let mut there = pin!(pass_on(&mut from_client, &mut to_backend, early));
        let mut back = pin!(pass_on(&mut from_backend, &mut to_client, Vec::new()));
        poll_fn(|cx| {
            timers.register(cx);
            if timers.expired().is_some() {
                return Poll::Ready(());
            }
            advance(&mut up, there.as_mut(), cx);
            advance(&mut down, back.as_mut(), cx);
            match (up, down) {
                // The backend takes no more, but what it has said may be on its way.
                (None | Some(Ok(()) | Err(Broken::To)), None) | (None, Some(Ok(()))) => {
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
    let moved = (client.came, client.went);
    if down != Some(Ok(())) {
        break_off(client.stream.get_ref().0);
    }
    if up != Some(Ok(())) {
        break_off(backend);
    }
    moved
}

/// Goes on with one of two directions, until it has come to its end.
fn advance<T>(end: &mut Option<T>, way: Pin<&mut impl Future<Output = T>>, cx: &mut Context<'_>) {
    if end.is_none()
        && let Poll::Ready(ended) = way.poll(cx)
    {
        *end = Some(ended);
    }
}

/// Passes on what one side says, `early` before all else, until the other has been told that it has ended.
async fn pass_on(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    early: Vec<u8>,
) -> Result<(), Broken> {
    to.write_all(&early).await.map_err(|_| Broken::To)?;
    drop(early);
    let mut buffer = vec![0; BUFFER];
    loop {
        let got = from.read(&mut buffer).await.map_err(|_| Broken::From)?;
        if got == 0 {
            // A receiver that has gone needs not be told.
            let _ = to.shutdown().await;
            return Ok(());
        }
        to.write_all(&buffer[..got]).await.map_err(|_| Broken::To)?;
        to.flush().await.map_err(|_| Broken::To)?;
    }
}

/// A client's TLS, and what moves on it.
struct Watched<'c> {
    stream: &'c mut TlsStream<TcpStream>,
    ends: (&'c Worker, &'c ConnTimers),
    came: u64,
    went: u64,
}

impl Watched<'_> {
    fn moved(&self) {
        let (worker, timers) = self.ends;
        timers.enter(Phase::Tunnel, worker.now());
    }
}

impl AsyncRead for Watched<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match ready!(Pin::new(&mut *self.stream).poll_read(cx, buffer)) {
            // Many clients end without a close_notify, those above all that are killed. All that came before has to
            // arrive: who has broken off has said nothing more, which is an end to any protocol that needs to know.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => (),
            read => read?,
        }
        self.came += (buffer.filled().len() - before) as u64;
        self.moved();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, bytes))?;
        self.went += written as u64;
        self.moved();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

/// Has a connection end by a reset, as that of its other side did.
pub(crate) fn break_off(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// One of the two directions.
struct Way {
    held: Held,
    state: State,
    /// Bytes that were handed on.
    moved: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes come in small pieces.
    Copying,
    /// They come in bulk.
    Splicing,
    /// The sender has ended; the receiver has yet to be told.
    Ending,
    /// Nothing comes any more.
    Ended,
    /// The receiver takes no more.
    Refused,
}

/// Bytes that the receiver has not taken yet.
enum Held {
    Nothing,
    /// From this place on.
    Bytes(Vec<u8>, usize),
    /// So many.
    Piped(Pipe, usize),
}

/// Which side broke off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    From,
    To,
}

impl Way {
    fn with(early: Vec<u8>) -> Self {
        let held = if early.is_empty() { Held::Nothing } else { Held::Bytes(early, 0) };
        Self { held, state: State::Copying, moved: 0 }
    }

    /// Whether nothing is handed on any more.
    fn is_over(&self) -> bool {
        matches!(self.state, State::Ended | State::Refused)
    }

    /// Moves what can be moved; ready when the receiver has been told that the sender has ended. `last`: the other
    /// direction has come to its end, so that both sockets are closed then, which tells the receiver.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        relays: &Relays,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        last: bool,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.hand_on(cx, relays, to)).map_err(|_| Broken::To)?;
            match self.state {
                State::Copying => ready!(self.copy(cx, relays, from, to))?,
                State::Splicing => {
                    ready!(self.splice(cx, relays, from)).map_err(|_| Broken::From)?;
                }
                State::Ending => {
                    if !last {
                        // A receiver that has gone needs not be told.
                        let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    }
                    self.state = State::Ended;
                }
                State::Ended | State::Refused => (),
            }
        }
    }

    /// Hands on what is held; ready when nothing is.
    fn hand_on(
        &mut self,
        cx: &mut Context<'_>,
        relays: &Relays,
        to: &mut WriteHalf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let sent = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Bytes(bytes, at) => {
                    let sent = ready!(Pin::new(&mut *to).poll_write(cx, &bytes[*at..]))?;
                    *at += sent;
                    if *at == bytes.len() {
                        self.held = Held::Nothing;
                    }
                    sent
                }
                Held::Piped(pipe, left) => {
                    let stream: &TcpStream = (*to).as_ref();
                    ready!(stream.poll_write_ready(cx))?;
                    match stream.try_io(Interest::WRITABLE, || pipe.drain(stream, *left)) {
                        Ok(sent) => {
                            *left -= sent;
                            if *left == 0
                                && let Held::Piped(pipe, _) =
                                    std::mem::replace(&mut self.held, Held::Nothing)
                            {
                                relays.keep(pipe);
                            }
                            sent
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
            };
            if sent == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.moved += sent as u64;
        }
    }

    fn copy(
        &mut self,
        cx: &mut Context<'_>,
        relays: &Relays,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
    ) -> Poll<Result<(), Broken>> {
        let mut buffer = relays.buffer.borrow_mut();
        let mut buffer = ReadBuf::new(&mut buffer);
        ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(|_| Broken::From)?;
        let got = buffer.filled();
        match got.len() {
            0 => {
                self.state = State::Ending;
                return Poll::Ready(Ok(()));
            }
            BUFFER => self.state = State::Splicing,
            _ => (),
        }
        // Mostly all of it is taken at once.
        let sent = match Pin::new(to).poll_write(cx, got) {
            Poll::Ready(sent) => sent.map_err(|_| Broken::To)?,
            Poll::Pending => 0,
        };
        self.moved += sent as u64;
        if sent < got.len() {
            self.held = Held::Bytes(got[sent..].to_vec(), 0);
        }
        Poll::Ready(Ok(()))
    }

    fn splice(
        &mut self,
        cx: &mut Context<'_>,
        relays: &Relays,
        from: &mut ReadHalf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream: &TcpStream = (*from).as_ref();
        ready!(stream.poll_read_ready(cx))?;
        let Ok(pipe) = relays.pipe() else {
            // There are no descriptors left for it.
            self.state = State::Copying;
            return Poll::Ready(Ok(()));
        };
        match stream.try_io(Interest::READABLE, || pipe.fill(stream, PIPE)) {
            Ok(0) => self.state = State::Ending,
            Ok(got) => {
                if got < BUFFER / 2 {
                    self.state = State::Copying;
                }
                self.held = Held::Piped(pipe, got);
                return Poll::Ready(Ok(()));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(error) => return Poll::Ready(Err(error)),
        }
        relays.keep(pipe);
        Poll::Ready(Ok(()))
    }
}
