//! The sockets that carry a group's datagrams: UDP, on the very links that the addresses live on.
//!
//! The driver owns one [`HeartbeatSockets`]; what the datagrams say, and whether they are to be
//! believed, is the business of `group`. One socket for each link and family, bound to the device, so
//! that a datagram proves that this link works. A link with an IPv4 address of this node uses
//! IPv4, another one IPv6: the nodes of a link need that in common.
//!
//! | what            | value                                                                |
//! |-----------------|----------------------------------------------------------------------|
//! | port            | 7471 unless set otherwise, for source and destination               |
//! | IPv4 group      | 239.255.71.71 (local scope, RFC 2365 §6.1)                           |
//! | IPv6 group      | ff12::4747:4747 (link-local; T flag: not registered, RFC 4291 §2.7)    |
//! | TTL, hop limit  | 1 for multicast, the kernel's default for `--peer`                   |
//! | traffic class   | CS6, network control (RFC 4594 §3.1)                                 |

#![expect(
    clippy::disallowed_methods,
    reason = "opens the sockets of the heartbeats, which are the speaker's"
)]

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};

use crate::{
    l2::group::{Datagram, Destination},
    links::LinkFacts,
};

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 71, 71);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0x4747, 0x4747);
/// CS6 in the upper six bits. The kernel's queues put it before bulk traffic, as switches do.
const NETWORK_CONTROL: u32 = 0xc0;
/// The longest datagram that is looked at.
const LONGEST: usize = 2048;
/// Datagrams read from one socket in one turn. A group of 64 sends 640 a second.
const DATAGRAMS: usize = 128;

/// A datagram that has come in.
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) from: SocketAddr,
    pub(crate) link: u32,
}

/// All sockets of a group.
#[derive(Debug)]
pub(crate) struct HeartbeatSockets {
    port: u16,
    /// Whether a node of `--peer` needs a socket of the family.
    peers: Families,
    /// By interface, and whether it is the one for IPv6.
    sockets: BTreeMap<(u32, bool), Bound>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Families {
    v4: bool,
    v6: bool,
}

#[derive(Debug)]
struct Bound {
    socket: UdpSocket,
    /// Whence multicasts say they come.
    source: Option<Ipv4Addr>,
}

impl HeartbeatSockets {
    /// No socket yet; `peers` are the nodes that are sent to one by one.
    pub(crate) fn new(port: u16, peers: &[SocketAddr]) -> Self {
        Self { port, peers: Families::of(peers), sockets: BTreeMap::new() }
    }

    /// From now on these are sent to one by one. True if that takes other sockets, which
    /// [`follow`](Self::follow) opens.
    pub(crate) fn reach(&mut self, peers: &[SocketAddr]) -> bool {
        let families = Families::of(peers);
        std::mem::replace(&mut self.peers, families) != families
    }

    /// Has sockets on these links (by index: name and own addresses) and no others; what could not
    /// be opened, and why.
    pub(crate) fn follow(
        &mut self,
        links: &BTreeMap<u32, (String, LinkFacts)>,
    ) -> Vec<(String, io::Error)> {
        let mut failures = Vec::new();
        let peers = self.peers;
        let wanted = |index: u32, v6: bool| {
            links.get(&index).is_some_and(|(_, facts)| match v6 {
                false => facts.v4.is_some() || (peers.v4 && facts.v6.is_none()),
                true => facts.v6.is_some() && (facts.v4.is_none() || peers.v6),
            })
        };
        self.sockets.retain(|&(index, v6), _| wanted(index, v6));
        for (&index, (name, facts)) in links {
            for v6 in [false, true] {
                if !wanted(index, v6) {
                    continue;
                }
                if let Some(bound) = self.sockets.get_mut(&(index, v6)) {
                    bound.speak_as(facts);
                    continue;
                }
                let opened = if v6 { self.open_v6(index, name) } else { self.open_v4(index, name) };
                match opened {
                    Ok(socket) => {
                        let mut bound = Bound { socket: socket.into(), source: None };
                        bound.speak_as(facts);
                        self.sockets.insert((index, v6), bound);
                    }
                    Err(error) => failures.push((name.clone(), error)),
                }
            }
        }
        failures
    }

    /// What to wait on for [`receive`](Self::receive).
    pub(crate) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.values().map(|bound| bound.socket.as_fd())
    }

    /// What has come in: a bounded number from each socket.
    pub(crate) fn receive(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        let mut buffer = [0; LONGEST];
        self.sockets.retain(|&(link, _), bound| {
            for _ in 0..DATAGRAMS {
                match bound.socket.recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        received.push(Received { bytes: buffer[..length].to_vec(), from, link });
                    }
                    Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return false,
                    // Nothing more; or what an earlier datagram met, such as a closed port.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    Err(_) => {}
                }
            }
            true
        });
        received
    }

    /// Sends one datagram; does not block.
    pub(crate) fn send(&self, datagram: &Datagram) -> io::Result<()> {
        let socket = |v6| self.sockets.get(&(datagram.link, v6));
        let (bound, to) = match datagram.to {
            Destination::Peer(to) => (socket(to.is_ipv6()), to),
            Destination::Multicast => match (socket(false), socket(true)) {
                (Some(bound), _) if bound.source.is_some() => {
                    (Some(bound), SocketAddr::new(IpAddr::V4(GROUP_V4), self.port))
                }
                (_, v6) => (v6, SocketAddr::new(IpAddr::V6(GROUP_V6), self.port)),
            },
        };
        let bound = bound.ok_or(io::ErrorKind::AddrNotAvailable)?;
        bound.socket.send_to(&datagram.bytes, to).map(drop)
    }

    fn open_v4(&self, index: u32, name: &str) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        let device = InterfaceIndexOrAddress::Index(index);
        socket.set_tos_v4(NETWORK_CONTROL)?;
        socket.set_multicast_ttl_v4(1)?;
        socket.set_multicast_loop_v4(false)?;
        self.bind(&socket, name, IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
        socket.join_multicast_v4_n(&GROUP_V4, &device)?;
        Ok(socket)
    }

    fn open_v6(&self, index: u32, name: &str) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.set_tclass_v6(NETWORK_CONTROL)?;
        socket.set_multicast_hops_v6(1)?;
        socket.set_multicast_loop_v6(false)?;
        self.bind(&socket, name, IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
        socket.set_multicast_if_v6(index)?;
        socket.join_multicast_v6(&GROUP_V6, index)?;
        Ok(socket)
    }

    fn bind(&self, socket: &Socket, device: &str, any: IpAddr) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        // There is one for each device; and a successor starts while its predecessor drains.
        socket.set_reuse_address(true)?;
        // Stays with the device when it is renamed.
        socket.bind_device(Some(device.as_bytes()))?;
        socket.bind(&SocketAddr::new(any, self.port).into())
    }
}

impl Families {
    fn of(peers: &[SocketAddr]) -> Self {
        Self {
            v4: peers.iter().any(SocketAddr::is_ipv4),
            v6: peers.iter().any(SocketAddr::is_ipv6),
        }
    }
}

impl Bound {
    /// Multicasts come from the node's own address, not from a VIP that the kernel lists before it.
    fn speak_as(&mut self, facts: &LinkFacts) {
        let Some(own) = facts.v4 else { return };
        if self.source != Some(own) && SockRef::from(&self.socket).set_multicast_if_v4(&own).is_ok()
        {
            self.source = Some(own);
        }
    }
}
