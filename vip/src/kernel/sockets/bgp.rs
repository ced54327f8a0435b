//! TCP as BGP needs it: dialled and accepted connections, signed by TCP MD5 (RFC 2385), guarded by
//! TTL (RFC 5082), marked as network control.
//!
//! The speaker owns one [`Listener`] per family, and a [`Dialling`] or a [`Connection`] for each that a
//! session has. Nothing here blocks it: it waits for all of them at once, for those that have to
//! write by `wait_to_write`. Knows no message: bytes in, bytes out.

#![expect(clippy::disallowed_methods, reason = "opens sockets")]

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::options;
use crate::pool::ranges::Family;

pub(crate) mod connection;

use connection::Connection;

/// Connections that wait to be accepted; every peer has one or two.
const BACKLOG: i32 = 128;
/// A SYN's network header up to its TTL or hop limit.
const SYN_LEN: usize = 40;

/// Password of a session; at most 80 bytes, and not empty.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key(Vec<u8>);

/// How far away a peer is, by the TTL or hop limit of its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hops {
    /// On a link of this node. Sends 255, which a router that checks it demands, and takes any,
    /// because most routers send 1.
    Link,
    /// On a link of this node and sure to be so: sends 255 and takes nothing less (RFC 5082).
    SecuredLink,
    /// At most so many hops away.
    Within(u8),
}

/// Which router to dial, and how.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    /// Where the peer listens. A link-local address needs its scope.
    pub(crate) to: SocketAddr,
    /// Address of this node to dial from; `None` for what the routing table says.
    pub(crate) from: Option<IpAddr>,
    /// Interface (or VRF) that every packet has to pass.
    pub(crate) device: Option<String>,
    /// How far away it is.
    pub(crate) hops: Hops,
    /// What segments are signed with.
    pub(crate) key: Option<Key>,
}

/// A connection that is being opened; dropping it gives up. Ready when it can be written to.
pub(crate) struct Dialling {
    stream: Option<TcpStream>,
    to: SocketAddr,
}

/// Why no connection can be accepted. Sessions that this end dials do without.
#[derive(Debug)]
pub(crate) enum ListenFailure {
    /// Another program listens on the port.
    Taken(u16),
    /// Ports below 1024 need `CAP_NET_BIND_SERVICE`.
    Denied(u16),
    /// Anything else; a kernel without IPv6 shows here too.
    Other(u16, io::Error),
}

/// Accepts connections of one family.
pub(crate) struct Listener {
    socket: TcpListener,
    family: Family,
    keys: BTreeMap<IpAddr, Key>,
    /// The one key of all link-local peers; then the listener is of one interface.
    link_key: Option<Key>,
}

/// A connection that another host has opened. Reset if it is dropped instead of admitted.
pub(crate) struct Incoming {
    stream: Option<TcpStream>,
    /// The host: address, port, and for a link-local address the scope.
    pub(crate) from: SocketAddr,
    /// Whether the kernel has checked that it is signed with the key of that host.
    pub(crate) signed: bool,
    /// TTL or hop limit of its first packet, if the kernel has kept it.
    ttl: Option<u8>,
}

impl Key {
    /// A password as the kernel takes it.
    pub(crate) fn new(password: &[u8]) -> Option<Self> {
        (1..=libc::TCP_MD5SIG_MAXKEYLEN).contains(&password.len()).then(|| Self(password.to_vec()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl ListenFailure {
    fn of(port: u16, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::Taken(port),
            io::ErrorKind::PermissionDenied => Self::Denied(port),
            _ => Self::Other(port, error),
        }
    }
}

impl fmt::Display for ListenFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(port) => write!(
                f,
                "TCP port {port} is taken by another program, so that routers cannot dial this node; \
                 stop that BGP speaker, or let routers be passive"
            ),
            Self::Denied(port) => write!(
                f,
                "TCP port {port} needs CAP_NET_BIND_SERVICE; give it to this process, or let routers \
                 be passive"
            ),
            Self::Other(port, error) => write!(f, "TCP port {port} cannot be listened on: {error}"),
        }
    }
}

