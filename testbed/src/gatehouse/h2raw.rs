//! HTTP/2 by hand: frames as bytes over TLS, good and evil alike (RFC 9113), with the smallest
//! HPACK (RFC 7541) that serves: literals without indexing out, `:status` in.

use std::{
    fmt,
    io::{ErrorKind, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    gatehouse::{client::read_some, show, tls::Tls},
    wait,
};

/// Frame types (RFC 9113 section 6).
#[allow(missing_docs, reason = "they are the names of the RFC")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Of DATA and HEADERS: nothing follows on the stream.
pub const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Of HEADERS and CONTINUATION: the block is whole.
pub const END_HEADERS: u8 = 4;

/// What opens every connection.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as received.
#[derive(Clone, Debug)]
pub struct Frame {
    /// One of [`kind`], or another.
    pub kind: u8,
    /// All bits.
    pub flags: u8,
    /// 0 for the connection.
    pub stream: u32,
    /// Without the header of nine bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// One stream was ended.
    pub fn is_reset(&self) -> bool {
        self.kind == kind::RST_STREAM
    }

    /// The connection was ended for an error; without one, its streams live on.
    pub fn is_goaway_for_cause(&self) -> bool {
        self.kind == kind::GOAWAY && number(&self.payload, 4) != 0
    }
}

/// What became of one stream.
#[derive(Clone, Default)]
pub struct Answer {
    /// 0: no response.
    pub status: u16,
    /// As much as came.
    pub body: Vec<u8>,
    /// END_STREAM came.
    pub ended: bool,
    /// Error code of a RST_STREAM.
    pub reset: Option<u32>,
    /// Error code of a GOAWAY.
    pub goaway: Option<u32>,
    /// The connection ended.
    pub closed: bool,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, ended, reset, goaway, closed, body } = self;
        write!(f, "status {status}, ended {ended}, reset {reset:?}, goaway {goaway:?}, ")?;
        write!(f, "closed {closed}, body {}", show(body))
    }
}

impl Answer {
    /// Refused in one of the ways that RFC 9113 allows for a malformed request.
    pub fn refused(&self) -> bool {
        (400..500).contains(&self.status)
            || self.status == 501
            || (self.status == 0
                && (self.reset.is_some() || self.goaway.is_some_and(|c| c != 0) || self.closed))
    }
}

/// The fields of an honest GET.
pub const GOOD: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "good.test"), (":path", "/a")];

/// A client connection.
pub struct H2 {
    /// The connection under it.
    pub wire: Tls,
    buf: Vec<u8>,
}

impl H2 {
    /// Connects with ALPN `h2`, sends preface and an empty SETTINGS.
    pub fn connect(addr: SocketAddr, sni: &str) -> Self {
        Self::with_settings(addr, sni, &[])
    }

    /// As [`H2::connect`] with these settings (identifier, value).
    pub fn with_settings(addr: SocketAddr, sni: &str, settings: &[(u16, u32)]) -> Self {
        let wire = Tls::connect(addr, sni, &["h2"]).unwrap_or_else(|e| panic!("TLS {addr}: {e}"));
        assert_eq!(wire.alpn().as_deref(), Some("h2"), "ALPN");
        let mut connection = Self { wire, buf: Vec::new() };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        let first = [PREFACE, &frame(kind::SETTINGS, 0, 0, &payload)].concat();
        assert!(connection.write(&first), "preface");
        connection
    }

