//! Until when the certificates of the live configuration are valid.

use std::{collections::HashMap, sync::Arc};

use crate::snapshot::Snapshot;

/// Most names that are shown, so that a page stays one that can be read: the first to end.
const MOST: usize = 2000;

/// When the certificate of each server name ends, in seconds since 1970, the first to end first.
pub(crate) fn expiries(snapshot: &Snapshot) -> Vec<(String, i64)> {
    let mut known = HashMap::new();
    let mut all = Vec::new();
    for table in snapshot.gateways.iter().flatten().map(|gateway| &gateway.certs) {
        let exact = table.exact.iter().map(|(name, pair)| (name.to_string(), pair));
        let wildcard = table.wildcard.iter().map(|(rest, pair)| (format!("*.{rest}"), pair));
        let any = table.any.iter().map(|pair| ("*".to_owned(), pair));
        for (name, pair) in exact.chain(wildcard).chain(any) {
            let leaf = || pair.cert.first().and_then(|leaf| not_after(leaf));
            if let Some(end) = *known.entry(Arc::as_ptr(pair)).or_insert_with(leaf) {
                all.push((end, name));
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    // One name may be served by several gateways with certificates of their own: the first to end counts.
    let mut seen = std::collections::HashSet::new();
    all.retain(|(_, name)| seen.insert(name.clone()));
    all.truncate(MOST);
    all.into_iter().map(|(end, name)| (name, end)).collect()
}

/// `notAfter` of a certificate (RFC 5280 §4.1.2.5) that TLS has taken already: only the way to it is read.
fn not_after(der: &[u8]) -> Option<i64> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = value(der)?;
    let (_, mut rest, _) = value(certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = value(rest)?.2;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        rest = value(rest)?.2;
    }
    let (SEQUENCE, validity, _) = value(rest)? else { return None };
    let (_, _, end) = value(validity)?;
    let (tag, text, _) = value(end)?;
    time(tag, text)
}

/// Tag and content of the first DER value, and what follows it.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// UTCTime or GeneralizedTime, in the one form that certificates have.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    const UTC_TIME: u8 = 0x17;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (century, text) = match tag {
        UTC_TIME => (if text.get(..2)? < "50" { "20" } else { "19" }, text),
        _ => (text.get(..2)?, text.get(2..)?),
    };
    let field = |at: usize| text.get(at..at + 2)?.parse::<i8>().ok();
    let year = format!("{century}{}", text.get(..2)?).parse::<i16>().ok()?;
    let date =
        jiff::civil::DateTime::new(year, field(2)?, field(4)?, field(6)?, field(8)?, field(10)?, 0);
    Some(date.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_spellings_of_a_time() {
        for (year, end) in [(2031, 1_924_992_000), (2049, 2_493_072_000), (2121, 4_765_132_800)] {
            let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(end), "{year}");
        }
    }

    #[test]
    fn what_is_cut_or_none_has_no_end() {
        let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let der = certificate.der();
        assert!((0..der.len()).all(|length| not_after(&der[..length]).is_none()));
        for der in [&b""[..], b"0", b"\x30\x84\xff\xff\xff\xff", b"\x30\x88\x01", b"\x17\x0d"] {
            assert_eq!(not_after(der), None);
        }
        assert_eq!(time(0x17, b"991231235959Z"), Some(946_684_799));
        assert_eq!(time(0x17, b"9912312359"), None);
    }
}
