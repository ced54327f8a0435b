//! Requests of a rule that another object takes: which ones, and to which backend.
//!
//! An Ingress that is a canary has no rules of its own. [`crate::compile`] puts what it asks for on the rules of its
//! main Ingress; [`crate::balance`] asks with each request. First the header decides, then the cookie, then the
//! weight, as in ingress-nginx.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{cookie, objects::ObjectRef};

/// A share of a rule's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// The Ingress that asks for it.
    pub object: ObjectRef,
    /// What chooses it.
    pub share: Share,
}

/// Which requests are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// A field of the request.
    pub header: Option<(HeaderName, Wanted)>,
    /// Name of a cookie: `always` or `never`.
    pub cookie: Option<Arc<str>>,
    /// Of `total` requests that nothing else decides about, so many.
    pub weight: u32,
    /// Not 0.
    pub total: u32,
}

/// What the value of a field must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `always` chooses the canary, `never` the main backend, anything else decides nothing.
    Switch,
    /// Exactly this; anything else decides nothing.
    Value(HeaderValue),
    /// What the expression finds something in; anything else decides nothing.
    Pattern(ValueRegex),
}

/// A regular expression over the values of a field. Two are equal if they are spelled the same.
#[derive(Clone, Debug)]
pub struct ValueRegex(regex::Regex);

impl ValueRegex {
    /// Compiles an expression; fails on what is not supported (look-around, back-references) or too large.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        regex::RegexBuilder::new(text).size_limit(1 << 20).build().map(Self)
    }

    /// Whether the expression is found in a value.
    pub fn is_match(&self, value: &str) -> bool {
        self.0.is_match(value)
    }

    /// The expression as the object spells it.
    pub fn text(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for ValueRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for ValueRegex {}

impl Share {
    /// What the fields of a request say; `None`: nothing.
    pub fn asked(&self, headers: &HeaderMap) -> Option<bool> {
        let by_header = self.header.as_ref().and_then(|(name, wanted)| {
            let value = headers.get(name)?;
            match wanted {
                Wanted::Switch => switch(value.as_bytes()),
                Wanted::Value(wanted) => (value == wanted).then_some(true),
                Wanted::Pattern(regex) => {
                    value.to_str().is_ok_and(|value| regex.0.is_match(value)).then_some(true)
                }
            }
        });
        by_header.or_else(|| switch(cookie::values(headers, self.cookie.as_ref()?).next()?))
    }
}

/// In a few words.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, wanted)) = &self.header {
            match wanted {
                Wanted::Switch => write!(f, "header {name}, ")?,
                Wanted::Value(value) => write!(f, "header {name}: {value:?}, ")?,
                Wanted::Pattern(regex) => write!(f, "header {name}: /{}/, ", regex.text())?,
            }
        }
        if let Some(name) = &self.cookie {
            write!(f, "cookie {name}, ")?;
        }
        write!(f, "{} of {}", self.weight, self.total)
    }
}

fn switch(value: &[u8]) -> Option<bool> {
    match value {
        b"always" => Some(true),
        b"never" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields.map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn the_header_decides_before_the_cookie_and_what_is_neither_decides_nothing() {
        let share = |wanted| Share {
            header: Some((HeaderName::from_static("x-canary"), wanted)),
            cookie: Some("canary".into()),
            weight: 0,
            total: 100,
        };
        let value = || Wanted::Value(HeaderValue::from_static("blue"));
        let pattern = || Wanted::Pattern(ValueRegex::new("^(de|at)$").unwrap());
        for (wanted, header, cookie, asked) in [
            (Wanted::Switch, "always", "canary=never", Some(true)),
            (Wanted::Switch, "never", "canary=always", Some(false)),
            (Wanted::Switch, "Always", "a=b; canary=always", Some(true)),
            (Wanted::Switch, "x", "xcanary=always; canary=maybe", None),
            (value(), "blue", "canary=never", Some(true)),
            (value(), "always", "canary=never", Some(false)),
            (value(), "bluish", "", None),
            (pattern(), "at", "", Some(true)),
            (pattern(), "fr", "canary=always", Some(true)),
            (pattern(), "fr", "canary", None),
        ] {
            let fields = headers(&[("x-canary", header), ("cookie", cookie)]);
            assert_eq!(share(wanted.clone()).asked(&fields), asked, "{wanted:?} {header} {cookie}");
        }
        assert_eq!(share(value()).asked(&HeaderMap::new()), None);
    }
}
