//! What is taken off a message and what is put on it on the way through.
//!
//! Order matters (P17): first everything that the `Connection` field names goes, then our own fields are
//! set, so that nobody can name ours away.

use std::{net::IpAddr, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, HOST},
};

use gatehouse_routes::{model::Scheme, policy::forwarded::ForwardedFields};
use ipnet::IpNet;

use crate::{
    field_names::{self, is_alike, is_certificate, is_forwarded},
    http::head::{Seen, is_trusted},
};

mod forwarded;

static HOPS: HeaderName = HeaderName::from_static(field_names::HOPS);
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY: HeaderName = HeaderName::from_static("proxy");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What the count of hops says behind this gateway, by what it said before.
const NEXT_HOP: [&str; 6] = ["1", "2", "3", "4", "5", "6"];
/// Gateways that a request may come through before it counts as going round.
pub(crate) const MAX_HOPS: usize = NEXT_HOP.len();

/// What does not change from one request of a connection to the next.
pub(crate) struct Forwarding {
    /// Address of the peer.
    pub(crate) peer: IpAddr,
    /// The same, as text.
    pub(crate) client: HeaderValue,
    /// `http` or `https`.
    pub(crate) proto: HeaderValue,
    /// Port that the client connected to.
    pub(crate) port: HeaderValue,
    /// Networks whose forwarding fields are believed.
    pub(crate) trusted: Arc<[IpNet]>,
    /// The peer is in one of them.
    pub(crate) believed: bool,
}

/// Makes a request's fields fit for the backend.
pub(crate) fn prepare_request(
    headers: &mut HeaderMap,
    seen: Seen,
    upgrade: Option<HeaderValue>,
    authority: Option<HeaderValue>,
    (forwarding, mode): (&Forwarding, Option<ForwardedFields>),
) {
    // Grow once for all that follows, not with every field.
    headers.reserve(8);
    if let Some(authority) = authority {
        headers.insert(HOST, authority);
    }
    let hops = if seen.hops { hops(headers) } else { 0 };
    if seen.hop_by_hop {
        remove_hop_by_hop(headers);
        headers.remove(&PROXY);
        headers.remove(&HTTP2_SETTINGS);
    }
    if seen.forwarded {
        // No proxy spells them so: who does means servers that do not tell the spellings apart, and comes through
        // proxies that are believed as well.
        remove_fields(headers, |name| name.contains('_') && is_forwarded(name));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade);
    }
    if seen.cookies {
        join_cookies(headers);
    }
    if seen.expect {
        // There is no body, or the client is of HTTP/1.0, which does not know it.
        headers.remove(header::EXPECT);
    }
    if seen.max_forwards {
        count_forward(headers);
    }
    if seen.certificate && !forwarding.believed {
        remove_certificate(headers);
    }
    match mode {
        None => set_forwarded(headers, seen, forwarding),
        Some(mode) => {
            if matches!(mode, ForwardedFields::Beside | ForwardedFields::Only) {
                set_forwarded(headers, seen, forwarding);
            }
            forwarded::set(mode, headers, forwarding);
        }
    }
    headers.entry(&X_REQUEST_ID).or_insert_with(request_id);
    headers.insert(&HOPS, HeaderValue::from_static(NEXT_HOP[hops.min(NEXT_HOP.len() - 1)]));
}

/// How many gateways like this one the request has come through, as far as it says. A client that says too much
/// is refused, one that says too little gains nothing: every gateway adds one, and only ever adds.
pub(crate) fn hops(headers: &HeaderMap) -> usize {
    let said = headers.get_all(&HOPS).iter().filter_map(|value| value.to_str().ok());
    // What is no number is none of ours.
    said.filter_map(|value| value.parse().ok()).max().unwrap_or(0)
}

/// Says of a copy of a request that it has come through as many gateways as it may but one.
pub(crate) fn mark_copy(headers: &mut HeaderMap) {
    headers.insert(&HOPS, HeaderValue::from_static(NEXT_HOP[NEXT_HOP.len() - 2]));
}

