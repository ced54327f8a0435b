//! The UDP sockets of BFD: one that hears for each port and family, one that speaks for each session.
//!
//! Only the BFD thread calls this. It tells with each packet where it came in and with what TTL.

#![expect(unsafe_code, reason = "recvmsg with ancillary data, which neither std nor socket2 reads")]

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Hops, PACKET_LEN, Path};
use crate::{kernel::sockets::options, pool::ranges::Family};

/// Longest packet that is read: with the longest authentication section a control packet has 52.
const LONGEST_PACKET: usize = 64;
/// Source ports (RFC 5881 §4).
const FIRST_SOURCE_PORT: u16 = 49152;
const SOURCE_PORTS: u16 = u16::MAX - FIRST_SOURCE_PORT;
/// `struct cmsghdr`: a length as wide as a pointer, level, type.
const CMSG_HEADER: usize = (size_of::<usize>() + 8).next_multiple_of(size_of::<usize>());

/// A destination port and a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    number: u16,
    family: Family,
}

/// Hears everything that comes to a port.
pub(super) struct Receiver {
    socket: Socket,
}

/// Speaks for one session, always from the same port.
pub(super) struct Sender {
    socket: Socket,
    to: SockAddr,
}

/// A packet that has come.
pub(super) struct Arrival {
    pub(super) from: IpAddr,
    /// Index of the interface that it came in by.
    pub(super) interface: u32,
    /// TTL or hop limit.
    pub(super) ttl: u8,
    bytes: [u8; LONGEST_PACKET],
    len: usize,
}

impl Port {
    pub(super) const ALL: [Self; 4] = [
        Self { number: 3784, family: Family::V4 },
        Self { number: 3784, family: Family::V6 },
        Self { number: 4784, family: Family::V4 },
        Self { number: 4784, family: Family::V6 },
    ];

    /// The port of single hop or of multi hop sessions.
    pub(super) fn of(path: &Path) -> Self {
        let number = match path.hops {
            Hops::Single => 3784,
            Hops::Multi => 4784,
        };
        Self { number, family: Family::of(path.remote) }
    }
}