    /// Writes bytes; false when the gateway no longer takes them.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.wire.write_all(bytes).and_then(|()| self.wire.flush()).is_ok()
    }

    /// The next frame within `limit`; `Err(true)` when the connection ended.
    pub fn read(&mut self, limit: Duration) -> Result<Frame, bool> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(frame) = self.take() {
                return Ok(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match read_some(&mut self.wire, left, &mut self.buf) {
                Ok(0) => return Err(true),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= deadline {
                        return Err(false);
                    }
                }
                Err(_) => return Err(true),
            }
        }
    }

    /// Reads until `stream` is over, the connection is, or the time is. Pings and settings are
    /// acknowledged, windows are not enlarged.
    pub fn answer(&mut self, stream: u32) -> Answer {
        let mut answer = Answer::default();
        let deadline = Instant::now() + wait::LIMIT;
        while !answer.ended && answer.reset.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match self.read(left) {
                Ok(frame) => self.note(&frame, stream, &mut answer),
                Err(closed) => {
                    answer.closed = closed;
                    break;
                }
            }
        }
        answer
    }

    /// Sends a request with these fields (and this body) and waits for what becomes of it.
    pub fn request(&mut self, stream: u32, fields: &[(&str, &str)], body: Option<&[u8]>) -> Answer {
        let flags = END_HEADERS | if body.is_none() { END_STREAM } else { 0 };
        let mut bytes = frame(kind::HEADERS, flags, stream, &block(fields));
        if let Some(body) = body {
            bytes.extend(frame(kind::DATA, END_STREAM, stream, body));
        }
        self.write(&bytes);
        self.answer(stream)
    }

    fn note(&mut self, frame: &Frame, stream: u32, answer: &mut Answer) {
        match frame.kind {
            kind::SETTINGS if frame.flags & ACK == 0 => {
                self.write(&self::frame(kind::SETTINGS, ACK, 0, &[]));
            }
            kind::PING if frame.flags & ACK == 0 => {
                self.write(&self::frame(kind::PING, ACK, 0, &frame.payload));
            }
            kind::GOAWAY => answer.goaway = Some(number(&frame.payload, 4)),
            kind::RST_STREAM if frame.stream == stream => {
                answer.reset = Some(number(&frame.payload, 0));
            }
            kind::HEADERS if frame.stream == stream => {
                if let Some(status) = status(&frame.payload) {
                    answer.status = status;
                }
                answer.ended |= frame.flags & END_STREAM != 0;
            }
            kind::DATA if frame.stream == stream => {
                answer.body.extend_from_slice(&frame.payload);
                answer.ended |= frame.flags & END_STREAM != 0;
            }
            _ => {}
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let header = self.buf.get(..9)?;
        let length = number(&[0, header[0], header[1], header[2]], 0) as usize;
        if self.buf.len() < 9 + length {
            return None;
        }
        let (kind, flags) = (header[3], header[4]);
        let stream = number(header, 5) & 0x7fff_ffff;
        let payload = self.buf[9..9 + length].to_vec();
        self.buf.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }
}

/// An honest request on a connection of its own, answered by the backend with its target.
pub fn probe(https: SocketAddr) -> Result<(), String> {
    let fields = get("good.test", "/probe-h2");
    let answer = H2::connect(https, "good.test").request(1, &fields, None);
    if answer.status == 200 && answer.body == b"app GET /probe-h2\n" {
        Ok(())
    } else {
        Err(format!("the probe over h2 was answered {answer:?}"))
    }
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is below 16 MiB").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of literals that are never indexed, exactly as given.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        string(&mut bytes, name.as_bytes());
        string(&mut bytes, value.as_bytes());
    }
    bytes
}

/// The four pseudo-header fields of a GET.
pub fn get<'a>(authority: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)]
}

/// An HPACK integer with a prefix of `bits`, the bits above it given by `first`.
pub fn integer(bytes: &mut Vec<u8>, first: u8, bits: u32, mut value: usize) {
    let limit = (1usize << bits) - 1;
    if value < limit {
        bytes.push(first | value as u8);
        return;
    }
    bytes.push(first | limit as u8);
    value -= limit;
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn string(bytes: &mut Vec<u8>, text: &[u8]) {
    integer(bytes, 0, 7, text.len());
    bytes.extend_from_slice(text);
}

/// `:status`, which comes first in every response: indexed, or a literal with an indexed name.
fn status(block: &[u8]) -> Option<u16> {
    let mut block = block;
    // Dynamic table size updates may come first.
    while block.first().is_some_and(|b| b & 0xe0 == 0x20) {
        block = &block[1..];
    }
    match *block.first()? {
        0x88 => Some(200),
        0x89 => Some(204),
        0x8a => Some(206),
        0x8b => Some(304),
        0x8c => Some(400),
        0x8d => Some(404),
        0x8e => Some(500),
        0x48 | 0x08 | 0x18 => {
            let length = *block.get(1)?;
            let text = block.get(2..2 + usize::from(length & 0x7f))?;
            if length & 0x80 == 0 {
                return std::str::from_utf8(text).ok()?.parse().ok();
            }
            huffman_digits(text).parse().ok()
        }
        _ => None,
    }
}

/// Digits in the Huffman code of RFC 7541 appendix B: 0 to 2 have five bits, 3 to 9 six.
fn huffman_digits(text: &[u8]) -> String {
    let bits: Vec<u8> = text.iter().flat_map(|b| (0..8).rev().map(move |n| b >> n & 1)).collect();
    let value = |bits: &[u8]| bits.iter().fold(0u8, |sum, bit| sum << 1 | bit);
    let mut digits = String::new();
    let mut at = 0;
    while at + 5 <= bits.len() {
        let five = value(&bits[at..at + 5]);
        if five <= 2 {
            digits.push(char::from(b'0' + five));
            at += 5;
        } else if at + 6 <= bits.len() && (25..=31).contains(&value(&bits[at..at + 6])) {
            digits.push(char::from(b'3' + value(&bits[at..at + 6]) - 25));
            at += 6;
        } else {
            break;
        }
    }
    digits
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok());
    four.map_or(0, u32::from_be_bytes)
}
