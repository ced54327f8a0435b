//! The PROXY protocol, versions 1 and 2: what a load balancer in front says of its client.
//!
//! Pure: bytes in, a [`Step`] out; the owner of the socket takes the steps on it, for senders that the operator trusts and
//! no others. What is not exactly a header is [`Malformed`] and ends the connection: a guess would let a client say where
//! it comes from. The crate is apart so that a fuzzer reaches it without everything that a gateway is made of.
//! Specification: HAProxy's `doc/proxy-protocol.txt`.

#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

/// Version of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl FromStr for Version {
    type Err = ();

    /// `v1` or `v2`, in either case.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "v1" | "V1" => Ok(Self::V1),
            "v2" | "V2" => Ok(Self::V2),
            _ => Err(()),
        }
    }
}

/// Most bytes of a version 1 header, its CRLF included (section 2.1 of the specification).
pub const MAX_LINE: usize = 107;
/// What version 1 begins with.
const V1: &[u8] = b"PROXY ";
/// What version 2 begins with (section 2.2).
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the addresses.
const V2_HEAD: usize = 16;
/// Most bytes of version 2 behind them: addresses and whatever else is told, which nobody here reads.
const MAX_V2: usize = 4096;
/// Kind of the entry that tells of the client's TLS (section 2.2.6), and the bit of it that says there is one.
const PP2_TYPE_SSL: u8 = 0x20;
const PP2_CLIENT_SSL: u8 = 1;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the client is and where it came in; `None`: the sender speaks for itself, or does not know.
    pub ends: Option<Ends>,
    /// The client spoke TLS to the sender, as far as the sender says so.
    pub tls: bool,
}

/// Both ends of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client's.
    pub client: SocketAddr,
    /// The one that the client has asked.
    pub server: SocketAddr,
}

/// What is to be done with the bytes that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many more belong to the header for certain.
    Read(usize),
    /// Of so many more, those belong to it that end with a line feed: all of them while there is none.
    ReadLine(usize),
    /// They are the header, whole.
    Done(Header),
}

/// What is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It begins otherwise.
    #[error("no PROXY header")]
    NoHeader,
    /// It is longer than it may be.
    #[error("a PROXY header that is too long")]
    TooLong,
    /// A line of version 1 that is not as it has to be.
    #[error("a PROXY line that makes no sense")]
    Line,
    /// A version 2 with another version, command, family or length than there are.
    #[error("a binary PROXY header that makes no sense")]
    Binary,
}

/// What to do with the first bytes of a connection, of which nothing behind the header may be among them.
///
/// # Errors
/// They are not the beginning of a header.
pub fn step(got: &[u8]) -> Result<Step, Malformed> {
    let begins = |with: &[u8]| got.iter().zip(with).all(|(a, b)| a == b);
    if begins(V2) {
        binary(got)
    } else if begins(V1) {
        line(got)
    } else {
        Err(Malformed::NoHeader)
    }
}

/// The header that every datagram to a backend begins with, of version 2 (its section 2.2, family and protocol 0x12 and
/// 0x22): as dnsdist sends it, and as PowerDNS, BIND and Unbound read it.
pub fn datagram_header(ends: Ends) -> Vec<u8> {
    let mut header = header(Version::V2, ends);
    // DGRAM in place of STREAM.
    header[V2.len() + 1] = header[V2.len() + 1] & 0xf0 | 2;
    header
}

/// The header that tells a backend of a connection without a client: one that looks whether the backend is there.
pub fn own_header(version: Version) -> Vec<u8> {
    match version {
        Version::V1 => [V1, &b"UNKNOWN\r\n"[..]].concat(),
        // LOCAL, of no family.
        Version::V2 => [&V2[..], &[0x20, 0, 0, 0]].concat(),
    }
}

/// The header that tells a backend of a client's connection.
pub fn header(version: Version, ends: Ends) -> Vec<u8> {
    let (client, server) = (ends.client.ip().to_canonical(), ends.server.ip().to_canonical());
    let (from, to) = (ends.client.port(), ends.server.port());
    let six = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    match (version, client, server) {
        (Version::V1, IpAddr::V4(client), IpAddr::V4(server)) => {
            format!("PROXY TCP4 {client} {server} {from} {to}\r\n").into_bytes()
        }
        (Version::V1, client, server) => {
            format!("PROXY TCP6 {} {} {from} {to}\r\n", six(client), six(server)).into_bytes()
        }
        (Version::V2, IpAddr::V4(client), IpAddr::V4(server)) => {
            [&V2[..], &[0x21, 0x11, 0, 12], &client.octets(), &server.octets(), &ports].concat()
        }
        (Version::V2, client, server) => {
            let (client, server) = (six(client).octets(), six(server).octets());
            [&V2[..], &[0x21, 0x21, 0, 36], &client, &server, &ports].concat()
        }
    }
}

