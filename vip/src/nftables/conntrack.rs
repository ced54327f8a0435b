//! Connections that the kernel tracks (`linux/netfilter/nfnetlink_conntrack.h`): UDP's, and how one is forgotten, and those
//! of TCP that are passed on to another destination.

use std::{
    net::{IpAddr, SocketAddr},
    os::raw::c_int,
};

use super::wire::{self, Attributes, attributes, header, messages};

/// A flow of datagrams that the kernel tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Whose it is.
    pub(crate) client: IpAddr,
    /// Where its first datagram was sent.
    pub(crate) to: (IpAddr, u16),
    /// What answers it: another destination, if it was changed.
    pub(crate) answered_by: (IpAddr, u16),
    /// By which the kernel finds it: the attribute of its first direction, and its zone.
    tuple: Vec<u8>,
    zone: Option<[u8; 2]>,
}

/// Asks for everything of a family.
pub(crate) fn list_tracked(v6: bool) -> Vec<u8> {
    request(v6, IPCTNL_MSG_CT_GET, libc::NLM_F_DUMP).finish()
}

/// Forgets a flow: its next datagram is the first of another one.
pub(crate) fn forget(flow: &Flow) -> Vec<u8> {
    let mut out = request(flow.to.0.is_ipv6(), IPCTNL_MSG_CT_DELETE, libc::NLM_F_ACK);
    out.nested(CTA_TUPLE_ORIG, |out| out.0.extend(&flow.tuple));
    if let Some(zone) = &flow.zone {
        out.bytes(CTA_ZONE, zone);
    }
    out.finish()
}

/// The flows of UDP in a datagram of a list, and how it ends: with zero, or the errno of a refusal.
pub(crate) fn flows(datagram: &[u8]) -> (Vec<Flow>, Option<i32>) {
    let (mut flows, mut end) = (Vec::new(), None);
    for (kind, body) in messages(datagram) {
        match wire::end_of_list(kind, body) {
            Some(errno) => end = Some(errno),
            None => flows.extend(body.get(4..).and_then(flow)),
        }
    }
    (flows, end)
}

/// The open connections of TCP in a datagram of a list that are passed on to another destination: where they were sent, and
/// by whom. And how the list ends.
pub(crate) fn passed_on(datagram: &[u8]) -> (Vec<(SocketAddr, SocketAddr)>, Option<i32>) {
    let (mut connections, mut end) = (Vec::new(), None);
    for (kind, body) in messages(datagram) {
        match wire::end_of_list(kind, body) {
            Some(errno) => end = Some(errno),
            None => connections.extend(body.get(4..).and_then(connection)),
        }
    }
    (connections, end)
}

fn connection(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (mut original, mut reply, mut state) = (None, None, None);
    for (kind, value) in attributes(body) {
        match kind {
            CTA_TUPLE_ORIG => original = Some(value),
            CTA_TUPLE_REPLY => reply = Some(value),
            CTA_PROTOINFO => {
                let tcp = attributes(value).find(|(kind, _)| *kind == CTA_PROTOINFO_TCP);
                let mut fields = attributes(tcp?.1);
                state = fields.find(|(kind, _)| *kind == CTA_PROTOINFO_TCP_STATE);
            }
            _ => {}
        }
    }
    let of = |tuple, side| end(tuple, side, libc::IPPROTO_TCP).map(SocketAddr::from);
    let (to, from) = (of(original?, Side::Destination)?, of(original?, Side::Source)?);
    let open = state.and_then(|(_, state)| state.first()).is_some_and(|it| OPEN.contains(it));
    (open && of(reply?, Side::Source)? != to).then_some((to, from))
}

fn request(v6: bool, message: c_int, flags: c_int) -> Attributes {
    let mut out = Attributes(header(libc::NFNL_SUBSYS_CTNETLINK << 8 | message, flags, 0));
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    out.0.extend([family as u8, libc::NFNETLINK_V0 as u8, 0, 0]);
    out
}

fn flow(body: &[u8]) -> Option<Flow> {
    let (mut original, mut reply, mut zone) = (None, None, None);
    for (kind, value) in attributes(body) {
        match kind {
            CTA_TUPLE_ORIG => original = Some(value),
            CTA_TUPLE_REPLY => reply = Some(value),
            CTA_ZONE => zone = value.first_chunk().copied(),
            _ => {}
        }
    }
    let tuple = original?;
    let to = end(tuple, Side::Destination, libc::IPPROTO_UDP)?;
    let (client, _) = end(tuple, Side::Source, libc::IPPROTO_UDP)?;
    let answered_by = end(reply?, Side::Source, libc::IPPROTO_UDP)?;
    Some(Flow { client, to, answered_by, tuple: tuple.to_vec(), zone })
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Source,
    Destination,
}

/// One side of a tuple of this protocol.
fn end(tuple: &[u8], side: Side, of: c_int) -> Option<(IpAddr, u16)> {
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted);
    let (_, addresses) = find(tuple, CTA_TUPLE_IP)?;
    let (_, protocol) = find(tuple, CTA_TUPLE_PROTO)?;
    let (v4, v6, port) = match side {
        Side::Source => (CTA_IP_V4_SRC, CTA_IP_V6_SRC, CTA_PROTO_SRC_PORT),
        Side::Destination => (CTA_IP_V4_DST, CTA_IP_V6_DST, CTA_PROTO_DST_PORT),
    };
    let (_, number) = find(protocol, CTA_PROTO_NUM)?;
    if number.first() != Some(&(of as u8)) {
        return None;
    }
    let ip = match (find(addresses, v4), find(addresses, v6)) {
        (Some((_, ip)), _) => IpAddr::from(*ip.first_chunk::<4>()?),
        (_, Some((_, ip))) => IpAddr::from(*ip.first_chunk::<16>()?),
        _ => return None,
    };
    let (_, port) = find(protocol, port)?;
    Some((ip, u16::from_be_bytes(*port.first_chunk()?)))
}

/// `enum tcp_conntrack`: from SYN_RECV to LAST_ACK, while one end may still send.
const OPEN: std::ops::RangeInclusive<u8> = 2..=6;

// `enum cntl_msg_types`, `enum ctattr_type` and those below it, which libc does not have.
const IPCTNL_MSG_CT_GET: c_int = 1;
const IPCTNL_MSG_CT_DELETE: c_int = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_PROTOINFO: u16 = 4;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
