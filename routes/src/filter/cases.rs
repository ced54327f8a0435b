//! Requests that are answered at once for what they say: `if (…) { return …; }` and `rewrite … redirect` in snippets of
//! nginx (`ngx_http_rewrite_module`).

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, header};
use regex::bytes::{Regex, RegexBuilder};

use crate::{
    action::Redirect,
    cookie,
    matcher::RequestView,
    model::Scheme,
    policy::hash_by::argument,
    template::{Named, Piece, Variable, pieces},
};

/// A condition, and the answer to requests that meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What of a request is looked at.
    pub subject: Subject,
    /// What it must be like.
    pub test: Test,
    /// The answer is for requests that are not like that.
    pub negated: bool,
    /// What they get.
    pub answer: Answer,
}

/// A variable of nginx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `$http_NAME`: all fields of the name.
    Header(HeaderName),
    /// `$cookie_NAME`.
    Cookie(Arc<str>),
    /// `$arg_NAME`.
    Argument(Box<str>),
    /// `$request_uri`: path and query as received.
    Target,
    /// The canonical path.
    Path,
    /// `$args`, `$query_string`.
    Query,
    /// `$host`: without the port, in lower case.
    Host,
    /// `$scheme`.
    Scheme,
    /// `$request_method`.
    Method,
    /// `$remote_addr`: the address of the client, as trusted proxies tell it.
    Client,
}

/// What a value must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// Neither empty nor `0`.
    Given,
    /// This one.
    Is(Box<str>),
    /// One in which the expression is found.
    Matches(Pattern),
}

/// What requests get that meet a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// They are sent elsewhere.
    Redirect(Redirect),
    /// They are sent to where their path leads.
    Rewritten(Rewritten),
    /// They are refused with this status, 400 or above.
    Refuse(u16),
}

/// Where requests are sent whose path an expression matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// 301 or 302.
    pub status: u16,
    /// The expression.
    pub pattern: Pattern,
    /// A URL, or a path of the same host, with what it has captured, part by part.
    to: Box<[To]>,
    /// It is a path.
    own_host: bool,
    /// The query of the request goes behind it.
    keeps_query: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    Text(Box<str>),
    Variable(Variable),
    /// `$1` to `$9`.
    Capture(usize),
}

impl Rewritten {
    /// Reads a replacement as `rewrite` has it: one with `?` at its end leaves the query out. `None`: it is neither a URL
    /// nor a path, or holds a variable that is not known.
    pub fn new(status: u16, pattern: Pattern, to: &str) -> Option<Self> {
        let plain =
            to.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && !b"\"<>\\#".contains(&byte));
        let (bare, keeps_query) = to.strip_suffix('?').map_or((to, true), |bare| (bare, false));
        let pieces = pieces(bare);
        let own_host =
            bare.starts_with('/') || pieces.first().is_some_and(|first| first.group().is_some());
        let begins = ["http://", "https://", "$scheme://"];
        if !plain || !(own_host || begins.iter().any(|begin| bare.starts_with(begin))) {
            return None;
        }
        let parts = pieces.into_iter().map(|piece| match (piece.group(), piece) {
            (Some(group), _) => Some(To::Capture(group)),
            (None, Piece::Text(text)) => Some(To::Text(text.into())),
            (None, Piece::Name(name)) => Variable::named(name).map(To::Variable),
        });
        let to = parts.collect::<Option<_>>()?;
        Some(Self { status, pattern, to, own_host, keeps_query })
    }

    /// The URL for a request; `value` appends what a variable stands for.
    pub fn target(
        &self,
        request: &RequestView<'_>,
        mut value: impl FnMut(Variable, &mut String),
    ) -> String {
        let captures = self.pattern.regex.captures(request.path.as_bytes());
        let mut out = String::new();
        if self.own_host {
            // As nginx sends it, and as no capture can turn into a URL of another host.
            value(Variable::Scheme, &mut out);
            out.push_str("://");
            value(Variable::HttpHost, &mut out);
        }
        let path = out.len();
        for part in &self.to {
            match part {
                To::Text(text) => out.push_str(text),
                To::Variable(variable) => value(*variable, &mut out),
                To::Capture(group) => {
                    let found = captures.as_ref().and_then(|captures| captures.get(*group));
                    let found = found.map(|found| String::from_utf8_lossy(found.as_bytes()));
                    out.push_str(&found.unwrap_or_default());
                }
            }
        }
        if self.own_host && !out[path..].starts_with('/') {
            out.insert(path, '/');
        }
        if let Some(query) = request.parts.uri.query().filter(|_| self.keeps_query) {
            out.push(if out.contains('?') { '&' } else { '?' });
            out.push_str(query);
        }
        out
    }
}

