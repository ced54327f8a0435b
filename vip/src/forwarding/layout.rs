//! Names of sets, and where things are in packets and registers, by family.

use std::{net::IpAddr, os::raw::c_int};

use super::Transport;
use crate::nftables::{End, Expression, IPV4, IPV6, PORT, Register, Type};

/// Names of sets and offsets of fields, by family.
pub(super) struct Layout {
    /// Of IP.
    pub(super) version: char,
    pub(super) services: &'static str,
    pub(super) refused: &'static str,
    pub(super) way_back: &'static str,
    pub(super) count_in: &'static str,
    pub(super) count_out: &'static str,
    /// Endpoints on this host whose clients keep their addresses.
    pub(super) here: &'static str,
    /// What [`libc::NFT_META_NFPROTO`] says.
    pub(super) family: c_int,
    pub(super) address: Type,
    /// An endpoint: its address and its port.
    pub(super) endpoint: &'static [Type],
    /// Offset of the source address in the header; the destination follows.
    pub(super) source: u32,
    /// The register after an address in register 1.
    pub(super) after_address: Register,
    /// The registers after an address in register 2, for one more and two ports.
    pub(super) after_source: [Register; 3],
    /// The destination that a connection began with.
    pub(super) original: c_int,
}

pub(super) const LAYOUTS: [Layout; 2] = [
    Layout {
        version: '4',
        services: "services4",
        refused: "refused4",
        way_back: "way-back4",
        count_in: "count-in4",
        count_out: "count-out4",
        here: "here4",
        family: libc::NFPROTO_IPV4,
        address: IPV4,
        endpoint: &[IPV4, PORT],
        source: 12,
        after_address: 9,
        after_source: [13, 14, 15],
        original: libc::NFT_CT_DST_IP,
    },
    Layout {
        version: '6',
        services: "services6",
        refused: "refused6",
        way_back: "way-back6",
        count_in: "count-in6",
        count_out: "count-out6",
        here: "here6",
        family: libc::NFPROTO_IPV6,
        address: IPV6,
        endpoint: &[IPV6, PORT],
        source: 8,
        after_address: 12,
        after_source: [3, 20, 21],
        original: libc::NFT_CT_DST_IP6,
    },
];

impl Layout {
    pub(super) fn of(v6: bool) -> &'static Self {
        &LAYOUTS[usize::from(v6)]
    }

    /// Goes on with packets of this family.
    pub(super) fn is_family(&self) -> [Expression<'static>; 2] {
        const FAMILIES: [[u8; 1]; 2] = [[libc::NFPROTO_IPV4 as u8], [libc::NFPROTO_IPV6 as u8]];
        let value = &FAMILIES[usize::from(self.family == libc::NFPROTO_IPV6)];
        [
            Expression::Meta { key: libc::NFT_META_NFPROTO, to: FIRST },
            Expression::Equal { register: FIRST, value },
        ]
    }

    pub(super) fn address(&self, end: End) -> Expression<'static> {
        let offset = match end {
            End::Source => self.source,
            End::Destination => self.source + self.address.len,
        };
        network(offset, self.address.len)
    }

    /// Loads address, protocol and port of one end, the key of all maps.
    pub(super) fn key(&self, end: End) -> [Expression<'static>; 3] {
        let offset = if end == End::Source { 0 } else { 2 };
        let base = libc::NFT_PAYLOAD_TRANSPORT_HEADER;
        [
            self.address(end),
            Expression::Meta { key: libc::NFT_META_L4PROTO, to: self.after_address },
            Expression::Payload { base, offset, len: 2, to: self.after_address + 1 },
        ]
    }

    /// Loads the same of the destination that the connection began with.
    pub(super) fn original_key(&self) -> [Expression<'static>; 3] {
        [
            Expression::Connection { key: self.original, to: FIRST },
            Expression::Meta { key: libc::NFT_META_L4PROTO, to: self.after_address },
            Expression::Connection { key: libc::NFT_CT_PROTO_DST, to: self.after_address + 1 },
        ]
    }
}

/// The register of 16 bytes that keys begin in; the same memory as register 8.
pub(super) const FIRST: Register = 1;

fn network(offset: u32, len: u32) -> Expression<'static> {
    Expression::Payload { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset, len, to: FIRST }
}

pub(super) fn key(ip: IpAddr, transport: Transport, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    [&octets(ip)[..], &[transport.number(), 0, 0, 0, high, low, 0, 0]].concat()
}

pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
