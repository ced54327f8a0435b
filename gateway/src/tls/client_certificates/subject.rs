//! Names in certificates, spelled as nginx has them (RFC 2253, the last part first) and as HAProxy does (`/O=b/CN=a`).

use std::fmt::Write as _;

use gatehouse_routes::filter::client_certificate::Subject;

use crate::tls::certs::der;

/// The identifier of common names.
const CN: &str = "2.5.4.3";

/// Short names of attributes, by object identifier.
const ATTRIBUTES: [(&str, &str); 22] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// An attribute of a name: the number of the part that it is in, its identifier, its value as it is encoded.
type Attribute<'d> = (usize, &'d [u8], &'d [u8]);

/// Subject and issuer of a certificate; empty where they cannot be read.
pub(crate) fn of(certificate: &[u8]) -> (Subject, Subject) {
    let Some((issuer, subject)) = der::names(certificate) else { return Default::default() };
    (both(subject), both(issuer))
}

/// The first common name of a certificate's subject.
pub(crate) fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, subject) = der::names(certificate)?;
    let attributes = attributes(subject)?;
    let mut names = attributes.into_iter().filter(|(_, identifier, _)| dotted(identifier) == CN);
    decoded(names.next()?.2)
}

fn both(name: &[u8]) -> Subject {
    Subject { rfc2253: spelled(name), one_line: one_line(name) }
}

fn one_line(name: &[u8]) -> String {
    let mut out = String::new();
    for (_, identifier, encoded) in attributes(name).unwrap_or_default() {
        let (short, text) = attribute(identifier, encoded);
        let _ = write!(out, "/{short}=");
        match text {
            // Or a value could look like further attributes.
            Some(text) => out.push_str(&text.replace('/', "\\2F")),
            None => hex(encoded, &mut out),
        }
    }
    out
}

/// The short name of an attribute, and its value if it is text of a known one.
fn attribute(identifier: &[u8], encoded: &[u8]) -> (String, Option<String>) {
    let identifier = dotted(identifier);
    match ATTRIBUTES.iter().find(|(known, _)| *known == identifier) {
        Some((_, short)) => ((*short).to_owned(), decoded(encoded)),
        None => (identifier, None),
    }
}

fn decoded(encoded: &[u8]) -> Option<String> {
    let (tag, content, _) = der::value(encoded)?;
    text(tag, content)
}

fn hex(encoded: &[u8], out: &mut String) {
    out.push('#');
    for byte in encoded {
        let _ = write!(out, "{byte:02X}");
    }
}

fn spelled(name: &[u8]) -> String {
    let mut out = String::new();
    let Some(attributes) = attributes(name) else { return out };
    let mut before = None;
    for (part, identifier, encoded) in attributes.into_iter().rev() {
        if let Some(before) = before {
            out.push(if before == part { '+' } else { ',' });
        }
        before = Some(part);
        let (short, text) = attribute(identifier, encoded);
        let _ = write!(out, "{short}=");
        match text {
            Some(text) => escape(&text, &mut out),
            None => hex(encoded, &mut out),
        }
    }
    out
}

fn attributes(mut name: &[u8]) -> Option<Vec<Attribute<'_>>> {
    let mut all = Vec::new();
    let mut part = 0;
    while !name.is_empty() {
        let (_, mut set, rest) = der::value(name)?;
        name = rest;
        while !set.is_empty() {
            let (_, attribute, rest) = der::value(set)?;
            set = rest;
            let (_, identifier, encoded) = der::value(attribute)?;
            all.push((part, identifier, encoded));
        }
        part += 1;
    }
    Some(all)
}

/// An object identifier in numbers (X.690 §8.19).
fn dotted(encoded: &[u8]) -> String {
    let mut out = String::new();
    let mut number: u64 = 0;
    for byte in encoded {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        let _ = match (out.is_empty(), number) {
            (true, number) => {
                let first = (number / 40).min(2);
                write!(out, "{first}.{}", number - first * 40)
            }
            (false, number) => write!(out, ".{number}"),
        };
        number = 0;
    }
    out
}

/// A string of one of the kinds that names are made of.
fn text(tag: u8, content: &[u8]) -> Option<String> {
    match tag {
        // UTF8String, NumericString, PrintableString, IA5String, VisibleString
        0x0c | 0x12 | 0x13 | 0x16 | 0x1a => String::from_utf8(content.to_vec()).ok(),
        // T61String, which everybody takes for Latin-1
        0x14 => Some(content.iter().map(|byte| char::from(*byte)).collect()),
        // BMPString
        0x1e => {
            let units = content.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            let text: Option<String> = char::decode_utf16(units).map(Result::ok).collect();
            text.filter(|_| content.len().is_multiple_of(2))
        }
        _ => None,
    }
}

/// RFC 2253 §2.4; what is no printable ASCII is written byte by byte.
fn escape(text: &str, out: &mut String) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;

    fn certificate(attributes: &[(DnType, DnValue)]) -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    fn spelled(attributes: &[(DnType, DnValue)]) -> String {
        let (subject, issuer) = of(certificate(attributes).der());
        assert_eq!(subject, issuer);
        subject.rfc2253
    }

    #[test]
    fn names_are_spelled_as_haproxy_does_and_no_value_looks_like_another_attribute() {
        let utf8 = |text: &str| DnValue::Utf8String(text.into());
        let unknown = DnType::CustomDnType(vec![1, 2, 3, 400]);
        let made = certificate(&[
            (DnType::CountryName, utf8("US")),
            (DnType::OrganizationName, utf8("T\u{e9}st \"x\"/CN=root")),
            (DnType::CommonName, utf8("alice")),
            (unknown, utf8("a")),
        ]);
        let expected = "/C=US/O=T\u{e9}st \"x\"\\2FCN=root/CN=alice/1.2.3.400=#0C0161";
        assert_eq!(of(made.der()).0.one_line, expected);
        assert_eq!(common_name(made.der()).as_deref(), Some("alice"));
        assert_eq!(common_name(certificate(&[]).der()), None);
    }

    #[test]
    fn names_are_spelled_as_openssl_does() {
        let utf8 = |text: &str| DnValue::Utf8String(text.into());
        let mail = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
        let unknown = DnType::CustomDnType(vec![1, 2, 3, 400]);
        for (attributes, expected) in [
            (
                vec![(DnType::OrganizationName, utf8("Acme")), (DnType::CommonName, utf8("a"))],
                "CN=a,O=Acme",
            ),
            (vec![(DnType::CommonName, utf8("a,b+c\"\\<>;="))], "CN=a\\,b\\+c\\\"\\\\\\<\\>\\;="),
            (vec![(DnType::CommonName, utf8(" #a# "))], "CN=\\ #a#\\ "),
            (vec![(DnType::CommonName, utf8("#"))], "CN=\\#"),
            (vec![(DnType::CommonName, utf8("ä\n\u{7f}"))], "CN=\\C3\\A4\\0A\\7F"),
            (vec![(mail, utf8("a@b"))], "emailAddress=a@b"),
            (vec![(unknown, utf8("a"))], "1.2.3.400=#0C0161"),
            (vec![], ""),
        ] {
            assert_eq!(spelled(&attributes), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_has_no_name() {
        for der in [&b""[..], b"0", b"\x30\x82\xff\xff", b"\x30\x03\x30\x01\x30"] {
            assert_eq!(of(der), Default::default());
        }
    }
}
