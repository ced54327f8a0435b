//! Raw Ethernet frames out of an interface and in by it: packet sockets (packet(7)).
//!
//! The speaker owns one [`FrameSocket`] that sends by all interfaces and never receives, and one
//! [`FrameWatch`] with a socket for each interface and protocol on which a neighbour could contest an
//! address. What a frame means is not looked at here, but by `arp` and `ndp`. Needs `CAP_NET_RAW` in
//! the network namespace's user namespace.

#![expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "opens packet sockets, whose sockaddr_ll socket2 cannot build"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    mem::size_of,
    os::fd::{AsFd, BorrowedFd},
};

use socket2::{Domain, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

/// Of ARP and of neighbour discovery with all the options that matter here; the rest is cut off.
const LONGEST_FRAME: usize = 256;
/// Frames read from one socket in one turn: a flood must not keep the heartbeats waiting.
const FRAMES: usize = 64;

/// By which protocol neighbours claim addresses of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resolution {
    /// ARP, for IPv4.
    Arp,
    /// Neighbour discovery, for IPv6.
    Ndp,
}

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
        let sent = socket.send_to(frame, &destination(index, frame)?)?;
        if sent < frame.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "frame was cut"));
        }
        Ok(())
    }
}

/// A socket for frames of one ethertype that come in by an interface and are not dropped on the way: the
/// hooks of nf_tables come first. What it sends goes out there.
pub(crate) fn frames_of(ethertype: u16, index: u32) -> io::Result<Socket> {
    let socket = open()?;
    socket.bind(&address(index, ethertype.to_be(), [0; 6])?)?;
    Ok(socket)
}

/// Receives the frames by which others claim addresses or ask whether they are in use.
#[derive(Debug, Default)]
pub(crate) struct FrameWatch {
    sockets: BTreeMap<(u32, Resolution), Socket>,
}

impl FrameWatch {
    /// Receives on these interfaces and no others. On failure those before stay, and the rest is
    /// tried at the next call: strangers are not noticed there meanwhile.
    pub(crate) fn follow(&mut self, wanted: &BTreeSet<(u32, Resolution)>) -> io::Result<()> {
        self.sockets.retain(|place, _| wanted.contains(place));
        for place in wanted {
            if self.sockets.contains_key(place) {
                continue;
            }
            match listen(*place) {
                Ok(socket) => drop(self.sockets.insert(*place, socket)),
                // The interface is gone; the next look at the interfaces shows it.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What to wait on for [`receive`](Self::receive).
    pub(crate) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.values().map(AsFd::as_fd)
    }

    /// Hands over what has come in, with the interface; a bounded number of frames.
    pub(crate) fn receive(&mut self, mut frame: impl FnMut(u32, &[u8])) {
        let mut buffer = [0; LONGEST_FRAME];
        self.sockets.retain(|&(index, _), socket| {
            for _ in 0..FRAMES {
                match (&*socket).read(&mut buffer) {
                    Ok(length) => frame(index, &buffer[..length]),
                    Err(error) => match error.raw_os_error() {
                        // Said once when the interface goes down; it may come up again.
                        Some(libc::ENETDOWN) => {}
                        Some(libc::EAGAIN | libc::EINTR) => return true,
                        _ => return false,
                    },
                }
            }
            true
        });
    }
}

/// A socket that receives what matters of one protocol by one interface.
fn listen((index, protocol): (u32, Resolution)) -> io::Result<Socket> {
    let socket = open()?;
    let ethertype = match protocol {
        Resolution::Arp => libc::ETH_P_ARP,
        Resolution::Ndp => libc::ETH_P_IPV6,
    } as u16;
    // Before it is bound to a protocol: whatever comes before the filter stands is not filtered.
    socket.attach_filter(match protocol {
        Resolution::Arp => &ARP_CLAIMS,
        Resolution::Ndp => &NDP_CLAIMS,
    })?;
    socket.bind(&address(index, ethertype.to_be(), [0; 6])?)?;
    Ok(socket)
}

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const TO_X: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const EQUALS_X: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Replies, probes (sender 0.0.0.0) and announcements (sender = target). The requests by which the
/// hosts of a LAN find each other would wake the speaker all day.
const ARP_CLAIMS: [SockFilter; 9] = [
    SockFilter::new(LOAD_HALF, 0, 0, 14 + 6), // ar$op
    SockFilter::new(EQUALS, 5, 0, 2),
    SockFilter::new(LOAD_WORD, 0, 0, 14 + 14), // ar$spa
    SockFilter::new(EQUALS, 3, 0, 0),
    SockFilter::new(TO_X, 0, 0, 0),
    SockFilter::new(LOAD_WORD, 0, 0, 14 + 24), // ar$tpa
    SockFilter::new(EQUALS_X, 0, 1, 0),
    SockFilter::new(RETURN, 0, 0, LONGEST_FRAME as u32),
    SockFilter::new(RETURN, 0, 0, 0),
];

/// Advertisements, and solicitations from `::` (RFC 4862 §5.4.2). Those by which neighbours find each
/// other, and all the rest of IPv6, pass by.
const NDP_CLAIMS: [SockFilter; 15] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 14 + 6), // next header
    SockFilter::new(EQUALS, 0, 12, 58),
    SockFilter::new(LOAD_BYTE, 0, 0, 14 + 40), // type
    SockFilter::new(EQUALS, 9, 0, 136),
    SockFilter::new(EQUALS, 0, 9, 135),
    SockFilter::new(LOAD_WORD, 0, 0, 14 + 8), // source
    SockFilter::new(EQUALS, 0, 7, 0),
    SockFilter::new(LOAD_WORD, 0, 0, 14 + 12),
    SockFilter::new(EQUALS, 0, 5, 0),
    SockFilter::new(LOAD_WORD, 0, 0, 14 + 16),
    SockFilter::new(EQUALS, 0, 3, 0),
    SockFilter::new(LOAD_WORD, 0, 0, 14 + 20),
    SockFilter::new(EQUALS, 0, 1, 0),
    SockFilter::new(RETURN, 0, 0, LONGEST_FRAME as u32),
    SockFilter::new(RETURN, 0, 0, 0),
];

fn open() -> io::Result<Socket> {
    // Protocol 0: the kernel queues no received frame to this socket.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Where a frame goes: the interface; destination and ethertype are those of its header.
fn destination(index: u32, frame: &[u8]) -> io::Result<SockAddr> {
    let header: &[u8; 14] = frame
        .first_chunk()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame has no header"))?;
    let [to @ .., _, _, _, _, _, _, high, low] = header;
    address(index, u16::from_ne_bytes([*high, *low]), *to)
}

/// A link-layer address. `protocol` is in the network's order.
fn address(index: u32, protocol: u16, mac: [u8; 6]) -> io::Result<SockAddr> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_storage is at least as large and as aligned as any sockaddr, and every bit
    // pattern is a valid sockaddr_ll, which is plain integers.
    let link: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    link.sll_family = libc::AF_PACKET as libc::sa_family_t;
    link.sll_protocol = protocol;
    link.sll_ifindex = index;
    link.sll_halen = 6;
    link.sll_addr[..6].copy_from_slice(&mac);
    // SAFETY: the storage has just been filled as sockaddr_ll, of which this is the length.
    Ok(unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) })
}
