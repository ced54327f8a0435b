//! Host and the authority of absolute-form targets (P13): exactly one, valid, in agreement.

use super::{CLOSED, Case, get, refuse, serve};

const REFUSED: &[u16] = &[400];

/// The cases of this class.
pub fn cases() -> Vec<Case> {
    [hosts(), absolute()].into_iter().flatten().collect()
}

fn to(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\n{fields}\r\n")
}

fn hosts() -> Vec<Case> {
    let mut cases = vec![
        serve("host/plain", to("Host: good.test\r\n")).field("host", "good.test"),
        serve("host/upper-case", to("Host: GOOD.Test\r\n")),
        serve("host/trailing-dot", to("Host: good.test.\r\n")),
        serve("host/default-port", to("Host: good.test:80\r\n")),
        serve("host/other-port", to("Host: good.test:8080\r\n")),
        serve("host/other", to("Host: other.test\r\n")).by("other").field("host", "other.test"),
        refuse("host/unknown", to("Host: unknown.test\r\n"), &[404]),
        refuse("host/suffix-of-ours", to("Host: xgood.test\r\n"), &[404]),
        refuse("host/subdomain-of-ours", to("Host: a.good.test\r\n"), &[404]),
        refuse("host/ours-then-more", to("Host: good.test.evil.test\r\n"), &[404]),
        refuse("host/ip", to("Host: 127.0.0.1\r\n"), &[404]),
        refuse("host/ip6", to("Host: [::1]:80\r\n"), &[404]),
        refuse("host/no-endpoints", to("Host: empty.test\r\n"), &[503]),
        refuse("host/redirect", to("Host: redirect.test\r\n"), &[308]),
        refuse("host/empty", to("Host:\r\n"), &[400, 404]),
        refuse("host/none", "GET /a HTTP/1.1\r\n\r\n", REFUSED),
    ];
    for (name, fields) in [
        ("twice-same", "Host: good.test\r\nHost: good.test\r\n"),
        ("twice-different", "Host: good.test\r\nHost: other.test\r\n"),
        ("twice-odd-case", "Host: good.test\r\nhOST: other.test\r\n"),
        ("twice-one-empty", "Host: good.test\r\nHost:\r\n"),
        ("twice-apart", "Host: good.test\r\nX: y\r\nHost: other.test\r\n"),
        ("space-before-colon", "Host : good.test\r\n"),
        ("folded", "Host: good.test\r\n other.test\r\n"),
        ("folded-value", "Host:\r\n good.test\r\n"),
    ] {
        cases.push(refuse(&format!("host/{name}"), to(fields), REFUSED));
    }
    for (name, value) in [
        ("comma", "good.test, other.test"),
        ("comma-no-space", "good.test,other.test"),
        ("space-inside", "good.test other.test"),
        ("userinfo", "user@good.test"),
        ("userinfo-ours-first", "good.test@other.test"),
        ("path", "good.test/private"),
        ("query", "good.test?x"),
        ("fragment", "good.test#x"),
        ("backslash", "good.test\\private"),
        ("port-letters", "good.test:abc"),
        ("port-too-big", "good.test:65536"),
        ("port-very-big", "good.test:99999999999"),
        ("port-minus", "good.test:-80"),
        ("port-plus", "good.test:+80"),
        ("port-twice", "good.test:80:80"),
        ("port-space", "good.test: 80"),
        ("port-at", "good.test:80@other.test"),
        ("empty-label", "good..test"),
        ("dots-only", ".."),
        ("leading-dot", ".good.test"),
        ("two-trailing-dots", "good.test.."),
        ("bracket-open", "[good.test"),
        ("bracket-name", "[good.test]"),
        ("bracket-then-name", "[::1]good.test"),
        ("percent", "good%2etest"),
        ("star", "*.test"),
        ("quote", "\"good.test\""),
        ("angle", "<good.test>"),
        ("eight-bit", "g\u{f6}\u{f6}d.test"),
        ("nul", "good.test\0"),
        ("tab-inside", "good.test\tother.test"),
        ("vertical-tab", "good.test\x0b"),
        ("scheme", "http://good.test"),
        ("semicolon", "good.test;other.test"),
        ("colon-only", ":80"),
    ] {
        cases.push(refuse(&format!("host/{name}"), to(&format!("Host: {value}\r\n")), REFUSED));
    }
    cases.push(refuse(
        "host/very-long",
        to(&format!("Host: {}.test\r\n", "a.".repeat(2_000))),
        REFUSED,
    ));
    cases.push(refuse(
        "host/long-label",
        to(&format!("Host: {}.test\r\n", "a".repeat(64))),
        REFUSED,
    ));
    cases
}

fn absolute() -> Vec<Case> {
    let line = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\n{host}\r\n");
    let good = "Host: good.test\r\n";
    let mut cases = vec![
        serve("absolute/agrees", line("http://good.test/a?b=c", good))
            .target("/a?b=c")
            .field("host", "good.test"),
        serve("absolute/agrees-odd-case", line("HTTP://GOOD.test/a", good)).target("/a"),
        serve("absolute/default-port", line("http://good.test:80/a", good)).target("/a"),
        serve("absolute/no-path", line("http://good.test", good)).target("/"),
        serve("absolute/query-no-path", line("http://good.test?q", good)).target("/?q"),
        serve("absolute/other", line("http://other.test/a", "Host: other.test\r\n"))
            .by("other")
            .target("/a"),
        serve("absolute/private", line("http://good.test/private", good))
            .by("secret")
            .target("/private"),
    ];
    for (name, target, host) in [
        ("disagrees", "http://other.test/a", good),
        ("disagrees-port", "http://good.test:81/a", good),
        ("userinfo", "http://user@good.test/a", good),
        ("userinfo-host", "http://good.test@other.test/a", good),
        ("userinfo-password", "http://a:b@good.test/a", good),
        ("no-host-field", "http://good.test/a", ""),
        ("two-hosts", "http://good.test/a", "Host: good.test\r\nHost: good.test\r\n"),
        ("no-authority", "http:///a", good),
        ("no-slashes", "http:/a", good),
        ("bad-port", "http://good.test:x/a", good),
        ("fragment", "http://good.test/a#b", good),
        ("file", "file:///etc/passwd", good),
        ("ftp", "ftp://good.test/a", good),
        ("javascript", "javascript:alert(1)", good),
        ("backslash", "http:\\\\good.test\\a", good),
        ("empty-host-field", "http://good.test/a", "Host:\r\n"),
    ] {
        cases.push(refuse(&format!("absolute/{name}"), line(target, host), &[400, CLOSED]));
    }
    // Two slashes make no authority in origin form.
    cases.push(
        serve("absolute/network-path-is-a-path", get("//other.test/a", ""))
            .target("//other.test/a"),
    );
    cases
}
