//! Sessions: a cookie by which a client comes back to the endpoint that it had.
//!
//! The translations make it of annotations, and of every Route that does not say otherwise. The data path makes
//! the cookie's value, which is sealed: no client can choose an endpoint by writing one.

use std::{fmt::Write as _, sync::Arc};

/// How clients are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// Whose cookie it is: a value means nothing to another object.
    pub scope: Arc<str>,
    /// What the value stands for.
    pub mode: Mode,
    /// Name of the cookie.
    pub name: Arc<str>,
    /// `Path`; none: that of the rule.
    pub path: Option<Arc<str>>,
    /// `Domain`.
    pub domain: Option<Arc<str>>,
    /// When browsers send it over TLS only.
    pub secure: Secure,
    /// `SameSite`.
    pub same_site: Option<SameSite>,
    /// `SameSite=None` is left out for browsers that take it for something else.
    pub conditional_none: bool,
    /// `Partitioned`.
    pub partitioned: bool,
    /// Seconds that it lasts; none: as long as the browser is open.
    pub max_age: Option<u32>,
    /// The same as a date, for old browsers.
    pub expires: Option<u32>,
    /// A client whose endpoint fails is kept on the one that answered instead.
    pub moves: bool,
    /// The backend does not get the cookie, and no shared cache may keep an answer that sets it.
    pub hidden: bool,
    /// A client that a canary answered is kept on the canary, and one that it did not is kept off it.
    pub canaries: bool,
}

impl Affinity {
    /// A cookie of this name, without anything that would have to be asked for.
    pub fn new(scope: Arc<str>, name: Arc<str>) -> Self {
        Self {
            scope,
            mode: Mode::default(),
            name,
            path: None,
            domain: None,
            secure: Secure::default(),
            same_site: None,
            conditional_none: false,
            partitioned: false,
            max_age: None,
            expires: None,
            moves: false,
            hidden: false,
            canaries: true,
        }
    }
}

/// What a cookie's value stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A key that endpoints are chosen by: a new endpoint takes over its part of all clients.
    #[default]
    Balanced,
    /// One endpoint, for as long as that is there.
    Persistent,
}

/// When a cookie has the attribute `Secure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secure {
    /// Never.
    Never,
    /// Where the client asked over TLS.
    #[default]
    OverTls,
    /// Always.
    Always,
}

/// RFC 6265bis §4.1.2.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// All sites send it.
    None,
    /// Links of other sites send it.
    Lax,
    /// Its own site sends it.
    Strict,
}

/// The request that a cookie is set for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// Path of the rule.
    pub path: &'r str,
    /// Over TLS.
    pub secure: bool,
    /// The browser knows `SameSite=None` ([`takes_none`]).
    pub takes_none: bool,
}

impl Affinity {
    /// The field `Set-Cookie`, without a date for [`Self::expires`].
    pub fn cookie(&self, value: &str, asked: Asked<'_>) -> String {
        let path = self.path.as_deref().unwrap_or(asked.path);
        let mut field = format!("{}={value}; Path={path}; HttpOnly", self.name);
        if let Some(domain) = &self.domain {
            let _ = write!(field, "; Domain={domain}");
        }
        if let Some(seconds) = self.max_age {
            let _ = write!(field, "; Max-Age={seconds}");
        }
        let same_site = self.same_site.filter(|same_site| {
            *same_site != SameSite::None || !self.conditional_none || asked.takes_none
        });
        if self.secure == Secure::Always || (self.secure == Secure::OverTls && asked.secure) {
            field.push_str("; Secure");
        }
        if let Some(same_site) = same_site {
            let _ = write!(field, "; SameSite={same_site:?}");
        }
        if self.partitioned {
            field.push_str("; Partitioned");
        }
        field
    }
}

/// Whether a browser knows `SameSite=None`: Safari and its like up to iOS 12 and macOS 10.14 take it for
/// `Strict`, Chrome 51 to 66 refuses the cookie.
pub fn takes_none(agent: &str) -> bool {
    let apple = agent.contains("iPhone OS 12_")
        || agent.contains("iPad; CPU OS 12_")
        || (agent.contains("Macintosh; Intel Mac OS X 10_14")
            && agent.contains("Safari")
            && !agent.contains("Chrome"));
    let version = agent
        .split(['/', ' '])
        .skip_while(|word| !matches!(*word, "Chrome" | "Chromium"))
        .nth(1)
        .and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    !apple && !version.is_some_and(|version| (51..=66).contains(&version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affinity() -> Affinity {
        Affinity::new("Ingress d/a".into(), "sid".into())
    }

    #[test]
    fn a_cookie_says_what_was_asked_for() {
        let asked = Asked { path: "/app", secure: false, takes_none: true };
        assert_eq!(affinity().cookie("v", asked), "sid=v; Path=/app; HttpOnly");
        let over_tls = Asked { secure: true, ..asked };
        assert_eq!(affinity().cookie("v", over_tls), "sid=v; Path=/app; HttpOnly; Secure");
        let full = Affinity {
            path: Some("/".into()),
            domain: Some("a.test".into()),
            max_age: Some(60),
            same_site: Some(SameSite::None),
            secure: Secure::Always,
            partitioned: true,
            ..affinity()
        };
        assert_eq!(
            full.cookie("v", asked),
            "sid=v; Path=/; HttpOnly; Domain=a.test; Max-Age=60; Secure; SameSite=None; Partitioned"
        );
    }

    #[test]
    fn old_browsers_do_not_hear_of_a_word_that_they_take_for_another() {
        let none =
            Affinity { same_site: Some(SameSite::None), conditional_none: true, ..affinity() };
        for (agent, hears) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.0.0 Safari/537.36",
                true,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/60.0.3112 Safari/537.36",
                false,
            ),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 12_4 like Mac OS X) Safari/604.1", false),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 15_4 like Mac OS X) Safari/604.1", true),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) Version/12.1 Safari/605.1.15", false),
            ("curl/8.0", true),
            ("Chrome", true),
        ] {
            let field =
                none.cookie("v", Asked { path: "/", secure: true, takes_none: takes_none(agent) });
            assert_eq!(field.contains("SameSite"), hears, "{agent}");
        }
    }
}
