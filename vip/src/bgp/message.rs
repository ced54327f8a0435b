//! The frame of every message (RFC 4271 §4.1, §6.1): 16 octets of ones, length, type.
//!
//! [`Framer`] cuts the byte stream of one connection into messages. It checks a header as soon as it
//! is there, and holds at most one message: nothing a router sends makes it grow.
//!
//! Why not the codec of a library: `netgauze-bgp-pkt` is the best there is, but it builds every
//! route it reads, and what it says of a malformed message does not name the octets that a
//! NOTIFICATION has to carry, nor the class of RFC 7606 (it has that as a remark for later). What a
//! speaker reads that forgets all routes is little, and what it sends is less. The library proves
//! this codec instead: in the tests it reads what is written here, and writes what is read here.

use super::{
    header::{HEADER, Kind, LONGEST_EXTENDED},
    notification::Notification,
};

/// One message: its type and what follows the header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: Kind,
    pub(crate) body: &'a [u8],
}

/// Cuts the byte stream of one connection into messages.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    /// The beginning of a message, never more than one.
    partial: Vec<u8>,
    extended: bool,
}

impl Framer {
    /// From now on both sides allow extended messages (RFC 8654).
    pub(crate) fn allow_extended(&mut self) {
        self.extended = true;
    }

    /// Takes the next message from the front of `bytes`, or keeps what there is of one; `None` when
    /// `bytes` is used up. After an error nothing more can be read from the connection.
    ///
    /// `scratch` lends the memory in which a message is put together that came in pieces.
    pub(crate) fn next<'a, 'b: 'a>(
        &mut self,
        bytes: &mut &'b [u8],
        scratch: &'a mut Vec<u8>,
    ) -> Result<Option<Message<'a>>, Notification> {
        if self.partial.is_empty() {
            // The usual case: a whole message in one piece is not copied.
            if let Some((kind, length)) = header(bytes, self.extended)?
                && let Some((message, rest)) = bytes.split_at_checked(length)
            {
                *bytes = rest;
                return Ok(Some(Message { kind, body: &message[HEADER..] }));
            }
            self.partial.extend_from_slice(bytes);
            *bytes = &[];
            return Ok(None);
        }
        self.take(bytes, HEADER);
        let Some((kind, length)) = header(&self.partial, self.extended)? else { return Ok(None) };
        self.take(bytes, length);
        if self.partial.len() < length {
            return Ok(None);
        }
        scratch.clear();
        std::mem::swap(scratch, &mut self.partial);
        Ok(Some(Message { kind, body: &scratch[HEADER..] }))
    }

    /// Octets that are kept.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held(&self) -> usize {
        self.partial.len()
    }

    /// Fills up to a length.
    fn take(&mut self, bytes: &mut &[u8], length: usize) {
        let missing = length.saturating_sub(self.partial.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(missing);
        self.partial.extend_from_slice(taken);
        *bytes = rest;
    }
}

/// Checks a header: type and length of the message, `None` if it is not all there yet.
fn header(bytes: &[u8], extended: bool) -> Result<Option<(Kind, usize)>, Notification> {
    // A client of another protocol is known by its first octet; there is no need to wait for 19.
    if bytes.iter().take(16).any(|&octet| octet != 0xff) {
        return Err(Notification::new(1, 1));
    }
    let Some(&[high, low, kind]) = bytes.get(16..HEADER) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !(HEADER..=LONGEST_EXTENDED).contains(&length) {
        return Err(Notification::with(1, 2, &[high, low]));
    }
    let Some(kind) = Kind::from_octet(kind) else {
        return Err(Notification::with(1, 3, &[kind]));
    };
    if kind.allows(length, extended) {
        Ok(Some((kind, length)))
    } else {
        Err(Notification::with(1, 2, &[high, low]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::header::{frame, keepalive};

    /// Reads everything, given in pieces of some size.
    fn read(
        bytes: &[u8],
        piece: usize,
        extended: bool,
    ) -> Result<Vec<(Kind, usize)>, Notification> {
        let mut framer = Framer { extended, ..Framer::default() };
        let mut found = Vec::new();
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                let mut scratch = Vec::new();
                if let Some(message) = framer.next(&mut piece, &mut scratch)? {
                    found.push((message.kind, message.body.len()));
                }
                assert!(framer.held() <= LONGEST_EXTENDED);
            }
        }
        Ok(found)
    }

    #[test]
    fn messages_are_the_same_in_whatever_pieces_they_come() {
        let stream = [
            keepalive(),
            frame(Kind::Update, &[0; 4]),
            frame(Kind::Update, &[7; 4077]),
            frame(Kind::RouteRefresh, &[0, 1, 0, 1]),
            keepalive(),
        ]
        .concat();
        let expected = [
            (Kind::Keepalive, 0),
            (Kind::Update, 4),
            (Kind::Update, 4077),
            (Kind::RouteRefresh, 4),
            (Kind::Keepalive, 0),
        ];
        for piece in [1, 2, 18, 19, 20, 23, 4095, 4096, 4097, usize::MAX] {
            assert_eq!(read(&stream, piece.min(stream.len()), false).unwrap(), expected, "{piece}");
        }
    }

    #[test]
    fn a_header_is_checked_before_its_body_has_come() {
        let head =
            |length: u16, kind: u8| [&[0xff; 16][..], &length.to_be_bytes(), &[kind]].concat();
        let bad_length = |length: u16| Some(Notification::with(1, 2, &length.to_be_bytes()));
        // length, type, extended messages, error
        let cases = [
            (18, 4, false, bad_length(18)),
            (0, 2, false, bad_length(0)),
            (20, 4, false, bad_length(20)),
            (28, 1, false, bad_length(28)),
            (29, 1, false, None),
            (4096, 1, true, None),
            (4097, 1, true, bad_length(4097)),
            (22, 2, false, bad_length(22)),
            (4096, 2, false, None),
            (4097, 2, false, bad_length(4097)),
            (4097, 2, true, None),
            (65535, 2, true, None),
            (20, 3, false, bad_length(20)),
            (21, 3, false, None),
            (22, 5, false, bad_length(22)),
            (24, 5, true, bad_length(24)),
            (19, 0, false, Some(Notification::with(1, 3, &[0]))),
            (19, 6, false, Some(Notification::with(1, 3, &[6]))),
            (19, 255, false, Some(Notification::with(1, 3, &[255]))),
            (5, 99, false, bad_length(5)),
        ];
        for (length, kind, extended, error) in cases {
            let got = read(&head(length, kind), 7, extended);
            assert_eq!(got.err(), error, "length {length} type {kind}");
        }
        assert_eq!(read(b"GET / HTTP/1.1\r\n", 3, false), Err(Notification::new(1, 1)));
        assert_eq!(read(&[0xff, 0xff, 0], 1, false), Err(Notification::new(1, 1)));
    }
}
