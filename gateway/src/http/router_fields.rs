//! What OpenShift's router tells a backend of the certificate of its client: the `X-SSL*` fields of its configuration.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatehouse_routes::filter::client_certificate::Subject;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::tls::{certs::der, client_certificates::subject};

/// The names, in the order of [`RouterFields`].
static NAMES: [HeaderName; 9] = [
    HeaderName::from_static("x-ssl-client-serial"),
    HeaderName::from_static("x-ssl-client-version"),
    HeaderName::from_static("x-ssl-client-sha1"),
    HeaderName::from_static("x-ssl-client-dn"),
    HeaderName::from_static("x-ssl-client-cn"),
    HeaderName::from_static("x-ssl-issuer"),
    HeaderName::from_static("x-ssl-client-notbefore"),
    HeaderName::from_static("x-ssl-client-notafter"),
    HeaderName::from_static("x-ssl-client-der"),
];
static TLS: HeaderName = HeaderName::from_static("x-ssl");
static VERIFY: HeaderName = HeaderName::from_static("x-ssl-client-verify");

/// The values for one certificate, made once for a connection.
pub(crate) struct RouterFields([HeaderValue; 9]);

impl RouterFields {
    /// Those of a certificate with these names. What no field may hold is empty.
    pub(crate) fn of(certificate: &[u8], subject: &Subject, issuer: &Subject) -> Self {
        let known = der::fields(certificate);
        let known = known.as_ref();
        let version = known.map(|known| known.version.to_string()).unwrap_or_default();
        let serial = known.map(|known| hex(known.serial)).unwrap_or_default();
        let name = subject::common_name(certificate).unwrap_or_default();
        let values = [
            serial.as_bytes(),
            version.as_bytes(),
            hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate).as_ref()).as_bytes(),
            subject.one_line.as_bytes(),
            name.as_bytes(),
            issuer.one_line.as_bytes(),
            known.map_or(&[], |known| date(known.not_before)),
            known.map_or(&[], |known| date(known.not_after)),
            STANDARD.encode(certificate).as_bytes(),
        ]
        .map(|value| HeaderValue::from_bytes(value).unwrap_or(HeaderValue::from_static("")));
        Self(values)
    }
}

/// Tells it of a client that passes over TLS; `None`: it has shown no certificate, and the fields are empty.
pub(crate) fn tell(fields: Option<&RouterFields>, headers: &mut HeaderMap) {
    headers.insert(&TLS, HeaderValue::from_static("1"));
    // What is not believed does not pass.
    headers.insert(&VERIFY, HeaderValue::from_static("0"));
    for (at, name) in NAMES.iter().enumerate() {
        let value = fields.map(|fields| fields.0[at].clone());
        headers.insert(name, value.unwrap_or(HeaderValue::from_static("")));
    }
}

/// A time as HAProxy tells it, with two digits for the year; what is not of this century it does not tell.
fn date(time: &[u8]) -> &[u8] {
    const UTC_TIME: usize = "491231235959Z".len();
    match time {
        // RFC 5280 §4.1.2.5.1: from 50 on it is 1950.
        [b'5'..=b'9', ..] if time.len() <= UTC_TIME => &[],
        _ if time.len() <= UTC_TIME => time,
        _ => time.strip_prefix(b"20").unwrap_or_default(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_digits_for_the_year() {
        for (time, expected) in [
            (&b"261130000000Z"[..], &b"261130000000Z"[..]),
            (b"750101000000Z", b""),
            (b"20500101000000Z", b"500101000000Z"),
            (b"40960101000000Z", b""),
        ] {
            assert_eq!(date(time), expected);
        }
    }
}