/// A regular expression over bytes, as PCRE reads one without UTF. Two are equal if they are spelled the same.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    any_case: bool,
}

impl Pattern {
    /// Compiles an expression; `None`: it is not supported, too large, or means another thing in PCRE.
    pub fn new(text: &str, any_case: bool) -> Option<Self> {
        // Operations of sets, and the begin and end of words: plain characters in PCRE.
        if ["&&", "--", "~~", "\\<", "\\>"].iter().any(|other| text.contains(other)) {
            return None;
        }
        let mut builder = RegexBuilder::new(text);
        let regex = builder.unicode(false).case_insensitive(any_case).size_limit(1 << 18).build();
        Some(Self { regex: regex.ok()?, any_case })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        (self.regex.as_str(), self.any_case) == (other.regex.as_str(), other.any_case)
    }
}

impl Eq for Pattern {}

impl Subject {
    /// The variable of a name, without its `$`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "request_uri" => Self::Target,
            "args" | "query_string" => Self::Query,
            "host" => Self::Host,
            "scheme" | "pass_access_scheme" => Self::Scheme,
            "request_method" => Self::Method,
            "remote_addr" | "the_real_ip" => Self::Client,
            _ => match Named::read(name)? {
                Named::Argument(name) => Self::Argument(name.into()),
                Named::Cookie(name) => Self::Cookie(name.into()),
                Named::Header(name) => Self::Header(name),
            },
        })
    }

    fn of<'r>(&'r self, request: &RequestView<'r>, client: &impl Fn() -> IpAddr) -> Cow<'r, [u8]> {
        let (uri, headers) = (&request.parts.uri, &request.parts.headers);
        let text = match self {
            Self::Header(header::HOST) if uri.authority().is_some() => {
                uri.authority().map_or("", |authority| authority.as_str())
            }
            Self::Header(name) => return joined(headers, name),
            Self::Cookie(name) => {
                return cookie::values(headers, name).next().unwrap_or_default().into();
            }
            Self::Argument(name) => argument(uri.query(), name),
            Self::Path => request.path,
            Self::Target => uri.path_and_query().map_or("/", |target| target.as_str()),
            Self::Query => uri.query().unwrap_or_default(),
            Self::Host => request.host,
            Self::Scheme => match request.scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            },
            Self::Method => request.parts.method.as_str(),
            Self::Client => return client().to_string().into_bytes().into(),
        };
        text.as_bytes().into()
    }
}

/// All fields of a name, as nginx joins them.
fn joined<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Cow<'h, [u8]> {
    let mut values = headers.get_all(name).iter().map(|value| value.as_bytes());
    let first = values.next().unwrap_or_default();
    let between: &[u8] = if *name == header::COOKIE { b"; " } else { b", " };
    let mut all = Cow::Borrowed(first);
    for value in values {
        let all = all.to_mut();
        all.extend_from_slice(between);
        all.extend_from_slice(value);
    }
    all
}

