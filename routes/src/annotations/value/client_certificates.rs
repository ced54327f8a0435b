//! Values about the certificates of clients.

use std::sync::Arc;

use http::HeaderValue;

use super::{Fault, Parser, Setting, flag, is_off, named};
use crate::filter::client_certificate::{CommonName, Verify};

/// What an annotation about the certificates of clients asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificateSetting {
    /// The Secret with the authorities.
    Secret(Arc<str>),
    /// What happens without one that is believed; `None`: nobody is asked for one.
    Verify(Option<Verify>),
    /// Certificates between that of the client and that of the authority.
    Depth(u8),
    /// Common names that may pass.
    Name(CommonName),
    /// Where refused clients are sent.
    ErrorPage(HeaderValue),
    /// The backend gets the certificate.
    Pass(bool),
}

fn set(setting: ClientCertificateSetting) -> Setting {
    Setting::ClientCertificate(setting)
}

pub(in crate::annotations) const AUTH_TLS_SECRET: Parser = Parser {
    read: |value| named(value, |name| set(ClientCertificateSetting::Secret(name))),
    nothing: &[],
};
pub(in crate::annotations) const AUTH_TLS_VERIFY: Parser = Parser {
    read: |value| {
        let verify = match value.trim() {
            "" => return Ok(Setting::Nothing),
            value if is_off(value) => None,
            "on" => Some(Verify::Required),
            "optional" => Some(Verify::Optional),
            "optional_no_ca" => Some(Verify::OptionalUnknown),
            _ => {
                let message = "is not on, off, optional or optional_no_ca";
                return Err(Fault::new("InvalidAnnotation", message, "write one of the four"));
            }
        };
        Ok(set(ClientCertificateSetting::Verify(verify)))
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_TLS_DEPTH: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        digits => {
            digits.parse().map(|depth| set(ClientCertificateSetting::Depth(depth))).map_err(|_| {
                Fault::new(
                    "InvalidAnnotation",
                    "is not a number from 0 to 255",
                    "write a number such as 1",
                )
            })
        }
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_TLS_NAME: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        text => CommonName::parse(text)
            .map(|name| set(ClientCertificateSetting::Name(name)))
            .map_err(|message| {
                Fault::new("InvalidAnnotation", message, "write CN= and a regular expression")
            }),
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_TLS_ERROR_PAGE: Parser = Parser {
    read: |value| {
        let value = value.trim();
        if value.is_empty() {
            return Ok(Setting::Nothing);
        }
        let absolute = ["http://", "https://"].iter().any(|begin| value.starts_with(begin));
        let plain = value.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'$');
        match HeaderValue::try_from(value).ok().filter(|_| absolute && plain) {
            Some(url) => Ok(set(ClientCertificateSetting::ErrorPage(url))),
            None => Err(Fault::new(
                "InvalidAnnotation",
                "is not an absolute URL without variables",
                "write a URL such as https://www.example.com/certificate-needed",
            )),
        }
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_TLS_PASS: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => flag(value).map(|on| set(ClientCertificateSetting::Pass(on))),
    },
    nothing: &["false"],
};
