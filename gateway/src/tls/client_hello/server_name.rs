//! The server name of a ClientHello that goes on as it is, whatever else it says.
//!
//! Whoever ends TLS refuses what it cannot speak: versions before 1.2, lists without what it needs. What another server
//! ends is that server's to judge, so only what leads to the name is looked at here. Pure.

use gatehouse_routes::host;

/// RFC 8446, section 5.1: a record of the handshake.
const HANDSHAKE: u8 = 22;
/// RFC 8446, section 4.
const CLIENT_HELLO: u8 = 1;
/// RFC 6066, section 3: the extension, and the only kind of name.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// The name in a ClientHello that is there as a whole, in canonical form; `Some(None)`: it has none that could be one.
/// `None`: this is no whole ClientHello.
pub(super) fn of(bytes: &[u8]) -> Option<Option<Box<str>>> {
    let message = message(bytes)?;
    let mut rest = Reader(&message);
    // legacy_version, random, legacy_session_id, cipher_suites, legacy_compression_methods
    rest.take(2 + 32)?;
    rest.list8()?;
    rest.list16()?;
    rest.list8()?;
    // There may be no extensions before TLS 1.3.
    let Some(mut extensions) = rest.list16() else { return Some(None) };
    while let (Some(kind), Some(body)) = (extensions.number16(), extensions.list16()) {
        if kind == SERVER_NAME {
            return Some(host_name(body));
        }
    }
    Some(None)
}

fn host_name(mut extension: Reader<'_>) -> Option<Box<str>> {
    let mut names = extension.list16()?;
    while let (Some(kind), Some(Reader(name))) = (names.number8(), names.list16()) {
        if kind == HOST_NAME {
            let name = host::canonical(std::str::from_utf8(name).ok()?)?;
            return Some(name.into_owned().into_boxed_str());
        }
    }
    None
}

/// What the first message of a handshake says; it may be in several records.
fn message(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut records, mut message) = (Reader(bytes), Vec::new());
    loop {
        if let [CLIENT_HELLO, a, b, c, said @ ..] = &*message {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if said.len() >= length {
                return Some(said[..length].to_vec());
            }
        } else if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return None;
        }
        let [HANDSHAKE, 3, _] = *records.take(3)? else { return None };
        message.extend_from_slice(records.list16()?.0);
    }
}

/// What is left of bytes that begin with their parts.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Bytes whose number comes before them.
    fn list8(&mut self) -> Option<Self> {
        let count = self.number8()?;
        self.take(count.into()).map(Self)
    }

    fn list16(&mut self) -> Option<Self> {
        let count = self.number16()?;
        self.take(count.into()).map(Self)
    }
}
