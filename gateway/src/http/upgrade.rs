//! An upgraded connection: bytes both ways until one side is done or nothing moves for an hour.

use std::{future::poll_fn, io, pin::pin, task::Poll};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::{
    http::io::{ClientIo, ConnShared},
    upstream::pool::Upstream,
    worker::timeouts::Phase,
};

/// Bytes held per direction.
const BUFFER: usize = 16 * 1024;

/// The backend's end of an upgraded connection, until the client's end has said 101.
pub(crate) struct Tunnel {
    upstream: Box<Upstream>,
}

impl Tunnel {
    pub(crate) fn new(upstream: Box<Upstream>) -> Self {
        Self { upstream }
    }

    /// Joins both ends. `early` is what the client sent behind its request.
    pub(crate) async fn run<S>(
        self,
        shared: &ConnShared,
        mut client: ClientIo<S>,
        early: Bytes,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        shared.timers.enter(Phase::Tunnel, shared.worker.now());
        let parts = self.upstream.connection.into_parts();
        let mut backend = TokioIo::into_inner(parts.io);
        backend.write_all(&early).await?;
        client.write_all(&parts.read_buf).await?;
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