fn line(got: &[u8]) -> Result<Step, Malformed> {
    // No line is shorter than what tells the versions apart.
    if let Some(missing) = V2.len().checked_sub(got.len()).filter(|missing| *missing > 0) {
        return Ok(Step::Read(missing));
    }
    match memchr::memchr(b'\n', got) {
        None if got.len() >= MAX_LINE => Err(Malformed::TooLong),
        None => Ok(Step::ReadLine(MAX_LINE - got.len())),
        Some(end) if end + 1 != got.len() || got.len() > MAX_LINE => Err(Malformed::Line),
        Some(_) => said(got).map(Step::Done).ok_or(Malformed::Line),
    }
}

/// A whole line of version 1.
fn said(line: &[u8]) -> Option<Header> {
    let line = line.strip_suffix(b"\r\n")?.strip_prefix(V1)?;
    let line = std::str::from_utf8(line).ok().filter(|line| !line.contains(['\r', '\0']))?;
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Header { ends: None, tls: false });
    }
    let (client, server) = (words.next()?, words.next()?);
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let (client, server) = (address(client)?, address(server)?);
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    let ends = Ends { client: end(client, from), server: end(server, to) };
    words.next().is_none().then_some(Header { ends: Some(ends), tls: false })
}

/// Digits without a zero in front.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

/// An IPv4 address in IPv6 form is that IPv4 address.
fn end(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

fn binary(got: &[u8]) -> Result<Step, Malformed> {
    let Some((head, rest)) = got.split_first_chunk::<V2_HEAD>() else {
        let next = if got.len() < V2.len() { V2.len() } else { V2_HEAD };
        return Ok(Step::Read(next - got.len()));
    };
    let (what, family) = (head[12], head[13]);
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > MAX_V2 {
        return Err(Malformed::TooLong);
    }
    if !matches!(what, 0x20 | 0x21) {
        return Err(Malformed::Binary);
    }
    match length.cmp(&rest.len()) {
        std::cmp::Ordering::Greater => return Ok(Step::Read(length - rest.len())),
        std::cmp::Ordering::Less => return Err(Malformed::Binary),
        std::cmp::Ordering::Equal => (),
    }
    // LOCAL: the sender's own connection, whatever else stands there.
    if what == 0x20 {
        return Ok(Step::Done(Header { ends: None, tls: false }));
    }
    told(family, rest).map(Step::Done).ok_or(Malformed::Binary)
}

/// What stands behind the head of a version 2 that is about a client.
fn told(family: u8, rest: &[u8]) -> Option<Header> {
    let (ends, entries) = match family {
        // Unspecified; a UNIX socket on the sender's host.
        0x00 => (None, rest),
        0x31 => (None, rest.get(216..)?),
        0x11 => {
            let (four, entries) = rest.split_first_chunk::<12>()?;
            let ip = |at: usize| Ipv4Addr::new(four[at], four[at + 1], four[at + 2], four[at + 3]);
            let port = |at: usize| u16::from_be_bytes([four[at], four[at + 1]]);
            let (client, server) = (end(ip(0).into(), port(8)), end(ip(4).into(), port(10)));
            (Some(Ends { client, server }), entries)
        }
        0x21 => {
            let (six, entries) = rest.split_first_chunk::<36>()?;
            let ip = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&six[at..at + 16]);
                IpAddr::from(octets)
            };
            let port = |at: usize| u16::from_be_bytes([six[at], six[at + 1]]);
            let (client, server) = (end(ip(0), port(32)), end(ip(16), port(34)));
            (Some(Ends { client, server }), entries)
        }
        // Datagrams come over no connection, and there are no other families.
        _ => return None,
    };
    // What an unspecified family is followed by is nobody's business (section 2.2).
    let tls = if family == 0x00 { false } else { tls_of(entries)? };
    Some(Header { ends, tls })
}

/// Whether one of the entries says that the client speaks TLS; `None`: they are not whole.
fn tls_of(mut entries: &[u8]) -> Option<bool> {
    let mut tls = false;
    while !entries.is_empty() {
        let (head, rest) = entries.split_first_chunk::<3>()?;
        let (value, rest) =
            rest.split_at_checked(usize::from(u16::from_be_bytes([head[1], head[2]])))?;
        tls |= head[0] == PP2_TYPE_SSL && value.first()? & PP2_CLIENT_SSL != 0;
        entries = rest;
    }
    Some(tls)
}

#[cfg(test)]
mod tests;
