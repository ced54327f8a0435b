//! Netlink messages of netfilter, byte by byte: headers, attributes, attributes in attributes.
//!
//! Attributes are length (2 bytes, own header included), type, value, padded to 4 bytes; netfilter's are
//! big-endian, and one that holds attributes says so (netlink(7)).

use std::os::raw::c_int;

/// `struct nlmsghdr`.
pub(super) const HEADER_LEN: usize = 16;
const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// A header whose length is still to be written.
pub(super) fn header(kind: c_int, flags: c_int, sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend((HEADER_LEN as u32).to_ne_bytes());
    bytes.extend((kind as u16).to_ne_bytes());
    bytes.extend(((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]); // port: the kernel knows it
    bytes
}

/// A message in the making.
pub(super) struct Attributes(pub(super) Vec<u8>);

impl Attributes {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn text(&mut self, kind: u16, text: &str) {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat());
    }

    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.bytes(kind | NESTED, &[]);
        fill(self);
        // Fits: the only long list is that of elements, which are dealt out in parts.
        let len = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }

    pub(super) fn value(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |out| out.bytes(NFTA_DATA_VALUE, value));
    }

    pub(super) fn verdict(&mut self, kind: u16, code: c_int, chain: Option<&str>) {
        self.nested(kind, |out| {
            out.nested(NFTA_DATA_VERDICT, |out| {
                out.number(NFTA_VERDICT_CODE, code as u32);
                if let Some(chain) = chain {
                    out.text(NFTA_VERDICT_CHAIN, chain);
                }
            });
        });
    }

    /// The bytes of the message, with its length.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

/// The messages of a datagram: their types, and what follows their headers.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let message = datagram.get(..len).filter(|_| len >= HEADER_LEN)?;
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([message[4], message[5]]), &message[HEADER_LEN..]))
    })
}

/// The errno with which a message ends a list, zero for success; `None`: it does not end it.
pub(super) fn end_of_list(kind: u16, body: &[u8]) -> Option<i32> {
    let ends = matches!(c_int::from(kind), libc::NLMSG_DONE | libc::NLMSG_ERROR);
    let errno = body.first_chunk().map_or(0, |errno| i32::from_ne_bytes(*errno));
    ends.then(|| errno.checked_neg().unwrap_or(i32::MAX))
}

/// The attributes of a message or of another attribute: their types without flags, and their values.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [len, kind] = [0, 2].map(|at| bytes.get(at..at + 2));
        let len = usize::from(u16::from_ne_bytes(len?.try_into().ok()?));
        let kind = u16::from_ne_bytes(kind?.try_into().ok()?) & libc::NLA_TYPE_MASK as u16;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(super) const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_VERDICT_CHAIN: u16 = 2;
