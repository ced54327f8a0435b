//! What two processes of a node say to each other, and the sockets that go along.
//!
//! A message is one packet of a `SOCK_SEQPACKET` socket: JSON, at most [`LONGEST`] bytes. Only the owner of the
//! state folder reaches the socket.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::Path,
    time::Duration,
};

use gatehouse_routes::model::Transport;
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect, recv, recvmsg, sendmsg, socket_with, sockopt,
};
use serde::{Deserialize, Serialize};

use crate::compile::Kept;

/// Longest message, bytes.
const LONGEST: usize = 64 * 1024;
/// Most sockets that go along with one.
const MOST: usize = 253;

/// One message.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// Sockets of listeners at these places go along, in this order. `whose`: of which gateway the process is.
    Listeners { whose: String, at: Vec<(Transport, SocketAddr)>, more: bool },
    /// Clients of this port of a Service (its namespace and name) with the endpoints that they keep.
    Clients { of: (String, String, Transport, u16), kept: Vec<Kept> },
    /// Get ready to take the addresses over.
    Prepare { incarnation: [u8; 16], sequence: u64 },
    /// That is done.
    Prepared,
    /// They are yours; the sequence of the last heartbeat.
    Left { sequence: u64 },
}

/// A connection of two processes.
#[derive(Debug)]
pub(super) struct Line(OwnedFd);

impl Line {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket()?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// How long a message is waited for; `None`: for ever.
    pub(super) fn patience(&self, patience: Option<Duration>) -> io::Result<()> {
        sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, patience)?;
        Ok(sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Send, patience)?)
    }

    pub(super) fn send(&self, message: &Message, along: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !along.is_empty() && !control.push(SendAncillaryMessage::ScmRights(along)) {
            return Err(io::Error::other("too many sockets for one message"));
        }
        let text = [IoSlice::new(&text)];
        retry_on_intr(|| sendmsg(&self.0, &text, &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    pub(super) fn receive(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let mut text = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut text)];
        // A signal is for another thread: this one goes on waiting.
        let received =
            retry_on_intr(|| recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC))?;
        let along = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
            _ => Vec::new(),
        });
        let along = along.collect();
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((serde_json::from_slice(&text[..received.bytes])?, along))
    }

    /// Whether the other process is still there, which has nothing to say now.
    pub(super) fn is_open(&self) -> bool {
        let mut byte = [0; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(recv(&self.0, &mut byte[..], flags), Err(rustix::io::Errno::AGAIN))
    }
}

/// Listens there, in place of a process that has gone or has handed over.
pub(super) fn listen(path: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let socket = socket()?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, 4)?;
    Ok(socket)
}

/// Waits for a process that connects.
pub(super) fn accept(socket: &OwnedFd) -> io::Result<Line> {
    Ok(Line(retry_on_intr(|| accept_with(socket, SocketFlags::CLOEXEC))?))
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}