impl Case {
    /// The answer to a request: that of the first case that it meets.
    pub fn answer<'c>(
        cases: &'c [Self],
        request: &RequestView<'_>,
        client: impl Fn() -> IpAddr,
    ) -> Option<&'c Answer> {
        cases.iter().find(|case| case.is_met(request, &client)).map(|case| &case.answer)
    }

    /// Whether a request meets the condition.
    pub(crate) fn is_met(&self, request: &RequestView<'_>, client: &impl Fn() -> IpAddr) -> bool {
        let value = self.subject.of(request, client);
        let like_that = match &self.test {
            Test::Given => !value.is_empty() && *value != *b"0",
            Test::Is(text) => *value == *text.as_bytes(),
            Test::Matches(pattern) => pattern.regex.is_match(&value),
        };
        like_that != self.negated
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn met(variable: &str, test: Test, fields: &[(&str, &str)]) -> bool {
        let subject = Subject::named(variable).unwrap();
        let case = Case { subject, test, negated: false, answer: Answer::Refuse(403) };
        let mut request = Request::builder().uri("/a%20b?x=1&Y=2");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let view =
            RequestView { scheme: Scheme::Https, host: "a.test", path: "/a%20b", parts: &parts };
        Case::answer(&[case], &view, || "2001:db8::1".parse().unwrap()).is_some()
    }

    #[test]
    fn a_condition_is_met_by_what_the_variable_is_of_the_request() {
        let fields = [
            ("host", "A.test:80"),
            ("x-a", "one"),
            ("x-a", "two"),
            ("cookie", "s=1"),
            ("cookie", "t=2"),
        ];
        for (variable, value) in [
            ("http_x_a", "one, two"),
            ("http_cookie", "s=1; t=2"),
            ("http_host", "A.test:80"),
            ("http_x_b", ""),
            ("cookie_t", "2"),
            ("arg_y", "2"),
            ("arg_z", ""),
            ("args", "x=1&Y=2"),
            ("request_uri", "/a%20b?x=1&Y=2"),
            ("host", "a.test"),
            ("scheme", "https"),
            ("request_method", "GET"),
            ("remote_addr", "2001:db8::1"),
        ] {
            assert!(met(variable, Test::Is(value.into()), &fields), "{variable}");
            assert!(!met(variable, Test::Is("other".into()), &fields), "{variable}");
            assert_eq!(met(variable, Test::Given, &fields), !value.is_empty(), "{variable}");
        }
        assert!(!met("http_x_a", Test::Given, &[("x-a", "0")]), "as in nginx");
        for unknown in ["uri", "geoip_country_code", "http_", "", "remote_user"] {
            assert_eq!(Subject::named(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_path_leads_to_a_url_of_its_parts_and_never_to_another_host() {
        let target = |pattern: &str, to: &str, uri: &str, path: &str| {
            let pattern = Pattern::new(pattern, false).unwrap();
            let rewritten = Rewritten::new(302, pattern, to)?;
            let (parts, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
            let (scheme, host) = (Scheme::Https, "a.test");
            let view = RequestView { scheme, host, path, parts: &parts };
            Some(rewritten.target(&view, |variable, out| {
                out.push_str(match variable {
                    Variable::Scheme => "https",
                    Variable::HttpHost => "a.test:8443",
                    Variable::Host => "a.test",
                    _ => "?",
                });
            }))
        };
        for (pattern, to, uri, url) in [
            ("^(/dashboard)$", "$1/", "/dashboard", Some("https://a.test:8443/dashboard/")),
            ("^([^.?]*[^/])$", "$1/", "/a/b?c", Some("https://a.test:8443/a/b/?c")),
            ("^/go/(.*)$", "$1", "/go/evil.test", Some("https://a.test:8443/evil.test")),
            ("^(/dashboard)$", "/$1/", "/dashboard", Some("https://a.test:8443//dashboard/")),
            ("^/old/(.*)$", "/new/$1", "/old/a%20b?c=d", Some("https://a.test:8443/new/a%20b?c=d")),
            ("^/old/(.*)$", "/new?p=$1", "/old/x?c=d", Some("https://a.test:8443/new?p=x&c=d")),
            ("^/old/(.*)$", "https://b.test/$1?", "/old/x?c=d", Some("https://b.test/x")),
            ("^/(a)(b)?", "$scheme://$host/$2$1c", "/a", Some("https://a.test/ac")),
            ("^", "https://b.test", "/x", Some("https://b.test")),
            ("^/a(.*)", "/$1", "/a/evil.test", Some("https://a.test:8443//evil.test")),
            ("^", "javascript:x", "/", None),
            ("^", "/$cookie_a", "/", None),
            ("^", "/a b", "/", None),
        ] {
            let path = uri.split('?').next().unwrap();
            assert_eq!(target(pattern, to, uri, path).as_deref(), url, "{pattern} {to} {uri}");
        }
    }

    #[test]
    fn expressions_are_those_of_pcre_or_none() {
        let matches = |text: &str, any_case, value: &str| {
            let pattern = Pattern::new(text, any_case).unwrap();
            met("http_x_a", Test::Matches(pattern), &[("x-a", value)])
        };
        assert!(matches("(bot|crawl)", true, "MegaBOT") && !matches("(bot|crawl)", false, "BOT"));
        assert!(matches("^$", false, "") && matches(r"^\d+$", false, "12"));
        assert!(!matches(r"^\d+$", false, "\u{0663}"), "a digit is one of ASCII");
        for text in ["(?!a)", "(a", r"(a)\1", "[a&&b]", r"\<a"] {
            assert_eq!(Pattern::new(text, false), None, "{text}");
        }
    }
}
