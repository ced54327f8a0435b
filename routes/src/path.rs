//! The one canonical form of a request path: what rules are compared with, what access rules see and,
//! where the client wrote dot segments, what the backend gets.
//!
//! The data path calls [`canonical`] once per request, before anything looks at the path; the
//! translators call [`pattern`] on rule paths, so that both sides compare plain bytes. What two parsers
//! could read differently (a backslash, a control byte) is refused, not repaired. A slash that is encoded
//! is part of its segment here; what servers make of it is looked at by [`crate::encoded_slash`].

use std::{borrow::Cow, ops::Range};

/// A request path that is safe to match on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    /// What a path may hold unescaped is unescaped (`pchar`, RFC 3986 §3.3), all else escaped with upper-case
    /// digits; no dot segments, no `//`.
    pub matched: Cow<'a, str>,
    /// The raw path had dot segments: the backend must get `matched` instead of it.
    pub rewritten: bool,
    /// It holds `%2F` or `%5C`, which some servers take for separators.
    pub encoded_slash: bool,
}

/// Why a request path is refused, with 400. Offsets count bytes of the raw path from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Neither origin form nor `*`.
    #[error("path does not begin with '/'")]
    NoLeadingSlash,
    /// A control byte, a space, `#`, `?`, a backslash or a byte that is not ASCII, unescaped.
    #[error("path holds the byte 0x{byte:02x} at offset {at}, which must be percent-encoded")]
    ForbiddenByte {
        /// The byte.
        byte: u8,
        /// Where it stands.
        at: usize,
    },
    /// `%` without two hexadecimal digits (RFC 3986 §2.1).
    #[error("path holds a '%' at offset {at} that is not followed by two hexadecimal digits")]
    BadEscape {
        /// Where the `%` stands.
        at: usize,
    },
    /// `%00` and other control bytes: no two servers agree on what they mean.
    #[error(
        "path holds %{byte:02X} at offset {at}, which is refused because servers disagree on it"
    )]
    ForbiddenEscape {
        /// The byte that is encoded.
        byte: u8,
        /// Where the `%` stands.
        at: usize,
    },
    /// More `..` than segments before it.
    #[error("path leads above '/'")]
    AboveRoot,
}

/// Canonicalises the path part of a request target, before any `?` (RFC 3986 §6.2.2).
///
/// Each character has one spelling: escapes of what needs none are decoded, exactly once, as servers read them
/// (`/users%3Adelete` is `/users:delete`); what a path should not hold unescaped (`{`) is escaped; other escapes,
/// slashes among them, get upper-case digits. Then `//` is merged and dot segments are removed (§5.2.4), also
/// those that were escaped. The result is its own canonical form. Does not allocate if `raw` is canonical
/// already.
pub fn canonical(raw: &str) -> Result<CanonicalPath<'_>, PathError> {
    let bytes = raw.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PathError::NoLeadingSlash);
    }
    let mut plain = true;
    for (at, &byte) in bytes.iter().enumerate() {
        match CLASS[byte as usize] {
            Class::Plain => {}
            Class::Forbidden => return Err(PathError::ForbiddenByte { byte, at }),
            Class::Percent | Class::Odd => plain = false,
            Class::Slash => plain &= !is_unclean(&bytes[at + 1..]),
        }
    }
    if plain {
        let matched = Cow::Borrowed(raw);
        return Ok(CanonicalPath { matched, rewritten: false, encoded_slash: false });
    }
    let (decoded, encoded_slash) = decode(raw)?;
    let (matched, rewritten) = clean(decoded)?;
    Ok(CanonicalPath { matched: matched.into(), rewritten, encoded_slash })
}

/// The canonical form of a rule's path, for comparing with canonical request paths.
///
/// A rule may spell characters that a request must escape (`/café`); they are escaped here. `Err` if no
/// request can ever have this path.
pub fn pattern(text: &str) -> Result<Cow<'_, str>, PathError> {
    match escaped(text) {
        Cow::Borrowed(text) => Ok(canonical(text)?.matched),
        Cow::Owned(text) => Ok(Cow::Owned(canonical(&text)?.matched.into_owned())),
    }
}

/// Whether a path is that of ACME's HTTP-01 challenge, which must be answered in clear text (RFC 8555 §8.3).
pub(crate) fn is_acme(path: &str) -> bool {
    let rest = path.strip_prefix("/.well-known/acme-challenge");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A text with all that a request must escape escaped.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|b| matches!(CLASS[b as usize], Class::Forbidden)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        match CLASS[byte as usize] {
            Class::Forbidden => push_escape(&mut out, byte),
            _ => out.push(char::from(byte)),
        }
    }
    Cow::Owned(out)
}

/// The canonical paths that servers may take a canonical path for which decode `%2F`, `%5C` or both and see
/// separators then. `Err`: such a server is led above `/`.
pub(crate) fn slash_readings(
    matched: &str,
) -> impl Iterator<Item = Result<String, PathError>> + '_ {
    let (slash, backslash) = (matched.contains("%2F"), matched.contains("%5C"));
    let readings = [(true, false), (false, true), (true, true)].into_iter();
    readings.filter(move |&(a, b)| (!a || slash) && (!b || backslash)).map(|(a, b)| {
        let text = if a { Cow::Owned(matched.replace("%2F", "/")) } else { Cow::Borrowed(matched) };
        let text = if b { Cow::Owned(text.replace("%5C", "/")) } else { text };
        Ok(canonical(&text)?.matched.into_owned())
    })
}

