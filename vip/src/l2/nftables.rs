//! Messages of nf_tables (`linux/netfilter/nf_tables.h`), as many as forwarding and fence need.
//!
//! [`Batch`] collects changes to one table of the family `netdev` and ends as the bytes of one
//! transaction; [`answers`] reads what the kernel says to it. [`crate::l2::forward_old`] and [`crate::l2::fence`]
//! decide what goes into a batch, `kernel` sends it. Nothing here knows what the rules are for.

use std::os::raw::c_int;

/// Set elements in one message: its list is an attribute, whose length is 16 bits.
const ELEMENTS_PER_MESSAGE: usize = 500;
/// `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
/// Everything is big-endian, and an attribute that holds attributes says so (netlink(7)).
const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// The type of a field, of a set's key or of its data: how `nft` numbers them for its listings
/// (`TYPE_*` in its `datatype.h`), and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Type {
    number: u32,
    /// Bytes.
    pub(crate) len: u32,
}

/// `ipv4_addr`.
pub(crate) const IPV4: Type = Type { number: 7, len: 4 };
/// `ipv6_addr`.
pub(crate) const IPV6: Type = Type { number: 8, len: 16 };
/// `ether_addr`.
pub(crate) const ETHERNET: Type = Type { number: 9, len: 6 };
/// `iface_index`, in host order.
pub(crate) const DEVICE: Type = Type { number: 20, len: 4 };
/// `ether_type`.
pub(crate) const ETHERTYPE: Type = Type { number: 10, len: 2 };
/// `inet_service`: a port.
pub(crate) const PORT: Type = Type { number: 13, len: 2 };

/// What a set may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set<'a> {
    pub(crate) name: &'a str,
    /// More than one field: a concatenation.
    pub(crate) key: &'a [Type],
    /// With data it is a map.
    pub(crate) data: Option<Type>,
    /// That packets may add elements, which expire.
    pub(crate) dynamic: Option<Dynamic>,
}

/// A set that rules add to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dynamic {
    /// At most so many elements.
    pub(crate) size: u32,
    /// Life of an element whose rule does not say, in milliseconds.
    pub(crate) timeout: u64,
    /// Between two looks for expired elements, in milliseconds.
    pub(crate) gc_interval: u32,
}

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

/// An element of a set; with data, of a map.
pub(crate) type Element = (Vec<u8>, Option<Vec<u8>>);

/// One transaction: the kernel carries out all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    table: String,
    bytes: Vec<u8>,
    last: usize,
    attempts: Vec<Attempt>,
}

/// One message of a batch, in words for an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// `create chain in-2.0-eth0`.
    pub(crate) what: String,
    /// `NFT_MSG_*`.
    pub(crate) message: c_int,
}

impl Batch {
    /// An empty batch for a table.
    pub(crate) fn new(table: &str) -> Self {
        let begin = Attempt { what: "begin".to_owned(), message: -1 };
        let mut batch =
            Self { table: table.to_owned(), bytes: Vec::new(), last: 0, attempts: vec![begin] };
        batch.bytes = bracket(libc::NFNL_MSG_BATCH_BEGIN, 0);
        batch
    }

    /// Creates the table, which goes with the socket that sends this (`NFT_TABLE_F_OWNER`, Linux
    /// 5.12): nothing of it outlives its process, nor can another process change it.
    pub(crate) fn create_table(&mut self) {
        const OWNER: u32 = 1 << 1;
        let what = format!("create table netdev {}", self.table);
        self.message(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, what, |out| {
            out.number(NFTA_TABLE_FLAGS, OWNER);
        });
    }

    /// Creates the table empty, in place of whatever has its name. It stays until it is deleted, by
    /// whomever, also when this process is killed.
    pub(crate) fn replace_table(&mut self) {
        let what = format!("create table netdev {}", self.table);
        self.message(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, what.clone(), |_| {});
        self.delete_table();
        let alone = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.message(libc::NFT_MSG_NEWTABLE, alone, what, |_| {});
    }

    /// Deletes the table and everything in it.
    pub(crate) fn delete_table(&mut self) {
        let what = format!("delete table netdev {}", self.table);
        self.message(libc::NFT_MSG_DELTABLE, 0, what, |_| {});
    }

