//! Which protocols a connection of HTTP/1.1 may become, besides `websocket`, which every one may.

use std::{str::FromStr, sync::Arc};

/// Protocols that are HTTP or TLS: a connection that speaks them would be asked for more than one request, which
/// nobody between its ends has looked at.
const REFUSED: [&str; 5] = ["h2c", "h2", "http", "tls", "connect-udp"];
/// Bytes of a token (RFC 9110 §5.6.2) besides letters and digits.
const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";

/// Protocols, as `Upgrade` names them: `SPDY/3.1`, `tcp`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upgrades(Arc<[Box<str>]>);

impl Upgrades {
    /// Whether a connection may become one of this protocol; names have no case (RFC 9110 §7.8).
    pub fn admit(&self, protocol: &[u8]) -> bool {
        protocol.eq_ignore_ascii_case(b"websocket")
            || self.0.iter().any(|name| protocol.eq_ignore_ascii_case(name.as_bytes()))
    }
}

impl FromStr for Upgrades {
    /// Which of them cannot be one, and why.
    type Err = String;

    /// Reads names, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(protocol).collect::<Result<_, _>>().map(Self)
    }
}

/// A name, and a version if there is a slash (RFC 9110 §7.8).
fn protocol(text: &str) -> Result<Box<str>, String> {
    let (name, version) = text.split_once('/').map_or((text, None), |(n, v)| (n, Some(v)));
    if REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused)) {
        return Err(format!("holds {text:?}, behind which requests would pass unseen"));
    }
    let token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || MARKS.contains(&byte))
    };
    if token(name) && version.is_none_or(token) {
        Ok(text.into())
    } else {
        Err(format!("holds {text:?}, which is not the name of a protocol"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_is_always_admitted_and_others_by_name_and_version() {
        let upgrades: Upgrades = " SPDY/3.1, tcp,".parse().unwrap();
        for protocol in ["websocket", "WebSocket", "SPDY/3.1", "spdy/3.1", "tcp"] {
            assert!(upgrades.admit(protocol.as_bytes()), "{protocol}");
        }
        for protocol in ["SPDY", "SPDY/3", "tcp/1", "h2c", ""] {
            assert!(!upgrades.admit(protocol.as_bytes()), "{protocol}");
        }
        assert!(Upgrades::default().admit(b"websocket") && !Upgrades::default().admit(b"tcp"));
    }

    #[test]
    fn what_would_carry_requests_past_the_rules_cannot_be_named() {
        for text in ["h2c", "H2C", "tcp, HTTP/2.0", "TLS/1.0", "a b", "a/b/c", "/1", "a/"] {
            assert!(text.parse::<Upgrades>().is_err(), "{text}");
        }
        assert_eq!("".parse(), Ok(Upgrades::default()));
    }
}
