//! How a value of a field becomes another: the pairs of `proxy_cookie_domain`, `proxy_cookie_path` and
//! `proxy_redirect` (`ngx_http_proxy_module`).

use regex::{Captures, Regex, RegexBuilder};

use crate::template::{Piece, pieces};

/// A pair: what is looked for, and what stands there instead.
#[derive(Clone, Debug)]
pub struct Change {
    /// As the object spells them.
    text: (Box<str>, Box<str>),
    from: From,
    to: Box<[Part]>,
    /// What a cookie has behind its new path.
    attributes: Box<[Box<str>]>,
}

#[derive(Clone, Debug)]
enum From {
    /// The begin of the value.
    Begin(Box<[Part]>),
    /// All of it, whatever its case, without a dot in front.
    Domain(Box<str>),
    /// Anything in it.
    Regex(Regex),
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    Capture(usize),
    Fact(Fact),
}

#[derive(Clone, Copy, Debug)]
enum Fact {
    Host,
    HttpHost,
    Scheme,
}

/// What variables stand for in the answer to one request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// `$host`: the host without its port.
    pub host: &'a str,
    /// `$http_host`: the host as received.
    pub http_host: &'a str,
    /// `$scheme`: `http` or `https`.
    pub scheme: &'a str,
}

impl Change {
    /// Of the begin of a value, or by an expression behind `~` (`~*`: whatever the case).
    ///
    /// # Errors
    /// What is wrong with one of the two.
    pub fn of_begin(from: &str, to: &str) -> Result<Self, String> {
        let pattern = match expression(from, false)? {
            Some(regex) => From::Regex(regex),
            None => From::Begin(parts(from)?),
        };
        Self::new(from, to, pattern)
    }

    /// Of a domain, or by an expression behind `~`.
    ///
    /// # Errors
    /// What is wrong with one of the two.
    pub fn of_domain(from: &str, to: &str) -> Result<Self, String> {
        let pattern = match expression(from, true)? {
            Some(regex) => From::Regex(regex),
            None => From::Domain(from.strip_prefix('.').unwrap_or(from).into()),
        };
        Self::new(from, to, pattern)
    }

    /// Of the path of a cookie: behind a semicolon of the new one stand attributes that the cookie gets besides.
    ///
    /// # Errors
    /// What is wrong with one of the two.
    pub fn of_path(from: &str, to: &str) -> Result<Self, String> {
        let (path, attributes) = to.split_once(';').unwrap_or((to, ""));
        let attributes = attributes.split(';').map(str::trim).filter(|text| !text.is_empty());
        let attributes: Box<[Box<str>]> = attributes.map(attribute).collect::<Result<_, _>>()?;
        Ok(Self {
            text: (from.into(), to.into()),
            attributes,
            ..Self::of_begin(from, path.trim_end())?
        })
    }

    fn new(from: &str, to: &str, pattern: From) -> Result<Self, String> {
        let (to, text) = (parts(to)?, (from.into(), to.into()));
        Ok(Self { text, from: pattern, to, attributes: Box::default() })
    }

    /// Attributes that a cookie gets with its new path, each one as it is written.
    pub fn attributes(&self) -> &[Box<str>] {
        &self.attributes
    }

    /// What the value becomes, if the pair is about it.
    pub fn apply(&self, value: &str, facts: Facts<'_>) -> Option<String> {
        let mut out = String::with_capacity(value.len() + 32);
        match &self.from {
            From::Begin(begin) => {
                let begin = filled(begin, facts);
                let rest = value.strip_prefix(&*begin)?;
                fill(&self.to, None, facts, &mut out);
                out.push_str(rest);
            }
            From::Domain(domain) => {
                let bare = value.strip_prefix('.').unwrap_or(value);
                if !bare.eq_ignore_ascii_case(domain) {
                    return None;
                }
                fill(&self.to, None, facts, &mut out);
            }
            From::Regex(regex) => {
                let captures = regex.captures(value)?;
                fill(&self.to, Some(&captures), facts, &mut out);
            }
        }
        Some(out)
    }
}

/// By what the object says.
impl PartialEq for Change {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
            && std::mem::discriminant(&self.from) == std::mem::discriminant(&other.from)
    }
}

impl Eq for Change {}

/// An attribute that makes a cookie safer, or says whose it is: any other text would be a way to write into answers.
fn attribute(text: &str) -> Result<Box<str>, String> {
    const KNOWN: [&str; 6] =
        ["Secure", "HttpOnly", "Partitioned", "SameSite=Strict", "SameSite=Lax", "SameSite=None"];
    let bare: String = text.split_whitespace().collect();
    match KNOWN.iter().any(|known| known.eq_ignore_ascii_case(&bare)) {
        true => Ok(bare.into()),
        false => Err(format!(
            "{text:?} is none of Secure, HttpOnly, Partitioned and SameSite=Strict, Lax or None"
        )),
    }
}

