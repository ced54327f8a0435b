//! The NOTIFICATION message (RFC 4271 §4.5): why a session ends, to the router and in words.
//!
//! Codes and subcodes of RFC 4271 §6, RFC 4486 and RFC 9003 (Cease and its text), RFC 5492, RFC 6608
//! (unexpected message by state), RFC 7313 and RFC 9687 (send hold timer).

use std::fmt;

use crate::bgp::header::{self, Kind};

/// Why a session ends, as one side tells the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 is "unspecific".
    pub subcode: u8,
    /// What belongs to it: mostly the field or attribute that was wrong.
    pub data: Vec<u8>,
}

/// Why this side ends a session though nothing is wrong with it: the subcodes of Cease (RFC 4486).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cease {
    /// The node is shutting down or drained: nothing will come back soon.
    Shutdown,
    /// The peer is not configured any more.
    Deconfigured,
    /// The session is started again on purpose.
    Reset,
    /// A connection that this side does not want now.
    Rejected,
    /// Settings have changed that the session was opened with.
    Changed,
    /// RFC 4271 §6.8: there is another connection, which stays.
    Collision,
    /// RFC 9384: the BFD session went down.
    BfdDown,
}

/// Longest text of RFC 9003, in octets.
const LONGEST_TEXT: usize = 255;
/// Code of Cease.
const CEASE: u8 = 6;

impl Notification {
    /// With a code and subcode, and no data.
    pub fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// With what belongs to it.
    pub fn with(code: u8, subcode: u8, data: &[u8]) -> Self {
        Self { code, subcode, data: data.to_vec() }
    }

    /// RFC 4271 §6.7, with the text of RFC 9003 for the two subcodes that have one.
    pub fn cease(cease: Cease, text: &str) -> Self {
        let mut data = Vec::new();
        if matches!(cease, Cease::Shutdown | Cease::Reset) && !text.is_empty() {
            let text = &text[..text.floor_char_boundary(LONGEST_TEXT)];
            data.push(u8::try_from(text.len()).unwrap_or(0));
            data.extend_from_slice(text.as_bytes());
        }
        Self { code: CEASE, subcode: cease.subcode(), data }
    }

    /// RFC 4271 §6.5.
    pub fn hold_timer_expired() -> Self {
        Self::new(4, 0)
    }

    /// RFC 9687 §3.
    pub fn send_hold_timer_expired() -> Self {
        Self::new(8, 0)
    }

    /// Whether it says only that this version of BGP is not spoken (event 24 of RFC 4271 §8.1.5).
    pub fn is_version_error(&self) -> bool {
        (self.code, self.subcode) == (2, 1)
    }

    /// Whether it only says that another connection stays.
    pub(super) fn is_collision(&self) -> bool {
        (self.code, self.subcode) == (CEASE, Cease::Collision.subcode())
    }

