use super::*;

fn forwarding(believed: bool) -> Forwarding {
    Forwarding {
        peer: "192.0.2.7".parse().unwrap(),
        client: HeaderValue::from_static("192.0.2.7"),
        proto: HeaderValue::from_static("https"),
        http2: false,
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
    lengths: true,
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
fn a_length_that_is_said_several_times_is_said_once() {
    for (said, left) in [
        (&[][..], Some(0)),
        (&["5"], Some(1)),
        (&["5", "5", "5"], Some(1)),
        (&["5", "5", "6"], None),
        (&["6", "5"], None),
    ] {
        let mut fields = headers(&[("host", "a")]);
        for length in said {
            fields.append(header::CONTENT_LENGTH, HeaderValue::from_static(length));
        }
        let same = one_length(&mut fields);
        let count = fields.get_all(header::CONTENT_LENGTH).iter().count();
        assert_eq!(same.then_some(count), left, "{said:?}");
    }
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
    let asked = [("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
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

#[test]
fn protocols_that_are_required_stay_named_beside_the_end_of_the_connection() {
    let required = [("connection", "x-hop, Upgrade"), ("x-hop", "1"), ("upgrade", "TLS/1.2")];
    let mut answer = headers(&required);
    answer.append("upgrade", HeaderValue::from_static("HTTP/2.0"));
    let mut offered = answer.clone();
    prepare_response(&mut answer, true);
    end_connection(&mut answer);
    let all = |name: &str| answer.get_all(name).iter().cloned().collect::<Vec<_>>();
    assert_eq!(all("upgrade"), ["TLS/1.2, HTTP/2.0"]);
    assert_eq!(all("connection"), ["upgrade", "close"]);
    assert_eq!(answer.keys().count(), 2);
    prepare_response(&mut offered, false);
    end_connection(&mut offered);
    assert_eq!((offered.len(), offered["connection"].as_bytes()), (1, &b"close"[..]));
}
