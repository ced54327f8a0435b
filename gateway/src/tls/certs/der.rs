//! The little of X.509 that is read without checking it: certificates that TLS has taken already, or will judge.

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// `notBefore` and `notAfter` of a certificate (RFC 5280 §4.1.2.5), in seconds since 1970.
pub(crate) fn validity(der: &[u8]) -> Option<(i64, i64)> {
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
    let (tag, begin, end) = value(validity)?;
    let begin = time(tag, begin)?;
    let (tag, end, _) = value(end)?;
    Some((begin, time(tag, end)?))
}

/// Fields of a certificate besides its names, as they are encoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fields<'d> {
    /// 1 to 3 (§4.1.2.1).
    pub(crate) version: u8,
    /// In bytes, without the one that only says that the number is positive (§4.1.2.2).
    pub(crate) serial: &'d [u8],
    /// Text of a UTCTime or a GeneralizedTime.
    pub(crate) not_before: &'d [u8],
    pub(crate) not_after: &'d [u8],
}

/// The fields of a certificate besides its names.
pub(crate) fn fields(der: &[u8]) -> Option<Fields<'_>> {
    let (_, certificate, _) = value(der)?;
    let (_, mut rest, _) = value(certificate)?;
    let mut version = 1;
    if let Some((VERSION, number, after)) = value(rest) {
        version = value(number)?.1.last()?.checked_add(1)?;
        rest = after;
    }
    let (_, serial, rest) = value(rest)?;
    // Algorithm, issuer.
    let rest = value(value(rest)?.2)?.2;
    let (_, validity, _) = value(rest)?;
    let (_, not_before, end) = value(validity)?;
    let (_, not_after, _) = value(end)?;
    let serial = match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        serial => serial,
    };
    Some(Fields { version, serial, not_before, not_after })
}

/// The object identifier of the algorithm that a certificate is signed with (§4.1.1.2), as it is encoded.
pub(crate) fn signature_algorithm(der: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = value(der)?;
    let (_, _, rest) = value(certificate)?;
    let (_, algorithm, _) = value(rest)?;
    Some(value(algorithm)?.1)
}

/// Whether a certificate names itself as its issuer.
pub(crate) fn is_self_issued(der: &[u8]) -> bool {
    names(der).is_some_and(|(issuer, subject)| issuer == subject)
}

/// Issuer and subject of a certificate, as they are encoded (§4.1.2.4, §4.1.2.6).
pub(crate) fn names(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, certificate, _) = value(der)?;
    let (_, mut rest, _) = value(certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = value(rest)?.2;
    }
    // Serial number, algorithm.
    for _ in 0..2 {
        rest = value(rest)?.2;
    }
    let (_, issuer, rest) = value(rest)?;
    let (_, _, rest) = value(rest)?;
    Some((issuer, value(rest)?.1))
}

/// Tag and content of the first DER value, and what follows it.
pub(crate) fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
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
            assert_eq!(validity(certificate.der()).map(|(_, end)| end), Some(end), "{year}");
        }
    }

    #[test]
    fn a_certificate_says_how_it_is_signed_and_whether_by_itself() {
        let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        // ecdsa-with-SHA256, 1.2.840.10045.4.3.2
        let sha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        assert_eq!(signature_algorithm(certificate.der()), Some(&sha256[..]));
        assert!(is_self_issued(certificate.der()) && !is_self_issued(b"0"));
    }

    #[test]
    fn a_certificate_tells_its_version_its_number_and_its_dates() {
        let mut params = rcgen::CertificateParams::default();
        params.serial_number = Some(vec![0xf7, 0xa1].into());
        params.not_before = rcgen::date_time_ymd(2026, 11, 30);
        params.not_after = rcgen::date_time_ymd(2121, 1, 1);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let expected = Fields {
            version: 3,
            serial: &[0xf7, 0xa1],
            not_before: b"261130000000Z",
            not_after: b"21210101000000Z",
        };
        assert_eq!(fields(certificate.der()), Some(expected));
        assert!(
            (0..certificate.der().len()).all(|end| fields(&certificate.der()[..end]).is_none())
        );
    }

    #[test]
    fn what_is_cut_or_none_has_no_end() {
        let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let der = certificate.der();
        assert!((0..der.len()).all(|length| validity(&der[..length]).is_none()));
        for der in [&b""[..], b"0", b"\x30\x84\xff\xff\xff\xff", b"\x30\x88\x01", b"\x17\x0d"] {
            assert_eq!(validity(der), None);
        }
        assert_eq!(time(0x17, b"991231235959Z"), Some(946_684_799));
        assert_eq!(time(0x17, b"9912312359"), None);
    }
}
