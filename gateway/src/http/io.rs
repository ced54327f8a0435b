//! A client connection's byte stream: passes bytes through, lets the guards look, notes progress.
//!
//! Sits between hyper and the socket (or TLS stream) of every client connection.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    http::{
        frame_guard::{FrameGuard, GOAWAY_CALM},
        head_scanner::{HeadFlags, HeadScanner},
    },
    worker::{
        context::Worker,
        timeouts::{ConnTimers, Phase, Registered, RequestTimers},
    },
};

/// What the guards know about a connection; shared between its stream and its requests.
pub(crate) enum Guard {
    /// HTTP/1.
    Head(HeadScanner),
    /// HTTP/2.
    Frames(FrameGuard),
}

/// The shared part of a client connection that its byte stream writes and its requests read.
pub(crate) struct ConnShared {
    pub(crate) worker: Rc<Worker>,
    pub(crate) timers: Registered<ConnTimers>,
    pub(crate) guard: RefCell<Guard>,
    /// The timers of an HTTP/1 request: one at a time, so they live as long as the connection.
    pub(crate) request_timers: Registered<RequestTimers>,
    /// The client's half may go on when ours has ended.
    pub(crate) half_closes: Cell<bool>,
    /// The client has ended its half while it waits for an answer.
    pub(crate) client_ended: Cell<bool>,
    /// Interim answers that wait to be written.
    pub(crate) interim: InterimQueue,
}

/// Interim answers (1xx) on their way to an HTTP/1.1 client, which hyper has no words for.
#[derive(Default)]
pub(crate) struct InterimQueue {
    /// The request that is being answered came by HTTP/1.1.
    wanted: Cell<bool>,
    /// hyper has something in hand that must leave first: it has written since it last flushed.
    behind: Cell<bool>,
    waits: Cell<bool>,
    bytes: RefCell<Vec<u8>>,
}

impl InterimQueue {
    /// Whether the client of the request that begins understands interim answers.
    pub(crate) fn begin(&self, wanted: bool) {
        self.wanted.set(wanted);
    }

    /// Has an interim answer written before the final one. It is left out where the client does not understand
    /// it, or has not even taken the previous answer.
    pub(crate) fn offer(&self, head: &[u8]) {
        if self.wanted.get() && !self.behind.get() {
            self.bytes.borrow_mut().extend_from_slice(head);
            self.waits.set(true);
        }
    }
}

impl ConnShared {
    /// What the scanner saw of the request that is being handled.
    pub(crate) fn take_head_flags(&self) -> HeadFlags {
        match &mut *self.guard.borrow_mut() {
            Guard::Head(scanner) => scanner.take(),
            Guard::Frames(_) => HeadFlags::default(),
        }
    }

    /// Whether the connection has been told to leave at least so long ago (under `--time-scale`).
    pub(crate) fn leaving_for(&self, time: Duration) -> bool {
        let since = self.timers.leaving();
        since.is_some_and(|since| {
            let waited = Duration::from_millis(self.worker.now().saturating_sub(since));
            waited >= self.worker.scaled(time)
        })
    }

    /// A request and its answer are over. A head that came along with it has its time from now on.
    pub(crate) fn request_ends(&self) {
        let now = self.worker.now();
        self.timers.request_ends(now);
        if let Guard::Head(scanner) = &*self.guard.borrow()
            && self.timers.phase() == Phase::Idle
            && scanner.in_head()
        {
            self.timers.enter(Phase::Head, now);
        }
        if self.client_ended.get() {
            // The end of its half was kept back while it was owed an answer.
            self.timers.wake();
        }
    }

    /// Whether what the client has begun to send has come in whole.
    pub(crate) fn has_all(&self) -> bool {
        match &*self.guard.borrow() {
            Guard::Head(scanner) => scanner.is_between(),
            Guard::Frames(_) => true,
        }
    }

    /// The client's half has ended. True if its last request was whole and is being answered: it may have gone,
    /// or only have nothing more to say.
    fn awaits_answer(&self) -> bool {
        let active = self.timers.phase() == Phase::Active;
        let awaits = match &*self.guard.borrow() {
            Guard::Head(scanner) => scanner.is_between() && (active || scanner.has_heads()),
            Guard::Frames(_) => false,
        };
        if awaits && !self.client_ended.replace(true) {
            self.request_timers.client_ended(self.worker.now());
        }
        awaits
    }

