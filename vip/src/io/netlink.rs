//! Interfaces and addresses of this network namespace by rtnetlink(7): list, watch, add, delete.
//!
//! Only the speaker calls this. Listing and watching need no privilege, changing needs
//! `CAP_NET_ADMIN`. The crate behind it changes its interface often; nothing of it leaves this file.

#![expect(clippy::disallowed_methods, reason = "the connections are tasks of the speaker's thread")]

use std::io;
use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt, stream};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::{Error, Handle, MulticastGroup, new_connection, new_multicast_connection};

use crate::holdings::{Failure, FailureKind};
use crate::links::{Link, Links, OnLink, Origin};

/// `IFA_PROTO` of our addresses: shown by `ip address` as `proto 71`, and how addresses left by a
/// killed predecessor are told from those of other programs. Not in any registry; 0–3 are the kernel's.
const PROTOCOL: u8 = 71;

type Messages =
    stream::BoxStream<'static, (NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr)>;

/// Two sockets: one to ask, one to hear of changes, so that a flood of changes loses no answer.
pub(crate) struct Netlink {
    handle: Handle,
    changes: Messages,
}

impl Netlink {
    /// Opens the sockets in the network namespace of the calling thread, which must run a runtime.
    pub(crate) fn open() -> io::Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (watch, _, changes) = new_multicast_connection(&groups)?;
        let (requests, handle, _) = new_connection()?;
        tokio::spawn(watch);
        tokio::spawn(requests);
        Ok(Self { handle, changes: changes.boxed() })
    }

    /// Waits until something has changed; never returns if the kernel no longer tells.
    pub(crate) async fn changed(&mut self) {
        if self.changes.next().await.is_none() {
            self.changes = stream::pending().boxed();
        }
        // A change comes in several messages; the list that follows shows all of them.
        while futures_util::FutureExt::now_or_never(self.changes.next()).flatten().is_some() {}
    }

    /// All interfaces and addresses.
    pub(crate) async fn links(&self) -> io::Result<Links> {
        let links: Vec<_> =
            self.handle.link().get().execute().try_collect().await.map_err(to_io)?;
        let addresses: Vec<_> =
            self.handle.address().get().execute().try_collect().await.map_err(to_io)?;
        Ok(Links::new(links.iter().map(link), addresses.iter().filter_map(address)))
    }

    /// Adds a host address: no subnet of its own, no waiting for duplicate address detection.
    pub(crate) async fn add(&self, index: u32, ip: IpAddr) -> Result<(), Failure> {
        let host = OnLink::host(index, ip);
        let mut request = self.handle.address().add(index, ip, host.prefix);
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
        if ip.is_ipv6() {
            attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute));
            // Deprecated from the start (RFC 4862 §5.5.4): it answers, but the node never picks it
            // as the source of connections of its own, which would break when the VIP moves.
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_preferred = 0;
            lifetime.ifa_valid = u32::MAX;
            attributes.push(AddressAttribute::CacheInfo(lifetime));
        }
        request.execute().await.map_err(|error| failure(&error))
    }

    /// Deletes a host address.
    pub(crate) async fn delete(&self, index: u32, ip: IpAddr) -> Result<(), Failure> {
        let mut message = self.handle.address().add(index, ip, OnLink::host(index, ip).prefix);
        let message: AddressMessage = std::mem::take(message.message_mut());
        self.handle.address().del(message).execute().await.map_err(|error| failure(&error))
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

fn failure(error: &Error) -> Failure {
    let Error::NetlinkError(kernel) = error else {
        return Failure { kind: FailureKind::Other, message: error.to_string() };
    };
    let error = kernel.to_io();
    let kind = match error.raw_os_error() {
        Some(libc::EPERM) => FailureKind::Denied,
        Some(libc::EEXIST) => FailureKind::Exists,
        Some(libc::EADDRNOTAVAIL | libc::ENODEV) => FailureKind::Gone,
        _ => FailureKind::Other,
    };
    Failure { kind, message: error.to_string() }
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::NetlinkError(kernel) => kernel.to_io(),
        other => io::Error::other(other),
    }
}
