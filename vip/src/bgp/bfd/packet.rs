//! The BFD Control packet (RFC 5880 §4.1): 24 octets, and which of them make no sense.
//!
//! The speaker decodes what arrives, finds the session by [`Packet::your_discriminator`] (or, while
//! that is zero, by the sender), and hands it over.

use std::fmt;

use serde::Serialize;

/// Octets of a packet without authentication.
pub const LENGTH: usize = 24;
const VERSION: u8 = 1;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// State of a session (RFC 5880 §6.2), as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum State {
    /// Held down by an operator.
    AdminDown,
    /// Nothing is heard, or the other end hears nothing.
    Down,
    /// The other end is heard, and may not know.
    Init,
    /// Both ends hear each other.
    Up,
}

/// Why a session last went down (RFC 5880 §4.1); others than these are shown as their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic(pub u8);

/// A control packet. Intervals are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender last went down.
    pub diagnostic: Diagnostic,
    /// State of the sender.
    pub state: State,
    /// The sender wants an answer with `final_` set.
    pub poll: bool,
    /// The answer to a packet with `poll` set.
    pub final_: bool,
    /// The sender's BFD survives its control plane.
    pub control_plane_independent: bool,
    /// The sender, if up, wants no periodic packets.
    pub demand: bool,
    /// Packets of the sender's that may be lost; not zero.
    pub detect_multiplier: u8,
    /// The sender's name for the session; not zero.
    pub my_discriminator: u32,
    /// The receiver's name for it, as far as the sender knows it; zero if not.
    pub your_discriminator: u32,
    /// Shortest interval at which the sender wants to send.
    pub desired_min_tx: u32,
    /// Shortest interval at which the sender can receive; zero for never.
    pub required_min_rx: u32,
    /// Shortest interval at which the sender can receive echo packets; zero for never.
    pub required_min_echo_rx: u32,
}

/// Why a packet is discarded (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Discard {
    /// It is shorter than a packet, or than it says it is.
    Short,
    /// Its version is not 1.
    Version,
    /// The detection multiplier is zero.
    Multiplier,
    /// It is for several receivers.
    Multipoint,
    /// It is authenticated, which this end has not asked for.
    Authenticated,
    /// A discriminator is zero that must not be, or is not this session's.
    Discriminator,
    /// It has come from further away than the session allows (RFC 5881 §5, RFC 5883 §5).
    Ttl,
    /// The session is administratively down.
    AdminDown,
}

impl Diagnostic {
    /// Nothing has happened yet.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the detection time.
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    /// The other end went down.
    pub const NEIGHBOR_SIGNALED_DOWN: Self = Self(3);
    /// An operator has taken it down.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            other => return write!(f, "diagnostic {other}"),
        })
    }
}

impl State {
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }
}

impl Packet {
    /// Reads the payload of a datagram, with those checks of RFC 5880 §6.8.6 that need no session.
    pub fn decode(payload: &[u8]) -> Result<Self, Discard> {
        let Some((bytes, _)) = payload.split_first_chunk::<LENGTH>() else {
            return Err(Discard::Short);
        };
        let [first, flags, detect_multiplier, length, words @ ..] = *bytes;
        if first >> 5 != VERSION {
            return Err(Discard::Version);
        }
        if usize::from(length) < LENGTH || usize::from(length) > payload.len() {
            return Err(Discard::Short);
        }
        if detect_multiplier == 0 {
            return Err(Discard::Multiplier);
        }
        if flags & MULTIPOINT != 0 {
            return Err(Discard::Multipoint);
        }
        if flags & AUTHENTICATION != 0 {
            return Err(Discard::Authenticated);
        }
        let (words, _) = words.as_chunks::<4>();
        let word = |index: usize| words.get(index).map_or(0, |word| u32::from_be_bytes(*word));
        let packet = Self {
            diagnostic: Diagnostic(first & 0x1f),
            state: State::from_bits(flags >> 6),
            poll: flags & POLL != 0,
            final_: flags & FINAL != 0,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            detect_multiplier,
            my_discriminator: word(0),
            your_discriminator: word(1),
            desired_min_tx: word(2),
            required_min_rx: word(3),
            required_min_echo_rx: word(4),
        };
        let knows_us = packet.your_discriminator != 0;
        if packet.my_discriminator == 0 || (!knows_us && packet.state > State::Down) {
            return Err(Discard::Discriminator);
        }
        Ok(packet)
    }

