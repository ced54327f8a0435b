//! Messages of nf_tables (`linux/netfilter/nf_tables.h`), as many as forwarding and fence need.
//!
//! [`Batch`] collects changes to one table and ends as the bytes of one transaction; [`answers`] reads
//! what the kernel says to it, [`objects`] what it lists. [`crate::forwarding`], [`crate::l2::forward_old`] and
//! [`crate::l2::fence`] decide what goes into a batch, `kernel` sends it. Nothing here knows what the rules are for.

pub(crate) mod conntrack;
pub(crate) mod description;
mod expression;
mod listing;
mod wire;

use std::os::raw::c_int;

pub(crate) use expression::{End, Expression, Register};
pub(crate) use listing::{
    Listed, ask_generation, count_elements, count_rules, elements, generation, list_counters,
    list_elements, list_rules, objects,
};
use wire::{Attributes, HEADER_LEN, NFTA_LIST_ELEM, header};

/// Set elements in one message: its list is an attribute, whose length is 16 bits.
const ELEMENTS_PER_MESSAGE: usize = 500;
/// The same of elements that name a chain or a counter, by up to 200 bytes.
const NAMING_ELEMENTS_PER_MESSAGE: usize = 200;

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

/// `inet_proto`: a protocol above IP.
pub(crate) const PROTOCOL: Type = Type { number: 12, len: 1 };
/// `integer`, of 32 bits.
pub(crate) const INTEGER: Type = Type { number: 4, len: 4 };

/// The family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TableFamily {
    /// IPv4 and IPv6.
    Inet = 1,
    /// Frames of a device.
    Netdev = 5,
}

impl TableFamily {
    /// As `nft` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Netdev => "netdev",
        }
    }
}

/// What the elements of a map lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data<'a> {
    /// One field or a concatenation of them.
    Fields(&'a [Type]),
    /// A chain to go on in.
    Verdict,
    /// A counter with a name.
    Counter,
}

/// What a set may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set<'a> {
    pub(crate) name: &'a str,
    /// More than one field: a concatenation.
    pub(crate) key: &'a [Type],
    /// With data it is a map.
    pub(crate) data: Option<Data<'a>>,
    pub(crate) kind: Kind,
    /// How nft is to write its type ([`description`]); empty: by the types of key and data.
    pub(crate) described: &'a [u8],
}

/// How a set has its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One by one.
    Single,
    /// In ranges: the first key of each, and a [`Value::End`].
    Ranges,
    /// Packets may add elements, which expire.
    Dynamic(Dynamic),
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

/// An element of a set; with a value other than none, of a map.
pub(crate) type Element = (Vec<u8>, Value);

/// What an element leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    /// Nothing: its key is all.
    None,
    /// Bytes.
    Data(Vec<u8>),
    /// This chain.
    Goto(String),
    /// The counter of this name.
    Counter(String),
    /// The range that began before ends right before this key.
    End,
    /// Nothing: it goes after so many milliseconds, no more than its set says.
    Expires(u64),
}

/// Where a base chain looks at packets (`enum nf_inet_hooks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Output = 3,
    Postrouting = 4,
}

/// One transaction: the kernel carries out all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    family: TableFamily,
    table: String,
    bytes: Vec<u8>,
    last: usize,
    attempts: Vec<Attempt>,
}

/// The steps of a rule, as the kernel reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule(Vec<u8>);

