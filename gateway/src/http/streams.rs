//! The tasks of HTTP/2 streams, and which of them is being polled.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
};

use hyper::rt::Executor;

use crate::worker::{
    context::Worker,
    timeouts::{Expiry, RequestTimers},
};

thread_local! {
    /// The timers of the HTTP/2 stream whose task is being polled.
    static STREAM: Cell<Option<Rc<RequestTimers>>> = const { Cell::new(None) };
}

/// Takes the timers of the HTTP/2 stream whose task is being polled; there are none outside such a task.
pub(crate) fn current() -> Option<Rc<RequestTimers>> {
    STREAM.take()
}

/// Runs every HTTP/2 stream as a task with [`RequestTimers`] of its own, so that the sweeper can end one
/// stream without touching its connection.
#[derive(Clone)]
pub(crate) struct StreamExecutor {
    pub(crate) worker: Rc<Worker>,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        let timers = self.worker.request_timers();
        tokio::task::spawn_local(async move {
            let mut stream = pin!(stream);
            poll_fn(|cx: &mut Context<'_>| {
                timers.register(cx);
                if timers.expired() == Some(Expiry::Stalled) {
                    // Dropping the stream resets it (P23).
                    return Poll::Ready(());
                }
                STREAM.set(Some(timers.share()));
                let polled = stream.as_mut().poll(cx);
                STREAM.take();
                polled
            })
            .await;
        });
    }
}
