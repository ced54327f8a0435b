//! How nft is to write the type of a map whose keys are numbers that rules draw: what is in `NFTA_SET_USERDATA`.
//!
//! Without it nft lists such a map and cannot read what it lists: rules that are saved by `nft list ruleset`, as hosts
//! do for their next start, could not be loaded again. Numbers are those of libnftnl's `udata.h` and of nft's
//! `enum expr_types`, `enum proto_desc_id` and header fields.

/// What a map leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeadsTo {
    /// A chain.
    Verdict,
    /// An address, of IPv6 or else of IPv4.
    Address { v6: bool },
    /// An address and a port of TCP, or else of UDP.
    AddressAndPort { v6: bool, tcp: bool },
}

/// A map from numbers less than `below`.
pub(crate) fn of_numbers(below: u32, leads_to: LeadsTo) -> Vec<u8> {
    // `numgen random mod BELOW`; hashes are numbers as well, and nft 1.0.6 breaks down when it reads their own words.
    let numbers = [number(0, 1), number(1, below), number(2, 0)].concat();
    let key = expression(NUMGEN, &numbers);
    let (byte_order, data) = match leads_to {
        LeadsTo::Verdict => (HOST, expression(VERDICT, &[])),
        LeadsTo::Address { v6 } => (NETWORK, address(v6)),
        LeadsTo::AddressAndPort { v6, tcp } => {
            // Nft refuses to read a rule for one whose map has the other.
            let port = field(if tcp { PROTOCOL_TCP } else { PROTOCOL_UDP }, DESTINATION_PORT);
            let both = [entry(0, &address(v6)), entry(1, &port)].concat();
            (NONE, expression(CONCATENATION, &both))
        }
    };
    [
        number(KEY_BYTE_ORDER, HOST),
        number(DATA_BYTE_ORDER, byte_order),
        entry(KEY_TYPE_OF, &key),
        entry(DATA_TYPE_OF, &data),
        number(DATA_INTERVAL, 0),
    ]
    .concat()
}

/// `ip daddr` or `ip6 daddr`.
fn address(v6: bool) -> Vec<u8> {
    match v6 {
        true => field(PROTOCOL_IP6, IP6_DESTINATION),
        false => field(PROTOCOL_IP, IP_DESTINATION),
    }
}

fn field(protocol: u32, field: u32) -> Vec<u8> {
    expression(PAYLOAD, &[number(0, protocol), number(1, field)].concat())
}

fn expression(kind: u32, data: &[u8]) -> Vec<u8> {
    [number(0, kind), entry(1, data)].concat()
}

fn number(kind: u8, value: u32) -> Vec<u8> {
    entry(kind, &value.to_ne_bytes())
}

/// Type and length are a byte each; the longest has 54.
fn entry(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, value.len() as u8], value].concat()
}

const KEY_BYTE_ORDER: u8 = 0;
const DATA_BYTE_ORDER: u8 = 1;
const KEY_TYPE_OF: u8 = 3;
const DATA_TYPE_OF: u8 = 4;
const DATA_INTERVAL: u8 = 6;
const NONE: u32 = 0;
const HOST: u32 = 1;
const NETWORK: u32 = 2;
const VERDICT: u32 = 1;
const PAYLOAD: u32 = 7;
const CONCATENATION: u32 = 13;
const NUMGEN: u32 = 23;
const PROTOCOL_UDP: u32 = 6;
const PROTOCOL_TCP: u32 = 8;
const PROTOCOL_IP: u32 = 12;
const PROTOCOL_IP6: u32 = 13;
const DESTINATION_PORT: u32 = 2;
const IP_DESTINATION: u32 = 12;
const IP6_DESTINATION: u32 = 9;
