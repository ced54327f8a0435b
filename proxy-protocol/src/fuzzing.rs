//! What has to hold of every beginning of a connection; asked by the fuzzer and by tests.

#![allow(clippy::unwrap_used, reason = "what is broken is told by a panic")]

use super::{Ends, Header, MAX_LINE, MAX_V2, Malformed, Step, V2_HEAD, Version, header, step};

/// Feeds bytes as a socket would; the header and how many bytes it took.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let mut got = 0;
    loop {
        let rest = bytes.len() - got;
        let more = match step(&bytes[..got])? {
            Step::Done(header) => return Ok(Some((header, got))),
            Step::Read(more) => more,
            Step::ReadLine(most) => {
                let ahead = &bytes[got..got + most.min(rest)];
                memchr::memchr(b'\n', ahead).map_or(ahead.len(), |end| end + 1)
            }
        };
        if more == 0 || more > rest {
            return Ok(None);
        }
        got += more;
    }
}

/// # Panics
/// When one of the rules does not hold.
pub fn beginning(bytes: &[u8]) {
    let Ok(Some((said, length))) = parse(bytes) else { return };
    assert!(length <= MAX_LINE.max(V2_HEAD + MAX_V2), "{length} bytes were read");
    // What follows does not matter, and nothing less is a header.
    assert_eq!(parse(&bytes[..length]), Ok(Some((said, length))));
    for cut in 0..length {
        match step(&bytes[..cut]) {
            Ok(Step::Read(more)) => assert!(more > 0 && cut + more <= length, "{more} after {cut}"),
            Ok(Step::ReadLine(more)) => assert!(more > 0, "nothing after {cut}"),
            other => panic!("{other:?} after {cut} of {length}"),
        }
    }
    // What was said can be said again, in both versions.
    let Some(ends) = said.ends else { return };
    for version in [Version::V1, Version::V2] {
        let again = header(version, ends);
        let Header { ends: heard, .. } = parse(&again).unwrap().unwrap().0;
        let canonical = Ends { client: ends.client, server: ends.server };
        assert_eq!(heard, Some(canonical), "{version:?}");
    }
}
