//! What pages of other origins may do (Fetch standard, §3.2 "CORS protocol").

use http::HeaderValue;

/// The CORS policy of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages may send requests and read answers.
    pub origins: Origins,
    /// They may send cookies along. Never said of [`Origins::Any`], where browsers refuse it.
    pub credentials: bool,
    /// `Access-Control-Allow-Methods`.
    pub methods: HeaderValue,
    /// `Access-Control-Allow-Headers`.
    pub headers: HeaderValue,
    /// `Access-Control-Expose-Headers`.
    pub expose: Option<HeaderValue>,
    /// `Access-Control-Max-Age`, in seconds.
    pub max_age: HeaderValue,
}

/// A set of origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Every one.
    Any,
    /// Those that one of the patterns matches.
    Some(Vec<OriginPattern>),
}

impl Origins {
    /// Whether pages of this origin are meant (value of the field `Origin`).
    pub fn contain(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Some(patterns) => patterns.iter().any(|pattern| pattern.matches(origin)),
        }
    }
}

/// `scheme://host[:port]`, where the first label of the host may be `*` for any one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    /// Up to the wildcard, or all.
    before: Box<[u8]>,
    /// Behind the wildcard.
    after: Option<Box<[u8]>>,
}

impl OriginPattern {
    /// Reads a pattern; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        };
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            Some((host, _)) if host.starts_with('[') => authority,
            Some(_) => return None,
            None => authority,
        };
        let is_host = |host: &str| {
            host.split('.').all(|label| {
                let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                !label.is_empty() && label.bytes().all(inner)
            }) || host.starts_with('[') && host.ends_with(']')
        };
        if !is_scheme(scheme) || !is_host(host.strip_prefix("*.").unwrap_or(host)) {
            return None;
        }
        Some(match authority.strip_prefix('*') {
            Some(after) => {
                let before = format!("{scheme}://").into_bytes().into();
                Self { before, after: Some(after.as_bytes().into()) }
            }
            None => Self { before: text.into_bytes().into(), after: None },
        })
    }

    fn matches(&self, origin: &[u8]) -> bool {
        let Some(after) = &self.after else {
            return origin.eq_ignore_ascii_case(&self.before);
        };
        let (begin, end) = (self.before.len(), origin.len().saturating_sub(after.len()));
        begin < end
            && origin[..begin].eq_ignore_ascii_case(&self.before)
            && origin[end..].eq_ignore_ascii_case(after)
            && origin[begin..end]
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_matches_whole_and_a_wildcard_is_one_label() {
        for (pattern, origins, others) in [
            (
                "https://a.test",
                &["https://a.test", "HTTPS://A.test"][..],
                &[
                    "http://a.test",
                    "https://a.test:8443",
                    "https://a.test.evil",
                    "https://xa.test",
                    "null",
                    "",
                ][..],
            ),
            (
                "https://*.a.test",
                &["https://x.a.test", "https://x-1.a.test"],
                &[
                    "https://a.test",
                    "https://x.y.a.test",
                    "https://.a.test",
                    "https://x.a.test:1",
                    "https://evil/.a.test",
                    "https://xa.test",
                ],
            ),
            (
                "http://*.a.test:8080",
                &["http://x.a.test:8080"],
                &["http://x.a.test", "http://x.a.test:80"],
            ),
            ("app://local", &["app://local"], &["http://local"]),
            ("http://[::1]:80", &["http://[::1]:80"], &["http://[::1]"]),
        ] {
            let pattern = OriginPattern::parse(pattern).unwrap();
            for origin in origins {
                assert!(pattern.matches(origin.as_bytes()), "{pattern:?} {origin}");
            }
            for origin in others {
                assert!(!pattern.matches(origin.as_bytes()), "{pattern:?} {origin}");
            }
        }
        for text in [
            "a.test",
            "https://",
            "https://a.test/",
            "https://*a.test",
            "https://x.*.test",
            "https://a.test:x",
            "://a",
            "https://a..b",
        ] {
            assert_eq!(OriginPattern::parse(text), None, "{text}");
        }
    }
}
