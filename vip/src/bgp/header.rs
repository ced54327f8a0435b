//! The header of every message (RFC 4271 §4.1): 16 octets of ones, length, type.
//!
//! How it is written, and which lengths it may have. `message` reads it.

/// Octets of a header.
pub(crate) const HEADER: usize = 19;
/// Longest message in octets (RFC 4271 §4.1).
pub(crate) const LONGEST: usize = 4096;
/// Longest message in octets once both sides allow extended messages (RFC 8654).
pub(crate) const LONGEST_EXTENDED: usize = 65535;

/// Type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open,
    Update,
    Notification,
    Keepalive,
    /// RFC 2918.
    RouteRefresh,
}

impl Kind {
    pub(crate) fn from_octet(octet: u8) -> Option<Self> {
        Some(match octet {
            1 => Self::Open,
            2 => Self::Update,
            3 => Self::Notification,
            4 => Self::Keepalive,
            5 => Self::RouteRefresh,
            _ => return None,
        })
    }

    fn octet(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }

    /// Whether a message of this type may have this length (RFC 4271 §6.1).
    pub(crate) fn allows(self, length: usize, extended: bool) -> bool {
        let longest = match self {
            // RFC 8654 §4 leaves these two out.
            Self::Open | Self::Keepalive => LONGEST,
            _ if extended => LONGEST_EXTENDED,
            _ => LONGEST,
        };
        let shortest = match self {
            Self::Open => 29,
            Self::Update => 23,
            Self::Notification => 21,
            Self::Keepalive => return length == HEADER,
            // RFC 2918 §3; without RFC 7313 there is no error of its own for this.
            Self::RouteRefresh => return length == HEADER + 4,
        };
        (shortest..=longest).contains(&length)
    }
}

/// A message of this type with this body, which has to fit.
pub(crate) fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let length = HEADER + body.len();
    debug_assert!(length <= LONGEST_EXTENDED, "a message of {length} octets");
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&[0xff; 16]);
    message.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    message.push(kind.octet());
    message.extend_from_slice(body);
    message
}

/// RFC 4271 §4.4.
pub(crate) fn keepalive() -> Vec<u8> {
    frame(Kind::Keepalive, &[])
}
