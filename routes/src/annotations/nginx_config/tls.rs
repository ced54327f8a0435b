//! Keys about the TLS that clients speak. What they name is judged by the crate that has the ciphers; see
//! [`crate::filter::tls_terms`].

use super::{Reader, Tls};
use crate::filter::tls_terms::{LONGEST_SESSION, REDUCED, Versions};

/// The key with the versions.
pub const VERSIONS: &str = "ssl-protocols";
/// The key with the ciphers.
pub const CIPHERS: &str = "ssl-ciphers";
/// The key with the groups of key exchange.
pub const GROUPS: &str = "ssl-ecdh-curve";

/// Versions that are not built in, as nginx spells them.
const OLDER: [&str; 4] = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1"];

/// A time in nginx's units, such as `10m`, `1h30m` or a number of seconds.
fn seconds(value: &str) -> Option<u32> {
    let mut rest = value.trim();
    let mut sum = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        let (unit, length) = match rest[digits..].chars().next() {
            None => (1, 0),
            Some('s') => (1, 1),
            Some('m') => (60, 1),
            Some('h') => (3_600, 1),
            Some('d') => (86_400, 1),
            Some('w') => (7 * 86_400, 1),
            Some(_) => return None,
        };
        sum = sum.checked_add(number.checked_mul(unit)?)?;
        rest = rest[digits + length..].trim_start();
    }
    Some(u32::try_from(sum).unwrap_or(u32::MAX))
}

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
            Tls::Lifetime => self.lifetime(name, value),
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

    fn lifetime(&mut self, name: &str, value: &str) {
        match seconds(value) {
            Some(seconds) if seconds > LONGEST_SESSION => {
                let message = format!(
                    "value {value:?} is longer than the keys of tickets are known: sessions are resumed for 6 hours"
                );
                self.tls.lifetime = Some(LONGEST_SESSION);
                self.warn("SettingReduced", name, message, "write 6h or less");
            }
            Some(seconds) => self.tls.lifetime = Some(seconds),
            None => {
                // That of ingress-nginx.
                let message = format!("value {value:?} is not a time; 10m is used");
                self.tls.lifetime = Some(600);
                self.error("InvalidSetting", name, message, "write a time such as 10m or 1h");
            }
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

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_read_as_nginx_writes_them() {
        for (text, time) in [
            ("10m", 600),
            ("600", 600),
            (" 1h30m ", 5_400),
            ("1h 30m 5s", 5_405),
            ("1d", 86_400),
            ("0", 0),
        ] {
            assert_eq!(seconds(text), Some(time), "{text}");
        }
        assert_eq!(seconds("99999999w"), Some(u32::MAX));
        for text in ["", "m", "10x", "ten", "-1", "1.5h", "10 min", "99999999999999999999"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
