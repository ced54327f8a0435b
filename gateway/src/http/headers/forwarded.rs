//! The fields that say where a request comes from, where an object asks for another rule than that of the process.

use gatehouse_routes::policy::forwarded::ForwardedFields;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{FORWARDED, HOST},
};

use super::{
    Forwarding, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REAL_IP,
    X_REQUEST_ID, appended, client_address, is_request_id, remove_forwarded,
};

/// Sets them as the object says.
pub(super) fn set(mode: ForwardedFields, headers: &mut HeaderMap, forwarding: &Forwarding) {
    let host = headers.get(HOST).cloned();
    match mode {
        ForwardedFields::Never => return,
        ForwardedFields::Replace => {
            headers.remove(&X_FORWARDED_FOR);
            headers.remove(FORWARDED);
        }
        ForwardedFields::Append | ForwardedFields::IfNone => {}
    }
    let client = HeaderValue::try_from(client_address(headers, forwarding).to_string());
    let element = element(host.as_ref(), forwarding);
    let single = [
        (&X_FORWARDED_PROTO, Some(forwarding.proto.clone())),
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

/// What this gateway says of itself (RFC 7239 §4).
fn element(host: Option<&HeaderValue>, forwarding: &Forwarding) -> Option<HeaderValue> {
    let address = forwarding.client.to_str().ok()?;
    let quoted = |text: &str| match text
        .contains(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c))
    {
        true => format!("\"{text}\""),
        false => text.to_owned(),
    };
    let node = if address.contains(':') { format!("\"[{address}]\"") } else { address.to_owned() };
    let mut text = format!("for={node}");
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        text += &format!(";host={}", quoted(host));
    }
    text += &format!(";proto={}", forwarding.proto.to_str().ok()?);
    HeaderValue::try_from(text).ok()
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
        let forged =
            [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "http"), ("forwarded", "for=x")];
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
            assert_eq!(headers["forwarded"], element, "{mode:?}");
        }
        for mode in [ForwardedFields::Append, ForwardedFields::Replace, ForwardedFields::IfNone] {
            let headers = sent(mode, &[]);
            assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
            assert_eq!(headers["x-forwarded-host"], "a.test:8443");
            assert_eq!(headers["x-forwarded-port"], "443");
            assert_eq!(headers["forwarded"], own);
        }
        assert_eq!(sent(ForwardedFields::Never, &[]).len(), 1);
    }
}
