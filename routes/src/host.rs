//! Host names: one canonical spelling for requests and rules, and the rules' syntax.
//!
//! The data path calls [`canonical`] once per request, before the table is asked; the translators call
//! [`pattern`] on what objects say. Both sides therefore compare plain bytes. Ports never get here: the
//! caller has cut them off.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::model::HostPattern;

/// Longest DNS name in bytes, without the trailing dot (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
/// Longest label in bytes (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// The canonical form of a request's host without port: lower case, one trailing dot gone.
///
/// A DNS name (labels of 1 to 63 of `a-z 0-9 - _`, at most 253 bytes in all), an IPv4 address or an
/// IPv6 address in brackets. `None`: it is none of these, and the request is to be refused with 400
/// (RFC 9112 §3.2). Allocates only if the host is written with capitals.
pub fn canonical(host: &str) -> Option<Cow<'_, str>> {
    if let Some(literal) = host.strip_prefix('[') {
        literal.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?;
        return Some(lower(host));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    is_name(name).then(|| lower(name))
}

/// Why an object's host cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Hosts are names.
    #[error("is an IP address, but a host must be a DNS name")]
    Address,
    /// Ports are not part of a host.
    #[error("has a port, but a rule is for the ports of its listeners")]
    Port,
    /// The wildcard is the whole first label or nothing.
    #[error("has a wildcard that is not the whole first label, as in *.example.com")]
    Wildcard,
    /// RFC 1123 as the API server applies it.
    #[error(
        "is not a DNS name: labels of 1 to 63 lower-case letters, digits and '-', joined by '.', \
         at most 253 bytes"
    )]
    Name,
}

/// Parses the host of a rule or of a `tls` entry, as strictly as the API server does
/// (`networking/v1` `IngressRule.host`); empty means every host.
pub fn pattern(host: &str) -> Result<HostPattern, HostError> {
    if host.is_empty() {
        return Ok(HostPattern::Any);
    }
    if host.parse::<Ipv4Addr>().is_ok() || host.starts_with('[') || host.parse::<Ipv6Addr>().is_ok()
    {
        return Err(HostError::Address);
    }
    if host.contains(':') {
        return Err(HostError::Port);
    }
    if let Some(rest) = host.strip_prefix("*.") {
        return match rest {
            _ if rest.contains('*') => Err(HostError::Wildcard),
            _ if host.len() > MAX_NAME || !is_rule_name(rest) => Err(HostError::Name),
            _ => Ok(HostPattern::OneLabel(rest.into())),
        };
    }
    if host.contains('*') {
        return Err(HostError::Wildcard);
    }
    if is_rule_name(host) { Ok(HostPattern::Exact(host.into())) } else { Err(HostError::Name) }
}

/// Whether a pattern is for this canonical host. A wildcard stands for exactly one label.
pub fn matches(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => &**name == host,
        HostPattern::OneLabel(rest) => {
            host.split_once('.').is_some_and(|(_, tail)| tail == &**rest)
        }
        HostPattern::Any => true,
    }
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// What a client may write in `Host`: `_` and stray hyphens exist in the wild and harm nobody.
fn is_name(name: &str) -> bool {
    let mut label = 0;
    for byte in name.bytes() {
        match byte {
            b'.' if label == 0 => return false,
            b'.' => label = 0,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' if label < MAX_LABEL => {
                label += 1
            }
            _ => return false,
        }
    }
    label > 0 && name.len() <= MAX_NAME
}

/// RFC 1123 subdomain: what the API server lets into a rule.
fn is_rule_name(name: &str) -> bool {
    is_name(name)
        && name.split('.').all(|label| {
            label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn request_hosts_have_one_spelling() {
        let longest = format!("{}.{}", ["a"; 95].join("."), "b".repeat(63));
        assert_eq!(longest.len(), 253);
        for (given, expected) in [
            ("example.com", Some("example.com")),
            ("EXAMPLE.Com", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("example.com..", None),
            ("a_b.example.com", Some("a_b.example.com")),
            ("localhost", Some("localhost")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("[::1]", Some("[::1]")),
            ("[FE80::A]", Some("[fe80::a]")),
            ("[::1", None),
            ("[::g]", None),
            ("::1", None),
            ("", None),
            (".", None),
            (".example.com", None),
            ("a..b", None),
            ("a b", None),
            ("a,b", None),
            ("a:80", None),
            ("a/b", None),
            ("user@a", None),
            ("*.example.com", None),
            ("exämple.com", None),
            (&longest, Some(&longest)),
            (&format!("a.{longest}"), None),
            (&"x".repeat(63), Some(&"x".repeat(63))),
            (&"x".repeat(64), None),
        ] {
            assert_eq!(canonical(given).as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn a_host_that_is_already_canonical_is_borrowed() {
        assert!(matches!(canonical("example.com"), Some(Cow::Borrowed(_))));
        assert!(matches!(canonical("example.com."), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn rule_hosts_are_checked_as_the_api_server_does() {
        let wildcard = |rest: &str| Ok(HostPattern::OneLabel(rest.into()));
        for (given, expected) in [
            ("", Ok(HostPattern::Any)),
            ("foo.com", Ok(HostPattern::Exact("foo.com".into()))),
            ("*.foo.com", wildcard("foo.com")),
            ("*.com", wildcard("com")),
            ("*", Err(HostError::Wildcard)),
            ("*.*.com", Err(HostError::Wildcard)),
            ("a.*.com", Err(HostError::Wildcard)),
            ("*a.foo.com", Err(HostError::Wildcard)),
            ("*.", Err(HostError::Name)),
            ("1.2.3.4", Err(HostError::Address)),
            ("[::1]", Err(HostError::Address)),
            ("fd00::1", Err(HostError::Address)),
            ("foo.com:80", Err(HostError::Port)),
            ("Foo.com", Err(HostError::Name)),
            ("foo.com.", Err(HostError::Name)),
            ("foo_bar.com", Err(HostError::Name)),
            ("-foo.com", Err(HostError::Name)),
            ("foo-.com", Err(HostError::Name)),
        ] {
            assert_eq!(pattern(given), expected, "{given:?}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        let pattern = pattern("*.foo.com").unwrap();
        assert!(matches(&pattern, "bar.foo.com"));
        assert!(!matches(&pattern, "baz.bar.foo.com"));
        assert!(!matches(&pattern, "foo.com"));
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own_canonical_form(host in "[a-zA-Z0-9._-]{0,80}|\\PC{0,20}") {
            if let Some(once) = canonical(&host) {
                let twice = canonical(&once);
                prop_assert_eq!(twice.as_deref(), Some(&*once));
                prop_assert!(!once.ends_with('.') && !once.bytes().any(|b| b.is_ascii_uppercase()));
            }
        }
    }
}
