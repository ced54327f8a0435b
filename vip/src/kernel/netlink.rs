//! Interfaces and addresses of this network namespace by rtnetlink(7): list, watch, change.
//!
//! Only the speakers call this. Listing and watching need no privilege, changing needs
//! `CAP_NET_ADMIN`. The kernel answers a request before `send` returns; only an IPv6 address that was
//! added is waited for until packets to it are taken. Of the crates behind it only the message types
//! are used, and none of them leaves this file.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use rtnetlink::{
    constants::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK},
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_DONE,
        NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    },
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo},
        link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use socket2::{SockFilter, SockRef};

use crate::{
    kernel::wait::wait,
    links::{
        Link, Links, OnLink, Origin,
        change::{Change, Failure, FailureKind},
        notice::Notice,
    },
};

/// `IFA_PROTO` of our addresses: shown by `ip address` as `proto 71`, and how addresses left by a
/// killed predecessor are told from those of other programs. Not in any registry; 0–3 are the kernel's.
const PROTOCOL: u8 = 71;
/// Changes sent at once. Their answers wait in the socket's buffer, where each takes about 1 KiB.
const BATCH: usize = 100;
/// Room for answers and notices, in bytes; the kernel doubles it for its own use.
const BUFFER: usize = 1 << 20;
/// The kernel fills at most 32 KiB at once, whatever it lists.
const CHUNK: usize = 64 << 10;
/// Lists that the kernel calls inconsistent because something changed meanwhile are asked for again.
const LIST_TRIES: usize = 5;
/// `NLM_F_DUMP_INTR` of linux/netlink.h.
const INTERRUPTED: u16 = 0x10;
/// An IPv6 address that was added takes packets a moment after the kernel has said that it is there. It
/// is asked for this often, so many times at most: together far less than a member may be silent for.
const ROUTED_EVERY: Duration = Duration::from_millis(1);
/// See [`ROUTED_EVERY`].
const ROUTED_TRIES: usize = 100;
/// Notices read in one turn.
const NOTICES: usize = 256;

/// What others did to interfaces and addresses.
pub(crate) enum Notices {
    /// In this order.
    Changes(Vec<Notice>),
    /// The kernel has dropped some: only a list tells.
    Lost,
}