    fn received(&self, bytes: &[u8]) -> bool {
        let now = self.worker.now();
        match &mut *self.guard.borrow_mut() {
            Guard::Head(scanner) => {
                match self.timers.phase() {
                    Phase::FirstByte | Phase::Idle => self.timers.enter(Phase::Head, now),
                    Phase::Tunnel => self.timers.enter(Phase::Tunnel, now),
                    _ => (),
                }
                self.timers.phase() == Phase::Tunnel || scanner.feed(bytes)
            }
            Guard::Frames(guard) => {
                let within = guard.received(bytes, now);
                if !self.timers.busy() {
                    match (guard.header_block_open(), self.timers.phase()) {
                        (true, Phase::FirstByte | Phase::Idle) => {
                            self.timers.enter(Phase::Head, now);
                        }
                        (false, Phase::Head) => self.timers.enter(Phase::Idle, now),
                        _ => (),
                    }
                }
                within
            }
        }
    }

    /// The socket takes no more: from now on the client is the one who is waited for.
    fn blocked(&self) {
        self.request_timers.answer_offered(self.worker.now());
    }

    fn sent(&self, bytes: &[u8]) {
        self.request_timers.answer_taken();
        match &mut *self.guard.borrow_mut() {
            Guard::Head(_) if self.timers.phase() == Phase::Tunnel => {
                self.timers.enter(Phase::Tunnel, self.worker.now());
            }
            Guard::Head(_) => (),
            Guard::Frames(guard) => guard.sent(bytes),
        }
    }
}

/// The byte stream.
pub(crate) struct ClientIo<S> {
    stream: S,
    /// The stream has something to say at its end (TLS: close_notify). Plain TCP has not: unless bytes
    /// are still to be read, `close` does all that `shutdown` would, for one system call less.
    close_notify: bool,
    shared: Rc<ConnShared>,
}

impl<S> ClientIo<S> {
    pub(crate) fn new(stream: S, close_notify: bool, shared: Rc<ConnShared>) -> Self {
        Self { stream, close_notify, shared }
    }
}

impl<S: AsyncWrite + Unpin> ClientIo<S> {
    /// Writes the interim answers that wait.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let queue = &self.shared.interim;
        let mut bytes = queue.bytes.borrow_mut();
        while !bytes.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes.drain(..written);
        }
        queue.waits.set(false);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            let bytes = &buf.filled()[before..];
            if bytes.is_empty() && self.shared.awaits_answer() {
                // hyper would give up the request. The end is told once the answer has left.
                return Poll::Pending;
            }
            if !bytes.is_empty() && !self.shared.received(bytes) {
                let may_interject = match &*self.shared.guard.borrow() {
                    Guard::Frames(guard) => guard.may_interject(),
                    Guard::Head(_) => false,
                };
                if may_interject {
                    // Best effort: the connection ends whether or not the client learns why.
                    let _ = Pin::new(&mut self.stream).poll_write(cx, &GOAWAY_CALM);
                    let _ = Pin::new(&mut self.stream).poll_flush(cx);
                }
                return Poll::Ready(Err(io::Error::other("beyond what a client may send")));
            }
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.shared.interim.waits.get() {
            ready!(self.poll_interim(cx))?;
        }
        self.shared.interim.behind.set(true);
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        match polled {
            Poll::Ready(Ok(written)) => self.shared.sent(&bytes[..written]),
            Poll::Ready(Err(_)) => (),
            Poll::Pending => self.shared.blocked(),
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.shared.interim.waits.get() {
            ready!(self.poll_interim(cx))?;
        }
        self.shared.interim.behind.set(true);
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if polled.is_pending() {
            self.shared.blocked();
        } else if let Poll::Ready(Ok(mut written)) = polled {
            for slice in slices {
                let part = written.min(slice.len());
                self.shared.sent(&slice[..part]);
                written -= part;
                if written == 0 {
                    break;
                }
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shared.interim.waits.get() {
            ready!(self.poll_interim(cx))?;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.shared.interim.behind.set(false);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.close_notify && !self.shared.half_closes.get() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