    /// Creates a set or map.
    pub(crate) fn create_set(&mut self, set: &Set<'_>) {
        // Unique in the transaction; rules find the set by its name.
        let id = self.attempts.len() as u32;
        let what = format!("create set {}", set.name);
        self.message(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, what, |out| {
            let mut flags = if set.data.is_some() { libc::NFT_SET_MAP } else { 0 };
            if set.dynamic.is_some() {
                flags |= libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL;
            }
            // nft packs the types of a concatenation 6 bits each; its fields are padded to 4 bytes.
            let number = set.key.iter().fold(0, |number, field| number << 6 | field.number);
            let len = match set.key {
                [field] => field.len,
                fields => fields.iter().map(|field| field.len.next_multiple_of(4)).sum(),
            };
            out.text(NFTA_SET_NAME, set.name);
            out.number(NFTA_SET_ID, id);
            out.number(NFTA_SET_FLAGS, flags as u32);
            out.number(NFTA_SET_KEY_TYPE, number);
            out.number(NFTA_SET_KEY_LEN, len);
            if let Some(data) = set.data {
                out.number(NFTA_SET_DATA_TYPE, data.number);
                out.number(NFTA_SET_DATA_LEN, data.len);
            }
            if let Some(dynamic) = set.dynamic {
                out.nested(NFTA_SET_DESC, |out| out.number(NFTA_SET_DESC_SIZE, dynamic.size));
                out.bytes(NFTA_SET_TIMEOUT, &dynamic.timeout.to_be_bytes());
                out.number(NFTA_SET_GC_INTERVAL, dynamic.gc_interval);
            }
        });
    }

    /// Adds elements to a set or map.
    pub(crate) fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, set, elements);
    }

    /// Deletes elements by their keys.
    pub(crate) fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(libc::NFT_MSG_DELSETELEM, 0, set, elements);
    }

    /// Creates a chain that others go to.
    pub(crate) fn create_chain(&mut self, name: &str) {
        let what = format!("create chain {name}");
        self.message(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, what, |out| {
            out.text(NFTA_CHAIN_NAME, name);
        });
    }

    /// Creates a base chain: everything that comes in by a device goes through it, at the priority
    /// of filters, before the kernel's own IP layer sees it.
    pub(crate) fn create_ingress_chain(&mut self, name: &str, device: &str) {
        let what = format!("create chain {name}");
        self.message(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, what, |out| {
            out.text(NFTA_CHAIN_NAME, name);
            out.text(NFTA_CHAIN_TYPE, "filter");
            out.number(NFTA_CHAIN_POLICY, libc::NF_ACCEPT as u32);
            out.nested(NFTA_CHAIN_HOOK, |out| {
                out.number(NFTA_HOOK_HOOKNUM, libc::NF_NETDEV_INGRESS as u32);
                out.number(NFTA_HOOK_PRIORITY, 0);
                out.text(NFTA_HOOK_DEV, device);
            });
        });
    }

    /// Appends a rule to a chain.
    pub(crate) fn append_rule(&mut self, chain: &str, expressions: &[Expression<'_>]) {
        let what = format!("append a rule to chain {chain}");
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        self.message(libc::NFT_MSG_NEWRULE, flags, what, |out| {
            out.text(NFTA_RULE_CHAIN, chain);
            out.nested(NFTA_RULE_EXPRESSIONS, |out| {
                for expression in expressions {
                    out.nested(NFTA_LIST_ELEM, |out| out.expression(expression));
                }
            });
        });
    }

    /// The bytes to send as one datagram, and what each message tried: the answer to message `n`
    /// has the sequence number `n`. Success of the last one, the number of attempts less one, says
    /// that everything is done.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Vec<Attempt>) {
        // Refusals are always answered; asked for is the success of the last one only, so that no
        // flood of answers overruns the socket's buffer.
        let flags = self.last + 6;
        if let Some(flags) = self.bytes.get_mut(flags..flags + 2) {
            let with_ack = u16::from_ne_bytes([flags[0], flags[1]]) | libc::NLM_F_ACK as u16;
            flags.copy_from_slice(&with_ack.to_ne_bytes());
        }
        self.bytes.extend(bracket(libc::NFNL_MSG_BATCH_END, self.attempts.len() as u32));
        (self.bytes, self.attempts)
    }

    fn elements(&mut self, message: c_int, flags: c_int, set: &str, elements: &[Element]) {
        let verb = if message == libc::NFT_MSG_NEWSETELEM { "add" } else { "delete" };
        for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let what = format!("{verb} {} elements of set {set}", part.len());
            self.message(message, flags, what, |out| {
                out.text(NFTA_SET_ELEM_LIST_SET, set);
                out.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |out| {
                    for (key, data) in part {
                        out.nested(NFTA_LIST_ELEM, |out| {
                            out.value(NFTA_SET_ELEM_KEY, key);
                            if let Some(data) = data {
                                out.value(NFTA_SET_ELEM_DATA, data);
                            }
                        });
                    }
                });
            });
        }
    }

    /// All messages used here begin with the name of the table, as attribute 1.
    fn message(
        &mut self,
        message: c_int,
        flags: c_int,
        what: String,
        fill: impl FnOnce(&mut Attributes),
    ) {
        let kind = libc::NFNL_SUBSYS_NFTABLES << 8 | message;
        let mut out = Attributes(header(kind, flags, self.attempts.len() as u32));
        out.0.extend([NFPROTO_NETDEV, libc::NFNETLINK_V0 as u8, 0, 0]);
        out.text(NFTA_TABLE_NAME, &self.table);
        fill(&mut out);
        let len = out.0.len() as u32;
        out.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.last = self.bytes.len();
        self.bytes.extend(out.0);
        self.attempts.push(Attempt { what, message });
    }
}

