use std::time::{Duration, UNIX_EPOCH};

use gatehouse_routes::objects::{ObjectKey, ObjectRef};

use super::*;

/// The line of a request in a format.
fn line(format: &str, change: impl FnOnce(&mut Entry<'_>)) -> String {
    let route = ObjectRef::new("Ingress", ObjectKey::new("shop", "web"));
    let backend = ObjectKey::new("shop", "echo");
    let mut entry = Entry {
        time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
        client: "192.0.2.1:40000".parse().unwrap(),
        local: "198.51.100.7:443".parse().unwrap(),
        method: "GET",
        scheme: "https",
        host: b"example.com",
        path: b"/a",
        query: Some(b"b=c"),
        version: http::Version::HTTP_2,
        tls: Some("TLSv1.3"),
        server_name: Some("example.com"),
        status: 200,
        upstream_status: Some(200),
        bytes_in: 3,
        bytes_out: 12,
        duration: Duration::from_micros(1_234_567),
        route: Some(&route),
        backend: Some(&backend),
        endpoint: Some("[fd00::1]:8080".parse().unwrap()),
        upstream: Some(Duration::from_millis(1)),
        retries: 1,
        error: "",
        request_id: b"abc",
        user_agent: Some(b"curl/8"),
        referer: Some(b"https://there.test/"),
        authorization: None,
    };
    change(&mut entry);
    let mut out = Vec::new();
    format.parse::<Format>().unwrap().line(&entry, &mut Second::default(), &mut out);
    String::from_utf8(out).unwrap()
}

fn json(format: &str, change: impl FnOnce(&mut Entry<'_>)) -> serde_json::Value {
    let line = line(format, change);
    assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// A request of which nothing is known but that it came.
fn bare(entry: &mut Entry<'_>) {
    (entry.query, entry.tls, entry.server_name) = (None, None, None);
    (entry.upstream_status, entry.route, entry.backend) = (None, None, None);
    (entry.endpoint, entry.upstream) = (None, None);
    (entry.user_agent, entry.referer) = (None, None);
    (entry.status, entry.error) = (404, "no_route");
}

#[test]
fn json_says_everything_and_leaves_out_what_there_is_not() {
    let expected = serde_json::json!({
        "time": "2023-11-14T22:13:20.042Z", "client": "192.0.2.1", "local": "198.51.100.7:443",
        "method": "GET", "scheme": "https", "host": "example.com", "path": "/a", "query": "b=c",
        "http": "2", "tls": true, "tls_version": "1.3", "tls_name": "example.com",
        "status": 200, "upstream_status": 200, "bytes_in": 3, "bytes_out": 12, "duration_us": 1_234_567,
        "route": "Ingress shop/web", "backend": "shop/echo", "endpoint": "[fd00::1]:8080",
        "upstream_us": 1000, "retries": 1, "error": "", "request_id": "abc",
        "user_agent": "curl/8", "referer": "https://there.test/",
    });
    assert_eq!(json("json", |_| ()), expected);
    let expected = serde_json::json!({
        "time": "2023-11-14T22:13:20.042Z", "client": "192.0.2.1", "local": "198.51.100.7:443",
        "method": "GET", "scheme": "https", "host": "example.com", "path": "/a", "http": "2",
        "tls": false, "status": 404, "bytes_in": 3, "bytes_out": 12, "duration_us": 1_234_567,
        "retries": 1, "error": "no_route", "request_id": "abc",
    });
    assert_eq!(json("json", bare), expected);
}

#[test]
fn ecs_has_the_names_of_the_schema() {
    let whole = json("ecs", |_| ());
    for (key, value) in [
        ("@timestamp", serde_json::json!("2023-11-14T22:13:20.042Z")),
        ("source.ip", "192.0.2.1".into()),
        ("source.port", 40000.into()),
        ("http.response.status_code", 200.into()),
        ("url.query", "b=c".into()),
        ("tls.version", "1.3".into()),
        ("event.duration", 1_234_567_000.into()),
        ("ecs.version", "8.11.0".into()),
    ] {
        assert_eq!(whole[key], value, "{key}");
    }
    let bare = json("ecs", bare);
    assert!(bare.get("url.query").is_none() && bare["error.type"] == "no_route", "{bare}");
}

#[test]
fn lines_of_others_look_as_theirs() {
    let combined = "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /a?b=c HTTP/2.0\" 200 12 \
                    \"https://there.test/\" \"curl/8\"\n";
    assert_eq!(line("combined", |_| ()), combined);
    let combined =
        "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /a HTTP/2.0\" 404 12 \"-\" \"-\"\n";
    assert_eq!(line("combined", bare), combined);
    let envoy = "[2023-11-14T22:13:20.042Z] \"GET /a?b=c HTTP/2.0\" 200 - 3 12 1234 1 \"192.0.2.1\" \
                 \"curl/8\" \"abc\" \"example.com\" \"[fd00::1]:8080\"\n";
    assert_eq!(line("envoy", |_| ()), envoy);
    assert!(line("envoy", bare).contains("404 NR 3 12 1234 - "), "{}", line("envoy", bare));
    let nginx = "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /a?b=c HTTP/2.0\" 200 12 \
                 \"https://there.test/\" \"curl/8\" 3 1.234 [shop-echo] [-] [fd00::1]:8080 12 0.001 200 abc\n";
    assert_eq!(line("ingress-nginx", |_| ()), nginx);
    let nginx = line("ingress-nginx", bare);
    assert!(nginx.contains(" 404 12 \"-\" \"-\" 3 1.234 [-] [-] - - - - "), "{nginx}");
}

#[test]
fn a_user_is_named_as_the_client_gives_it_and_the_password_never() {
    for (authorization, user) in [
        ("Basic YW5uOnNlY3JldA==", "ann"),
        ("basic  YW5uOnNlY3JldA", "ann"),
        ("Basic YW5uOmE6Yg==", "ann"),
        ("Basic YW5u", "ann"),
        ("Basic YSJiXG46eA==", r"a\x22b\x5Cn"),
        ("Basic OnNlY3JldA==", "-"),
        ("Basic !", "-"),
        ("Bearer YW5uOnNlY3JldA==", "-"),
        ("Bas", "-"),
        ("", "-"),
    ] {
        let line =
            line("$remote_user", |entry| entry.authorization = Some(authorization.as_bytes()));
        assert_eq!(line, format!("{user}\n"), "{authorization}");
    }
    let named = |format: &str| format.parse::<Format>().unwrap().names_users();
    assert!(named("combined") && named("ingress-nginx") && !named("json") && !named("$status"));
}

#[test]
fn a_pattern_says_what_it_names() {
    for (pattern, expected) in [
        ("$status", "200"),
        ("${status}x", "200x"),
        ("$request_time s, $upstream_response_time s", "1.234 s, 0.001 s"),
        ("$$5 $namespace/$ingress_name -> $service_name", "$5 shop/web -> echo"),
        ("$remote_addr:$remote_port $server_addr:$server_port", "192.0.2.1:40000 198.51.100.7:443"),
        ("$ssl_protocol $ssl_server_name $msec", "TLSv1.3 example.com 1700000000.042"),
    ] {
        assert_eq!(line(pattern, |_| ()), format!("{expected}\n"), "{pattern}");
    }
    for (pattern, why) in [
        ("jsn", "\"jsn\" is not json, combined, ecs, envoy"),
        ("", "is not json"),
        ("$stauts", "$stauts is no name of the access log"),
        ("100$", "a dollar is followed by a name"),
        ("${status", "a dollar is followed by a name"),
        ("$status\n$host", "one line"),
    ] {
        let error = pattern.parse::<Format>().unwrap_err();
        assert!(error.contains(why), "{pattern}: {error}");
    }
}

#[test]
fn every_name_is_that_of_one_value() {
    let names: Vec<_> = NAMES.iter().flat_map(|(names, _)| *names).collect();
    let once: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(names.len(), once.len());
    assert!(names.iter().all(|name| Field::named(name).is_some()));
}

#[test]
fn whatever_a_client_sends_stays_one_line() {
    let every_byte: Vec<u8> = (0..=255).collect();
    for value in [&every_byte, "/\"\\\n\r\u{0}\u{7f}ü€😀".as_bytes(), b"\xc3", b""] {
        let with = |entry: &mut Entry<'_>| {
            // Lives as long as the test.
            let value: &'static [u8] = value.to_vec().leak();
            (entry.path, entry.query, entry.host) = (value, Some(value), value);
            (entry.user_agent, entry.referer, entry.request_id) = (Some(value), Some(value), value);
        };
        for format in ["json", "ecs"] {
            let line = json(format, with);
            let path = line.get("path").or_else(|| line.get("url.path")).unwrap();
            assert_eq!(path.as_str(), Some(&*String::from_utf8_lossy(value)));
        }
        for format in ["combined", "envoy", "ingress-nginx", "\"$path\""] {
            let line = line(format, with);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(line.trim_end().bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{line}");
            assert_eq!(line.matches('"').count() % 2, 0, "{line}");
        }
    }
}