    /// Reads the body of a message that the header check has let through.
    pub(crate) fn decode(body: &[u8]) -> Self {
        match body {
            [code, subcode, data @ ..] => Self::with(*code, *subcode, data),
            // The header check asks for both; an error in a NOTIFICATION is nothing to answer to.
            _ => Self::new(0, 0),
        }
    }

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let room = header::LONGEST - header::HEADER - 2;
        let data = &self.data[..self.data.len().min(room)];
        let mut body = Vec::with_capacity(2 + data.len());
        body.extend_from_slice(&[self.code, self.subcode]);
        body.extend_from_slice(data);
        header::frame(Kind::Notification, &body)
    }

    /// What the two numbers mean.
    fn words(&self) -> Option<&'static str> {
        let words = match (self.code, self.subcode) {
            (1, 0) => "message header error",
            (1, 1) => "connection not synchronized",
            (1, 2) => "bad message length",
            (1, 3) => "bad message type",
            (2, 0) => "OPEN message error",
            (2, 1) => "unsupported version number",
            (2, 2) => "bad peer AS",
            (2, 3) => "bad BGP identifier",
            (2, 4) => "unsupported optional parameter",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, 11) => "role mismatch",
            (3, 0) => "UPDATE message error",
            (3, 1) => "malformed attribute list",
            (3, 2) => "unrecognized well-known attribute",
            (3, 3) => "missing well-known attribute",
            (3, 4) => "attribute flags error",
            (3, 5) => "attribute length error",
            (3, 6) => "invalid ORIGIN attribute",
            (3, 8) => "invalid NEXT_HOP attribute",
            (3, 9) => "optional attribute error",
            (3, 10) => "invalid network field",
            (3, 11) => "malformed AS_PATH",
            (4, _) => "hold timer expired",
            (5, 0) => "finite state machine error",
            (5, 1) => "unexpected message in OpenSent",
            (5, 2) => "unexpected message in OpenConfirm",
            (5, 3) => "unexpected message in Established",
            (6, 0) => "cease",
            (6, 1) => "maximum number of prefixes reached",
            (6, 2) => "administrative shutdown",
            (6, 3) => "peer de-configured",
            (6, 4) => "administrative reset",
            (6, 5) => "connection rejected",
            (6, 6) => "other configuration change",
            (6, 7) => "connection collision resolution",
            (6, 8) => "out of resources",
            (6, 9) => "hard reset",
            (6, 10) => "BFD down",
            (7, _) => "ROUTE-REFRESH message error",
            (8, _) => "send hold timer expired",
            _ => return None,
        };
        Some(words)
    }

    /// The text of RFC 9003, made fit to be shown: a router may write anything into it.
    fn text(&self) -> Option<String> {
        let (length, text) = match (self.code, self.subcode) {
            (CEASE, 2 | 4) => self.data.split_first()?,
            _ => return None,
        };
        let text = String::from_utf8_lossy(text.get(..usize::from(*length))?);
        let shown: String = text.chars().map(|c| if c.is_control() { '.' } else { c }).collect();
        (!shown.is_empty()).then_some(shown)
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words() {
            Some(words) => write!(f, "{words} ({}/{})", self.code, self.subcode)?,
            None => write!(f, "unknown error ({}/{})", self.code, self.subcode)?,
        }
        self.text().map_or(Ok(()), |text| write!(f, ": \"{text}\""))
    }
}

impl Cease {
    fn subcode(self) -> u8 {
        match self {
            Self::Shutdown => 2,
            Self::Deconfigured => 3,
            Self::Reset => 4,
            Self::Rejected => 5,
            Self::Changed => 6,
            Self::Collision => 7,
            Self::BfdDown => 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_carries_its_text_and_a_long_one_is_cut_between_characters() {
        let notification = Notification::cease(Cease::Shutdown, "draining n1 – back at 14:00");
        assert_eq!(
            notification.to_string(),
            "administrative shutdown (6/2): \"draining n1 – back at 14:00\""
        );
        let long = Notification::cease(Cease::Reset, &"ä".repeat(200));
        assert_eq!((long.data.len(), long.data[0]), (255, 254));
        assert_eq!(Notification::cease(Cease::Collision, "no text here").data, b"");
    }

    #[test]
    fn what_a_router_writes_is_shown_without_its_control_characters() {
        let cases: [(&[u8], &str); 5] = [
            (b"\x03a\x1bb", "administrative shutdown (6/2): \"a.b\""),
            (b"\x02\xff\xfe", "administrative shutdown (6/2): \"\u{fffd}\u{fffd}\""),
            (b"\x09short", "administrative shutdown (6/2)"),
            (b"\x00", "administrative shutdown (6/2)"),
            (b"", "administrative shutdown (6/2)"),
        ];
        for (data, expected) in cases {
            assert_eq!(Notification::with(6, 2, data).to_string(), expected);
        }
        assert_eq!(Notification::new(99, 1).to_string(), "unknown error (99/1)");
    }

    #[test]
    fn the_message_reads_back_and_is_never_too_long_for_a_router_without_extended_messages() {
        let notification = Notification::with(2, 6, &[0, 1]);
        let bytes = notification.encode();
        assert_eq!(Notification::decode(&bytes[header::HEADER..]), notification);
        assert_eq!(Notification::with(3, 1, &[7; 70_000]).encode().len(), header::LONGEST);
    }
}