impl Receiver {
    pub(super) fn open(port: Port) -> io::Result<Self> {
        let socket = open(port.family)?;
        let options = match port.family {
            Family::V4 => [libc::IP_RECVTTL, libc::IP_PKTINFO],
            Family::V6 => [libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVPKTINFO],
        };
        for option in options {
            options::set_number(&socket, level(port.family), option, 1)?;
        }
        socket.bind(&SocketAddr::new(any(port.family), port.number).into()).map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "another BFD program has it; stop that, or do without bfdProfile"
                }
                _ => "without it no packet of the router is heard",
            };
            let number = port.number;
            io::Error::new(error.kind(), format!("UDP port {number} cannot be had: {error}; {why}"))
        })?;
        Ok(Self { socket })
    }

    /// The next packet, if there is one.
    pub(super) fn receive(&self) -> Option<Arrival> {
        let mut bytes = [0_u8; LONGEST_PACKET];
        // As aligned as the kernel wants `struct cmsghdr` to be.
        let mut control = [0_usize; 16];
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: every bit pattern is a valid msghdr, which is integers and pointers.
        let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        let descriptor = self.socket.as_raw_fd();
        let receive = |storage: *mut socket2::SockAddrStorage, len: *mut libc::socklen_t| {
            header.msg_name = storage.cast();
            // SAFETY: `len` is the length of the storage, which is ours until the closure ends. All
            // pointers of the header are to buffers of the given lengths that outlive the call.
            let received = unsafe {
                header.msg_namelen = *len;
                libc::recvmsg(descriptor, &raw mut header, 0)
            };
            let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
            // SAFETY: as above.
            unsafe { *len = header.msg_namelen };
            Ok(received)
        };
        // SAFETY: when the closure returns `Ok`, the kernel has written an address and its length.
        let received = unsafe { SockAddr::try_init(receive) };
        // Nothing there, or an error of an earlier packet, which is of no interest.
        let (len, from) = received.ok()?;
        let cut = header.msg_flags & libc::MSG_TRUNC != 0;
        let control_len = header.msg_controllen;
        let control: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let (ttl, interface) = ancillary(control.get(..control_len).unwrap_or_default());
        Some(Arrival {
            from: from.as_socket()?.ip(),
            interface,
            ttl,
            bytes,
            len: if cut { 0 } else { len.min(LONGEST_PACKET) },
        })
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Sender {
    /// `seed` chooses the source port, so that sessions do not all try the same ones.
    pub(super) fn open(port: Port, path: &Path, seed: u32) -> io::Result<Self> {
        let socket = open(port.family)?;
        match port.family {
            Family::V4 => {
                socket.set_ttl_v4(u8::MAX.into())?;
                socket.set_tos_v4(options::NETWORK_CONTROL)?;
            }
            Family::V6 => {
                socket.set_unicast_hops_v6(u8::MAX.into())?;
                socket.set_tclass_v6(options::NETWORK_CONTROL)?;
            }
        }
        if let Some(interface) = path.interface {
            let index = interface.cast_signed();
            options::set_number(&socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, index)?;
        }
        let scope = path.interface.unwrap_or(0);
        let from = path.local.unwrap_or_else(|| any(port.family));
        let first = (seed % u32::from(SOURCE_PORTS)) as u16;
        let ports = (first..SOURCE_PORTS).chain(0..first).map(|offset| FIRST_SOURCE_PORT + offset);
        let mut bound = Err(io::ErrorKind::AddrInUse.into());
        for source in ports {
            bound = socket.bind(&address(from, source, scope).into());
            if !matches!(&bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
        }
        bound.map_err(|error| {
            io::Error::new(error.kind(), format!("no BFD packets can be sent from {from}: {error}"))
        })?;
        Ok(Self { socket, to: address(path.remote, port.number, scope).into() })
    }

    /// Does not block: a full queue is an error.
    pub(super) fn send(&self, packet: &[u8; PACKET_LEN]) -> io::Result<()> {
        self.socket.send_to(packet, &self.to).map(drop).map_err(|error| {
            let to = self.to.as_socket().map_or_else(String::new, |to| to.ip().to_string());
            io::Error::new(error.kind(), format!("BFD packets to {to} cannot be sent: {error}"))
        })
    }
}

impl Arrival {
    pub(super) fn packet(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn open(family: Family) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn level(family: Family) -> i32 {
    match family {
        Family::V4 => libc::IPPROTO_IP,
        Family::V6 => libc::IPPROTO_IPV6,
    }
}

fn address(ip: IpAddr, port: u16, interface: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, interface).into()
        }
        _ => SocketAddr::new(ip, port),
    }
}

/// TTL and interface of a packet, from its ancillary data (cmsg(3)); 0 for what is not there.
fn ancillary(mut control: &[u8]) -> (u8, u32) {
    let (mut ttl, mut interface) = (0, 0);
    while let Some((header, _)) = control.split_at_checked(CMSG_HEADER) {
        let (len, kind) = header.split_at(size_of::<usize>());
        let len = len.try_into().map_or(0, usize::from_ne_bytes);
        let number = |bytes: &[u8], at: usize| {
            let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, i32::from_ne_bytes)
        };
        let Some(data) = control.get(CMSG_HEADER..len) else { break };
        match (number(kind, 0), number(kind, 4)) {
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                ttl = u8::try_from(number(data, 0)).unwrap_or(0);
            }
            // `struct in_pktinfo` begins with the index, `struct in6_pktinfo` ends with it.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => interface = number(data, 0).cast_unsigned(),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                interface = number(data, 16).cast_unsigned()
            }
            _ => {}
        }
        control = control.get(len.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
    }
    (ttl, interface)
}
