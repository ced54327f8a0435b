//! Datagrams in and out of the kernel, many with one call.
//!
//! What the kernel has put together of one sender (GRO) goes on together (GSO), so that bulk costs a system call for up
//! to 64 datagrams and others one for up to 32 on their way in. Nothing waits: what the kernel does not take at once is
//! lost, as on any link that is full.

use std::{
    array,
    cell::RefCell,
    io::{self, ErrorKind, IoSliceMut},
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd as _,
};

use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

/// Room for the largest datagram, and for what GRO puts together.
const LARGEST: usize = 64 * 1024;
/// Bytes that wait for a worker that is busy; the kernel may allow less (`net.core.rmem_max`).
const QUEUE: usize = 2 * 1024 * 1024;

/// Datagrams of one sender, all but the last one of the same length.
pub(super) struct Datagrams<'b> {
    pub(super) from: SocketAddr,
    pub(super) bytes: &'b [u8],
    /// Length of each; the last one may be shorter.
    each: usize,
    /// Marks of congestion, which go on with them (RFC 9599).
    ecn: Option<EcnCodepoint>,
}

impl<'b> Datagrams<'b> {
    /// One of our own.
    pub(super) fn one(from: SocketAddr, bytes: &'b [u8]) -> Self {
        Self { from, bytes, each: bytes.len(), ecn: None }
    }

    /// One at a time; an empty datagram is one, too.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let empty = self.bytes.is_empty().then_some(self.bytes);
        empty.into_iter().chain(self.bytes.chunks(self.each.max(1)))
    }
}

/// What receiving and sending takes of a worker.
pub(super) struct Io {
    state: UdpSocketState,
    /// One buffer for each datagram of a batch; the kernel gives memory to those that are used.
    buffers: RefCell<Box<[u8]>>,
}

impl Io {
    /// # Errors
    /// There are no descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        // The state knows what the kernel can do, and sets options that are not for a socket that passes on what is too
        // long for one packet: it gets one of its own.
        let any = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&any))?;
        Ok(Self { state, buffers: RefCell::new(vec![0; BATCH_SIZE * LARGEST].into()) })
    }

    /// Takes what has come, a batch at most. `take` must not receive.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is left, after what was taken. Others are what the network said of something that was sent.
    pub(super) fn receive(
        &self,
        socket: &UdpSocket,
        mut take: impl FnMut(Datagrams<'_>),
    ) -> io::Result<()> {
        let mut bytes = self.buffers.borrow_mut();
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        let mut rest = bytes.chunks_mut(LARGEST);
        let mut buffers: [_; BATCH_SIZE] =
            array::from_fn(|_| IoSliceMut::new(rest.next().unwrap_or_default()));
        let received = self.state.recv(UdpSockRef::from(socket), &mut buffers, &mut meta);
        let count = received.as_ref().copied().unwrap_or_default();
        let would_block = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
        // A batch that is not full has emptied the queue: nobody needs to ask again before the kernel says so. tokio
        // tries one interest at a time.
        let is_empty = received.as_ref().map_or_else(would_block, |count| *count < BATCH_SIZE);
        if is_empty {
            for interest in [Interest::READABLE, Interest::ERROR] {
                let _ =
                    socket.try_io(interest, || io::Result::<()>::Err(ErrorKind::WouldBlock.into()));
            }
        }
        for (meta, bytes) in meta[..count].iter().zip(bytes.chunks(LARGEST)) {
            let bytes = &bytes[..meta.len.min(LARGEST)];
            take(Datagrams { from: meta.addr, bytes, each: meta.stride, ecn: meta.ecn });
        }
        received?;
        if is_empty { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    /// Sends datagrams to a peer, over a socket that is connected with it or is not.
    ///
    /// # Errors
    /// The kernel does not take them, or the network said something of what was sent before. Some may have gone out.
    pub(super) fn send(
        &self,
        socket: &UdpSocket,
        (peer, connected): (SocketAddr, bool),
        datagrams: &Datagrams<'_>,
    ) -> io::Result<()> {
        let Datagrams { bytes, each, ecn, .. } = *datagrams;
        let several = bytes.len() > each && self.state.max_gso_segments() > 1;
        if several || ecn.is_some() {
            let segment_size = several.then_some(each);
            let all =
                Transmit { destination: peer, ecn, contents: bytes, segment_size, src_ip: None };
            match self.state.try_send(UdpSockRef::from(socket), &all) {
                // A packet of the other side is too long for a packet of this one: the kernel takes them one by one
                // and takes them apart.
                Err(error) if is_unfit(&error) => (),
                sent => return sent,
            }
        }
        let to = (!connected).then_some(peer.into());
        let socket = SockRef::from(socket);
        datagrams.iter().try_for_each(|datagram| {
            let send = || match &to {
                Some(to) => socket.send_to(datagram, to),
                None => socket.send(datagram),
            };
            match send() {
                // The kernel has learnt what fits, and told it in place of sending: it takes the next one apart.
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => send().map(drop),
                sent => sent.map(drop),
            }
        })
    }

    /// What the network has said of what was sent over a connected socket, so that the queue of it does not fill up.
    pub(super) fn forget_errors(&self, socket: &UdpSocket) {
        while let Ok(Some(_)) = self.state.recv_transport_error(UdpSockRef::from(socket)) {}
    }
}

fn is_unfit(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::EINVAL | libc::EIO))
}

/// Whether the network says that nobody is there: port, host or network cannot be reached.
pub(super) fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
    )
}

/// A socket that talks with one endpoint alone.
pub(super) fn connect(endpoint: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(endpoint),
        Type::DGRAM.nonblocking().cloexec(),
        Some(Protocol::UDP),
    )?;
    socket.connect(&endpoint.into())?;
    prepare(&socket, endpoint);
    // What the network says about hosts and networks, not of ports alone.
    match endpoint {
        SocketAddr::V4(_) => switch_on(&socket, libc::IPPROTO_IP, libc::IP_RECVERR),
        SocketAddr::V6(_) => switch_on(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    }
    UdpSocket::from_std(socket.into())
}

/// A worker's socket of a listener.
pub(super) fn listen(socket: std::net::UdpSocket, address: SocketAddr) -> io::Result<UdpSocket> {
    let it = SockRef::from(&socket);
    prepare(&it, address);
    let _ = it.set_recv_buffer_size(QUEUE);
    UdpSocket::from_std(socket)
}

/// Has the kernel put datagrams together, and tell how they are marked. A kernel that cannot passes them on all the same.
fn prepare(socket: &Socket, address: SocketAddr) {
    switch_on(socket, libc::SOL_UDP, libc::UDP_GRO);
    match address {
        SocketAddr::V4(_) => switch_on(socket, libc::IPPROTO_IP, libc::IP_RECVTOS),
        SocketAddr::V6(_) => switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    }
}

fn switch_on(socket: &Socket, level: libc::c_int, option: libc::c_int) {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    #[expect(unsafe_code, reason = "no library has these options without others")]
    // SAFETY: the value is an int that outlives the call, and its length is told.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length);
    }
}
