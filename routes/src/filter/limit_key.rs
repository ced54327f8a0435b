//! What tells one client from another where limits count.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use http::HeaderName;

use super::authentication::jwt::{Claim, Claims};
use crate::{cookie, matcher::RequestView, policy::hash_by::HashKey};

/// What a limit counts by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LimitKey {
    /// The address of the client. IPv6 clients count by their /64, which is what one of them has.
    #[default]
    Address,
    /// A field of the request.
    Header(HeaderName),
    /// A cookie.
    Cookie(Arc<str>),
    /// A text with variables.
    Text(HashKey),
    /// What its token says, which authentication has verified.
    Claim(Claim),
}

/// What one client is counted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client<'r> {
    /// Its address or network.
    Network(u64),
    /// What it, or its token, says of it.
    Named(Cow<'r, [u8]>),
}

impl LimitKey {
    /// Whether nobody knows before authentication what a client is counted by.
    pub fn needs_authentication(&self) -> bool {
        matches!(self, Self::Claim(_))
    }

    /// What a client is counted by. Who does not say of itself what is asked for counts by the address, so that
    /// silence is no way around a limit. `claims`: those of its token, once it is verified.
    pub fn of<'r>(
        &'r self,
        request: &RequestView<'r>,
        claims: Option<&'r Claims>,
        address: impl Fn() -> IpAddr,
    ) -> Client<'r> {
        let headers = &request.parts.headers;
        let named = match self {
            Self::Address => None,
            Self::Header(name) => {
                let mut values = headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
                match (values.next(), values.next()) {
                    (None, _) => None,
                    (Some(only), None) => Some(Cow::Borrowed(only)),
                    // As one field (RFC 9110 §5.3).
                    (Some(_), Some(_)) => {
                        let all: Vec<_> = headers.get_all(name).iter().map(AsRef::as_ref).collect();
                        Some(Cow::Owned(all.join(&b", "[..])))
                    }
                }
            }
            Self::Cookie(name) => cookie::values(headers, name).next().map(Cow::Borrowed),
            Self::Text(key) => {
                let mut said = Vec::new();
                key.append(request, &address, &mut said);
                // Lengths of nothing.
                if said.iter().all(|byte| *byte == 0) { None } else { Some(Cow::Owned(said)) }
            }
            Self::Claim(claim) => claims.and_then(|claims| claim.text(claims)).map(bytes),
        };
        match named.filter(|value| !value.is_empty()) {
            Some(value) => Client::Named(value),
            None => Client::Network(network(address())),
        }
    }
}

fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// What an address is counted by: an IPv6 client is its /64, which is what one of them has.
pub fn network(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        // No /64 in use begins with zeros, so that none is an IPv4 address.
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use http::request::Parts;

    use super::*;
    use crate::model::Scheme;

    #[test]
    fn an_ipv6_client_is_its_network_and_an_ipv4_client_itself_in_either_form() {
        let key = |text: &str| network(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("10.0.0.1"), key("::ffff:10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    }

    #[test]
    fn a_client_is_what_it_says_of_itself_or_else_its_address() {
        let mut parts = http::Request::new(()).into_parts().0;
        let header = LimitKey::Header(HeaderName::from_static("x-api-key"));
        let cookie = LimitKey::Cookie("id".into());
        let text = LimitKey::Text(HashKey::parse_identity("$http_x_api_key+$cookie_id").unwrap());
        let by_address = Client::Network(0x0a00_0001);
        let is = |key: &LimitKey, parts: &Parts, expected: &Client<'_>| {
            let view = RequestView { scheme: Scheme::Http, host: "", path: "/", parts };
            let found = key.of(&view, None, || IpAddr::from([10, 0, 0, 1]));
            assert_eq!(found, *expected, "{key:?}");
        };
        for key in [&LimitKey::Address, &header, &cookie, &text] {
            is(key, &parts, &by_address);
        }
        parts.headers.append("x-api-key", "one".parse().unwrap());
        is(&text, &parts, &Client::Named(b"\0\0\0\x04one\n\0\0\0\0"[..].into()));
        parts.headers.append("cookie", "a=b; id=two".parse().unwrap());
        is(&header, &parts, &Client::Named(b"one"[..].into()));
        is(&cookie, &parts, &Client::Named(b"two"[..].into()));
        is(&LimitKey::Address, &parts, &by_address);
        parts.headers.append("x-api-key", "more".parse().unwrap());
        is(&header, &parts, &Client::Named(b"one, more"[..].into()));
        parts.headers.insert("x-api-key", "".parse().unwrap());
        is(&header, &parts, &by_address);
    }

    #[test]
    fn who_has_a_token_is_what_it_says_and_who_has_none_or_lacks_the_claim_its_address() {
        let key = LimitKey::Claim(Claim("realm.user".into()));
        let parts = http::Request::new(()).into_parts().0;
        let view = RequestView { scheme: Scheme::Http, host: "", path: "/", parts: &parts };
        let address = || IpAddr::from([10, 0, 0, 1]);
        for (token, named) in [
            (r#"{"realm": {"user": "ann"}}"#, Some(&b"ann"[..])),
            (r#"{"realm.user": 7}"#, Some(b"7")),
            (r#"{"realm.user": ["a", "b"]}"#, Some(b"a,b")),
            (r#"{"realm.user": ""}"#, None),
            (r#"{"realm.user": {"x": 1}}"#, None),
            (r#"{"user": "ann"}"#, None),
        ] {
            let claims: Claims = serde_json::from_str(token).unwrap();
            let client = key.of(&view, Some(&claims), address);
            match named {
                Some(name) => assert_eq!(client, Client::Named(name.into()), "{token}"),
                None => assert_eq!(client, Client::Network(0x0a00_0001), "{token}"),
            }
        }
        assert_eq!(key.of(&view, None, address), Client::Network(0x0a00_0001));
    }
}
