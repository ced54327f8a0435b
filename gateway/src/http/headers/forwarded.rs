//! The fields that say where a request comes from, where an object asks for more than the process's own rule.

use gatehouse_routes::policy::forwarded::ForwardedFields;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{FORWARDED, HOST},
};

use super::{
    Forwarding, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO,
    X_FORWARDED_PROTO_VERSION, X_REAL_IP, X_REQUEST_ID, appended, client_address, is_request_id,
    remove_forwarded,
};

/// Sets them as the object says. Where it asks for `Forwarded` besides, the process's rule has been followed.
pub(super) fn set(mode: ForwardedFields, headers: &mut HeaderMap, forwarding: &Forwarding) {
    let host = headers.get(HOST).cloned();
    match mode {
        ForwardedFields::Never => return,
        ForwardedFields::Beside | ForwardedFields::Only => {
            return in_words_of_the_standard(mode, headers);
        }
        ForwardedFields::Replace => {
            headers.remove(&X_FORWARDED_FOR);
            headers.remove(FORWARDED);
        }
        ForwardedFields::Append | ForwardedFields::IfNone => {}
    }
    let client = HeaderValue::try_from(client_address(headers, forwarding).to_string());
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).ok();
    let said = host.as_ref().and_then(text);
    let own = text(&forwarding.client).zip(text(&forwarding.proto));
    let element = own.map(|(client, proto)| element(&client, said.as_deref(), Some(&proto)));
    let element = element.and_then(|element| HeaderValue::try_from(element).ok());
    let single = [
        (&X_FORWARDED_PROTO, Some(forwarding.proto.clone())),
        (&X_FORWARDED_PROTO_VERSION, forwarding.http2.then(|| HeaderValue::from_static("h2"))),
        (&X_FORWARDED_PORT, Some(forwarding.port.clone())),
        (&X_FORWARDED_HOST, host),
        (&X_REAL_IP, client.ok()),
    ];
    if mode == ForwardedFields::IfNone {
        let chains = [(&X_FORWARDED_FOR, Some(forwarding.client.clone())), (&FORWARDED, element)];
        for (name, value) in single.into_iter().chain(chains) {
            if let Some(value) = value {
                headers.entry(name).or_insert(value);
            }
        }
        return;
    }
    let chain = appended(headers, &forwarding.client);
    let element = element.map(|element| extended(headers, &FORWARDED, &element));
    let request_id = headers.remove(&X_REQUEST_ID).filter(is_request_id);
    remove_forwarded(headers);
    if let Some(request_id) = request_id {
        headers.insert(&X_REQUEST_ID, request_id);
    }
    headers.insert(&X_FORWARDED_FOR, chain);
    if let Some(element) = element {
        headers.insert(FORWARDED, element);
    }
    for (name, value) in single {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

/// Adds `Forwarded`, made of what the `X-Forwarded` fields say.
fn in_words_of_the_standard(mode: ForwardedFields, headers: &mut HeaderMap) {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let hops = text(&X_FORWARDED_FOR).unwrap_or_default().split(',').map(str::trim);
    let hops: Vec<&str> = hops.collect();
    let Some((peer, before)) = hops.split_last() else { return };
    let own = element(peer, text(&X_FORWARDED_HOST), text(&X_FORWARDED_PROTO));
    // A trusted proxy that speaks the standard knows more than its addresses.
    let mut elements: Vec<String> = match text(&FORWARDED) {
        Some(known) => vec![known.to_owned()],
        None => before.iter().map(|hop| element(hop, None, None)).collect(),
    };
    elements.push(own);
    if let Ok(value) = HeaderValue::try_from(elements.join(", ")) {
        headers.insert(FORWARDED, value);
    }
    if mode == ForwardedFields::Only {
        for name in [&X_FORWARDED_FOR, &X_FORWARDED_HOST, &X_FORWARDED_PROTO, &X_FORWARDED_PORT] {
            headers.remove(name);
        }
    }
}

/// What one hop says of itself (RFC 7239 §4). Its node (§6) is `unknown` if it is no address and no token.
fn element(hop: &str, host: Option<&str>, proto: Option<&str>) -> String {
    let mut text = match hop.contains(':') {
        true => format!("for=\"[{hop}]\""),
        false if is_token(hop) => format!("for={hop}"),
        false => "for=unknown".to_owned(),
    };
    match host {
        Some(host) if is_token(host) => text += &format!(";host={host}"),
        Some(host) => text += &format!(";host=\"{}\"", host.replace(['"', '\\'], "")),
        None => {}
    }
    if let Some(proto) = proto {
        text += &format!(";proto={proto}");
    }
    text
}

fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// All values of a field, and one more.
fn extended(headers: &HeaderMap, name: &HeaderName, last: &HeaderValue) -> HeaderValue {
    let mut joined = Vec::new();
    for part in headers.get_all(name) {
        joined.extend_from_slice(part.as_bytes());
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(last.as_bytes());
    HeaderValue::from_bytes(&joined).unwrap_or_else(|_| last.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn sent(mode: ForwardedFields, fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let forwarding = Forwarding {
            peer: "192.0.2.7".parse().unwrap(),
            client: HeaderValue::from_static("192.0.2.7"),
            proto: HeaderValue::from_static("https"),
            http2: true,
            port: HeaderValue::from_static("443"),
            trusted: Arc::new([]),
            believed: false,
        };
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("a.test:8443"));
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        set(mode, &mut headers, &forwarding);
        headers
    }

    #[test]
    fn each_mode_treats_what_a_client_sent_as_it_says() {
        let forged = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-proto-version", "h9"),
            ("forwarded", "for=x"),
        ];
        let own = "for=192.0.2.7;host=\"a.test:8443\";proto=https";
        for (mode, chain, proto, element) in [
            (ForwardedFields::Append, "1.1.1.1, 192.0.2.7", "https", &*format!("for=x, {own}")),
            (ForwardedFields::Replace, "192.0.2.7", "https", own),
            (ForwardedFields::IfNone, "1.1.1.1", "http", "for=x"),
            (ForwardedFields::Never, "1.1.1.1", "http", "for=x"),
        ] {
            let headers = sent(mode, &forged);
            assert_eq!(headers["x-forwarded-for"], chain, "{mode:?}");
            assert_eq!(headers["x-forwarded-proto"], proto, "{mode:?}");
            let version = if proto == "https" { "h2" } else { "h9" };
            assert_eq!(headers["x-forwarded-proto-version"], version, "{mode:?}");
            assert_eq!(headers["forwarded"], element, "{mode:?}");
        }
        for mode in [ForwardedFields::Append, ForwardedFields::Replace, ForwardedFields::IfNone] {
            let headers = sent(mode, &[]);
            assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
            assert_eq!(headers["x-forwarded-host"], "a.test:8443");
            assert_eq!(headers["x-forwarded-port"], "443");
            assert_eq!(headers["x-forwarded-proto-version"], "h2");
            assert_eq!(headers["forwarded"], own);
        }
        assert_eq!(sent(ForwardedFields::Never, &[]).len(), 1);
    }

    #[test]
    fn hops_become_nodes_and_what_a_trusted_proxy_says_is_kept() {
        for (known, hops, expected) in [
            (None, "192.0.2.1", "for=192.0.2.1;host=a.test;proto=https"),
            (None, "2001:db8::1", "for=\"[2001:db8::1]\";host=a.test;proto=https"),
            (None, "1.1.1.1, 192.0.2.1", "for=1.1.1.1, for=192.0.2.1;host=a.test;proto=https"),
            (
                Some("for=_x;proto=http"),
                "1.1.1.1, 192.0.2.1",
                "for=_x;proto=http, for=192.0.2.1;host=a.test;proto=https",
            ),
            (None, "\"x, 192.0.2.1", "for=unknown, for=192.0.2.1;host=a.test;proto=https"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(&X_FORWARDED_FOR, HeaderValue::from_static(hops));
            headers.insert(&X_FORWARDED_HOST, HeaderValue::from_static("a.test"));
            headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static("https"));
            if let Some(known) = known {
                headers.insert(FORWARDED, HeaderValue::from_static(known));
            }
            in_words_of_the_standard(ForwardedFields::Only, &mut headers);
            assert_eq!(headers[FORWARDED], expected);
            assert_eq!(headers.len(), 1);
        }
    }
}