/// A canonical path as expressions see it: escapes read, so that `/caf%C3%A9` is `/café`.
///
/// What would mean something else stays escaped: slashes, backslashes, `%` itself, control bytes and what is
/// no UTF-8.
pub(crate) fn readable(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    read_escapes(path, |range, read| match read {
        Some(read) => out.push(read),
        None => out.push_str(&path[range]),
    });
    Cow::Owned(out)
}

/// The same, and for each byte of it and its end where that stands in `path`.
pub(crate) fn readable_with_offsets(path: &str) -> (String, Vec<usize>) {
    let mut out = String::with_capacity(path.len());
    let mut offsets = Vec::with_capacity(path.len() + 1);
    read_escapes(path, |range, read| match read {
        Some(read) => {
            out.push(read);
            offsets.resize(out.len(), range.start);
        }
        None => {
            out.push_str(&path[range.clone()]);
            offsets.extend(range);
        }
    });
    offsets.push(path.len());
    (out, offsets)
}

/// Tells of a text, piece by piece, what a piece reads as: the character that its escapes stand for, or
/// what is written.
pub(crate) fn read_escapes(text: &str, mut piece: impl FnMut(Range<usize>, Option<char>)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let mut run = Vec::new();
        while let Some(byte) = escape_at(bytes, at + 3 * run.len()) {
            run.push(byte);
        }
        if run.is_empty() {
            let next = bytes[at + 1..].iter().position(|&byte| byte == b'%');
            let end = next.map_or(bytes.len(), |next| at + 1 + next);
            piece(at..end, None);
            at = end;
        }
        for chunk in run.utf8_chunks() {
            for read in chunk.valid().chars() {
                let end = at + 3 * read.len_utf8();
                let stays = matches!(read, '/' | '\\' | '%') || read.is_control();
                piece(at..end, (!stays).then_some(read));
                at = end;
            }
            let end = at + 3 * chunk.invalid().len();
            if end > at {
                piece(at..end, None);
                at = end;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Class {
    /// What a segment is made of: `pchar` (RFC 3986 §3.3).
    Plain,
    /// Quotes, braces and the like: common in the wild and read alike by everyone, so let through.
    Odd,
    Slash,
    Percent,
    Forbidden,
}

/// What each raw byte means.
static CLASS: [Class; 256] = {
    let mut class = [Class::Plain; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            0..=b' ' | b'#' | b'?' | b'\\' | 0x7f.. => Class::Forbidden,
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => Class::Odd,
            _ => Class::Plain,
        };
        byte += 1;
    }
    class
};

/// Whether what follows a `/` is another `/` or a dot segment.
fn is_unclean(rest: &[u8]) -> bool {
    matches!(rest, [b'/', ..] | [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..])
}

/// The byte that the escape at an offset stands for, if there is one.
fn escape_at(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|&b| char::from(b).to_digit(16));
    bytes.get(at).filter(|&&byte| byte == b'%')?;
    Some((digit(at + 1)? * 16 + digit(at + 2)?) as u8)
}

/// The path with each character in its one spelling; whether a slash is encoded.
fn decode(raw: &str) -> Result<(String, bool), PathError> {
    let bytes = raw.as_bytes();
    let mut out = String::with_capacity(raw.len());
    let (mut at, mut encoded_slash) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            match CLASS[usize::from(byte)] {
                Class::Odd => push_escape(&mut out, byte),
                _ => out.push(char::from(byte)),
            }
            at += 1;
            continue;
        }
        match escape_at(bytes, at).ok_or(PathError::BadEscape { at })? {
            byte @ (0..=0x1f | 0x7f) => return Err(PathError::ForbiddenEscape { byte, at }),
            byte if matches!(CLASS[usize::from(byte)], Class::Plain) => out.push(char::from(byte)),
            byte => {
                encoded_slash |= matches!(byte, b'/' | b'\\');
                push_escape(&mut out, byte);
            }
        }
        at += 3;
    }
    Ok((out, encoded_slash))
}

fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Merges slashes and removes dot segments; says whether there was a dot segment.
fn clean(path: String) -> Result<(String, bool), PathError> {
    let unclean =
        path.bytes().enumerate().any(|(at, b)| b == b'/' && is_unclean(&path.as_bytes()[at + 1..]));
    if !unclean {
        return Ok((path, false));
    }
    let mut out = String::with_capacity(path.len());
    let mut rewritten = false;
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => rewritten = true,
            ".." => {
                rewritten = true;
                let parent = out.rfind('/').ok_or(PathError::AboveRoot)?;
                out.truncate(parent);
            }
            "" => {}
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        if last {
            out.push('/');
        }
    }
    Ok((out, rewritten))
}

#[cfg(test)]
mod tests;
