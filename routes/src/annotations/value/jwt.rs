//! Values about JSON Web Tokens.

use std::{sync::Arc, time::Duration};

use http::HeaderName;

use super::{AuthUrl, Fault, Parser, Setting, authentication::url, is_cookie_name, named, time};
use crate::filter::{
    answer_fields::may_be_set,
    authentication::jwt::{Algorithm, Algorithms, Claim, Place, Requirement},
};

/// What an annotation about tokens asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JwtSetting {
    /// The Secret with the keys.
    Secret(Arc<str>),
    /// The ConfigMap with the keys.
    ConfigMap(Arc<str>),
    /// The URL of the keys.
    Url(Arc<AuthUrl>),
    /// The Secret with the authorities that are believed there.
    Authorities(Arc<str>),
    /// Under which key of an object they are.
    Key(Arc<str>),
    Issuer(Arc<str>),
    Audiences(Arc<[Box<str>]>),
    Algorithms(Algorithms),
    Skew(Duration),
    Place(Place),
    Require(Arc<[Requirement]>),
    Copy(Arc<[(Claim, HeaderName)]>),
}

/// The longest time that clocks may differ by: with more, tokens that have expired would count.
const MAX_SKEW: Duration = Duration::from_secs(600);

pub(in crate::annotations) const JWT_SECRET: Parser =
    Parser { read: |value| named(value, |name| set(JwtSetting::Secret(name))), nothing: &[] };
pub(in crate::annotations) const JWT_CONFIG_MAP: Parser =
    Parser { read: |value| named(value, |name| set(JwtSetting::ConfigMap(name))), nothing: &[] };
pub(in crate::annotations) const JWT_AUTHORITIES: Parser =
    Parser { read: |value| named(value, |name| set(JwtSetting::Authorities(name))), nothing: &[] };
