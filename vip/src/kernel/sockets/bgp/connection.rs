//! One open TCP connection of a BGP session, which never blocks and never grows without bound.
//!
//! The speaker queues what the session wants sent and waits, beside everything else, until bytes can
//! move: to be read, and, while [`Connection::queued`], to be written. Knows no message: bytes in,
//! bytes out.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use socket2::SockRef;

/// What may wait to be sent. 10 000 prefixes are about 60 kB.
const QUEUE_LIMIT: usize = 1 << 20;
/// What is still read from a peer after the last word to it.
const DRAIN_LIMIT: usize = 256 << 10;

/// A connection to a peer. Dropping it closes it at once.
pub(crate) struct Connection {
    stream: TcpStream,
    /// This end. The address is the next hop of what is announced to the peer.
    pub(crate) local: SocketAddr,
    /// The peer's end.
    pub(crate) remote: SocketAddr,
    queue: Vec<u8>,
    /// How much of the queue's beginning has been sent.
    sent: usize,
}

/// What there was to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes, which are at the beginning of the buffer.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The end: the peer sends no more.
    Closed,
}

/// A connection on which the last word is being said. Dropping it closes it at once; the speaker
/// does so after a while.
#[derive(Debug)]
pub(crate) struct Closing {
    connection: Connection,
    shut: bool,
    read: usize,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Self { stream, local, remote, queue: Vec::new(), sent: 0 })
    }

    /// How long sent bytes may stay unacknowledged before the kernel gives the connection up; zero
    /// for its default, about 15 min. The hold time is right: the peer has given up by then.
    pub(crate) fn set_user_timeout(&self, hold_time: Duration) -> io::Result<()> {
        let timeout = (!hold_time.is_zero()).then_some(hold_time);
        SockRef::from(&self.stream).set_tcp_user_timeout(timeout)
    }

    /// Queues bytes and sends what the kernel takes. If the peer does not read and the queue is
    /// full, nothing is queued, `StorageFull`: the session is to be ended.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.queued() + bytes.len() > QUEUE_LIMIT {
            let message =
                format!("{} does not read: {} bytes wait for it", self.remote, self.queued());
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
        self.queue.drain(..std::mem::take(&mut self.sent));
        self.queue.extend_from_slice(bytes);
        self.flush().map(drop)
    }

    /// How many bytes wait to be sent.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len() - self.sent
    }

    /// Reads what there is, up to the length of the buffer.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        match self.stream.read(buffer) {
            Ok(0) => Ok(Received::Closed),
            Ok(len) => Ok(Received::Bytes(len)),
            Err(error) if again(&error) => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Sends of the queue what the kernel takes; whether that is anything.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        let before = self.queued();
        while self.queued() > 0 {
            match self.stream.write(&self.queue[self.sent..]) {
                Ok(len) => self.sent += len,
                Err(error) if again(&error) => break,
                Err(error) => return Err(error),
            }
        }
        let left = self.queued();
        if left == 0 {
            // Not kept at the size of the largest burst.
            self.queue = Vec::new();
            self.sent = 0;
        }
        Ok(left < before)
    }

    /// Sends what is queued, such as the NOTIFICATION that says why, and closes when the peer has
    /// closed as well, because what it had sent would otherwise make the kernel reset the connection
    /// before the last word was read.
    pub(crate) fn close(self) -> Closing {
        Closing { connection: self, shut: false, read: 0 }
    }

    /// What [`set_user_timeout`](Self::set_user_timeout) has set.
    #[cfg(test)]
    pub(super) fn user_timeout(&self) -> Option<Duration> {
        SockRef::from(&self.stream).tcp_user_timeout().unwrap()
    }

    /// Sends from now on as if it were so far away.
    #[cfg(test)]
    pub(super) fn hops(&self, hops: super::Hops) {
        hops.apply(&SockRef::from(&self.stream), self.remote.is_ipv6()).unwrap();
    }
}

impl Closing {
    /// Does what can be done; whether all is done, or the peer is gone.
    pub(crate) fn done(&mut self) -> bool {
        self.step().unwrap_or(true)
    }

    /// Whether it has to be written to.
    pub(crate) fn writes(&self) -> bool {
        self.connection.queued() > 0
    }

    fn step(&mut self) -> io::Result<bool> {
        self.connection.flush()?;
        if self.connection.queued() == 0 && !self.shut {
            self.connection.stream.shutdown(Shutdown::Write)?;
            self.shut = true;
        }
        let mut buffer = [0; 4096];
        loop {
            match self.connection.receive(&mut buffer)? {
                Received::Bytes(len) => self.read += len,
                Received::Nothing => return Ok(false),
                Received::Closed => return Ok(true),
            }
            if self.read > DRAIN_LIMIT {
                return Ok(true);
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsFd for Closing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} to {})", self.local, self.remote)
    }
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
