//! Takes connections from a worker's sockets and starts a task for each.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    admin::metrics::Counter,
    http::conn,
    upstream::Upstreams,
    worker::{
        context::Worker,
        listener::{ListenerFacts, Opened},
        local_address::LocalAddress,
    },
};

/// Pauses of an accept loop that runs out of descriptors or memory: doubling from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// Accepts on a worker until the returned sender is dropped.
pub(crate) fn accept(
    worker: &Rc<Worker>,
    upstreams: &Rc<Upstreams>,
    opened: Opened,
) -> io::Result<oneshot::Sender<()>> {
    let listener = TcpListener::from_std(opened.socket)?;
    let (closing, mut closed) = oneshot::channel::<()>();
    let (worker, upstreams) = (Rc::clone(worker), Rc::clone(upstreams));
    let facts = opened.facts;
    let address = worker.address(facts.address.ip());
    tokio::task::spawn_local(async move {
        let mut pause = BACKOFF.0;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = &mut closed => break,
                accepted = listener.accept(), if worker.has_room() => accepted,
                () = tokio::time::sleep(BACKOFF.0), if !worker.has_room() => continue,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause = BACKOFF.0;
                    begin(&worker, &upstreams, &facts, &address, stream, peer);
                }
                Err(error) if is_exhaustion(&error) => {
                    tracing::warn!(%error, "out of resources, not accepting for {pause:?}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
                // The client left between its SYN and our accept.
                Err(error) => tracing::debug!(%error, "accept failed"),
            }
        }
        // Closing a SO_REUSEPORT socket resets what is queued on it: take that in first.
        while let Poll::Ready(Ok((stream, peer))) =
            listener.poll_accept(&mut Context::from_waker(Waker::noop()))
        {
            begin(&worker, &upstreams, &facts, &address, stream, peer);
        }
    });
    Ok(closing)
}

fn begin(
    worker: &Rc<Worker>,
    upstreams: &Rc<Upstreams>,
    facts: &Arc<ListenerFacts>,
    address: &Rc<LocalAddress>,
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
) {
    worker.metrics().add(Counter::ConnectionAccepted);
    let (facts, address) = (Arc::clone(facts), Rc::clone(address));
    tokio::task::spawn_local(conn::serve(
        Rc::clone(worker),
        Rc::clone(upstreams),
        facts,
        address,
        stream,
        peer,
    ));
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
