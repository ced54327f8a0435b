//! Requests that say which endpoint they belong to, and the cookie by which they come back to it.
//!
//! `proxy` calls it for rules alone whose policy asks requests. What a request says is noted in its record, which
//! `exchange` chooses by.

use std::sync::LazyLock;

use gatehouse_routes::{
    action::Forward,
    balance,
    matcher::RequestView,
    model::Scheme,
    policy::{
        affinity::{self, Affinity, Asked},
        hash_by::HashKey,
    },
    rule::RouteRule,
};
use http::{HeaderMap, HeaderValue, Response, header};

use crate::{
    http::{body::ResponseBody, client::ClientConn, headers::client_address, record::Record},
    snapshot::Snapshot,
    upstream::sessions::{PickContext, Session, Target},
};

/// What Services that keep their clients hash requests by.
static CLIENT: LazyLock<HashKey> = LazyLock::new(HashKey::client);
/// Most keys that are tried to find one that leads to an endpoint.
const MOST_KEYS: usize = 4_096;

/// What a request says, before anything of it is changed.
pub(super) fn read(
    conn: &ClientConn,
    record: &mut Record,
    snapshot: &Snapshot,
    forward: &Forward,
    view: &RequestView<'_>,
) {
    let (policy, headers) = (&forward.spec.policy, &view.parts.headers);
    let client = || client_address(headers, &conn.forwarding);
    let old_browser = |affinity: &Affinity| {
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        affinity.conditional_none && !affinity::takes_none(agent.unwrap_or_default())
    };
    record.pick_context = PickContext {
        key: policy.balance.hash_key().map(|key| key.of(view, client)),
        client: keeps_clients(snapshot, forward).then(|| CLIENT.of(view, client)),
        session: conn.upstreams.sessions.of(&conn.shared.worker, snapshot, forward, headers),
        known_at: None,
        old_browser: policy.affinity.as_ref().is_some_and(old_browser),
    };
}

/// Whether a Service of the rule keeps its clients by their address. A cookie of the rule does that better.
pub(super) fn keeps_clients(snapshot: &Snapshot, forward: &Forward) -> bool {
    let table = &snapshot.backends;
    table.by_client
        && forward.spec.policy.affinity.is_none()
        && forward.spec.backends.iter().any(|weighted| {
            table.get(weighted.slot).is_some_and(|backend| backend.endpoints.by_client)
        })
}

/// Sets the cookie where the client is to come back to another endpoint than the one that it named, or named
/// none.
pub(super) fn answered(
    conn: &ClientConn,
    record: &Record,
    snapshot: &Snapshot,
    (rule, forward): (&RouteRule, &Forward),
    scheme: Scheme,
    response: &mut Response<ResponseBody>,
) {
    let policy = &forward.spec.policy;
    let Some(affinity) = &policy.affinity else { return };
    let Some((index, address)) = record.backend().zip(record.endpoint) else { return };
    let Some(backend) = snapshot.backends.get(forward.spec.backends[index].slot) else { return };
    let own = |key| balance::pick_own(backend.endpoints.all(), key).map(|own| own.address);
    let held = record.pick_context.session.filter(|session| session.backend == Some(index));
    let target = match (record.pick_context.session, held) {
        (_, Some(Session { target: Target::Endpoint(had), .. })) => {
            (affinity.moves && had != address).then_some(Target::Endpoint(address))
        }
        (_, Some(Session { target: Target::Key(had), .. })) => {
            let moved = affinity.moves && own(had) != Some(address);
            moved.then(|| key_of(address, own)).flatten()
        }
        (Some(Session { target: Target::Key(new), .. }), None) => {
            match affinity.moves && own(new) != Some(address) {
                true => key_of(address, own),
                false => Some(Target::Key(new)),
            }
        }
        (_, None) => Some(Target::Endpoint(address)),
    };
    let sessions = &conn.upstreams.sessions;
    let value = target
        .and_then(|target| sessions.value(&conn.shared.worker, snapshot, policy, backend, target));
    let Some(value) = value else { return };
    let asked = Asked {
        path: rule.matches.path.cookie_path(),
        secure: scheme == Scheme::Https,
        takes_none: !record.pick_context.old_browser,
    };
    let mut field = affinity.cookie(&value, asked);
    if let Some(date) = affinity.expires.and_then(date_in) {
        field.push_str("; Expires=");
        field.push_str(&date);
    }
    let Ok(field) = HeaderValue::from_str(&field) else { return };
    let headers = response.headers_mut();
    headers.append(header::SET_COOKIE, field);
    if affinity.hidden && !is_private(headers) {
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
}

/// A key that leads to an endpoint.
fn key_of(
    address: std::net::SocketAddr,
    own: impl Fn(u64) -> Option<std::net::SocketAddr>,
) -> Option<Target> {
    let mut keys = std::iter::repeat_with(|| fastrand::u64(..)).take(MOST_KEYS);
    keys.find(|key| own(*key) == Some(address)).map(Target::Key)
}

/// Whether no shared cache keeps the answer anyway.
fn is_private(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::CACHE_CONTROL).iter();
    let mut words = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    words.any(|word| {
        let word = word.trim_ascii();
        word.eq_ignore_ascii_case(b"private") || word.eq_ignore_ascii_case(b"no-store")
    })
}

/// The date in so many seconds, as cookies spell it.
fn date_in(seconds: u32) -> Option<String> {
    let end = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds.into()));
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&end.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_key_is_found_for_every_endpoint_and_for_none_that_is_not_there() {
        let address = |n: u64| SocketAddr::from(([10, 0, 0, 1], 8_000 + n as u16));
        let own = |key: u64| Some(address(key % 20));
        for n in 0..20 {
            let Some(Target::Key(key)) = key_of(address(n), own) else { panic!("no key for {n}") };
            assert_eq!(own(key), Some(address(n)));
        }
        assert!(key_of(address(20), own).is_none(), "the search ends");
        assert!(key_of(address(0), |_| None).is_none());
    }

    #[test]
    fn an_answer_is_private_if_any_field_says_so() {
        for (fields, private) in [
            (&[][..], false),
            (&["max-age=60"], false),
            (&["private"], true),
            (&["max-age=60, Private"], true),
            (&["max-age=60", "no-store"], true),
            (&["no-cache"], false),
            (&["privateer"], false),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::CACHE_CONTROL, field.parse().unwrap());
            }
            assert_eq!(is_private(&headers), private, "{fields:?}");
        }
    }

    #[test]
    fn a_date_is_spelled_as_cookies_want_it() {
        let date = date_in(0).unwrap();
        let at = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", &date);
        assert!(at.is_ok(), "{date}");
    }
}