/// The answers in a datagram of the kernel's: sequence number and errno, zero for success.
pub(crate) fn answers(mut datagram: &[u8]) -> Vec<(u32, i32)> {
    let word = |bytes: &[u8], at: usize| bytes.get(at..)?.first_chunk().copied();
    let mut answers = Vec::new();
    while let Some(len) = word(datagram, 0).map(u32::from_ne_bytes) {
        let len = len as usize;
        let Some(message) = datagram.get(..len).filter(|_| len >= HEADER_LEN) else { break };
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        if c_int::from(kind) == libc::NLMSG_ERROR
            && let (Some(sequence), Some(errno)) = (word(message, 8), word(message, HEADER_LEN))
        {
            answers.push((
                u32::from_ne_bytes(sequence),
                i32::from_ne_bytes(errno).checked_neg().unwrap_or(i32::MAX),
            ));
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    answers
}

fn header(kind: c_int, flags: c_int, sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend((HEADER_LEN as u32).to_ne_bytes());
    bytes.extend((kind as u16).to_ne_bytes());
    bytes.extend(((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]); // port: the kernel knows it
    bytes
}

/// Begin and end of a batch name the subsystem that it is for (`struct nfgenmsg`).
fn bracket(kind: c_int, sequence: u32) -> Vec<u8> {
    let mut bytes = header(kind, 0, sequence);
    bytes.extend([libc::AF_UNSPEC as u8, libc::NFNETLINK_V0 as u8]);
    bytes.extend((libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes());
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes
}

/// A message in the making; attributes are length (2 bytes, own header included), type, value,
/// padded to 4 bytes.
struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat());
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.bytes(kind | NESTED, &[]);
        fill(self);
        // Fits: the only long list is that of elements, which are dealt out in parts.
        let len = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }

    fn value(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |out| out.bytes(NFTA_DATA_VALUE, value));
    }

    fn verdict(&mut self, kind: u16, code: c_int, chain: Option<&str>) {
        self.nested(kind, |out| {
            out.nested(NFTA_DATA_VERDICT, |out| {
                out.number(NFTA_VERDICT_CODE, code as u32);
                if let Some(chain) = chain {
                    out.text(NFTA_VERDICT_CHAIN, chain);
                }
            });
        });
    }

    fn expression(&mut self, expression: &Expression<'_>) {
        let name = match expression {
            Expression::Meta { .. } => "meta",
            Expression::Payload { .. } | Expression::Store { .. } => "payload",
            Expression::Mask { .. } => "bitwise",
            Expression::Equal { .. } => "cmp",
            Expression::Lookup { .. } => "lookup",
            Expression::Update { .. } => "dynset",
            Expression::Immediate { .. }
            | Expression::Accept
            | Expression::Drop
            | Expression::Goto { .. } => "immediate",
            Expression::Forward { .. } => "fwd",
        };
        self.text(NFTA_EXPR_NAME, name);
        self.nested(NFTA_EXPR_DATA, |out| out.expression_data(expression));
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
                self.number(NFTA_CMP_SREG, register);
                self.number(NFTA_CMP_OP, libc::NFT_CMP_EQ as u32);
                self.value(NFTA_CMP_DATA, value);
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

// `enum nfproto` and the attribute types of nf_tables.h, which libc does not have.
const NFPROTO_NETDEV: u8 = 5;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_DESC_SIZE: u16 = 1;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_TIMEOUT: u16 = 11;
const NFTA_SET_GC_INTERVAL: u16 = 12;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
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
const NFTA_DYNSET_SET_NAME: u16 = 1;
const NFTA_DYNSET_OP: u16 = 3;
const NFTA_DYNSET_SREG_KEY: u16 = 4;
const NFTA_DYNSET_TIMEOUT: u16 = 6;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_FWD_SREG_DEV: u16 = 1;
const NFTA_FWD_SREG_ADDR: u16 = 2;
const NFTA_FWD_NFPROTO: u16 = 3;

#[cfg(test)]
mod tests;