pub(in crate::annotations) const JWT_URL: Parser = Parser {
    read: |value| {
        let hint = "write a URL such as https://login.example.com/.well-known/jwks.json";
        text(value, "a URL of keys", hint, |value| {
            let url = url(value).ok().filter(|url| url.host.is_some() && !value.contains('$'))?;
            Some(JwtSetting::Url(Arc::new(url)))
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const JWT_KEY: Parser = Parser {
    read: |value| {
        text(value, "the name of a key", "write the name of a key such as jwks.json", |key| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            key.bytes().all(known).then(|| JwtSetting::Key(key.into()))
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const JWT_ISSUER: Parser = Parser {
    read: |value| {
        text(value, "an issuer", "write what the iss claim of tokens is", |issuer| {
            Some(JwtSetting::Issuer(issuer.into()))
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const JWT_AUDIENCES: Parser = Parser {
    read: |value| {
        text(value, "a list of audiences", "separate them by commas", |value| {
            list(value, |one| Some(one.into())).map(|all| JwtSetting::Audiences(all.into()))
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const JWT_ALGORITHMS: Parser = Parser {
    read: |value| {
        let hint = "write some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA, or, with a key that \
                    is kept secret, HS256, HS384 and HS512";
        text(value, "a list of algorithms", hint, |value| {
            let named = |name: &str| Algorithm::ALL.into_iter().find(|one| one.name() == name);
            let all = list(value, named)?;
            Some(JwtSetting::Algorithms(all.into_iter().collect()))
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const JWT_SKEW: Parser = Parser {
    read: |value| match value.trim() {
        "0" => Ok(set(JwtSetting::Skew(Duration::ZERO))),
        value => match time(value, 1_000, |time| set(JwtSetting::Skew(time)))? {
            Setting::Jwt(JwtSetting::Skew(time)) if time > MAX_SKEW => Err(Fault::new(
                "InvalidAnnotation",
                "is more than 10 minutes, for which tokens that have expired would count",
                "write a time such as 60s",
            )),
            setting => Ok(setting),
        },
    },
    nothing: &[],
};
pub(in crate::annotations) const JWT_FROM: Parser = Parser {
    read: |value| {
        let hint = "write bearer, cookie:NAME or header:NAME";
        text(value, "a place of tokens", hint, |value| {
            let place = match value.split_once(':') {
                None => (value == "bearer").then_some(Place::Bearer),
                Some(("cookie", name)) => is_cookie_name(name).then(|| Place::Cookie(name.into())),
                Some(("header", name)) => HeaderName::try_from(name).ok().map(|name| match name {
                    http::header::AUTHORIZATION => Place::Bearer,
                    name => Place::Field(name),
                }),
                Some(_) => None,
            };
            place.map(JwtSetting::Place)
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const JWT_REQUIRE: Parser = Parser {
    read: |value| {
        let hint = "write claims such as role=admin, email or groups=dev|ops, separated by commas";
        text(value, "a list of claims", hint, |value| {
            let all = list(value, |one| {
                let (claim, values) = match one.split_once('=') {
                    None => (one, Box::default()),
                    Some((claim, values)) => {
                        let each = values.split('|').map(str::trim);
                        let each: Option<Box<[Box<str>]>> =
                            each.map(|one| (!one.is_empty()).then(|| one.into())).collect();
                        (claim, each?)
                    }
                };
                let claim = claim.trim();
                (!claim.is_empty())
                    .then(|| Requirement { claim: Claim(claim.into()), one_of: values })
            });
            all.map(|all| JwtSetting::Require(all.into()))
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const JWT_COPY: Parser = Parser {
    read: |value| {
        let hint =
            "write claims and the fields they go to, such as sub=X-User, separated by commas";
        text(value, "a list of claims and fields that can be passed on", hint, |value| {
            let all = list(value, |one| {
                // Names of claims may hold a '='; names of fields cannot.
                let (claim, name) = one.rsplit_once('=')?;
                let claim = Some(claim.trim()).filter(|claim| !claim.is_empty())?;
                let name = HeaderName::try_from(name.trim()).ok().filter(may_be_set)?;
                Some((Claim(claim.into()), name))
            });
            all.map(|all| JwtSetting::Copy(all.into()))
        })
    },
    nothing: &[],
};

/// Reads a value that is not empty; `what` it should have been, if it is not.
fn text(
    value: &str,
    what: &str,
    hint: &'static str,
    read: impl FnOnce(&str) -> Option<JwtSetting>,
) -> Result<Setting, Fault> {
    match value.trim() {
        "" => Ok(Setting::Nothing),
        value => read(value)
            .map(set)
            .ok_or_else(|| Fault::new("InvalidAnnotation", format!("is not {what}"), hint)),
    }
}

/// Entries with commas between them, of which none may be wrong and one must be there.
fn list<T>(value: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let entries = value.split(',').map(str::trim).filter(|one| !one.is_empty());
    let all: Option<Vec<T>> = entries.map(read).collect();
    all.filter(|all| !all.is_empty())
}

fn set(setting: JwtSetting) -> Setting {
    Setting::Jwt(setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_places_and_claims_are_read_and_none_is_none() {
        let read =
            |parser: Parser, value: &str| (parser.read)(value).map_err(|fault| fault.message);
        for value in ["none", "RS256, none", "rs256", ",", "RS256;ES256"] {
            assert!(read(JWT_ALGORITHMS, value).is_err(), "{value}");
        }
        let both = [Algorithm::RS256, Algorithm::EdDSA].into_iter().collect();
        assert_eq!(read(JWT_ALGORITHMS, "RS256, EdDSA"), Ok(set(JwtSetting::Algorithms(both))));
        for value in ["", "bearer", "cookie:token", "header:X-Token", "header:Authorization"] {
            assert!(read(JWT_FROM, value).is_ok(), "{value}");
        }
        for value in ["Bearer", "cookie:", "cookie:a b", "header:", "header:a b", "query:token"] {
            assert!(read(JWT_FROM, value).is_err(), "{value}");
        }
        for value in ["=x", "a=", "a=|", "a=b||c"] {
            assert!(read(JWT_REQUIRE, value).is_err(), "{value}");
        }
        for value in ["sub", "sub=", "=X-User", "sub=Host", "sub=Content-Length", "sub=a b"] {
            assert!(read(JWT_COPY, value).is_err(), "{value}");
        }
        assert!(read(JWT_COPY, "sub=X-User, https://a.test/x?a=b=X-B").is_ok());
        for value in ["-1s", "11m", "soon"] {
            assert!(read(JWT_SKEW, value).is_err(), "{value}");
        }
        for value in ["a.test", "https://$host/keys", "https://a.test/$uri", "ftp://a.test/"] {
            assert!(read(JWT_URL, value).is_err(), "{value}");
        }
        assert!(read(JWT_URL, "https://a.test:8443/keys?x=1").is_ok());
        assert_eq!(read(JWT_SKEW, "1m"), Ok(set(JwtSetting::Skew(Duration::from_secs(60)))));
    }
}