    /// The payload of a datagram.
    pub fn encode(&self) -> [u8; LENGTH] {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = self.state.bits() << 6
            | flag(self.poll, POLL)
            | flag(self.final_, FINAL)
            | flag(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | flag(self.demand, DEMAND);
        let mut bytes = [0; LENGTH];
        let head = [VERSION << 5 | (self.diagnostic.0 & 0x1f), flags, self.detect_multiplier, 24];
        let words = [
            u32::from_be_bytes(head),
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx,
            self.required_min_rx,
            self.required_min_echo_rx,
        ];
        for (chunk, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *chunk = word.to_be_bytes();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 5880 §4.1: version 1, diagnostic 1, Down, Poll, multiplier 3, 24 octets, the rest in order.
    const BYTES: [u8; LENGTH] = [
        0x21, 0x60, 3, 24, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0xf, 0x42, 0x40, 0, 4, 0x93, 0xe0, 0, 0, 0, 0,
    ];

    #[test]
    fn a_packet_is_laid_out_as_the_rfc_draws_it() {
        let packet = Packet {
            diagnostic: Diagnostic::DETECTION_TIME_EXPIRED,
            state: State::Down,
            poll: true,
            final_: false,
            control_plane_independent: false,
            demand: false,
            detect_multiplier: 3,
            my_discriminator: 7,
            your_discriminator: 9,
            desired_min_tx: 1_000_000,
            required_min_rx: 300_000,
            required_min_echo_rx: 0,
        };
        assert_eq!(packet.encode(), BYTES);
        assert_eq!(Packet::decode(&BYTES), Ok(packet));
    }

    #[test]
    fn a_packet_that_makes_no_sense_is_discarded() {
        let with = |index: usize, octet: u8| {
            let mut bytes = BYTES;
            bytes[index] = octet;
            bytes.to_vec()
        };
        let cases = [
            (Vec::new(), Discard::Short),
            (BYTES[..23].to_vec(), Discard::Short),
            (with(0, 0x01), Discard::Version),
            (with(0, 0x41), Discard::Version),
            (with(3, 23), Discard::Short),
            (with(3, 25), Discard::Short),
            (with(3, 0), Discard::Short),
            (with(2, 0), Discard::Multiplier),
            (with(1, 0x61), Discard::Multipoint),
            (with(1, 0x64), Discard::Authenticated),
            (with(7, 0), Discard::Discriminator),
        ];
        for (bytes, discard) in cases {
            assert_eq!(Packet::decode(&bytes), Err(discard), "{bytes:?}");
        }
        // The sender does not know this end, and still says Init or Up; Down and AdminDown are fine.
        for (flags, good) in [(0x00, true), (0x40, true), (0x80, false), (0xc0, false)] {
            let mut bytes = BYTES;
            (bytes[1], bytes[11]) = (flags, 0);
            assert_eq!(Packet::decode(&bytes).is_ok(), good, "{flags:#x}");
        }
        let trailing = [&BYTES[..], &[1, 2, 3]].concat();
        assert!(Packet::decode(&trailing).is_ok());
    }

    proptest! {
        #[test]
        fn any_octets_are_a_packet_that_reads_back_or_are_discarded(
            mut bytes in proptest::array::uniform24(any::<u8>()),
            likely in any::<bool>(),
        ) {
            if likely {
                (bytes[0], bytes[1], bytes[3]) = (bytes[0] & 0x1f | 0x20, bytes[1] & 0xfa, 24);
            }
            if let Ok(packet) = Packet::decode(&bytes) {
                prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
            }
        }
    }
}