/// Begins to open a connection. The kernel tries for about two minutes, unless the connection is dropped before.
pub(crate) fn dial(dial: &Dial) -> io::Result<Dialling> {
    let to = dial.to;
    let socket = open(Family::of(to.ip()))?;
    if let Some(device) = &dial.device {
        let bound = socket.bind_device(Some(device.as_bytes()));
        bound
            .map_err(|error| context(&error, format_args!("cannot bind to interface {device}")))?;
    }
    if let Some(from) = dial.from {
        let bound = socket.bind(&on_link(from, to).into());
        bound.map_err(|error| context(&error, format_args!("cannot dial from {from}")))?;
    }
    dial.hops.apply(&socket, to.is_ipv6())?;
    if let Some(Key(key)) = &dial.key {
        let set = options::set_md5_key(&socket, to.ip(), key);
        set.map_err(|error| context(&error, format_args!("no TCP MD5 key for {}", to.ip())))?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(refused(&error, to)),
        _ => Ok(Dialling { stream: Some(socket.into()), to }),
    }
}

impl Dialling {
    /// The connection, once it is open; `None` if it is not yet. After an answer there is no other.
    pub(crate) fn finish(&mut self) -> Option<io::Result<Connection>> {
        let stream = self.stream.take()?;
        match stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Some(Err(refused(&error, self.to))),
        }
        match stream.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                self.stream = Some(stream);
                None
            }
            Err(error) => Some(Err(refused(&error, self.to))),
            Ok(_) => Some(Connection::new(stream)),
        }
    }

    /// What can be written to when it is open; `None` after it has been finished.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }
}

impl Listener {
    /// Listens on a port on all addresses of one family. A router that has a key
    /// gets in only after [`keys`](Self::keys) was called.
    pub(crate) fn open(family: Family, port: u16) -> Result<Self, ListenFailure> {
        Self::try_open(family, port, false, None).map_err(|error| ListenFailure::of(port, error))
    }

    /// The same, beside listeners of this process for single interfaces, which have to be
    /// [shared](Self::share) meanwhile.
    pub(crate) fn open_beside(family: Family, port: u16) -> Result<Self, ListenFailure> {
        Self::try_open(family, port, true, None).map_err(|error| ListenFailure::of(port, error))
    }

    /// Listens on a port on one interface, for peers on link-local addresses there that all have this
    /// key. On this interface it stands before listeners of all interfaces, so that it needs the
    /// [`keys`](Self::keys) of other IPv6 peers as well. Those listeners have to be
    /// [shared](Self::share) meanwhile.
    pub(crate) fn open_on(index: u32, port: u16, key: Key) -> Result<Self, ListenFailure> {
        Self::try_open(Family::V6, port, true, Some((index, key)))
            .map_err(|error| ListenFailure::of(port, error))
    }

    /// Whether further listeners of this process may have the port too. Only for the moment in which
    /// they are opened: otherwise it shows when another program has it.
    pub(crate) fn share(&self, with_others: bool) -> io::Result<()> {
        SockRef::from(&self.socket).set_reuse_port(with_others)
    }

    /// The key of link-local peers, if it listens on one interface.
    pub(crate) fn link_key(&self) -> Option<&Key> {
        self.link_key.as_ref()
    }

    fn try_open(
        family: Family,
        port: u16,
        shared: bool,
        link: Option<(u32, Key)>,
    ) -> io::Result<Self> {
        let socket = open(family)?;
        // A port in TIME-WAIT after a restart is free; one that another program listens on is not.
        socket.set_reuse_address(true)?;
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        // The answers to SYNs are the listener's, also to routers that check their TTL.
        Hops::Link.apply(&socket, family == Family::V6)?;
        options::set_number(&socket, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, 1)?;
        if let Some((index, Key(key))) = &link {
            let device = index.cast_signed();
            options::set_number(&socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, device)?;
            options::set_link_md5_key(&socket, key)
                .map_err(|error| context(&error, format_args!("no TCP MD5 key for fe80::/10")))?;
        }
        socket.set_reuse_port(shared)?;
        socket.bind(&SocketAddr::new(any, port).into())?;
        socket.listen(BACKLOG)?;
        let (keys, link_key) = (BTreeMap::new(), link.map(|(_, key)| key));
        let listener = Self { socket: socket.into(), family, keys, link_key };
        listener.share(false)?;
        Ok(listener)
    }

    /// The address and port that are listened on.
    #[cfg(test)]
    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The keys of all peers that have one; those of the other family are not for this listener.
    /// Peers without a key are not affected; connections that are open keep the key that they have.
    ///
    /// Returns the peers whose key was not taken: what comes from them is not [signed](Incoming::signed).
    pub(crate) fn keys(&mut self, wanted: &BTreeMap<IpAddr, Key>) -> Vec<(IpAddr, io::Error)> {
        let mut refused = Vec::new();
        let mut taken = false;
        self.keys
            .retain(|&peer, _| wanted.contains_key(&peer) || forget(&self.socket, peer).is_err());
        for (&peer, key) in wanted {
            if Family::of(peer) == self.family && self.keys.get(&peer) != Some(key) {
                match options::set_md5_key(&self.socket, peer, &key.0) {
                    Ok(()) => {
                        self.keys.insert(peer, key.clone());
                        taken = true;
                    }
                    Err(error) => refused.push((peer, error)),
                }
            }
        }
        // A connection that waits may have come before the key: its router may dial again.
        while taken && matches!(self.accept(), Ok(Some(_))) {}
        refused
    }

