//! What is taken off a message and what is put on it on the way through.
//!
//! Order matters (P17): first everything that the `Connection` field names goes, then our own fields are
//! set, so that nobody can name ours away.

use std::{net::IpAddr, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, HOST},
};

use gatehouse_routes::{
    cookie,
    model::Scheme,
    policy::{Policy, forwarded::ForwardedFields},
};
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
static X_FORWARDED_PROTO_VERSION: HeaderName = HeaderName::from_static("x-forwarded-proto-version");
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
    /// The client speaks HTTP/2.
    pub(crate) http2: bool,
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
    if seen.lengths {
        one_length(headers);
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

/// Makes an answer's fields fit for the client. `upgrade`: it gets what the answer says of other protocols, too: one
/// that it has asked for, or those without which it is refused. A backend that only offers them (RFC 9110 §7.8) offers
/// what this hop does not have.
pub(crate) fn prepare_response(headers: &mut HeaderMap, upgrade: bool) {
    let upgrade = if upgrade { one_upgrade(headers) } else { None };
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

/// The protocols that an answer names, in one field (RFC 9110 §5.3).
fn one_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let named: Vec<_> =
        headers.get_all(header::UPGRADE).iter().map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&named.join(&b", "[..])).ok().filter(|named| !named.is_empty())
}

/// Has the connection end with an answer, whose `Upgrade` needs to be named there as well.
pub(crate) fn end_connection(headers: &mut HeaderMap) {
    let close = HeaderValue::from_static("close");
    if headers.contains_key(header::UPGRADE) {
        headers.append(header::CONNECTION, close);
    } else {
        headers.insert(header::CONNECTION, close);
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

/// RFC 9110 §8.6: a length that is said several times is said once. False: it is not the same each time.
pub(crate) fn one_length(headers: &mut HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return true };
    let (mut several, mut same) = (false, true);
    for length in lengths {
        (several, same) = (true, same && length == first);
    }
    if several && same {
        let first = first.clone();
        headers.insert(header::CONTENT_LENGTH, first);
    }
    same
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

/// Takes the cookie out by which clients of a rule come back to their endpoint, where it is the gateway's alone: neither
/// the backend gets it nor any other service that is asked about the request.
pub(crate) fn hide_session(policy: &Policy, headers: &mut HeaderMap) {
    if let Some(affinity) = policy.affinity.as_ref().filter(|affinity| affinity.hidden) {
        cookie::remove(headers, &affinity.name);
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
mod tests;
