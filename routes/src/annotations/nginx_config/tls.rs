//! Keys about the TLS that clients speak. What they name is judged by whoever has the ciphers; see
//! [`crate::filter::tls_terms`].

use super::{Reader, Tls};
use crate::filter::tls_terms::{REDUCED, Versions};

/// The key with the versions.
pub const VERSIONS: &str = "ssl-protocols";
/// The key with the ciphers.
pub const CIPHERS: &str = "ssl-ciphers";
/// The key with the groups of key exchange.
pub const GROUPS: &str = "ssl-ecdh-curve";

/// Versions that are not built in, as nginx spells them.
const OLDER: [&str; 4] = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1"];

impl Reader<'_> {
    /// One of the keys.
    pub(super) fn tls(&mut self, part: Tls, name: &str, value: &str) {
        match part {
            Tls::Versions => self.versions(name, value),
            Tls::Ciphers => self.tls.terms.ciphers = vec![value.trim().into()],
            Tls::Groups if value.trim() == "auto" => {}
            Tls::Groups => self.tls.groups = Some(value.trim().into()),
            Tls::Tickets => self.tls.tickets = self.flag(name, value, false),
            Tls::Cache => {
                self.tls.cache = self.flag(name, value, false);
                // Nobody who wants no sessions resumed has to say that of tickets, which nginx gives on request only.
                self.tls.tickets &= self.tls.cache;
            }
            Tls::Http2 => self.tls.http2 = self.flag(name, value, true),
            Tls::KnownNames => self.tls.only_known_names = self.flag(name, value, true),
        }
    }

    fn versions(&mut self, name: &str, value: &str) {
        let mut versions = Versions::NONE;
        let (mut older, mut unknown) = (Vec::new(), Vec::new());
        for word in value.split_whitespace() {
            match word {
                "TLSv1.2" => versions.tls12 = true,
                "TLSv1.3" => versions.tls13 = true,
                word if OLDER.contains(&word) => older.push(word),
                word => unknown.push(word),
            }
        }
        self.tls.terms.versions = versions;
        let hint = "write \"TLSv1.2 TLSv1.3\" or one of the two";
        if versions == Versions::NONE {
            let message = format!(
                "value {value:?} names no version that is built in, so hosts are closed over TLS (503)"
            );
            self.error("TlsTermsImpossible", name, message, hint);
        } else if !unknown.is_empty() {
            let message = format!(
                "value {value:?} holds {}, which is no version of TLS; the others are spoken",
                unknown.join(" ")
            );
            self.error("InvalidSetting", name, message, hint);
        } else if !older.is_empty() {
            let message = format!("clients cannot use {}: not built in", older.join(", "));
            self.warn(REDUCED, name, message, hint);
        }
    }

    /// A flag; one that cannot be read is the stricter one.
    fn flag(&mut self, name: &str, value: &str, strict: bool) -> bool {
        match value.trim() {
            word if word.eq_ignore_ascii_case("true") => true,
            word if word.eq_ignore_ascii_case("false") => false,
            _ => {
                let message =
                    format!("value {value:?} is neither true nor false; {strict} is used");
                self.error("InvalidSetting", name, message, "write \"true\" or \"false\"");
                strict
            }
        }
    }
}
