//! Which requests a rule is for, within its host.
//!
//! The translations make it, [`crate::admit`] decides who keeps a contested one, [`crate::table`] finds the
//! rule that a request belongs to. A condition that a request must meet besides is a field of [`Matches`] and
//! a line of [`Matches::admits`].

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    ops::Range,
    sync::Arc,
};

use http::request::Parts;

use crate::{model::Scheme, path};

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

    /// A path that all of its requests are at or below, as a cookie has it: of an expression what does not vary.
    pub fn cookie_path(&self) -> &str {
        let regex = match self {
            Self::Exact(path) | Self::Prefix(path) | Self::RoutePrefix(path) => return path,
            Self::Default => return "/",
            Self::Regex(regex) => regex,
        };
        let varies = |text: &str| text.contains(|c| c == '.' || EXPRESSION.contains(&c));
        match regex.text().split_once("(/|$)") {
            Some((head, rest)) if !head.is_empty() && !varies(head) && !rest.contains('|') => head,
            _ => literal_directory(regex.text()).unwrap_or("/"),
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

/// What only means something in an expression.
pub(crate) const EXPRESSION: [char; 13] =
    ['(', ')', '[', ']', '{', '}', '*', '+', '?', '|', '^', '$', '\\'];

/// The directory that every match of an expression begins with.
pub(crate) fn literal_directory(text: &str) -> Option<&str> {
    let end = text.find(|c| c == '.' || EXPRESSION.contains(&c));
    let mut head = &text[..end.unwrap_or(text.len())];
    if text.contains('|') {
        return None;
    }
    if end.is_some_and(|end| matches!(text.as_bytes()[end], b'*' | b'?' | b'{')) {
        // The character before it need not be there.
        head = &head[..head.char_indices().next_back().map_or(0, |(at, _)| at)];
    }
    Some(&head[..=head.rfind('/')?])
}

/// Largest compiled program of one expression, in bytes: a tenant's expression must not eat the node.
const REGEX_SIZE: usize = 1 << 20;
/// Steps back that one comparison may take, of an expression that needs any. Some milliseconds.
const MAX_BACKTRACKS: usize = 5_000;

/// A regular expression over paths: anchored at the start, ignoring case, as ingress-nginx does
/// (`~* ^path`). It and the paths it is compared with may spell characters as they are or percent-encoded.
/// Two are equal if they are spelled the same.
#[derive(Clone, Debug)]
pub struct PathRegex {
    text: Arc<str>,
    engine: Engine,
}

#[derive(Clone, Debug)]
enum Engine {
    /// In time linear in the path.
    Linear(regex::Regex),
    /// With look-around and back-references, which PCRE has, and a bound on its steps.
    Backtracking(Arc<fancy_regex::Regex>),
}

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegexError(String);

/// A comparison has taken more steps than it may: whether the path matches is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

impl Engine {
    fn new(text: &str) -> Result<Self, RegexError> {
        let mut builder = regex::RegexBuilder::new(text);
        match builder.case_insensitive(true).size_limit(REGEX_SIZE).build() {
            Ok(regex) => Ok(Self::Linear(regex)),
            Err(error @ regex::Error::CompiledTooBig(_)) => Err(RegexError(brief(&error))),
            Err(error) => {
                let mut builder = fancy_regex::RegexBuilder::new(text);
                builder.case_insensitive(true).backtrack_limit(MAX_BACKTRACKS);
                builder.delegate_size_limit(REGEX_SIZE).max_prog_size(REGEX_SIZE);
                // What neither understands is told in the words of the first.
                let regex = builder.build().map_err(|_| RegexError(brief(&error)))?;
                Ok(Self::Backtracking(Arc::new(regex)))
            }
        }
    }

    fn is_match(&self, text: &str) -> Result<bool, Overrun> {
        match self {
            Self::Linear(regex) => Ok(regex.is_match(text)),
            Self::Backtracking(regex) => regex.is_match(text).map_err(|_| Overrun),
        }
    }

    /// Where the groups 0 to 9 match, if the text does.
    fn groups(&self, text: &str) -> Result<Option<[Option<Range<usize>>; 10]>, Overrun> {
        Ok(match self {
            Self::Linear(regex) => regex.captures(text).map(|captures| {
                std::array::from_fn(|at| captures.get(at).map(|group| group.range()))
            }),
            Self::Backtracking(regex) => {
                let captures = regex.captures(text).map_err(|_| Overrun)?;
                captures.map(|captures| {
                    std::array::from_fn(|at| captures.get(at).map(|group| group.range()))
                })
            }
        })
    }
}

/// The last line of an expression error: the ones before it draw a picture.
fn brief(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

impl PathRegex {
    /// Compiles an expression; fails on what makes no sense or is too large.
    pub fn new(text: &str) -> Result<Self, RegexError> {
        let mut readable = String::with_capacity(text.len());
        path::read_escapes(text, |range, read| match read {
            Some(read) => readable.push_str(&regex::escape(read.encode_utf8(&mut [0; 4]))),
            None => readable.push_str(&text[range]),
        });
        // Alone first: `a)(b` would make sense within the group.
        Engine::new(&readable)?;
        Ok(Self { engine: Engine::new(&format!("^(?:{readable})"))?, text: text.into() })
    }

    /// The expression as the object spells it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a canonical path matches.
    ///
    /// # Errors
    /// It takes too many steps to say.
    pub fn is_match(&self, path: &str) -> Result<bool, Overrun> {
        self.is_match_readable(&path::readable(path))
    }

    /// The same for a path that is made readable already.
    pub(crate) fn is_match_readable(&self, readable: &str) -> Result<bool, Overrun> {
        self.engine.is_match(readable)
    }

    /// Appends `template` to `out`, with what the groups of the expression hold of a canonical path, as that
    /// spells it, in the place of its references: `$` and one digit, whatever follows. Behind a `?` what is held is
    /// part of one argument, whatever a client writes. Appends nothing if the path does not match.
    ///
    /// # Errors
    /// It takes too many steps to say.
    pub fn expand(&self, path: &str, template: &str, out: &mut String) -> Result<(), Overrun> {
        let (readable, offsets) = match path.contains('%') {
            true => path::readable_with_offsets(path),
            false => (String::new(), Vec::new()),
        };
        let text = if offsets.is_empty() { path } else { &readable };
        let Some(groups) = self.engine.groups(text)? else { return Ok(()) };
        let at = |offset: usize| offsets.get(offset).copied().unwrap_or(offset);
        let (mut rest, mut in_query) = (template, false);
        while let Some(reference) = rest.find('$') {
            in_query |= rest[..reference].contains('?');
            out.push_str(&rest[..reference]);
            rest = &rest[reference + 1..];
            match rest.bytes().next().filter(u8::is_ascii_digit) {
                Some(digit) => {
                    let group = groups[usize::from(digit - b'0')].clone();
                    let held = group.map_or("", |group| &path[at(group.start)..at(group.end)]);
                    match in_query && held.contains(['&', '+']) {
                        true => out.push_str(&held.replace('&', "%26").replace('+', "%2B")),
                        false => out.push_str(held),
                    }
                    rest = &rest[1..];
                }
                None => out.push('$'),
            }
        }
        out.push_str(rest);
        Ok(())
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
        assert!(PathRegex::new("(?=x").is_err());
        assert!(!PathRegex::new("/a|b").unwrap().is_match("/xb").unwrap());
    }

    #[test]
    fn a_cookie_is_for_what_all_requests_of_an_expression_have_in_common() {
        for (text, path) in [
            ("/s/[a-z]+", "/s/"),
            ("/app(/|$)(.*)", "/app"),
            ("/app.v1(/|$)(.*)", "/"),
            ("/app(/|$)(.*)|/other", "/"),
            ("/a/b?/c", "/a/"),
            ("/a/b", "/a/"),
            ("/api/v\\d+/x", "/api/"),
            ("/(a|b)/", "/"),
            ("^/a", "/"),
        ] {
            let path_match = PathMatch::Regex(PathRegex::new(text).unwrap());
            assert_eq!(path_match.cookie_path(), path, "{text}");
        }
        assert_eq!(PathMatch::Prefix("/shop".into()).cookie_path(), "/shop");
        assert_eq!(PathMatch::Default.cookie_path(), "/");
    }

    #[test]
    fn characters_are_the_same_however_they_are_spelled() {
        for expression in
            ["/café/(.+)", "/caf%C3%A9/(.+)", "/caf%c3%a9/(.+)", "/caf[éè]/(.+)", "/caf./(.+)"]
        {
            let regex = PathRegex::new(expression).unwrap();
            assert!(regex.is_match("/caf%C3%A9/x").unwrap(), "{expression}");
            assert!(!regex.is_match("/caf/x").unwrap(), "{expression}");
        }
        for (expression, path) in [
            ("/a b", "/a%20b"),
            ("/a%20b", "/a%20b"),
            ("/a\\?b", "/a%3Fb"),
            ("/a%2Bb", "/a%2Bb"),
            ("/日本/x", "/%E6%97%A5%E6%9C%AC/x"),
        ] {
            assert!(
                PathRegex::new(expression).unwrap().is_match(path).unwrap(),
                "{expression} {path}"
            );
        }
        assert!(!PathRegex::new("/a/b").unwrap().is_match("/a%2Fb").unwrap(), "no separator");
        assert!(PathRegex::new("/[^/]+$").unwrap().is_match("/a%2Fb").unwrap(), "but data");
    }

    #[test]
    fn a_reference_is_one_digit_whatever_follows() {
        let expand = |expression: &str, path: &str, template: &str| {
            let mut out = String::new();
            PathRegex::new(expression).unwrap().expand(path, template, &mut out).unwrap();
            out
        };
        for (template, expected) in [
            ("/$1_old", "/a_old"),
            ("/$1x/$2y", "/ax/by"),
            ("/$10", "/a0"),
            ("/$12", "/a2"),
            ("/$1$2", "/ab"),
            ("/$3-", "/-"),
            ("/${1}", "/${1}"),
            ("/$x$", "/$x$"),
        ] {
            assert_eq!(expand("/(a)/(b)", "/a/b", template), expected, "{template}");
        }
        for (expression, path, expected) in [
            ("/é/(.*)", "/%C3%A9/%E6%97%A5/x%2Fy", "/%E6%97%A5/x%2Fy"),
            ("/(.)/(.*)", "/%C3%A9/a", "/%C3%A9"),
            ("/a/(.*)", "/a/100%25/%FF", "/100%25/%FF"),
            ("/a(/|$)(.*)", "/a", "/"),
        ] {
            let template = if expression.contains('|') { "/$2" } else { "/$1" };
            assert_eq!(expand(expression, path, template), expected, "{expression} {path}");
        }
        // No name is one.
        assert_eq!(expand("/(?P<name>.*)", "/a", "/$name"), "/$name");
    }

    #[test]
    fn look_around_and_back_references_are_read_as_pcre_does_within_a_bound_of_steps() {
        let admits = |text: &str, path: &str| PathRegex::new(text).unwrap().is_match(path);
        assert_eq!(admits("/(?!api/)", "/API/x"), Ok(false));
        assert_eq!(admits("/(?!api/)", "/web"), Ok(true));
        assert_eq!(admits("/([a-z]+)/\\1$", "/ab/ab"), Ok(true));
        assert_eq!(admits("/([a-z]+)/\\1$", "/ab/cd"), Ok(false));
        let mut out = String::new();
        let regex = PathRegex::new("/(?=v\\d)([^/]+)/(.*)").unwrap();
        assert_eq!(regex.expand("/v1/a/b", "/$2?$1", &mut out), Ok(()));
        assert_eq!(out, "/a/b?v1");

        let evil = format!("/{}!", "a".repeat(60));
        assert_eq!(admits("/(a|aa|a?)+(?<!b)$", &evil), Err(Overrun));
        assert_eq!(admits("/(a+)+$", &evil), Ok(false), "without them it is linear");
        for text in ["/(", "/(?<", "/\\1", "/a)(b"] {
            assert!(PathRegex::new(text).is_err(), "{text}");
        }
    }
}