/// Two sockets: one to ask, one to hear of changes, so that a flood of changes loses no answer.
pub(crate) struct Netlink {
    requests: Socket,
    watch: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens the sockets in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let mut requests = Socket::new(NETLINK_ROUTE)?;
        let own = requests.bind_auto()?.port_number();
        // An answer to a failed request would carry the request.
        requests.set_cap_ack(true)?;
        let mut watch = Socket::new(NETLINK_ROUTE)?;
        // Before it listens: whatever is sent before the filter stands is not filtered.
        SockRef::from(&watch).attach_filter(&not_ours(own))?;
        watch.bind(&SocketAddr::new(0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))?;
        for socket in [&requests, &watch] {
            // Less than that works as well: a notice that is lost leads to a list.
            let _ = SockRef::from(socket).set_recv_buffer_size(BUFFER);
        }
        Ok(Self { requests, watch, sequence: 0, buffer: Vec::with_capacity(CHUNK) })
    }

    /// What to wait on for [`notices`](Self::notices).
    pub(crate) fn watch(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    /// What others have changed since the last call; what this process did is not among it.
    pub(crate) fn notices(&mut self) -> io::Result<Notices> {
        let mut notices = Vec::new();
        while notices.len() < NOTICES {
            self.buffer.clear();
            match self.watch.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Notices::Lost);
                }
                Err(error) => return Err(error),
            }
            for message in messages(&self.buffer) {
                notices.extend(notice(message));
            }
        }
        Ok(Notices::Changes(notices))
    }

    /// All interfaces and addresses.
    pub(crate) fn links(&mut self) -> io::Result<Links> {
        let mut links = Vec::new();
        let mut addresses = Vec::new();
        let requests = [
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        ];
        for request in requests {
            for notice in self.list(&request)? {
                match notice {
                    Notice::Link(link) => links.push(link),
                    Notice::Address(address, origin) => addresses.push((address, origin)),
                    Notice::LinkGone(_) | Notice::AddressGone(_) => {}
                }
            }
        }
        Ok(Links::new(links, addresses))
    }

    /// Makes changes, in this order; what came of each. An address that was added takes packets when
    /// this returns, and before anything but further additions is done: an address that moves to the
    /// loopback interface is on one of both at any time.
    pub(crate) fn change(&mut self, changes: &[Change]) -> Vec<Result<(), Failure>> {
        let mut outcomes = Vec::with_capacity(changes.len());
        let alike = changes.chunk_by(|one, next| one.adds() == next.adds());
        for batch in alike.flat_map(|alike| alike.chunks(BATCH)) {
            match self.change_batch(batch) {
                Ok(batch) => outcomes.extend(batch),
                Err(error) => outcomes.extend(batch.iter().map(|_| Err(failure(&error)))),
            }
            let from = outcomes.len() - batch.len();
            self.await_routes(
                batch
                    .iter()
                    .zip(&outcomes[from..])
                    .filter_map(|(change, outcome)| match (change, outcome) {
                        (Change::Add { index, ip: IpAddr::V6(ip), .. }, Ok(())) => {
                            Some((*index, *ip))
                        }
                        _ => None,
                    })
                    .collect(),
            );
        }
        outcomes
    }

    /// Waits until packets to these addresses are taken. The kernel puts an IPv6 address on at once, but
    /// its local route by a work queue (`addrconf_dad_work`), and until then drops what arrives for it. If
    /// that takes too long, or cannot be asked, there is nothing better to do than to go on.
    fn await_routes(&mut self, mut missing: Vec<(u32, Ipv6Addr)>) {
        for _ in 0..ROUTED_TRIES {
            match self.unrouted(&missing) {
                Ok(still) if !still.is_empty() => missing = still,
                _ => return,
            }
            wait(Vec::new(), ROUTED_EVERY);
        }
    }

    /// Those without a local route of their own on that interface.
    fn unrouted(&mut self, addresses: &[(u32, Ipv6Addr)]) -> io::Result<Vec<(u32, Ipv6Addr)>> {
        if addresses.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.sequence.wrapping_add(1);
        let mut request = Vec::with_capacity(addresses.len() * 96);
        for (index, ip) in addresses {
            self.append(&mut request, RouteNetlinkMessage::GetRoute(local_route(*index, *ip)), 0);
        }
        self.drop_old_answers();
        self.requests.send(&request, 0)?;
        let mut routed: Vec<Option<bool>> = vec![None; addresses.len()];
        while routed.iter().any(Option::is_none) {
            self.buffer.clear();
            self.requests.recv(&mut self.buffer, libc::MSG_DONTWAIT)?;
            for message in messages(&self.buffer) {
                let place = message.sequence_number().wrapping_sub(first) as usize;
                if let Some(routed) = routed.get_mut(place) {
                    *routed = Some(is_local_route(message));
                }
            }
        }
        let asked = addresses.iter().zip(routed);
        Ok(asked.filter(|(_, routed)| *routed == Some(false)).map(|(asked, _)| *asked).collect())
    }

    fn change_batch(&mut self, changes: &[Change]) -> io::Result<Vec<Result<(), Failure>>> {
        let first = self.sequence.wrapping_add(1);
        let mut request = Vec::with_capacity(changes.len() * 96);
        for change in changes {
            let (message, flags) = request_for(change);
            self.append(&mut request, message, flags | NLM_F_ACK);
        }
        self.drop_old_answers();
        self.requests.send(&request, 0)?;
        let mut outcomes: Vec<Option<Result<(), Failure>>> = vec![None; changes.len()];
        while outcomes.iter().any(Option::is_none) {
            self.buffer.clear();
            if let Err(error) = self.requests.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                // The kernel had answered when `send` returned; the rest was lost.
                let lost = |outcome: Option<_>| outcome.unwrap_or_else(|| Err(failure(&error)));
                return Ok(outcomes.into_iter().map(lost).collect());
            }
            for message in messages(&self.buffer) {
                let place = message.sequence_number().wrapping_sub(first) as usize;
                let answer = answer(&message).map_err(|error| failure(&error));
                if let Some(outcome) = outcomes.get_mut(place) {
                    *outcome = Some(answer);
                }
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    fn list(&mut self, request: &RouteNetlinkMessage) -> io::Result<Vec<Notice>> {
        for _ in 0..LIST_TRIES {
            if let Some(listed) = self.list_once(request.clone())? {
                return Ok(listed);
            }
        }
        Err(io::Error::other("the interfaces change faster than they can be listed"))
    }

    /// `None` if something has changed meanwhile.
    fn list_once(&mut self, request: RouteNetlinkMessage) -> io::Result<Option<Vec<Notice>>> {
        let mut bytes = Vec::new();
        self.append(&mut bytes, request, NLM_F_DUMP);
        self.drop_old_answers();
        self.requests.send(&bytes, 0)?;
        let (mut listed, mut consistent) = (Vec::new(), true);
        loop {
            self.buffer.clear();
            self.requests.recv(&mut self.buffer, libc::MSG_DONTWAIT)?;
            for message in messages(&self.buffer) {
                if message.sequence_number() != self.sequence {
                    continue;
                }
                consistent &= message.flags() & INTERRUPTED == 0;
                match message.message_type() {
                    NLMSG_DONE => return Ok(consistent.then_some(listed)),
                    NLMSG_ERROR => answer(&message)?,
                    _ => listed.extend(notice(message)),
                }
            }
        }
    }

    fn append(&mut self, bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = bytes.len();
        // Messages begin at multiples of four (NLMSG_ALIGN).
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }

    /// Of a list that was given up.
    fn drop_old_answers(&mut self) {
        loop {
            self.buffer.clear();
            match self.requests.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

/// A filter that drops what this process does itself: it renews each address twice a second.
fn not_ours(port: u32) -> [SockFilter; 13] {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const LOAD_BYTE_AT_X: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_IMM) as u16;
    const LOAD_X: u16 = (libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM) as u16;
    const TO_X: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
    const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    /// Finds the attribute of type X after offset A, or 0 (`SKF_AD_NLATTR` of linux/filter.h).
    const FIND_ATTRIBUTE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_NLATTR) as u32;
    /// `RTM_NEWADDR`, `IFA_PROTO`; a header of netlink and one of an address.
    const NEW_ADDRESS: u16 = 20;
    const ORIGIN: u32 = 11;
    const HEADERS: u32 = 16 + 8;
    // Headers are in this machine's order, loads are in the network's.
    [
        // `nlmsg_pid`: IPv4 says which socket asked for a change.
        SockFilter::new(LOAD_WORD, 0, 0, 12),
        SockFilter::new(EQUALS, 9, 0, port.to_be()),
        // IPv6 does not, but both say whose an address is.
        SockFilter::new(LOAD_HALF, 0, 0, 4),
        SockFilter::new(EQUALS, 0, 8, u32::from(NEW_ADDRESS.to_be())),
        SockFilter::new(LOAD, 0, 0, HEADERS),
        SockFilter::new(LOAD_X, 0, 0, ORIGIN),
        SockFilter::new(LOAD_WORD, 0, 0, FIND_ATTRIBUTE),
        SockFilter::new(EQUALS, 4, 0, 0),
        SockFilter::new(TO_X, 0, 0, 0),
        SockFilter::new(LOAD_BYTE_AT_X, 0, 0, 4),
        SockFilter::new(EQUALS, 0, 1, u32::from(PROTOCOL)),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

/// The messages in what was received; what is cut off is left out.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        let length = message.length() as usize;
        let message = NetlinkBuffer::new_checked(&bytes[..length]).ok()?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// What an answer says: `struct nlmsgerr` begins with a negative errno, or zero.
fn answer(message: &NetlinkBuffer<&[u8]>) -> io::Result<()> {
    let code = message.payload().first_chunk().map(|code| i32::from_ne_bytes(*code));
    match code {
        _ if message.message_type() != NLMSG_ERROR => {
            Err(io::Error::other("the kernel answered something else"))
        }
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::Error::other("the kernel's answer was cut off")),
    }
}

fn request_for(change: &Change) -> (RouteNetlinkMessage, u16) {
    match *change {
        Change::Add { index, ip, lifetime } => (
            RouteNetlinkMessage::NewAddress(living(index, ip, lifetime)),
            NLM_F_CREATE | NLM_F_EXCL,
        ),
        Change::Renew { index, ip, lifetime } => (
            RouteNetlinkMessage::NewAddress(living(index, ip, lifetime)),
            NLM_F_CREATE | NLM_F_REPLACE,
        ),
        Change::Delete { index, ip } => (RouteNetlinkMessage::DelAddress(host(index, ip)), 0),
    }
}

/// Asks for the route that packets to `ip` take, if it is one of this interface: the very entry of the
/// table (`RTM_F_FIB_MATCH`), as the result of a lookup does not tell interfaces apart for local routes.
fn local_route(index: u32, ip: Ipv6Addr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.destination_prefix_length = 128;
    message.header.flags = RouteFlags::FibMatch;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet6(ip)));
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

/// Whether that was the answer; without any such route it is an error, or the subnet's.
fn is_local_route(message: NetlinkBuffer<&[u8]>) -> bool {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message.into_inner());
    let Ok(NetlinkPayload::InnerMessage(message)) = message.map(|message| message.payload) else {
        return false;
    };
    matches!(message, RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Local)
}

fn host(index: u32, ip: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = OnLink::host(index, ip).prefix;
    message.header.family = match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.attributes.push(AddressAttribute::Address(ip));
    if ip.is_ipv4() {
        message.attributes.push(AddressAttribute::Local(ip));
    }
    message
}

fn living(index: u32, ip: IpAddr, lifetime: Duration) -> AddressMessage {
    let mut message = host(index, ip);
    // A renewal without the mark would take it off.
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    if ip.is_ipv6() {
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    let seconds = lifetime.as_secs() + u64::from(lifetime.subsec_nanos() > 0);
    let mut lifetime = CacheInfo::default();
    // Deprecated from the start (RFC 4862 §5.5.4): it answers, but the node never picks it as the
    // source of connections of its own, which would break when the VIP moves.
    lifetime.ifa_preferred = 0;
    lifetime.ifa_valid = u32::try_from(seconds).unwrap_or(u32::MAX).max(1);
    message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    message
}

fn notice(message: NetlinkBuffer<&[u8]>) -> Option<Notice> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message.into_inner()).ok()?;
    let NetlinkPayload::InnerMessage(message) = message.payload else { return None };
    match message {
        // Bridges speak of their ports in the same group, in a family of their own.
        RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message)
            if message.header.interface_family == AddressFamily::Bridge =>
        {
            None
        }
        RouteNetlinkMessage::NewLink(message) => Some(Notice::Link(link(&message))),
        RouteNetlinkMessage::DelLink(message) => Some(Notice::LinkGone(message.header.index)),
        RouteNetlinkMessage::NewAddress(message) => {
            address(&message).map(|(address, origin)| Notice::Address(address, origin))
        }
        RouteNetlinkMessage::DelAddress(message) => {
            address(&message).map(|(address, _)| Notice::AddressGone(address))
        }
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
    };
    let resolves = message.header.link_layer_type == LinkLayerType::Ether
        && !flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) if resolves => link.mac = mac.as_slice().try_into().ok(),
            _ => {}
        }
    }
    link
}

fn address(message: &AddressMessage) -> Option<(OnLink, Origin)> {
    let (mut address, mut local, mut origin) = (None, None, Origin::Unknown);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)) => origin = Origin::Ours,
            AddressAttribute::Protocol(AddressProtocol::Other(0)) => {}
            AddressAttribute::Protocol(_) => origin = Origin::Foreign,
            _ => {}
        }
    }
    // On a point-to-point link, `Address` is the other end's.
    let (index, prefix) = (message.header.index, message.header.prefix_len);
    Some((OnLink { index, ip: local.or(address)?, prefix }, origin))
}

fn failure(error: &io::Error) -> Failure {
    let kind = match error.raw_os_error() {
        Some(libc::EPERM) => FailureKind::Denied,
        Some(libc::EEXIST) => FailureKind::Exists,
        Some(libc::EADDRNOTAVAIL | libc::ENODEV) => FailureKind::Gone,
        _ => FailureKind::Other,
    };
    Failure { kind, message: error.to_string() }
}
