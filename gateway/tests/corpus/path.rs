//! Paths (P12): one canonical path decides, and what goes upstream means the same.

use super::{Case, get, refuse, serve};

const REFUSED: &[u16] = &[400];

/// The cases of this class.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, target, upstream) in [
        ("plain", "/a/b", "/a/b"),
        ("dot", "/a/./b", "/a/b"),
        ("dot-dot", "/a/../b", "/b"),
        ("dot-dot-twice", "/a/b/../../c", "/c"),
        ("dot-last", "/a/.", "/a/"),
        ("dot-dot-last", "/a/b/..", "/a/"),
        ("out-of-private", "/private/../a", "/a"),
        ("out-of-private-encoded", "/private/%2e%2e/a", "/a"),
        ("three-dots", "/a/.../b", "/a/.../b"),
        ("dots-in-name", "/a..b/c.d", "/a..b/c.d"),
        ("query-with-dots", "/a?b=/../private", "/a?b=/../private"),
        ("query-with-escapes", "/a?b=%2f%5c%00%zz", "/a?b=%2f%5c%00%zz"),
        ("query-empty", "/a?", "/a?"),
        ("query-two", "/a?b?c", "/a?b?c"),
        ("semicolon", "/a;b=c/d", "/a;b=c/d"),
        ("space-escaped", "/a%20b", "/a%20b"),
        ("utf8-escaped", "/caf%C3%A9", "/caf%C3%A9"),
        ("percent-escaped", "/a%25b", "/a%25b"),
        ("double-escaped-slash", "/a%252fb", "/a%252fb"),
        ("slash-escaped", "/a%2fb", "/a%2fb"),
        ("slash-escaped-upper", "/a%2Fb", "/a%2Fb"),
        ("slash-escaped-twice", "/@a%2Fb/-/c%2fd.tgz", "/@a%2Fb/-/c%2fd.tgz"),
        ("backslash-escaped", "/a%5cb", "/a%5cb"),
        ("backslash-escaped-upper", "/a%5Cb", "/a%5Cb"),
        ("double-slash", "/a//b", "/a//b"),
        ("double-slash-first", "//a", "//a"),
        ("trailing-slash", "/a/", "/a/"),
        ("sub-delims", "/a!$&'()*+,;=:@b", "/a!$&'()*+,;=:@b"),
        ("dot-and-query", "/a/../b?c=../d", "/b?c=../d"),
        ("private-is-not-a-prefix", "/privateer", "/privateer"),
        ("private-in-another-case", "/Private", "/Private"),
    ] {
        cases.push(serve(&format!("path/{name}"), get(target, "")).target(upstream));
    }
    for (name, target, upstream) in [
        ("private", "/private", "/private"),
        ("private-deep", "/private/x", "/private/x"),
        ("into-private", "/a/../private", "/private"),
        ("into-private-escaped-dots", "/a/%2e%2E/private/x", "/private/x"),
        ("into-private-half-escaped", "/a/.%2e/private", "/private"),
        ("into-private-dot", "/./private", "/private"),
        ("private-with-query", "/private?x", "/private?x"),
        ("private-slash-escaped", "/private/x%2Fy", "/private/x%2Fy"),
    ] {
        let case = serve(&format!("path/{name}"), get(target, "")).by("secret");
        cases.push(case.target(upstream));
    }
    // Seen by the router as /private, whatever the spelling that goes upstream.
    for (name, target) in [
        ("private-escaped-letter", "/%70rivate"),
        ("private-all-escaped", "/%70%72%69%76%61%74%65/x"),
        ("private-two-slashes", "//private"),
        ("private-two-slashes-deep", "//private//x"),
    ] {
        cases.push(serve(&format!("path/{name}"), get(target, "")).by("secret"));
    }
    for (name, target) in [
        ("above-root", "/../a"),
        ("above-root-deep", "/a/../../b"),
        ("above-root-escaped", "/%2e%2e/a"),
        ("above-root-private", "/../private"),
        ("slash-escaped-private", "/a/..%2fprivate"),
        ("slash-escaped-into-private", "/private%2Fx"),
        ("slash-escaped-first", "/%2fprivate"),
        ("backslash-escaped-into-private", "/private%5cx"),
        ("backslash-dots", "/a/..%5cprivate"),
        ("backslash", "/a\\b"),
        ("nul-escaped", "/a%00b"),
        ("nul-after-private", "/private%00"),
        ("newline-escaped", "/a%0ab"),
        ("crlf-escaped", "/a%0d%0aX-Evil:1"),
        ("percent-alone", "/a%"),
        ("percent-one-digit", "/a%2"),
        ("percent-letters", "/a%zz"),
        ("percent-half", "/a%2gb"),
        ("percent-u", "/a%u002f"),
        ("delete-escaped", "/a%7f"),
    ] {
        cases.push(refuse(&format!("path/{name}"), get(target, ""), REFUSED));
    }
    cases
}
