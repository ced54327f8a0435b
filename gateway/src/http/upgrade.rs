//! An upgraded connection: bytes both ways until one side is done or nothing moves for an hour.

use std::{future::poll_fn, io, pin::pin, task::Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::{
    http::io::{ClientIo, ConnShared},
    upstream::connection::Upstream,
    worker::timeouts::Phase,
};

/// Bytes held per direction.
const BUFFER: usize = 16 * 1024;

/// The backend's end of an upgraded connection, until the client's end has said 101.
pub(crate) struct Tunnel {
    upstream: Upstream,
}

impl Tunnel {
    pub(crate) fn new(upstream: Upstream) -> Self {
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
        let (mut backend, read) = self.upstream.into_stream();
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