impl Rule {
    /// Rules of the same steps are equal.
    pub(crate) fn of(expressions: &[Expression<'_>]) -> Self {
        let mut out = Attributes(Vec::new());
        out.expressions(expressions);
        Self(out.0)
    }
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
    /// An empty batch for a table of the family `netdev`.
    pub(crate) fn new(table: &str) -> Self {
        Self::of(TableFamily::Netdev, table)
    }

    /// An empty batch for a table.
    pub(crate) fn of(family: TableFamily, table: &str) -> Self {
        let begin = Attempt { what: "begin".to_owned(), message: -1 };
        let mut batch = Self {
            family,
            table: table.to_owned(),
            bytes: Vec::new(),
            last: 0,
            attempts: vec![begin],
        };
        batch.bytes = bracket(libc::NFNL_MSG_BATCH_BEGIN, 0);
        batch
    }

    /// Creates the table, which goes with the socket that sends this (`NFT_TABLE_F_OWNER`, Linux
    /// 5.12): nothing of it outlives its process, nor can another process change it.
    pub(crate) fn create_table(&mut self) {
        const OWNER: u32 = 1 << 1;
        let what = format!("create table {} {}", self.family.name(), self.table);
        self.message(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, what, |out| {
            out.number(NFTA_TABLE_FLAGS, OWNER);
        });
    }

    /// Creates the table empty, in place of whatever has its name. It stays until it is deleted, by
    /// whomever, also when this process is killed.
    pub(crate) fn replace_table(&mut self) {
        let what = format!("create table {} {}", self.family.name(), self.table);
        self.message(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, what.clone(), |_| {});
        self.delete_table();
        let alone = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.message(libc::NFT_MSG_NEWTABLE, alone, what, |_| {});
    }

    /// Deletes the table and everything in it.
    pub(crate) fn delete_table(&mut self) {
        let what = format!("delete table {} {}", self.family.name(), self.table);
        self.message(libc::NFT_MSG_DELTABLE, 0, what, |_| {});
    }

    /// Creates a set or map.
    pub(crate) fn create_set(&mut self, set: &Set<'_>) {
        // Unique in the transaction; rules find it by its name.
        let id = self.attempts.len() as u32;
        let what = format!("create set {}", set.name);
        self.message(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, what, |out| {
            let is_map = match set.data {
                None => 0,
                Some(Data::Fields(_) | Data::Verdict) => libc::NFT_SET_MAP,
                Some(Data::Counter) => NFT_SET_OBJECT,
            };
            let kind = match set.kind {
                Kind::Single => 0,
                Kind::Ranges => libc::NFT_SET_INTERVAL,
                Kind::Dynamic(_) => libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL,
            };
            let (number, len) = concatenated(set.key);
            out.text(NFTA_SET_NAME, set.name);
            out.number(NFTA_SET_ID, id);
            out.number(NFTA_SET_FLAGS, (is_map | kind) as u32);
            out.number(NFTA_SET_KEY_TYPE, number);
            out.number(NFTA_SET_KEY_LEN, len);
            match set.data {
                None => {}
                Some(Data::Fields(fields)) => {
                    let (number, len) = concatenated(fields);
                    out.number(NFTA_SET_DATA_TYPE, number);
                    out.number(NFTA_SET_DATA_LEN, len);
                }
                Some(Data::Verdict) => out.number(NFTA_SET_DATA_TYPE, libc::NFT_DATA_VERDICT),
                Some(Data::Counter) => out.number(NFTA_SET_OBJ_TYPE, NFT_OBJECT_COUNTER),
            }
            if let Kind::Dynamic(dynamic) = set.kind {
                out.nested(NFTA_SET_DESC, |out| out.number(NFTA_SET_DESC_SIZE, dynamic.size));
                out.bytes(NFTA_SET_TIMEOUT, &dynamic.timeout.to_be_bytes());
                out.number(NFTA_SET_GC_INTERVAL, dynamic.gc_interval);
            }
            if !set.described.is_empty() {
                out.bytes(NFTA_SET_USERDATA, set.described);
            }
        });
    }

    /// Deletes a set or map that nothing uses.
    pub(crate) fn delete_set(&mut self, name: &str) {
        let what = format!("delete set {name}");
        self.message(libc::NFT_MSG_DELSET, 0, what, |out| out.text(NFTA_SET_NAME, name));
    }

    /// Creates a counter with a name, which begins with these bytes and packets.
    pub(crate) fn create_counter(&mut self, name: &str, bytes: u64, packets: u64) {
        let what = format!("create counter {name}");
        self.message(libc::NFT_MSG_NEWOBJ, libc::NLM_F_CREATE, what, |out| {
            out.text(NFTA_OBJ_NAME, name);
            out.number(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
            out.nested(NFTA_OBJ_DATA, |out| {
                out.bytes(NFTA_COUNTER_BYTES, &bytes.to_be_bytes());
                out.bytes(NFTA_COUNTER_PACKETS, &packets.to_be_bytes());
            });
        });
    }

    /// Deletes a counter that nothing uses.
    pub(crate) fn delete_counter(&mut self, name: &str) {
        let what = format!("delete counter {name}");
        self.message(libc::NFT_MSG_DELOBJ, 0, what, |out| {
            out.text(NFTA_OBJ_NAME, name);
            out.number(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
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

    /// Deletes all elements of a set or map.
    pub(crate) fn clear_set(&mut self, set: &str) {
        let what = format!("delete the elements of set {set}");
        self.message(libc::NFT_MSG_DELSETELEM, 0, what, |out| {
            out.text(NFTA_SET_ELEM_LIST_SET, set)
        });
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

    /// Creates a base chain of a table of the family `inet`. `kind`: `nat` or `filter`; of two chains of a hook that
    /// of the lower priority is first.
    pub(crate) fn create_base_chain(&mut self, name: &str, kind: &str, hook: Hook, priority: i32) {
        let what = format!("create chain {name}");
        self.message(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, what, |out| {
            out.text(NFTA_CHAIN_NAME, name);
            out.text(NFTA_CHAIN_TYPE, kind);
            out.number(NFTA_CHAIN_POLICY, libc::NF_ACCEPT as u32);
            out.nested(NFTA_CHAIN_HOOK, |out| {
                out.number(NFTA_HOOK_HOOKNUM, hook as u32);
                out.number(NFTA_HOOK_PRIORITY, priority as u32);
            });
        });
    }

    /// Deletes a chain that nothing leads to.
    pub(crate) fn delete_chain(&mut self, name: &str) {
        let what = format!("delete chain {name}");
        self.message(libc::NFT_MSG_DELCHAIN, 0, what, |out| out.text(NFTA_CHAIN_NAME, name));
    }

    /// Deletes all rules of a chain.
    pub(crate) fn clear_chain(&mut self, name: &str) {
        let what = format!("delete the rules of chain {name}");
        self.message(libc::NFT_MSG_DELRULE, 0, what, |out| out.text(NFTA_RULE_CHAIN, name));
    }

    /// Appends a rule to a chain.
    pub(crate) fn append_rule(&mut self, chain: &str, expressions: &[Expression<'_>]) {
        self.append(chain, &Rule::of(expressions));
    }

    /// Appends a rule that is written already.
    pub(crate) fn append(&mut self, chain: &str, rule: &Rule) {
        let what = format!("append a rule to chain {chain}");
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        self.message(libc::NFT_MSG_NEWRULE, flags, what, |out| {
            out.text(NFTA_RULE_CHAIN, chain);
            out.nested(NFTA_RULE_EXPRESSIONS, |out| out.0.extend(&rule.0));
        });
    }

    /// Whether it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.attempts.len() == 1
    }

    /// Its messages as bytes: the same wherever the same is done.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The rules that it appends.
    pub(crate) fn rules(&self) -> usize {
        let rules = self.attempts.iter().filter(|it| it.message == libc::NFT_MSG_NEWRULE);
        rules.count()
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
        let at_once = match elements.first() {
            Some((_, Value::Goto(_) | Value::Counter(_))) => NAMING_ELEMENTS_PER_MESSAGE,
            _ => ELEMENTS_PER_MESSAGE,
        };
        for part in elements.chunks(at_once) {
            let what = format!("{verb} {} elements of set {set}", part.len());
            self.message(message, flags, what, |out| {
                out.text(NFTA_SET_ELEM_LIST_SET, set);
                out.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |out| {
                    for (key, value) in part {
                        out.nested(NFTA_LIST_ELEM, |out| {
                            out.value(NFTA_SET_ELEM_KEY, key);
                            match value {
                                Value::None => {}
                                Value::Data(data) => out.value(NFTA_SET_ELEM_DATA, data),
                                Value::Goto(chain) => {
                                    out.verdict(NFTA_SET_ELEM_DATA, libc::NFT_GOTO, Some(chain));
                                }
                                Value::Counter(name) => out.text(NFTA_SET_ELEM_OBJREF, name),
                                Value::Expires(left) => {
                                    out.bytes(NFTA_SET_ELEM_EXPIRATION, &left.to_be_bytes());
                                }
                                Value::End => out.number(
                                    NFTA_SET_ELEM_FLAGS,
                                    libc::NFT_SET_ELEM_INTERVAL_END as u32,
                                ),
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
        out.0.extend([self.family as u8, libc::NFNETLINK_V0 as u8, 0, 0]);
        out.text(NFTA_TABLE_NAME, &self.table);
        fill(&mut out);
        self.last = self.bytes.len();
        self.bytes.extend(out.finish());
        self.attempts.push(Attempt { what, message });
    }
}

/// The number and length of a concatenation: nft packs the types 6 bits each; fields are padded to 4 bytes.
fn concatenated(fields: &[Type]) -> (u32, u32) {
    let number = fields.iter().fold(0, |number, field| number << 6 | field.number);
    let len = match fields {
        [field] => field.len,
        fields => fields.iter().map(|field| field.len.next_multiple_of(4)).sum(),
    };
    (number, len)
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

/// Begin and end of a batch name the subsystem that it is for (`struct nfgenmsg`).
fn bracket(kind: c_int, sequence: u32) -> Vec<u8> {
    let mut bytes = header(kind, 0, sequence);
    bytes.extend([libc::AF_UNSPEC as u8, libc::NFNETLINK_V0 as u8]);
    bytes.extend((libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes());
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes
}

// The attribute types of nf_tables.h and some numbers, which libc does not have.
const NFT_SET_OBJECT: c_int = 0x40;
const NFT_OBJECT_COUNTER: u32 = 1;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_GEN_ID: u16 = 1;
const NFTA_RULE_TABLE: u16 = 1;
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
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_OBJ_TYPE: u16 = 15;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
const NFTA_SET_ELEM_OBJREF: u16 = 9;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_OBJ_NAME: u16 = 2;
const NFTA_OBJ_TYPE: u16 = 3;
const NFTA_OBJ_DATA: u16 = 4;
const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;

#[cfg(test)]
mod tests;
