//! Which requests a rule is for, within its host.
//!
//! The translations make it, [`crate::admit`] decides who keeps a contested one, [`crate::table`] finds the
//! rule that a request belongs to. A condition that a request must meet besides is a field of [`Matches`] and
//! a line of [`Matches::admits`].

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    sync::Arc,
};

use http::request::Parts;

use crate::model::Scheme;

/// A request as rules see it. Host and path are read always, of the rest only what a rule asks for.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'r> {
    /// Whether it comes over TLS.
    pub scheme: Scheme,
    /// Canonical ([`crate::host::canonical`]).
    pub host: &'r str,
    /// Canonical ([`crate::path::canonical`]).
    pub path: &'r str,
    /// Method, query and header fields, as received. Its path and its host are not the canonical ones.
    pub parts: &'r Parts,
}

/// What a request must be like to be answered by a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matches {
    /// Its canonical path.
    pub path: PathMatch,
    /// Whether it comes over TLS.
    pub schemes: Schemes,
}

impl Matches {
    /// Whether a request whose path matches meets all other conditions.
    pub fn admits(&self, request: &RequestView<'_>) -> bool {
        self.schemes.contains(request.scheme)
    }
}

/// The schemes that a rule is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schemes {
    /// Clear text.
    pub http: bool,
    /// TLS, terminated here.
    pub https: bool,
}

impl Schemes {
    /// Clear text and TLS.
    pub const BOTH: Self = Self { http: true, https: true };

    /// Whether the scheme is among them.
    pub fn contains(self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Http => self.http,
            Scheme::Https => self.https,
        }
    }
}

/// How a rule looks at the canonical path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathMatch {
    /// Byte for byte (`pathType: Exact`).
    Exact(Arc<str>),
    /// Element by element, a trailing slash ignored on both sides (`pathType: Prefix`).
    Prefix(Arc<str>),
    /// OpenShift's prefix: `/sub/` matches `/sub/x` but not `/sub`; empty and `/` match everything.
    RoutePrefix(Arc<str>),
    /// A regular expression (`use-regex`, captures of `rewrite-target`).
    Regex(PathRegex),
    /// What remains of a host when no path matches (`spec.defaultBackend`).
    Default,
}

impl PathMatch {
    /// The path as the object spells it.
    pub fn text(&self) -> &str {
        match self {
            Self::Exact(path) | Self::Prefix(path) | Self::RoutePrefix(path) => path,
            Self::Regex(regex) => regex.text(),
            Self::Default => "",
        }
    }

    /// The kind of match as `plan` prints it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exact(_) => "Exact",
            Self::Prefix(_) => "Prefix",
            Self::RoutePrefix(_) => "RoutePrefix",
            Self::Regex(_) => "Regex",
            Self::Default => "Default",
        }
    }
}

/// Largest compiled program of one expression, in bytes: a tenant's expression must not eat the node.
const REGEX_SIZE: usize = 1 << 20;

/// A regular expression over paths: anchored at the start, ignoring case, as ingress-nginx does
/// (`~* ^path`). Two are equal if they are spelled the same.
#[derive(Clone, Debug)]
pub struct PathRegex {
    text: Arc<str>,
    regex: regex::Regex,
}

impl PathRegex {
    /// Compiles an expression; fails on what is not supported (look-around, back-references) or too large.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        let build = |text: &str| {
            let mut builder = regex::RegexBuilder::new(text);
            builder.case_insensitive(true).size_limit(REGEX_SIZE).build()
        };
        // Alone first: `a)(b` would make sense within the group.
        build(text)?;
        Ok(Self { regex: build(&format!("^(?:{text})"))?, text: text.into() })
    }

    /// The expression as the object spells it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a canonical path matches.
    pub fn is_match(&self, path: &str) -> bool {
        self.regex.is_match(path)
    }

    /// Appends `template` to `out`, with what the groups of the expression hold of a canonical path in the
    /// place of its `$n`. Appends nothing if the path does not match.
    pub fn expand(&self, path: &str, template: &str, out: &mut String) {
        if let Some(captures) = self.regex.captures(path) {
            captures.expand(template, out);
        }
    }
}

impl PartialEq for PathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathRegex {}

impl Hash for PathRegex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for PathRegex {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PathRegex {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_cannot_break_out_of_its_anchor() {
        assert!(PathRegex::new("a)(b").is_err());
        assert!(PathRegex::new("(?=x)").is_err());
        assert!(!PathRegex::new("/a|b").unwrap().is_match("/xb"));
    }
}
