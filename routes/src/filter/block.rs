//! Clients that are kept out by what they say of themselves: `block-user-agents` and `block-referers` of
//! ingress-nginx.

use http::{HeaderMap, HeaderName, header};

use crate::canary::ValueRegex;

/// Who is kept out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// By `User-Agent`.
    pub user_agents: Box<[Pattern]>,
    /// By `Referer`.
    pub referers: Box<[Pattern]>,
}

/// A value of a field, as nginx's `map` compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This one, whatever the case of its letters.
    Value(Box<str>),
    /// Those in which the expression is found.
    Regex(ValueRegex),
}

impl Pattern {
    /// Reads a list: values separated by commas, expressions behind `~`, or behind `~*` whatever the case.
    ///
    /// # Errors
    /// The entry that is no expression.
    pub fn list(text: &str) -> Result<Box<[Self]>, String> {
        let entries = text.split(',').map(|entry| entry.trim().trim_matches('"'));
        let read = |entry: &str| {
            let regex = match (entry.strip_prefix("~*"), entry.strip_prefix('~')) {
                (Some(text), _) => format!("(?i){text}"),
                (None, Some(text)) => text.to_owned(),
                (None, None) => return Ok(Self::Value(entry.into())),
            };
            ValueRegex::new(&regex).map(Self::Regex).map_err(|_| entry.to_owned())
        };
        entries.filter(|entry| !entry.is_empty()).map(read).collect()
    }

    fn takes(&self, value: &str) -> bool {
        match self {
            Self::Value(known) => known.eq_ignore_ascii_case(value),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

impl Block {
    /// Whether a request of these fields is refused.
    pub fn refuses(&self, headers: &HeaderMap) -> bool {
        let any = |patterns: &[Pattern], name: HeaderName| {
            let mut values = headers.get_all(name).iter();
            !patterns.is_empty()
                && values.any(|value| {
                    let text = String::from_utf8_lossy(value.as_bytes());
                    patterns.iter().any(|pattern| pattern.takes(&text))
                })
        };
        any(&self.user_agents, header::USER_AGENT) || any(&self.referers, header::REFERER)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn values_are_whole_and_expressions_are_found_anywhere() {
        let block = Block {
            user_agents: Pattern::list("BadBot/1.0, ~*scan, ~^Curl,\"a b\"").unwrap(),
            referers: Pattern::list("~spam\\.test").unwrap(),
        };
        let refuses = |name: HeaderName, value: &'static [u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            block.refuses(&HeaderMap::from_iter([(name, value)]))
        };
        for (value, refused) in [
            (&b"badbot/1.0"[..], true),
            (b"BadBot/1.0 more", false),
            (b"MegaScanner", true),
            (b"\xffSCAN", true),
            (b"Curl/8", true),
            (b"curl/8", false),
            (b"a b", true),
            (b"Mozilla/5.0", false),
        ] {
            assert_eq!(refuses(header::USER_AGENT, value), refused, "{value:?}");
        }
        assert!(refuses(header::REFERER, b"https://spam.test/x"));
        assert!(
            !refuses(header::REFERER, b"https://spamXtest/") && !block.refuses(&HeaderMap::new())
        );
        assert_eq!(Pattern::list("x,~("), Err("~(".to_owned()));
    }
}
