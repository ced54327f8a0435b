//! Idle connections of one worker, by endpoint address.
//!
//! A connection's future is polled by whoever uses it (the request, then the body of its answer), not by
//! a task of its own: that saves two task switches per request. While it idles here nobody polls it, so
//! its state is looked at when it comes in, when it goes out, and by the sweeper once a second.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{http::request_body::RequestBody, worker::clock::Tick};

/// Most idle connections kept per endpoint and worker.
const MAX_IDLE: usize = 256;

/// An HTTP/1.1 connection to an endpoint.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) sender: SendRequest<RequestBody>,
    pub(crate) connection: Connection<TokioIo<TcpStream>, RequestBody>,
    /// The connection's future is over; it must not be polled again.
    pub(crate) over: bool,
    idle_since: Tick,
}

impl Upstream {
    pub(crate) fn new(
        address: SocketAddr,
        sender: SendRequest<RequestBody>,
        connection: Connection<TokioIo<TcpStream>, RequestBody>,
    ) -> Self {
        Self { address, sender, connection, over: false, idle_since: 0 }
    }

    /// Moves bytes both ways; true while the connection lives.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.over {
            self.over = matches!(Pin::new(&mut self.connection).poll(cx), Poll::Ready(_));
        }
        !self.over
    }

    /// True if the last exchange is complete in both directions and not a byte came unasked (P11).
    ///
    /// Polling without a waker also lets go of the task that used the connection last.
    fn is_clean(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop())) && self.sender.is_ready()
    }
}

/// The idle connections of one worker.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "700 bytes that move between pool, request and body")]
pub(crate) struct Pool {
    idle: RefCell<HashMap<SocketAddr, Vec<Box<Upstream>>, foldhash::fast::RandomState>>,
}

impl Pool {
    /// The connection to `address` that was used last, if one is still good.
    pub(crate) fn checkout(&self, address: SocketAddr) -> Option<Box<Upstream>> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&address)?;
        while let Some(mut upstream) = connections.pop() {
            if upstream.is_clean() {
                return Some(upstream);
            }
        }
        None
    }

    /// Keeps a connection for the next request, if it is fit for one.
    pub(crate) fn checkin(&self, mut upstream: Box<Upstream>, now: Tick) {
        if upstream.is_clean() {
            upstream.idle_since = now;
            let mut idle = self.idle.borrow_mut();
            let connections = idle.entry(upstream.address).or_default();
            if connections.len() < MAX_IDLE {
                connections.push(upstream);
            }
        }
    }

    /// Lets go of connections that the endpoint closed or nobody used for `ttl`.
    pub(crate) fn sweep(&self, now: Tick, ttl: Tick) {
        self.idle.borrow_mut().retain(|_, connections| {
            connections.retain_mut(|upstream| {
                now.saturating_sub(upstream.idle_since) < ttl && upstream.is_clean()
            });
            !connections.is_empty()
        });
    }
}
