//! What the kernel lists of a table: its counters, its rules, and the elements of a set. And how often anything of
//! nf_tables has changed.

use std::os::raw::c_int;

use super::{
    NFT_OBJECT_COUNTER, NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS, NFTA_GEN_ID, NFTA_OBJ_DATA,
    NFTA_OBJ_NAME, NFTA_OBJ_TYPE, NFTA_RULE_TABLE, NFTA_SET_ELEM_EXPIRATION, NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET, NFTA_TABLE_NAME, TableFamily,
    wire::{self, Attributes, NFTA_DATA_VALUE, NFTA_LIST_ELEM, attributes, header, messages},
};

/// A counter of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
}

/// What a datagram has of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) counters: Vec<Listed>,
    /// How the list ends: with zero, or the errno of a refusal. `None`: more is to come.
    pub(crate) end: Option<i32>,
}

/// Asks for the counters of a table. There are none if there is no such table.
pub(crate) fn list_counters(family: TableFamily, table: &str) -> Vec<u8> {
    let kind = libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETOBJ;
    let mut out = Attributes(header(kind, libc::NLM_F_DUMP, 0));
    out.0.extend([family as u8, libc::NFNETLINK_V0 as u8, 0, 0]);
    out.text(NFTA_TABLE_NAME, table);
    out.number(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
    out.finish()
}

/// Reads a datagram of the answer.
pub(crate) fn objects(datagram: &[u8]) -> Listing {
    let mut listing = Listing::default();
    for (kind, body) in messages(datagram) {
        match wire::end_of_list(kind, body) {
            Some(end) => listing.end = Some(end),
            None if c_int::from(kind) & 0xff == libc::NFT_MSG_NEWOBJ => {
                listing.counters.extend(body.get(4..).and_then(counter));
            }
            None => {}
        }
    }
    listing
}

/// Asks for the elements of a set. The answer is `ENOENT` if there is no such table or set.
pub(crate) fn list_elements(family: TableFamily, table: &str, set: &str) -> Vec<u8> {
    let kind = libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETSETELEM;
    let mut out = Attributes(header(kind, libc::NLM_F_DUMP, 0));
    out.0.extend([family as u8, libc::NFNETLINK_V0 as u8, 0, 0]);
    out.text(NFTA_TABLE_NAME, table);
    out.text(NFTA_SET_ELEM_LIST_SET, set);
    out.finish()
}

/// How many elements, of whatever life, a datagram of the answer lists, and how the list ends.
pub(crate) fn count_elements(datagram: &[u8]) -> (usize, Option<i32>) {
    count(datagram, libc::NFT_MSG_NEWSETELEM, |body| {
        let lists = attributes(body).filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
        let elements = lists.flat_map(|(_, list)| attributes(list));
        elements.filter(|(kind, _)| *kind == NFTA_LIST_ELEM).count()
    })
}

/// Asks for the rules of a table. There are none if there is no such table.
pub(crate) fn list_rules(family: TableFamily, table: &str) -> Vec<u8> {
    let kind = libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETRULE;
    let mut out = Attributes(header(kind, libc::NLM_F_DUMP, 0));
    out.0.extend([family as u8, libc::NFNETLINK_V0 as u8, 0, 0]);
    out.text(NFTA_RULE_TABLE, table);
    out.finish()
}

/// How many rules a datagram of the answer lists, and how the list ends.
pub(crate) fn count_rules(datagram: &[u8]) -> (usize, Option<i32>) {
    count(datagram, libc::NFT_MSG_NEWRULE, |_| 1)
}

fn count(
    datagram: &[u8],
    message: c_int,
    mut of: impl FnMut(&[u8]) -> usize,
) -> (usize, Option<i32>) {
    let (mut all, mut end) = (0, None);
    for (kind, body) in messages(datagram) {
        match wire::end_of_list(kind, body) {
            Some(errno) => end = Some(errno),
            None if c_int::from(kind) & 0xff == message => {
                all += of(body.get(4..).unwrap_or_default());
            }
            None => {}
        }
    }
    (all, end)
}

/// Asks for the number that every transaction of whomever in the network namespace changes.
pub(crate) fn ask_generation() -> Vec<u8> {
    let kind = libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETGEN;
    let mut out = Attributes(header(kind, libc::NLM_F_ACK, 0));
    out.0.extend([libc::AF_UNSPEC as u8, libc::NFNETLINK_V0 as u8, 0, 0]);
    out.finish()
}

/// Reads a datagram of the answer: the number, and how the answer ends.
pub(crate) fn generation(datagram: &[u8]) -> (Option<u32>, Option<i32>) {
    let (mut number, mut end) = (None, None);
    for (kind, body) in messages(datagram) {
        match wire::end_of_list(kind, body) {
            Some(errno) => end = Some(errno),
            None if c_int::from(kind) & 0xff == libc::NFT_MSG_NEWGEN => {
                let mut fields = attributes(body.get(4..).unwrap_or_default());
                let id = fields.find(|(kind, _)| *kind == NFTA_GEN_ID);
                number = id.and_then(|(_, id)| id.first_chunk()).map(|id| u32::from_be_bytes(*id));
            }
            None => {}
        }
    }
    (number, end)
}

/// Reads a datagram of the answer: keys of elements that expire, with the milliseconds that they have left, and how the
/// list ends.
pub(crate) fn elements(datagram: &[u8]) -> (Vec<(Vec<u8>, u64)>, Option<i32>) {
    let (mut all, mut end) = (Vec::new(), None);
    for (kind, body) in messages(datagram) {
        match wire::end_of_list(kind, body) {
            Some(errno) => end = Some(errno),
            None if c_int::from(kind) & 0xff == libc::NFT_MSG_NEWSETELEM => {
                let lists = attributes(body.get(4..).unwrap_or_default());
                let lists = lists.filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
                let found = lists.flat_map(|(_, list)| attributes(list));
                let found = found.filter(|(kind, _)| *kind == NFTA_LIST_ELEM);
                all.extend(found.filter_map(|(_, body)| element(body)));
            }
            None => {}
        }
    }
    (all, end)
}

fn element(body: &[u8]) -> Option<(Vec<u8>, u64)> {
    let (mut key, mut left) = (None, None);
    for (kind, value) in attributes(body) {
        match kind {
            NFTA_SET_ELEM_KEY => key = attributes(value).find(|(kind, _)| *kind == NFTA_DATA_VALUE),
            NFTA_SET_ELEM_EXPIRATION => {
                left = value.first_chunk().map(|it| u64::from_be_bytes(*it))
            }
            _ => {}
        }
    }
    Some((key?.1.to_vec(), left?))
}

fn counter(body: &[u8]) -> Option<Listed> {
    let (mut name, mut bytes, mut packets) = (None, None, None);
    for (kind, value) in attributes(body) {
        match kind {
            NFTA_OBJ_NAME => name = std::str::from_utf8(value.strip_suffix(&[0])?).ok(),
            NFTA_OBJ_DATA => {
                for (kind, value) in attributes(value) {
                    let number = value.first_chunk().map(|value| u64::from_be_bytes(*value));
                    match kind {
                        NFTA_COUNTER_BYTES => bytes = number,
                        NFTA_COUNTER_PACKETS => packets = number,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(Listed { name: name?.to_owned(), bytes: bytes?, packets: packets? })
}