fn expression(from: &str, any_case: bool) -> Result<Option<Regex>, String> {
    let Some(text) = from.strip_prefix('~') else { return Ok(None) };
    let (text, any_case) = match text.strip_prefix('*') {
        Some(text) => (text, true),
        None => (text, any_case),
    };
    let regex = RegexBuilder::new(text).case_insensitive(any_case).size_limit(1 << 20).build();
    regex.map(Some).map_err(|_| format!("the expression {text:?} is not supported"))
}

fn parts(text: &str) -> Result<Box<[Part]>, String> {
    let parts = pieces(text).into_iter().map(|piece| {
        Ok(match (piece.group(), piece) {
            (Some(group), _) => Part::Capture(group),
            (None, Piece::Text(text)) => Part::Text(text.into()),
            (None, Piece::Name("host")) => Part::Fact(Fact::Host),
            (None, Piece::Name("http_host")) => Part::Fact(Fact::HttpHost),
            (None, Piece::Name("scheme")) => Part::Fact(Fact::Scheme),
            (None, Piece::Name(name)) => return Err(format!("the variable ${name} is not known")),
        })
    });
    parts.collect()
}

fn filled(parts: &[Part], facts: Facts<'_>) -> String {
    let mut out = String::new();
    fill(parts, None, facts, &mut out);
    out
}

fn fill(parts: &[Part], captures: Option<&Captures<'_>>, facts: Facts<'_>, out: &mut String) {
    for part in parts {
        out.push_str(match part {
            Part::Text(text) => text,
            Part::Capture(number) => {
                captures.and_then(|all| all.get(*number)).map_or("", |group| group.as_str())
            }
            Part::Fact(Fact::Host) => facts.host,
            Part::Fact(Fact::HttpHost) => facts.http_host,
            Part::Fact(Fact::Scheme) => facts.scheme,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts<'_> = Facts { host: "a.test", http_host: "a.test:8080", scheme: "https" };

    #[test]
    fn pairs_change_what_they_are_about_and_nothing_else() {
        for (from, to, value, expected) in [
            ("http://", "https://", "http://b.test/x", Some("https://b.test/x")),
            ("http://", "https://", "/x", None),
            (
                "http://$host/",
                "$scheme://$http_host/",
                "http://a.test/x",
                Some("https://a.test:8080/x"),
            ),
            ("~^http://([^/]+):8000/(.*)$", "/$1/$2", "http://b:8000/x", Some("/b/x")),
            ("~*^HTTP://b/", "/", "http://b/x", Some("/")),
            ("~^HTTP://b/", "/", "http://b/x", None),
            ("/app", "/", "/app/x", Some("//x")),
        ] {
            let change = Change::of_begin(from, to).unwrap();
            assert_eq!(change.apply(value, FACTS).as_deref(), expected, "{from} {value}");
        }
        for (from, to, value, expected) in [
            ("localhost", "example.org", ".LocalHost", Some("example.org")),
            ("localhost", "example.org", "other.localhost", None),
            (r"~\.([a-z]+\.[a-z]+)$", "$1", "www.Example.org", Some("Example.org")),
        ] {
            let change = Change::of_domain(from, to).unwrap();
            assert_eq!(change.apply(value, FACTS).as_deref(), expected, "{from} {value}");
        }
        for (from, to, value, path, attributes) in [
            ("/", "/; secure", "/", "/", "secure"),
            ("/", "/; secure", "/app", "/app", "secure"),
            ("/app", "/ ;HttpOnly;SameSite = Lax;", "/app", "/", "HttpOnly SameSite=Lax"),
            ("~^/(.*)$", "/$1;Secure", "/x", "/x", "Secure"),
        ] {
            let change = Change::of_path(from, to).unwrap();
            assert_eq!(change.apply(value, FACTS).as_deref(), Some(path), "{from} {to}");
            assert_eq!(change.attributes().join(" "), attributes, "{from} {to}");
        }
        for to in ["/; Domain=evil.test", "/; secure; foo", "/; SameSite=Maybe", "/; $host"] {
            assert!(Change::of_path("/", to).is_err(), "{to}");
        }
        for (from, to) in [("~(", ""), ("a", "$request_body"), ("a", "$"), ("$0", "")] {
            assert!(Change::of_begin(from, to).is_err(), "{from} {to}");
        }
    }
}
