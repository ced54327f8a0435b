use super::*;
use crate::{
    action::Redirect,
    filter::cases::{Answer, Pattern, Subject, Test},
};

fn fields(fields: &[(HeaderName, HeaderValue)]) -> String {
    let fields = fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    fields.collect::<Vec<_>>().join(", ")
}

fn annotations(text: &str, reach: Reach) -> Result<String, String> {
    let all = understand(text, reach)?.annotations.into_iter();
    Ok(all.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
}

#[test]
fn fields_of_answers_and_of_requests_are_read_where_their_values_are_written_out() {
    let text = r#"
        # who may frame us
        more_set_headers "X-Frame-Options: DENY" 'X-Robots-Tag: none';
        add_header Content-Security-Policy "default-src 'self'; img-src *" always;
        proxy_set_header X-Tenant blue;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
        proxy_set_header X-Real-IP $remote_addr;
    "#;
    let snippet = understand(text, Reach::Paths).unwrap();
    assert_eq!(
        fields(&snippet.answer),
        "x-frame-options: DENY, x-robots-tag: none, content-security-policy: default-src 'self'; img-src *"
    );
    let request =
        snippet.request.iter().filter_map(|(name, text)| Some((name.clone(), text.fixed()?)));
    assert_eq!(fields(&request.collect::<Vec<_>>()), "x-tenant: blue");
    assert!(snippet.annotations.is_empty());
}

#[test]
fn what_has_an_annotation_of_its_own_is_that_annotation() {
    for (text, same) in [
        (
            "client_max_body_size 10m; proxy_read_timeout 60s;",
            "proxy-body-size=10m proxy-read-timeout=60s",
        ),
        (
            "return 301 https://b.test$request_uri;",
            "permanent-redirect=https://b.test$request_uri permanent-redirect-code=301",
        ),
        (
            "return 302 https://b.test;",
            "temporal-redirect=https://b.test temporal-redirect-code=302",
        ),
        ("allow 10.0.0.0/8; allow ::1; deny all;", "whitelist-source-range=10.0.0.0/8,::1"),
        ("deny 10.0.0.1; deny 10.0.0.2;", "denylist-source-range=10.0.0.1,10.0.0.2"),
        ("deny 10.0.0.1; allow all;", "denylist-source-range=10.0.0.1"),
        ("allow all;", ""),
        ("proxy_ssl_verify on;", "proxy-ssl-verify=on"),
        ("proxy_ssl_verify off; gzip on; gzip_types text/plain;", ""),
        ("proxy_buffering off; proxy_http_version 1.1;", "proxy-buffering=off"),
        (
            r#"proxy_cookie_path ~^/(\w+)$ '/$1; Secure';"#,
            r#"proxy-cookie-path="~^/(\\w+)$" "/$1; Secure""#,
        ),
        ("", ""),
    ] {
        assert_eq!(annotations(text, Reach::Paths).as_deref(), Ok(same), "{text}");
    }
}

#[test]
fn a_snippet_is_understood_in_whole_or_not_at_all() {
    for (text, first) in [
        ("more_set_headers \"X-A: 1\"; auth_basic on;", "auth_basic on"),
        ("location /x { deny all; }", "location /x {"),
        ("rewrite ^/a /b;", "rewrite ^/a /b"),
        ("rewrite ^/a /b last;", "rewrite ^/a /b last"),
        ("rewrite ^/a /$cookie_b redirect;", "rewrite ^/a /$cookie_b redirect"),
        ("rewrite '^/a b' /b redirect;", "rewrite ^/a b /b redirect"),
        ("rewrite ^/(?=a) /b redirect;", "rewrite ^/(?=a) /b redirect"),
        ("if ($http_x) { return 403; return 404; }", "if ($http_x) {"),
        ("if ($http_x) { return 403 forbidden; }", "if ($http_x) {"),
        ("if ($http_x) { return 444; }", "if ($http_x) {"),
        ("if ($http_x) { return 200; }", "if ($http_x) {"),
        ("if ($http_x) { return 301 javascript:x; }", "if ($http_x) {"),
        ("if ($http_x) { return 301 https://$1; }", "if ($http_x) {"),
        ("if ($http_x) { set $y 1; }", "if ($http_x) {"),
        ("if ($http_x) { if ($http_y) { return 403; } }", "if ($http_y) {"),
        ("if ($http_x) { return 403 }", "return 403 }"),
        ("if ($http_x) { return 403;", "a brace without an end"),
        ("return 403; }", "}"),
        ("if $http_x { return 403; }", "if $http_x {"),
        ("if ($http_x { return 403; }", "if ($http_x {"),
        ("if ($http_x == 1) { return 403; }", "if ($http_x == 1) {"),
        ("if ($http_x = $http_y) { return 403; }", "if ($http_x = $http_y) {"),
        ("if ($http_x ~ (?=a)) { return 403; }", "if ($http_x ~ (?=a)) {"),
        ("if (-f $request_filename) { return 403; }", "if (-f $request_filename) {"),
        ("if ($uri ~ x) { return 403; }", "if ($uri ~ x) {"),
        ("if ($geoip_country_code = CN) { return 403; }", "if ($geoip_country_code = CN) {"),
        (
            "return 301 https://a.test; if ($http_x) { return 302 https://b.test; }",
            "if ($http_x) {",
        ),
        ("proxy_set_header X-Forwarded-For \"\";", "proxy_set_header X-Forwarded-For "),
        ("proxy_set_header Content-Length \"\";", "proxy_set_header Content-Length "),
        ("return 403;", "return 403"),
        ("deny all;", "deny"),
        ("allow 10.0.0.0/8; deny 10.1.0.0/16; deny all;", "deny"),
        ("deny all; allow 10.0.0.0/8;", "allow 10.0.0.0/8"),
        ("more_set_headers \"X-A: $host\";", "more_set_headers X-A: $host"),
        ("proxy_set_header X-A $remote_user;", "proxy_set_header X-A $remote_user"),
        ("proxy_set_header X-A ${};", "proxy_set_header X-A ${}"),
        ("grpc_set_header X-A 1; proxy_set_header X-A 2;", "grpc_set_header X-A 1"),
        ("more_set_headers -s 404 \"X-A: 1\";", "more_set_headers -s 404 X-A: 1"),
        ("add_header X-A \"\";", "add_header X-A "),
        ("proxy_hide_header Content-Length;", "proxy_hide_header Content-Length"),
        ("more_clear_headers \"X-*\";", "more_clear_headers X-*"),
        ("more_clear_headers -s 404 X-A;", "more_clear_headers -s 404 X-A"),
        ("add_header Content-Length 0;", "add_header Content-Length 0"),
        ("proxy_set_header X-Forwarded-For 10.0.0.1;", "proxy_set_header X-Forwarded-For 10.0.0.1"),
        ("proxy_set_header Authorization $http_x;", "proxy_set_header Authorization $http_x"),
        ("return 301 https://a.test; return 302 https://b.test;", "return 302 https://b.test"),
        ("proxy_read_timeout 60s", "proxy_read_timeout 60s"),
        ("add_header X \"a;", "a quote without an end"),
    ] {
        assert_eq!(annotations(text, Reach::Paths), Err(first.to_owned()), "{text}");
    }
    for text in [
        "allow 10.0.0.0/8; deny all;",
        "return 301 https://a.test;",
        "if ($http_x) { return 403; }",
        "proxy_ssl_verify on;",
        "rewrite ^/a /b redirect;",
    ] {
        assert!(annotations(text, Reach::Host).is_err(), "{text}");
    }
    assert_eq!(annotations("proxy_ssl_verify off;", Reach::Host).as_deref(), Ok(""));
}

#[test]
fn a_condition_is_read_however_its_words_are_spaced_and_quoted() {
    let case = |text: &str| {
        let snippet = understand(text, Reach::Paths);
        let [case] = <[Case; 1]>::try_from(snippet.unwrap().cases).unwrap();
        (case.subject, case.test, case.negated, case.answer)
    };
    let header = |name: &'static str| Subject::Header(HeaderName::from_static(name));
    let pattern = |text, any_case| Test::Matches(Pattern::new(text, any_case).unwrap());
    let redirect =
        |to: &str| Answer::Redirect(Redirect { status: 301, to: Template::parse(to).unwrap() });
    for (text, (subject, test, negated)) in [
        ("if ($http_x) { return 403; }", (header("x"), Test::Given, false)),
        ("if ( ${http_x} ){return 403;}", (header("x"), Test::Given, false)),
        ("if ($http_x = one) { return 403; }", (header("x"), Test::Is("one".into()), false)),
        ("if ($http_x != \"a b\") { return 403; }", (header("x"), Test::Is("a b".into()), true)),
        ("if ($http_x = '') { return 403; }", (header("x"), Test::Is("".into()), false)),
        ("if ($http_x ~ ^a$) { return 403; }", (header("x"), pattern("^a$", false), false)),
        ("if ($http_x ~* (a|b)) { return 403; }", (header("x"), pattern("(a|b)", true), false)),
        ("if ($http_x !~* '(a|b)' ) { return 403; }", (header("x"), pattern("(a|b)", true), true)),
        (
            "if ($request_method !~ ^(GET|HEAD)$ ) {\n  return 403; # no writes\n}",
            (Subject::Method, pattern("^(GET|HEAD)$", false), true),
        ),
    ] {
        assert_eq!(case(text), (subject, test, negated, Answer::Refuse(403)), "{text}");
    }
    let text = "if ($http_x_forwarded_proto = 'http') { return 301 https://$host$request_uri; }";
    let proto = header("x-forwarded-proto");
    let to = redirect("https://$host$request_uri");
    assert_eq!(case(text), (proto, Test::Is("http".into()), false, to));
}

#[test]
fn a_snippet_has_no_more_conditions_than_a_request_can_be_held_against() {
    let of = |count: usize| {
        let text = "if ($http_x ~ ^a$) { return 403; }\n".repeat(count);
        understand(&text, Reach::Paths).map(|snippet| snippet.cases.len())
    };
    assert_eq!(of(MOST_CASES), Ok(MOST_CASES));
    assert_eq!(of(MOST_CASES + 1), Err("more than 64 conditions".to_owned()));
    let large = "if ($http_x ~ \"(a{500}){1000}\") { return 403; }";
    assert!(understand(large, Reach::Paths).is_err());
}

#[test]
fn what_a_service_is_asked_is_set_field_by_field() {
    let fields = |text: &str| {
        let fields = question(text)?.into_iter();
        let fields = fields.map(|(name, value)| format!("{name}={}", value.text()));
        Ok::<_, String>(fields.collect::<Vec<_>>().join(" "))
    };
    for (text, set) in [
        ("proxy_set_header X-Forwarded-Host $http_host;\n", ""),
        (
            "proxy_set_header X-Forwarded-Method $request_method;",
            "x-forwarded-method=$request_method",
        ),
        (
            "proxy_set_header X-Original-URL $scheme://$http_host$request_uri; proxy_set_header Accept \"\";",
            "x-original-url=$scheme://$http_host$request_uri accept=",
        ),
        ("", ""),
    ] {
        assert_eq!(fields(text).as_deref(), Ok(set), "{text}");
    }
    for text in [
        "proxy_set_header X-Forwarded-For 10.0.0.1",
        "proxy_set_header Host $host",
        "proxy_set_header Content-Length 0",
        "proxy_set_header X-A $cookie_a",
        "proxy_pass_request_headers off",
        "deny all",
    ] {
        assert_eq!(fields(&format!("{text};")), Err(text.to_owned()));
    }
}
