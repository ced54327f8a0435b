//! Raw Ethernet frames out of an interface: a packet socket (packet(7)) that never receives.
//!
//! The speaker owns one [`FrameSocket`] for all interfaces and hands it whole frames. Needs
//! `CAP_NET_RAW` in the network namespace's user namespace.

#![expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "opens a packet socket, whose sockaddr_ll socket2 cannot build"
)]

use std::io;
use std::mem::size_of;

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

/// Sends frames; opened at the first one, and again after a failure to open.
#[derive(Debug, Default)]
pub(crate) struct FrameSocket {
    socket: Option<Socket>,
}

impl FrameSocket {
    /// Sends one Ethernet frame out of an interface. Does not block: a full queue is an error.
    pub(crate) fn send(&mut self, index: u32, frame: &[u8]) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open()?),
        };
        let sent = socket.send_to(frame, &address(index, frame)?)?;
        if sent < frame.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "frame was cut"));
        }
        Ok(())
    }
}

fn open() -> io::Result<Socket> {
    // Protocol 0: the kernel queues no received frame to this socket.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Where a frame goes: the interface; destination and ethertype are those of its header.
fn address(index: u32, frame: &[u8]) -> io::Result<SockAddr> {
    let header: &[u8; 14] = frame
        .first_chunk()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame has no header"))?;
    let index = i32::try_from(index).map_err(io::Error::other)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_storage is at least as large and as aligned as any sockaddr, and every bit
    // pattern is a valid sockaddr_ll, which is plain integers.
    let link: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    link.sll_family = libc::AF_PACKET as libc::sa_family_t;
    link.sll_protocol = u16::from_ne_bytes([header[12], header[13]]); // network order, as it is
    link.sll_ifindex = index;
    link.sll_halen = 6;
    link.sll_addr[..6].copy_from_slice(&header[..6]);
    // SAFETY: the storage has just been filled as sockaddr_ll, of which this is the length.
    Ok(unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) })
}
