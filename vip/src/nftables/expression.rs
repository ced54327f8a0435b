//! The steps of a rule, and how each is written.

use std::os::raw::c_int;

use super::{
    NFT_OBJECT_COUNTER,
    wire::{Attributes, NFTA_LIST_ELEM},
};

/// A register by its number in `enum nft_registers`: 1 to 4 are 16 bytes each, 8 to 23 are the same
/// memory in pieces of 4 bytes.
pub(crate) type Register = u32;

/// One step of a rule; a rule ends early where a step does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression<'a> {
    /// Loads `NFT_META_*` into a register.
    Meta { key: c_int, to: Register },
    /// Loads bytes of the packet, counted from `NFT_PAYLOAD_*_HEADER`.
    Payload { base: c_int, offset: u32, len: u32, to: Register },
    /// Writes bytes of a register into the packet; no checksum is mended.
    Store { base: c_int, offset: u32, len: u32, from: Register },
    /// Keeps only the bits of a mask.
    Mask { mask: &'a [u8], register: Register },
    /// Goes on if a register is equal to these bytes.
    Equal { register: Register, value: &'a [u8] },
    /// Goes on if a register is not equal to these bytes.
    Differs { register: Register, value: &'a [u8] },
    /// Goes on if a map contains the key, in the chain that it leads to.
    Dispatch { map: &'a str, key: Register },
    /// Goes on if a set does not contain the key.
    Missing { set: &'a str, key: Register },
    /// Loads `NFT_CT_*` of the connection, of its first packet's direction where there are two.
    Connection { key: c_int, to: Register },
    /// Loads a random number less than this.
    Random { below: u32, to: Register },
    /// Loads a number less than this that follows from bytes in registers (Jenkins' hash, with a seed).
    Hash { from: Register, len: u32, below: u32, seed: u32, to: Register },
    /// Turns a number of 4 bytes from host to network order.
    NetworkOrder { register: Register },
    /// Loads what kind of address the source or destination is to this host: `RTN_*`, 4 bytes in host order.
    AddressKind { of: End, to: Register },
    /// Gives the connection another destination, and ends the evaluation of the base chain. The port is kept where no
    /// register has another.
    DestinationNat { family: c_int, address: Register, port: Option<Register> },
    /// Gives the connection an address of the device that it leaves by as its source, and a port between those in two
    /// registers.
    Masquerade { first: Register, last: Register },
    /// Counts the packet on a counter.
    Count { counter: &'a str },
    /// Counts the packet on the counter that a map leads to; goes on if there is one.
    CountBy { map: &'a str, key: Register },
    /// Answers that there is nobody, with a reset or with ICMP's port unreachable.
    Reject { reset: bool },
    /// Ends the evaluation of this chain.
    Return,
    /// Goes on if a set contains the key; a map's data is loaded.
    Lookup { set: &'a str, key: Register, to: Option<Register> },
    /// Adds the key to a dynamic set, or starts its timeout anew; goes on if there was room.
    /// Milliseconds; the set's default if not given.
    Update { set: &'a str, key: Register, timeout: Option<u64> },
    /// Loads bytes.
    Immediate { value: &'a [u8], to: Register },
    /// Ends the evaluation of the base chain: the packet goes its way.
    Accept,
    /// Ends the evaluation altogether: the packet is gone.
    Drop,
    /// Goes on in another chain and does not come back.
    Goto { chain: &'a str },
    /// Sends the packet out of the device (4 bytes, host order) to the neighbour of that address.
    Forward { device: Register, neighbour: Register, family: c_int },
}

/// An end of a packet's way (`NFTA_FIB_F_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum End {
    Source = 1 << 0,
    Destination = 1 << 1,
}

impl Attributes {
    /// The list of a rule's steps.
    pub(super) fn expressions(&mut self, expressions: &[Expression<'_>]) {
        for expression in expressions {
            self.nested(NFTA_LIST_ELEM, |out| out.expression(expression));
        }
    }

    fn expression(&mut self, expression: &Expression<'_>) {
        let name = match expression {
            Expression::Meta { .. } => "meta",
            Expression::Payload { .. } | Expression::Store { .. } => "payload",
            Expression::Mask { .. } => "bitwise",
            Expression::Equal { .. } | Expression::Differs { .. } => "cmp",
            Expression::Lookup { .. }
            | Expression::Dispatch { .. }
            | Expression::Missing { .. } => "lookup",
            Expression::Connection { .. } => "ct",
            Expression::Random { .. } => "numgen",
            Expression::Hash { .. } => "hash",
            Expression::NetworkOrder { .. } => "byteorder",
            Expression::AddressKind { .. } => "fib",
            Expression::DestinationNat { .. } => "nat",
            Expression::Masquerade { .. } => "masq",
            Expression::Count { .. } | Expression::CountBy { .. } => "objref",
            Expression::Reject { .. } => "reject",
            Expression::Update { .. } => "dynset",
            Expression::Immediate { .. }
            | Expression::Accept
            | Expression::Drop
            | Expression::Return
            | Expression::Goto { .. } => "immediate",
            Expression::Forward { .. } => "fwd",
        };
        self.text(NFTA_EXPR_NAME, name);
        self.nested(NFTA_EXPR_DATA, |out| out.expression_data(expression));
    }

    fn comparison(&mut self, register: Register, operator: c_int, value: &[u8]) {
        self.number(NFTA_CMP_SREG, register);
        self.number(NFTA_CMP_OP, operator as u32);
        self.value(NFTA_CMP_DATA, value);
    }

    fn expression_data(&mut self, expression: &Expression<'_>) {
        match *expression {
            Expression::Meta { key, to } => {
                self.number(NFTA_META_KEY, key as u32);
                self.number(NFTA_META_DREG, to);
            }
            Expression::Payload { base, offset, len, to } => {
                self.number(NFTA_PAYLOAD_DREG, to);
                self.number(NFTA_PAYLOAD_BASE, base as u32);
                self.number(NFTA_PAYLOAD_OFFSET, offset);
                self.number(NFTA_PAYLOAD_LEN, len);
            }
            Expression::Store { base, offset, len, from } => {
                self.number(NFTA_PAYLOAD_SREG, from);
                self.number(NFTA_PAYLOAD_BASE, base as u32);
                self.number(NFTA_PAYLOAD_OFFSET, offset);
                self.number(NFTA_PAYLOAD_LEN, len);
            }
            Expression::Mask { mask, register } => {
                self.number(NFTA_BITWISE_SREG, register);
                self.number(NFTA_BITWISE_DREG, register);
                self.number(NFTA_BITWISE_LEN, mask.len() as u32);
                self.value(NFTA_BITWISE_MASK, mask);
                self.value(NFTA_BITWISE_XOR, &vec![0; mask.len()]);
            }
            Expression::Equal { register, value } => {
                self.comparison(register, libc::NFT_CMP_EQ, value);
            }
            Expression::Differs { register, value } => {
                self.comparison(register, libc::NFT_CMP_NEQ, value);
            }
            Expression::Dispatch { map, key } => {
                self.text(NFTA_LOOKUP_SET, map);
                self.number(NFTA_LOOKUP_SREG, key);
                self.number(NFTA_LOOKUP_DREG, libc::NFT_REG_VERDICT as u32);
            }
            Expression::Missing { set, key } => {
                self.text(NFTA_LOOKUP_SET, set);
                self.number(NFTA_LOOKUP_SREG, key);
                self.number(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
            }
            Expression::Connection { key, to } => {
                self.number(NFTA_CT_DREG, to);
                self.number(NFTA_CT_KEY, key as u32);
                if key != libc::NFT_CT_STATUS {
                    self.bytes(NFTA_CT_DIRECTION, &[IP_CT_DIR_ORIGINAL]);
                }
            }
            Expression::Random { below, to } => {
                self.number(NFTA_NG_DREG, to);
                self.number(NFTA_NG_MODULUS, below);
                self.number(NFTA_NG_TYPE, libc::NFT_NG_RANDOM as u32);
            }
            Expression::Hash { from, len, below, seed, to } => {
                self.number(NFTA_HASH_SREG, from);
                self.number(NFTA_HASH_DREG, to);
                self.number(NFTA_HASH_LEN, len);
                self.number(NFTA_HASH_MODULUS, below);
                self.number(NFTA_HASH_SEED, seed);
                self.number(NFTA_HASH_TYPE, NFT_HASH_JENKINS);
            }
            Expression::NetworkOrder { register } => {
                self.number(NFTA_BYTEORDER_SREG, register);
                self.number(NFTA_BYTEORDER_DREG, register);
                self.number(NFTA_BYTEORDER_OP, libc::NFT_BYTEORDER_HTON as u32);
                self.number(NFTA_BYTEORDER_LEN, 4);
                self.number(NFTA_BYTEORDER_SIZE, 4);
            }
            Expression::AddressKind { of, to } => {
                self.number(NFTA_FIB_DREG, to);
                self.number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                self.number(NFTA_FIB_FLAGS, of as u32);
            }
            Expression::DestinationNat { family, address, port } => {
                self.number(NFTA_NAT_TYPE, libc::NFT_NAT_DNAT as u32);
                self.number(NFTA_NAT_FAMILY, family as u32);
                self.number(NFTA_NAT_REG_ADDR_MIN, address);
                if let Some(port) = port {
                    self.number(NFTA_NAT_REG_PROTO_MIN, port);
                }
            }
            Expression::Masquerade { first, last } => {
                self.number(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
                self.number(NFTA_MASQ_REG_PROTO_MIN, first);
                self.number(NFTA_MASQ_REG_PROTO_MAX, last);
            }
            Expression::Count { counter } => {
                self.number(NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
                self.text(NFTA_OBJREF_IMM_NAME, counter);
            }
            Expression::CountBy { map, key } => {
                self.number(NFTA_OBJREF_SET_SREG, key);
                self.text(NFTA_OBJREF_SET_NAME, map);
            }
            Expression::Reject { reset } => {
                let (kind, code) = match reset {
                    true => (libc::NFT_REJECT_TCP_RST, 0),
                    false => {
                        (libc::NFT_REJECT_ICMPX_UNREACH, libc::NFT_REJECT_ICMPX_PORT_UNREACH as u8)
                    }
                };
                self.number(NFTA_REJECT_TYPE, kind as u32);
                self.bytes(NFTA_REJECT_ICMP_CODE, &[code]);
            }
            Expression::Return => {
                self.number(NFTA_IMMEDIATE_DREG, libc::NFT_REG_VERDICT as u32);
                self.verdict(NFTA_IMMEDIATE_DATA, libc::NFT_RETURN, None);
            }
            Expression::Lookup { set, key, to } => {
                self.text(NFTA_LOOKUP_SET, set);
                self.number(NFTA_LOOKUP_SREG, key);
                if let Some(to) = to {
                    self.number(NFTA_LOOKUP_DREG, to);
                }
            }
            Expression::Update { set, key, timeout } => {
                self.text(NFTA_DYNSET_SET_NAME, set);
                self.number(NFTA_DYNSET_OP, libc::NFT_DYNSET_OP_UPDATE as u32);
                self.number(NFTA_DYNSET_SREG_KEY, key);
                if let Some(timeout) = timeout {
                    self.bytes(NFTA_DYNSET_TIMEOUT, &timeout.to_be_bytes());
                }
            }
            Expression::Immediate { value, to } => {
                self.number(NFTA_IMMEDIATE_DREG, to);
                self.value(NFTA_IMMEDIATE_DATA, value);
            }
            Expression::Accept => {
                self.number(NFTA_IMMEDIATE_DREG, libc::NFT_REG_VERDICT as u32);
                self.verdict(NFTA_IMMEDIATE_DATA, libc::NF_ACCEPT, None);
            }
            Expression::Drop => {
                self.number(NFTA_IMMEDIATE_DREG, libc::NFT_REG_VERDICT as u32);
                self.verdict(NFTA_IMMEDIATE_DATA, libc::NF_DROP, None);
            }
            Expression::Goto { chain } => {
                self.number(NFTA_IMMEDIATE_DREG, libc::NFT_REG_VERDICT as u32);
                self.verdict(NFTA_IMMEDIATE_DATA, libc::NFT_GOTO, Some(chain));
            }
            Expression::Forward { device, neighbour, family } => {
                self.number(NFTA_FWD_SREG_DEV, device);
                self.number(NFTA_FWD_SREG_ADDR, neighbour);
                self.number(NFTA_FWD_NFPROTO, family as u32);
            }
        }
    }
}

// The attribute types of nf_tables.h and some numbers, which libc does not have.
const NFT_LOOKUP_F_INV: u32 = 1;
const IP_CT_DIR_ORIGINAL: u8 = 0;
const NFT_HASH_JENKINS: u32 = 0;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_PAYLOAD_SREG: u16 = 5;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFTA_DYNSET_SET_NAME: u16 = 1;
const NFTA_DYNSET_OP: u16 = 3;
const NFTA_DYNSET_SREG_KEY: u16 = 4;
const NFTA_DYNSET_TIMEOUT: u16 = 6;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_FWD_SREG_DEV: u16 = 1;
const NFTA_FWD_SREG_ADDR: u16 = 2;
const NFTA_FWD_NFPROTO: u16 = 3;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CT_DIRECTION: u16 = 3;
const NFTA_NG_DREG: u16 = 1;
const NFTA_NG_MODULUS: u16 = 2;
const NFTA_NG_TYPE: u16 = 3;
const NFTA_HASH_SREG: u16 = 1;
const NFTA_HASH_DREG: u16 = 2;
const NFTA_HASH_LEN: u16 = 3;
const NFTA_HASH_MODULUS: u16 = 4;
const NFTA_HASH_SEED: u16 = 5;
const NFTA_HASH_TYPE: u16 = 7;
const NFTA_BYTEORDER_SREG: u16 = 1;
const NFTA_BYTEORDER_DREG: u16 = 2;
const NFTA_BYTEORDER_OP: u16 = 3;
const NFTA_BYTEORDER_LEN: u16 = 4;
const NFTA_BYTEORDER_SIZE: u16 = 5;
const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFTA_MASQ_FLAGS: u16 = 1;
const NFTA_MASQ_REG_PROTO_MIN: u16 = 2;
const NFTA_MASQ_REG_PROTO_MAX: u16 = 3;
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 1 << 1;
const NFTA_OBJREF_IMM_TYPE: u16 = 1;
const NFTA_OBJREF_IMM_NAME: u16 = 2;
const NFTA_OBJREF_SET_SREG: u16 = 3;
const NFTA_OBJREF_SET_NAME: u16 = 4;
const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;
