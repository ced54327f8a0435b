//! An upgraded connection: bytes both ways until one side is done or nothing moves for as long as the rule allows.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::{
    http::io::{ClientIo, ConnShared},
    upstream::connection::Upstream,
    worker::clock::Tick,
};

/// Bytes held per direction.
const BUFFER: usize = 16 * 1024;

/// The backend's end of an upgraded connection, until the client's end has said 101.
pub(crate) struct Tunnel {
    upstream: Upstream,
    /// How long nothing may move, where an object says so.
    idle: Option<Tick>,
    flow: Option<Box<dyn Flow>>,
}

/// Hears of what goes through a tunnel; dropped at its end.
pub(crate) trait Flow {
    /// Bytes came from the client.
    fn took(&mut self, bytes: usize);

    /// Bytes went to the client.
    fn sent(&mut self, bytes: usize);
}

impl Tunnel {
    pub(crate) fn new(upstream: Upstream, idle: Option<Tick>) -> Self {
        Self { upstream, idle, flow: None }
    }

    /// Keeps `flow` alive until the end of this tunnel.
    pub(crate) fn tells(&mut self, flow: Box<dyn Flow>) {
        self.flow = Some(flow);
    }

    /// Joins both ends. `early` is what the client sent behind its request.
    pub(crate) async fn run<S>(
        self,
        shared: &ConnShared,
        client: ClientIo<S>,
        early: Bytes,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { upstream, idle, mut flow } = self;
        shared.timers.becomes_tunnel(idle, shared.worker.now());
        flow.iter_mut().for_each(|flow| flow.took(early.len()));
        let mut client = Counted { stream: client, flow };
        let Some((mut backend, read, _permit)) = upstream.into_stream() else { return Ok(()) };
        backend.write_all(&early).await?;
        client.write_all(&read).await?;
        client.flush().await?;
        let mut copying = pin!(tokio::io::copy_bidirectional_with_sizes(
            &mut client,
            &mut backend,
            BUFFER,
            BUFFER
        ));
        poll_fn(|cx| {
            shared.timers.register(cx);
            if shared.timers.expired().is_some() {
                return Poll::Ready(Ok(()));
            }
            copying.as_mut().poll(cx).map_ok(|_| ())
        })
        .await
    }
}

/// The client's end of a tunnel.
struct Counted<S> {
    stream: S,
    flow: Option<Box<dyn Flow>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        self.flow.iter_mut().for_each(|flow| flow.took(read));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.flow.iter_mut().for_each(|flow| flow.sent(written));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
