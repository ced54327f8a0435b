//! The field `Forwarded` (RFC 7239), made of what the `X-Forwarded` fields say.

use gatehouse_routes::filter::Forwarded;
use http::{HeaderMap, HeaderName, HeaderValue, header};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Adds the field to what the backend gets, once our own fields are there.
pub(super) fn on_forward(mode: Forwarded, headers: &mut HeaderMap) {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let hops: Vec<&str> =
        text(&X_FORWARDED_FOR).unwrap_or_default().split(',').map(str::trim).collect();
    let Some((peer, before)) = hops.split_last() else { return };
    // A trusted proxy that speaks the standard knows more than its addresses.
    let mut out = match text(&header::FORWARDED) {
        Some(known) => known.to_owned(),
        None => before.iter().map(|hop| node(hop)).collect::<Vec<_>>().join(", "),
    };
    if !out.is_empty() {
        out.push_str(", ");
    }
    out.push_str(&node(peer));
    if let Some(host) = text(&X_FORWARDED_HOST) {
        out.push_str(&format!(";host=\"{}\"", host.replace(['"', '\\'], "")));
    }
    if let Some(proto) = text(&X_FORWARDED_PROTO) {
        out.push_str(&format!(";proto={proto}"));
    }
    if let Ok(value) = HeaderValue::try_from(out) {
        headers.insert(header::FORWARDED, value);
    }
    if mode == Forwarded::Only {
        for name in [&X_FORWARDED_FOR, &X_FORWARDED_HOST, &X_FORWARDED_PROTO, &X_FORWARDED_PORT] {
            headers.remove(name);
        }
    }
}

/// A hop as RFC 7239 §6 writes it: what is no IPv4 address is quoted, IPv6 in brackets.
fn node(hop: &str) -> String {
    match hop.contains(':') {
        true => format!("for=\"[{hop}]\""),
        false if hop.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => {
            format!("for={hop}")
        }
        false => "for=unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_become_nodes_and_what_a_trusted_proxy_says_is_kept() {
        for (known, hops, expected) in [
            (None, "192.0.2.1", "for=192.0.2.1;host=\"a.test\";proto=https"),
            (None, "2001:db8::1", "for=\"[2001:db8::1]\";host=\"a.test\";proto=https"),
            (None, "1.1.1.1, 192.0.2.1", "for=1.1.1.1, for=192.0.2.1;host=\"a.test\";proto=https"),
            (
                Some("for=_x;proto=http"),
                "1.1.1.1, 192.0.2.1",
                "for=_x;proto=http, for=192.0.2.1;host=\"a.test\";proto=https",
            ),
            (None, "\"x, 192.0.2.1", "for=unknown, for=192.0.2.1;host=\"a.test\";proto=https"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(&X_FORWARDED_FOR, HeaderValue::from_static(hops));
            headers.insert(&X_FORWARDED_HOST, HeaderValue::from_static("a.test"));
            headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static("https"));
            if let Some(known) = known {
                headers.insert(header::FORWARDED, HeaderValue::from_static(known));
            }
            on_forward(Forwarded::Only, &mut headers);
            assert_eq!(headers[header::FORWARDED], expected);
            assert_eq!(headers.len(), 1);
        }
    }
}
