//! Router advertisements and solicitations out of an interface and in by it: a raw ICMPv6 socket.
//!
//! The BGP speaker owns a [`DiscoverySocket`] for each interface with an unnumbered peer. It installs
//! nothing and changes no setting: the kernel goes on doing with what it hears what `accept_ra` says.
//! What a message means is not looked at here, but by `bgp::unnumbered`. Needs `CAP_NET_RAW`.

#![expect(clippy::disallowed_methods, reason = "opens a raw socket")]

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::options;
use crate::bgp::unnumbered::message::{ADVERTISEMENT, Kind, SOLICITATION};

/// With all the prefixes that a router may tell hosts of; what is longer is cut off, and then ignored.
const LONGEST_MESSAGE: usize = 2048;
/// Messages read in one turn: a flood must not keep the sessions waiting.
const MESSAGES: usize = 64;
/// Of every message of Neighbour Discovery: 255 cannot have passed a router (RFC 4861 §6.1).
const HOP_LIMIT: u8 = 255;

/// Sends and receives on one interface.
#[derive(Debug)]
pub(crate) struct DiscoverySocket {
    /// A raw socket; datagrams are what it has in common with one of UDP.
    socket: UdpSocket,
    index: u32,
}

impl DiscoverySocket {
    /// Speaks from this address, and hears what comes in by this interface. `AddrNotAvailable` while
    /// the kernel still asks whether the address is in use.
    pub(crate) fn open(index: u32, own: Ipv6Addr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_nonblocking(true)?;
        socket.attach_filter(&FROM_THE_LINK)?;
        let device = index.cast_signed();
        options::set_number(&socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, device)?;
        socket.bind(&SocketAddrV6::new(own, 0, 0, index).into())?;
        socket.set_multicast_if_v6(index)?;
        socket.set_multicast_hops_v6(HOP_LIMIT.into())?;
        socket.set_multicast_loop_v6(false)?;
        for kind in [Kind::Solicitation, Kind::Advertisement] {
            socket.join_multicast_v6(&kind.group(), index)?;
        }
        let opened = Self { socket: socket.into(), index };
        // What came before the filter stood, by any interface.
        while opened.socket.recv(&mut [0]).is_ok() {}
        Ok(opened)
    }

    /// Sends a message to its group. Does not block: a full queue is an error.
    pub(crate) fn send(&self, kind: Kind, message: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(kind.group(), 0, 0, self.index);
        self.socket.send_to(message, to).map(drop)
    }

    /// Hands over what has come in, with its sender; a bounded number of messages.
    pub(crate) fn receive(&self, mut message: impl FnMut(Ipv6Addr, &[u8])) -> io::Result<()> {
        let mut buffer = [0; LONGEST_MESSAGE];
        for _ in 0..MESSAGES {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, SocketAddr::V6(from))) => message(*from.ip(), &buffer[..length]),
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    // Said once when the interface goes down; it may come up again.
                    Some(libc::ENETDOWN) => {}
                    Some(libc::EAGAIN | libc::EINTR) => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}

impl AsFd for DiscoverySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Where the IPv6 header begins, seen from a filter that is handed the message.
const IPV6_HEADER: u32 = libc::SKF_NET_OFF.cast_unsigned();

/// Solicitations and advertisements that no router has passed on.
const FROM_THE_LINK: [SockFilter; 7] = [
    SockFilter::new(LOAD_BYTE, 0, 0, IPV6_HEADER + 7), // hop limit
    SockFilter::new(EQUALS, 0, 4, HOP_LIMIT as u32),
    SockFilter::new(LOAD_BYTE, 0, 0, 0), // type
    SockFilter::new(EQUALS, 1, 0, SOLICITATION as u32),
    SockFilter::new(EQUALS, 0, 1, ADVERTISEMENT as u32),
    SockFilter::new(RETURN, 0, 0, LONGEST_MESSAGE as u32),
    SockFilter::new(RETURN, 0, 0, 0),
];

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{
        bgp::unnumbered::message::parse,
        kernel::tests::wire::{Wire, on_a_wire},
    };

    /// For anything that should happen at once; generous, as the machine may be busy.
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn socket(wire: &Wire, host: &str, own: &str) -> DiscoverySocket {
        wire.enter(host);
        DiscoverySocket::open(wire.scope(host), own.parse().unwrap()).unwrap()
    }

    /// Waits for a message.
    fn next(socket: &DiscoverySocket) -> (Ipv6Addr, Vec<u8>) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut heard = None;
            let first = |from: Ipv6Addr, message: &[u8]| {
                heard.get_or_insert_with(|| (from, message.to_vec()));
            };
            socket.receive(first).unwrap();
            if let Some(heard) = heard {
                return heard;
            }
            assert!(Instant::now() < deadline, "nothing was heard");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn both_messages_reach_the_other_end_of_the_link_from_the_address_that_was_chosen() {
        on_a_wire(|wire| {
            let (a, b) = (socket(&wire, "a", "fe80::1"), socket(&wire, "b", "fe80::3"));
            for kind in [Kind::Solicitation, Kind::Advertisement] {
                for mac in [None, Some([2, 0, 0, 0, 0, 7])] {
                    let message = kind.write(mac);
                    b.send(kind, &message).unwrap();
                    let (from, heard) = next(&a);
                    assert_eq!(from, "fe80::3".parse::<Ipv6Addr>().unwrap());
                    assert_eq!(parse(from, &heard), Some(kind));
                    // The checksum is the kernel's.
                    assert_eq!((&heard[..2], &heard[4..]), (&message[..2], &message[4..]));
                }
            }
            b.receive(|from, message| panic!("its own words: {from} {message:?}")).unwrap();
        });
    }

    #[test]
    fn what_a_router_has_passed_on_or_is_of_another_type_is_not_heard() {
        on_a_wire(|wire| {
            let (a, b) = (socket(&wire, "a", "fe80::1"), socket(&wire, "b", "fe80::2"));
            let hops = |hops: u32| {
                socket2::SockRef::from(&b.socket).set_multicast_hops_v6(hops).unwrap();
            };
            let kind = Kind::Advertisement;
            for forged in [1, 64, 254] {
                hops(forged);
                b.send(kind, &kind.write(None)).unwrap();
            }
            hops(255);
            // A neighbour advertisement, and an echo request.
            for other in [136, 128] {
                let mut message = vec![0; 24];
                message[0] = other;
                b.send(kind, &message).unwrap();
            }
            b.send(kind, &kind.write(Some([2, 0, 0, 0, 0, 9]))).unwrap();
            // Packets on a wire do not overtake each other.
            assert_eq!(next(&a).1[16..], [1, 1, 2, 0, 0, 0, 0, 9]);
        });
    }

    #[test]
    fn an_address_that_is_not_there_is_told() {
        on_a_wire(|wire| {
            wire.enter("a");
            let own = "fe80::99".parse().unwrap();
            let error = DiscoverySocket::open(wire.scope("a"), own).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        });
    }
}