/// Whether a request may be a copy: there is none of a copy.
pub(crate) fn is_copy(headers: &HeaderMap) -> bool {
    hops(headers) >= MAX_HOPS - 1
}

/// Makes an answer's fields fit for the client.
pub(crate) fn prepare_response(headers: &mut HeaderMap, upgraded: bool) {
    let upgrade = if upgraded { headers.remove(header::UPGRADE) } else { None };
    let hop_by_hop = headers.contains_key(header::CONNECTION)
        || headers.contains_key(header::TRANSFER_ENCODING)
        || headers.contains_key(&KEEP_ALIVE)
        || headers.contains_key(header::UPGRADE)
        || headers.contains_key(header::TRAILER)
        || headers.contains_key(header::TE)
        || headers.contains_key(&PROXY_CONNECTION);
    if hop_by_hop {
        remove_hop_by_hop(headers);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// RFC 9110 §7.6.1: the fields of this hop, and those that `Connection` names. Framing, `Host` and
/// cookies cannot be named away: taking them off would change what the message means.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let connection: Vec<HeaderValue> =
        headers.get_all(header::CONNECTION).iter().cloned().collect();
    headers.remove(header::CONNECTION);
    for value in &connection {
        for token in value.as_bytes().split(|byte| *byte == b',') {
            let named = HeaderName::from_bytes(token.trim_ascii());
            match named {
                Ok(name)
                    if name != HOST
                        && name != header::CONTENT_LENGTH
                        && name != header::COOKIE
                        && name != header::AUTHORIZATION =>
                {
                    headers.remove(name);
                }
                _ => (),
            }
        }
    }
    for name in [
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &header::TE,
        &header::TRAILER,
        &header::TRANSFER_ENCODING,
        &header::UPGRADE,
        &header::PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
}

/// RFC 9110 §7.6.2: one forward less. Zero never comes here, it is answered.
fn count_forward(headers: &mut HeaderMap) {
    let left = headers.get(header::MAX_FORWARDS).and_then(|value| value.to_str().ok());
    if let Some(left) = left.and_then(|left| left.parse::<u32>().ok()) {
        headers.insert(header::MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
}

/// RFC 9113 §8.2.3: HTTP/1 wants the crumbs in one field.
fn join_cookies(headers: &mut HeaderMap) {
    let mut joined = Vec::new();
    for crumb in headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(header::COOKIE, value);
    }
}

fn set_forwarded(headers: &mut HeaderMap, seen: Seen, forwarding: &Forwarding) {
    let host = headers.get(HOST).cloned();
    if seen.forwarded && !forwarding.believed {
        let request_id = headers.remove(&X_REQUEST_ID).filter(is_request_id);
        remove_forwarded(headers);
        if let Some(request_id) = request_id {
            headers.insert(X_REQUEST_ID.clone(), request_id);
        }
    }
    if seen.forwarded && forwarding.believed {
        let client = client_address(headers, forwarding).to_string();
        let chain = appended(headers, &forwarding.client);
        if let Ok(client) = HeaderValue::try_from(client) {
            headers.insert(&X_REAL_IP, client);
        }
        headers.insert(&X_FORWARDED_FOR, chain);
        headers.entry(&X_FORWARDED_PROTO).or_insert_with(|| forwarding.proto.clone());
        headers.entry(&X_FORWARDED_PORT).or_insert_with(|| forwarding.port.clone());
        if let Some(host) = host {
            headers.entry(&X_FORWARDED_HOST).or_insert(host);
        }
    } else {
        headers.insert(&X_FORWARDED_FOR, forwarding.client.clone());
        headers.insert(&X_REAL_IP, forwarding.client.clone());
        headers.insert(&X_FORWARDED_PROTO, forwarding.proto.clone());
        headers.insert(&X_FORWARDED_PORT, forwarding.port.clone());
        if let Some(host) = host {
            headers.insert(&X_FORWARDED_HOST, host);
        }
    }
}

fn remove_forwarded(headers: &mut HeaderMap) {
    remove_fields(headers, is_forwarded);
}

/// Takes off what says which certificate a client has shown.
pub(crate) fn remove_certificate(headers: &mut HeaderMap) {
    remove_fields(headers, is_certificate);
}

/// Takes a field off a request, also where it is spelled with underscores: many backends do not tell them apart.
pub(crate) fn remove_spellings(headers: &mut HeaderMap, name: &HeaderName) {
    headers.remove(name);
    remove_aliases(headers, name, |_| false);
}

/// The same of the other spellings alone, but for those that are to stay.
pub(crate) fn remove_aliases(
    headers: &mut HeaderMap,
    name: &HeaderName,
    stays: impl Fn(&HeaderName) -> bool,
) {
    let alike = |other: &&HeaderName| {
        let (own, said) = (name.as_str(), other.as_str());
        !stays(other) && said != own && said.contains('_') && is_alike(said, own)
    };
    while let Some(other) = headers.keys().find(alike).cloned() {
        headers.remove(other);
    }
}

fn remove_fields(headers: &mut HeaderMap, which: fn(&str) -> bool) {
    let named: Vec<HeaderName> =
        headers.keys().filter(|name| which(name.as_str())).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// The whole chain that a trusted proxy sent, in however many fields, and the proxy itself.
fn appended(headers: &HeaderMap, client: &HeaderValue) -> HeaderValue {
    let mut joined = Vec::new();
    for part in headers.get_all(&X_FORWARDED_FOR) {
        joined.extend_from_slice(part.as_bytes());
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(client.as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)).unwrap_or_else(|_| client.clone())
}

/// Who really asked: the last hop that is not a trusted proxy, as far back as trusted ones tell; the peer
/// itself where it is not believed.
pub(crate) fn client_address(headers: &HeaderMap, forwarding: &Forwarding) -> IpAddr {
    if !forwarding.believed {
        return forwarding.peer;
    }
    let fields = headers.get_all(&X_FORWARDED_FOR).iter().rev();
    let hops = fields.flat_map(|field| field.to_str().unwrap_or_default().rsplit(','));
    let hops =
        hops.map_while(|hop| hop.trim().parse::<IpAddr>().ok()).map(|hop| hop.to_canonical());
    let mut client = forwarding.peer;
    for hop in hops {
        client = hop;
        if !is_trusted(hop, &forwarding.trusted) {
            break;
        }
    }
    client
}

/// The scheme that the client used, as a trusted proxy tells it; else that of the connection.
pub(crate) fn client_scheme(
    headers: &HeaderMap,
    seen: Seen,
    forwarding: &Forwarding,
    own: Scheme,
) -> Scheme {
    if !(seen.forwarded && forwarding.believed) {
        return own;
    }
    // Of several the first: each proxy adds its own behind it.
    let told = headers.get(&X_FORWARDED_PROTO).and_then(|told| told.to_str().ok());
    let first = told.and_then(|told| told.split(',').next()).unwrap_or_default().trim();
    match first {
        told if ["https", "wss"].iter().any(|name| told.eq_ignore_ascii_case(name)) => {
            Scheme::Https
        }
        told if ["http", "ws"].iter().any(|name| told.eq_ignore_ascii_case(name)) => Scheme::Http,
        _ => own,
    }
}

/// What we keep of a client's own request id: something that fits a log line.
fn is_request_id(value: &HeaderValue) -> bool {
    (1..=128).contains(&value.len())
        && value.as_bytes().iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"')
}

/// 128 random bits as 32 hexadecimal digits.
pub(crate) fn random_id() -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut random = fastrand::u128(..);
    let mut text = [0; 32];
    for digit in &mut text {
        *digit = DIGITS[(random & 15) as usize];
        random >>= 4;
    }
    text
}

fn request_id() -> HeaderValue {
    HeaderValue::from_bytes(&random_id()).expect("hexadecimal digits are a valid header value")
}

/// The request id that a client sent or that [`prepare_request`] kept or made, if it fits a log line.
pub(crate) fn request_id_of(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(&X_REQUEST_ID).filter(|value| is_request_id(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarding(believed: bool) -> Forwarding {
        Forwarding {
            peer: "192.0.2.7".parse().unwrap(),
            client: HeaderValue::from_static("192.0.2.7"),
            proto: HeaderValue::from_static("https"),
            port: HeaderValue::from_static("443"),
            trusted: Arc::new(["192.0.2.0/24".parse().unwrap()]),
            believed,
        }
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_trusted_proxy_tells_the_scheme() {
        for (told, believed, expected) in [
            ("https", true, Scheme::Https),
            ("HTTPS", true, Scheme::Https),
            ("https, http", true, Scheme::Https),
            ("wss", true, Scheme::Https),
            ("http", true, Scheme::Http),
            ("gopher", true, Scheme::Http),
            ("", true, Scheme::Http),
            ("https", false, Scheme::Http),
        ] {
            let fields = headers(&[("x-forwarded-proto", told)]);
            let scheme = client_scheme(&fields, ALL, &forwarding(believed), Scheme::Http);
            assert_eq!(scheme, expected, "{told:?} {believed}");
        }
        let fields = headers(&[("x-forwarded-proto", "http")]);
        let scheme = client_scheme(&fields, ALL, &forwarding(true), Scheme::Https);
        assert_eq!(scheme, Scheme::Http, "the proxy speaks TLS to us, its client did not");
    }

    const ALL: Seen = Seen {
        hop_by_hop: true,
        forwarded: true,
        cookies: true,
        expect: true,
        max_forwards: true,
        hops: true,
        certificate: true,
    };

    #[test]
    fn what_connection_names_goes_but_framing_host_and_our_own_fields_stay() {
        let mut fields = headers(&[
            ("host", "a.test"),
            ("connection", "close, x-secret, host, content-length, x-forwarded-for, x-real-ip"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("content-length", "5"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("proxy", "evil"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
        ]);
        prepare_request(&mut fields, ALL, None, None, (&forwarding(false), None));
        for gone in [
            "connection",
            "x-secret",
            "x-other",
            "keep-alive",
            "te",
            "proxy",
            "proxy-connection",
            "upgrade",
        ] {
            assert!(!fields.contains_key(gone), "{gone}");
        }
        assert_eq!(fields["host"], "a.test");
        assert_eq!(fields["content-length"], "5");
        assert_eq!(fields["x-forwarded-for"], "192.0.2.7");
        assert_eq!(fields["x-real-ip"], "192.0.2.7");
    }

    #[test]
    fn a_strangers_forwarding_fields_are_overwritten_in_every_spelling() {
        let mut fields = headers(&[
            ("host", "a.test"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x_forwarded_for", "1.1.1.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-prefix", "/evil"),
            ("x-request-id", "kept-1"),
        ]);
        prepare_request(&mut fields, ALL, None, None, (&forwarding(false), None));
        assert_eq!(fields["x-forwarded-for"], "192.0.2.7");
        assert_eq!(fields["x-forwarded-proto"], "https");
        assert_eq!(fields["x-forwarded-host"], "a.test");
        assert_eq!(fields["x-forwarded-port"], "443");
        assert_eq!(fields["x-request-id"], "kept-1");
        for gone in ["x_forwarded_for", "forwarded", "x-forwarded-prefix"] {
            assert!(!fields.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn spellings_that_no_proxy_uses_come_from_behind_it_and_are_not_believed() {
        use ForwardedFields::{Append, Beside, IfNone, Never, Only, Replace};
        let modes = [Append, Beside, IfNone, Never, Only, Replace].map(Some);
        for (mode, believed) in
            [None].into_iter().chain(modes).flat_map(|mode| [(mode, true), (mode, false)])
        {
            let aliases = ["x_forwarded_for", "x-real_ip", "ssl_client_verify", "content_length"];
            let mut fields = headers(&[("host", "a.test"), ("x-forwarded-for", "1.1.1.1")]);
            for name in aliases {
                fields.insert(name, HeaderValue::from_static("9.9.9.9"));
            }
            fields.insert("ssl-client-verify", HeaderValue::from_static("SUCCESS"));
            prepare_request(&mut fields, ALL, None, None, (&forwarding(believed), mode));
            for name in aliases {
                assert!(!fields.contains_key(name), "{name} {mode:?} {believed}");
            }
            let certified = fields.contains_key("ssl-client-verify");
            assert!(certified == believed || mode.is_some(), "{mode:?} {believed}");
        }
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_appended_to() {
        let mut fields = headers(&[
            ("host", "a.test"),
            ("x-forwarded-for", "9.9.9.9, 1.1.1.1"),
            ("x-forwarded-for", "192.0.2.8"),
            ("x-forwarded-proto", "http"),
        ]);
        prepare_request(&mut fields, ALL, None, None, (&forwarding(true), None));
        assert_eq!(fields["x-forwarded-for"], "9.9.9.9, 1.1.1.1, 192.0.2.8, 192.0.2.7");
        assert_eq!(fields["x-real-ip"], "1.1.1.1");
        assert_eq!(fields["x-forwarded-proto"], "http");
    }

    #[test]
    fn the_client_is_the_last_hop_that_no_trusted_proxy_is() {
        for (chain, believed, client) in [
            (&["9.9.9.9, 1.1.1.1", "192.0.2.8"][..], true, "1.1.1.1"),
            (&["1.1.1.1"], false, "192.0.2.7"),
            (&[], true, "192.0.2.7"),
            (&["192.0.2.9, 192.0.2.8"], true, "192.0.2.9"),
            // What cannot be read ends the chain.
            (&["1.1.1.1, unknown, 192.0.2.8"], true, "192.0.2.8"),
            (&["::ffff:1.1.1.1"], true, "1.1.1.1"),
        ] {
            let fields: Vec<_> = chain.iter().map(|hop| ("x-forwarded-for", *hop)).collect();
            let found = client_address(&headers(&fields), &forwarding(believed));
            assert_eq!(found.to_string(), client, "{chain:?}");
        }
    }

    #[test]
    fn a_request_without_an_id_gets_one_of_32_digits() {
        let mut fields = headers(&[("host", "a.test")]);
        prepare_request(&mut fields, Seen::default(), None, None, (&forwarding(false), None));
        assert_eq!(fields["x-request-id"].len(), 32);
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        let mut fields = headers(&[("host", "a"), ("cookie", "a=1"), ("cookie", "b=2")]);
        prepare_request(&mut fields, ALL, None, None, (&forwarding(false), None));
        assert_eq!(fields.get_all("cookie").iter().count(), 1);
        assert_eq!(fields["cookie"], "a=1; b=2");
    }

    #[test]
    fn every_gateway_adds_one_hop_whatever_the_client_says_of_them() {
        for (said, next) in [
            (&[][..], "1"),
            (&["0"], "1"),
            (&["3"], "4"),
            (&["1", "4"], "5"),
            (&["-1"], "1"),
            (&["99999999999999999999999"], "1"),
            (&["many", "2"], "3"),
            (&["1, 2"], "1"),
        ] {
            let mut fields = headers(&[("host", "a.test"), ("connection", "gatehouse-hops")]);
            for value in said {
                fields.append(&HOPS, HeaderValue::from_static(value));
            }
            prepare_request(&mut fields, ALL, None, None, (&forwarding(false), None));
            let sent: Vec<_> = fields.get_all(&HOPS).iter().collect();
            assert_eq!(sent, [next], "{said:?}");
        }
    }

    #[test]
    fn an_answer_loses_the_fields_of_its_hop() {
        let mut fields = headers(&[
            ("connection", "x-internal"),
            ("x-internal", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("server", "app"),
        ]);
        prepare_response(&mut fields, false);
        assert_eq!(fields.len(), 1);
        assert_eq!(fields["server"], "app");
    }

    #[test]
    fn a_websocket_keeps_its_upgrade_both_ways() {
        let asked =
            [("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        let mut fields = headers(&asked);
        let upgrade = Some(HeaderValue::from_static("websocket"));
        prepare_request(&mut fields, ALL, upgrade, None, (&forwarding(false), None));
        assert_eq!(
            (&fields["connection"], &fields["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        let mut answer = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        prepare_response(&mut answer, true);
        assert_eq!(answer["upgrade"], "websocket");
    }
}
