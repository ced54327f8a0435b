//! The one canonical form of a request path: what rules are compared with, what access rules see and,
//! where the client wrote dot segments, what the backend gets.
//!
//! The data path calls [`canonical`] once per request, before anything looks at the path; the
//! translators call [`pattern`] on rule paths, so that both sides compare plain bytes. What two parsers
//! could read differently (an encoded slash, a backslash, a control byte) is refused, not repaired.

use std::borrow::Cow;

/// A request path that is safe to match on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    /// Unreserved characters decoded, other escapes with upper-case digits, no dot segments, no `//`.
    pub matched: Cow<'a, str>,
    /// The raw path had dot segments: the backend must get `matched` instead of it.
    pub rewritten: bool,
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
    /// `%2F`, `%5C`, `%00` and other control bytes: no two servers agree on what they mean.
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
/// Decodes escapes of unreserved characters exactly once, gives the other escapes upper-case digits,
/// merges `//`, then removes dot segments (§5.2.4), also those that were escaped. The result is its own
/// canonical form. Does not allocate if `raw` is canonical already.
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
            Class::Percent => plain = false,
            Class::Slash => plain &= !is_unclean(&bytes[at + 1..]),
        }
    }
    if plain {
        return Ok(CanonicalPath { matched: Cow::Borrowed(raw), rewritten: false });
    }
    let decoded = decode(raw)?;
    let (matched, rewritten) = clean(decoded)?;
    Ok(CanonicalPath { matched: matched.into(), rewritten })
}

/// The canonical form of a rule's path, for comparing with canonical request paths.
///
/// A rule may spell characters that a request must escape (`/café`); they are escaped here. `Err` if no
/// request can ever have this path.
pub fn pattern(text: &str) -> Result<Cow<'_, str>, PathError> {
    let escaped = if text.bytes().any(|b| matches!(CLASS[b as usize], Class::Forbidden)) {
        let mut out = String::with_capacity(text.len() + 8);
        for byte in text.bytes() {
            match CLASS[byte as usize] {
                Class::Forbidden => push_escape(&mut out, byte),
                _ => out.push(char::from(byte)),
            }
        }
        Cow::Owned(out)
    } else {
        Cow::Borrowed(text)
    };
    match escaped {
        Cow::Borrowed(text) => Ok(canonical(text)?.matched),
        Cow::Owned(text) => Ok(Cow::Owned(canonical(&text)?.matched.into_owned())),
    }
}

#[derive(Clone, Copy)]
enum Class {
    Plain,
    Slash,
    Percent,
    Forbidden,
}

/// What each raw byte means. More is let through than `pchar` (RFC 3986 §3.3) allows: quotes, braces and
/// the like are common in the wild and read alike by everyone.
static CLASS: [Class; 256] = {
    let mut class = [Class::Plain; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            0..=b' ' | b'#' | b'?' | b'\\' | 0x7f.. => Class::Forbidden,
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

fn decode(raw: &str) -> Result<String, PathError> {
    let bytes = raw.as_bytes();
    let mut out = String::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            out.push(char::from(byte));
            at += 1;
            continue;
        }
        let digit = |at: usize| bytes.get(at).and_then(|&b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
            return Err(PathError::BadEscape { at });
        };
        match (high * 16 + low) as u8 {
            byte @ (b'/' | b'\\' | 0..=0x1f | 0x7f) => {
                return Err(PathError::ForbiddenEscape { byte, at });
            }
            // RFC 3986 §2.3: the unreserved characters mean the same escaped and unescaped.
            byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~') => {
                out.push(char::from(byte));
            }
            byte => push_escape(&mut out, byte),
        }
        at += 3;
    }
    Ok(out)
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