    /// The next connection, if there is one. After an error (no file descriptors left) the
    /// caller waits a while.
    pub(crate) fn accept(&self) -> io::Result<Option<Incoming>> {
        loop {
            let (stream, from) = match self.socket.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // Gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                accepted => accepted?,
            };
            stream.set_nonblocking(true)?;
            let ttl = syn_ttl(&stream, self.family);
            let signed = self.has_key_of(from.ip());
            return Ok(Some(Incoming { stream: Some(stream), from, signed, ttl }));
        }
    }

    fn has_key_of(&self, peer: IpAddr) -> bool {
        let link_local = matches!(peer, IpAddr::V6(ip) if ip.is_unicast_link_local());
        self.keys.contains_key(&peer) || link_local && self.link_key.is_some()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Incoming {
    /// Makes it a connection with the peer that it is of. A peer that has to be on the link but
    /// was not when it dialled is refused, `PermissionDenied`.
    pub(crate) fn admit(mut self, hops: Hops) -> io::Result<Connection> {
        let stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        let v6 = self.from.is_ipv6();
        let checked = match hops.minimum_ttl() {
            // From now on the kernel checks; up to now it did not.
            Some(minimum) if self.ttl.is_none_or(|ttl| ttl < minimum) => {
                let ttl = self.ttl.map_or_else(|| "unknown".to_owned(), |ttl| ttl.to_string());
                let message = format!("{} dialled with TTL {ttl}, not {minimum}", self.from);
                Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
            }
            _ => hops.apply(&SockRef::from(&stream), v6),
        };
        match checked {
            Ok(()) => Connection::new(stream),
            Err(error) => {
                self.stream = Some(stream);
                Err(error)
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            // No lingering state for strangers that dial again and again; nothing to do if it fails.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Hops {
    fn ttl(self) -> u8 {
        match self {
            Self::Link | Self::SecuredLink => u8::MAX,
            Self::Within(hops) => hops.max(1),
        }
    }

    fn minimum_ttl(self) -> Option<u8> {
        (self == Self::SecuredLink).then_some(u8::MAX)
    }

    fn apply(self, socket: &Socket, v6: bool) -> io::Result<()> {
        match v6 {
            false => {
                socket.set_ttl_v4(self.ttl().into())?;
                socket.set_tos_v4(options::NETWORK_CONTROL)?;
            }
            true => {
                socket.set_unicast_hops_v6(self.ttl().into())?;
                socket.set_tclass_v6(options::NETWORK_CONTROL)?;
            }
        }
        match self.minimum_ttl() {
            Some(minimum) => options::set_minimum_ttl(socket, v6, minimum),
            None => Ok(()),
        }
    }
}

/// Takes the key of a peer back; it may have had none.
fn forget(socket: &TcpListener, peer: IpAddr) -> io::Result<()> {
    match options::set_md5_key(socket, peer, &[]) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn open(family: Family) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// An address of this node, any port; a link-local one on the link on which the peer is.
fn on_link(from: IpAddr, to: SocketAddr) -> SocketAddr {
    match (from, to) {
        (IpAddr::V6(from), SocketAddr::V6(to)) => {
            SocketAddrV6::new(from, 0, 0, to.scope_id()).into()
        }
        _ => SocketAddr::new(from, 0),
    }
}

/// The TTL or hop limit of the SYN of an accepted connection. The kernel has not kept it if it
/// answered by a SYN cookie.
fn syn_ttl(stream: &TcpStream, family: Family) -> Option<u8> {
    let mut syn = [0; 256];
    let syn = options::get(stream, libc::IPPROTO_TCP, libc::TCP_SAVED_SYN, &mut syn).ok()?;
    let ttl = match family {
        Family::V4 => 8,
        Family::V6 => 7,
    };
    (syn.len() >= SYN_LEN).then_some(syn[ttl])
}

fn refused(error: &io::Error, to: SocketAddr) -> io::Error {
    context(error, format_args!("cannot connect to {to}"))
}

fn context(error: &io::Error, what: fmt::Arguments<'_>) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests;
