//! Values about who may pass.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};

use super::{Fault, Parser, Setting, flag, is_off, named, time};
use crate::{
    filter::{
        answer_fields::may_be_set,
        authentication::external::{Durations, Statuses},
    },
    host,
    policy::hash_by::HashKey,
    template::Template,
};

/// What an annotation about who may pass asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuthenticationSetting {
    /// Users show a name and a password.
    Basic,
    /// The Secret that holds them.
    Users(Arc<str>),
    /// How that is laid out.
    Layout(Layout),
    /// What clients are told that they need a password for.
    Challenge(HeaderValue),
    /// One of addresses and authentication is enough.
    Any,
    /// A service is asked.
    Url(Box<AuthUrl>),
    /// By this method.
    Method(Method),
    /// Where clients sign in.
    Signin(Arc<str>),
    /// The parameter of that which names the way back.
    SigninParameter(Arc<str>),
    /// What the service is told that the way back is.
    Redirect(Template),
    /// Fields of its answer that the backend gets.
    Copy(Arc<[HeaderName]>),
    /// The ConfigMap with more fields of the question.
    Fields(Arc<str>),
    /// Its cookies go to the client whatever the answer.
    AlwaysCookies(bool),
    /// The Secret with the authorities that are believed of the service.
    Authorities(Arc<str>),
    /// What requests have in common that one answer counts for.
    CacheKey(HashKey),
    /// How long it counts.
    CacheDurations(Durations),
    /// What holds for all Ingresses holds for this one.
    Global(bool),
}

/// Where a service is that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthUrl {
    /// Name, port, and both as they are written; `None`: the host that the client asks for.
    pub(crate) host: Option<(Arc<str>, u16, HeaderValue)>,
    pub(crate) secure: bool,
    pub(crate) target: Template,
}

/// How users stand in a Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A file of `htpasswd` under the key `auth`.
    #[default]
    File,
    /// A key for each user.
    Map,
}

pub(in crate::annotations) const AUTH_TYPE: Parser = Parser {
    read: |value| match value.trim() {
        value if is_off(value) => Ok(Setting::Nothing),
        "basic" => Ok(set(AuthenticationSetting::Basic)),
        "digest" => Err(Fault::new(
            "ProtectionNotSupported",
            "is not supported: digests need passwords that can be read",
            "write basic, and serve the path over https",
        )),
        _ => Err(Fault::new("InvalidAnnotation", "is not basic", "write basic")),
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_SECRET: Parser = Parser {
    read: |value| named(value, |name| set(AuthenticationSetting::Users(name))),
    nothing: &[],
};
pub(in crate::annotations) const AUTH_LAYOUT: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        "auth-file" => Ok(set(AuthenticationSetting::Layout(Layout::File))),
        "auth-map" => Ok(set(AuthenticationSetting::Layout(Layout::Map))),
        _ => Err(Fault::new(
            "InvalidAnnotation",
            "is neither auth-file nor auth-map",
            "write one of the two",
        )),
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_REALM: Parser = Parser {
    read: |value| {
        let value = value.trim();
        if value.is_empty() {
            return Ok(Setting::Nothing);
        }
        let plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{quoted}\"")).ok();
        let challenge = challenge.filter(|_| plain).ok_or_else(|| {
            Fault::new("InvalidAnnotation", "is not plain text", "write letters of ASCII only")
        })?;
        Ok(set(AuthenticationSetting::Challenge(challenge)))
    },
    nothing: &[],
};
/// How addresses and authentication go together.
pub(in crate::annotations) const SATISFY: Parser = Parser {
    read: |value| match value.trim().to_ascii_lowercase().as_str() {
        "" | "all" => Ok(Setting::Nothing),
        "any" => Ok(set(AuthenticationSetting::Any)),
        _ => Err(Fault::new("InvalidAnnotation", "is neither all nor any", "write one of the two")),
    },
    nothing: &["all"],
};

pub(in crate::annotations) const AUTH_URL: Parser = Parser {
    read: |value| match value.trim() {
        value if is_off(value) => Ok(Setting::Nothing),
        value => url(value).map(|url| set(AuthenticationSetting::Url(Box::new(url)))),
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_METHOD: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        name => {
            let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
            let method = known.contains(&name).then(|| Method::from_bytes(name.as_bytes()).ok());
            method.flatten().map(|method| set(AuthenticationSetting::Method(method))).ok_or_else(
                || {
                    Fault::new(
                        "InvalidAnnotation",
                        "is not a method",
                        "write a method such as GET or POST",
                    )
                },
            )
        }
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_SIGNIN: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => {
            let begins = ["http://", "https://", "$scheme://", "$pass_access_scheme://"];
            let own = value.starts_with('/') && !value.starts_with("//");
            let known = own || begins.iter().any(|begin| value.starts_with(begin));
            template(value).filter(|_| known).ok_or_else(|| {
                let message = match Template::parse(value) {
                    Err(unknown) => format!("holds the variable {unknown}, which is not known"),
                    Ok(_) => "is not a URL".to_owned(),
                };
                Fault::new(
                    "InvalidAnnotation",
                    message,
                    "write a URL such as https://auth.example.com/start",
                )
            })?;
            Ok(set(AuthenticationSetting::Signin(value.into())))
        }
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_SIGNIN_PARAMETER: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        name if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) => {
            Ok(set(AuthenticationSetting::SigninParameter(name.into())))
        }
        _ => Err(Fault::new(
            "InvalidAnnotation",
            "is not the name of a parameter",
            "write a name such as rd",
        )),
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_REDIRECT: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => {
            template(value).map(|to| set(AuthenticationSetting::Redirect(to))).ok_or_else(|| {
                let message = "is not a URL, or holds a variable that is not known";
                Fault::new(
                    "InvalidAnnotation",
                    message,
                    "write a URL, or $scheme://$http_host$request_uri",
                )
            })
        }
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_COPY: Parser = Parser {
    read: |value| {
        let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
        let read = |name: &str| {
            let field = HeaderName::try_from(name).ok().filter(may_be_set);
            field.ok_or_else(|| {
                let message = format!("holds {name:?}, which is no field that can be passed on");
                let hint =
                    "separate names of fields by commas; those of framing and Host are not copied";
                Fault::new("InvalidAnnotation", message, hint)
            })
        };
        let names: Vec<HeaderName> = names.map(read).collect::<Result<_, _>>()?;
        Ok(match names.is_empty() {
            true => Setting::Nothing,
            false => set(AuthenticationSetting::Copy(names.into())),
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_FIELDS: Parser = Parser {
    read: |value| named(value, |name| set(AuthenticationSetting::Fields(name))),
    nothing: &[],
};
pub(in crate::annotations) const AUTH_ALWAYS_COOKIES: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => flag(value).map(|on| set(AuthenticationSetting::AlwaysCookies(on))),
    },
    nothing: &[],
};
pub(in crate::annotations) const AUTH_AUTHORITIES: Parser = Parser {
    read: |value| named(value, |name| set(AuthenticationSetting::Authorities(name))),
    nothing: &[],
};
pub(in crate::annotations) const AUTH_CACHE_KEY: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        text => match HashKey::parse_identity(text) {
            Ok(key) => Ok(set(AuthenticationSetting::CacheKey(key))),
            Err(unknown) => Err(Fault::new(
                "InvalidAnnotation",
                format!("holds the variable {unknown}, which is not known"),
                "use $http_authorization, $cookie_NAME, $http_NAME, $remote_addr and the like",
            )),
        },
    },
    nothing: &[],
};
/// `200 202 10m, 401 5m`, as `proxy_cache_valid` of nginx has them.
pub(in crate::annotations) const AUTH_CACHE_DURATION: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        text => {
            let groups = text.split(',').map(str::trim).filter(|group| !group.is_empty());
            let all: Option<Vec<_>> = groups.map(statuses_for).collect();
            let all = all.filter(|all| !all.is_empty()).ok_or_else(|| {
                Fault::new(
                    "InvalidAnnotation",
                    "is not a list of statuses and times",
                    "write statuses and a time, such as 200 202 10m, 401 5m",
                )
            })?;
            Ok(set(AuthenticationSetting::CacheDurations(Durations(all.into()))))
        }
    },
    nothing: &[],
};
pub(in crate::annotations) const GLOBAL_AUTH: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => flag(value).map(|on| set(AuthenticationSetting::Global(on))),
    },
    nothing: &[],
};

/// Statuses with a time behind them; a time alone is for 200, 301 and 302.
fn statuses_for(group: &str) -> Option<(Statuses, Duration)> {
    let (statuses, length) = group.rsplit_once(char::is_whitespace).unwrap_or(("", group));
    let Ok(Setting::TriesTime(length)) = time(length, 1_000, Setting::TriesTime) else {
        return None;
    };
    let status = |text: &str| text.parse().ok().filter(|status| (100..600).contains(status));
    let statuses = match statuses.trim() {
        "" => Statuses::These([200, 301, 302].into()),
        "any" => Statuses::Any,
        all => Statuses::These(all.split_whitespace().map(status).collect::<Option<_>>()?),
    };
    Some((statuses, length))
}

/// A text that can be sent once its variables are filled in.
pub(super) fn template(value: &str) -> Option<Template> {
    let plain =
        value.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && !b"\"<>\\#".contains(&byte));
    Template::parse(value).ok().filter(|_| plain)
}

pub(super) fn url(value: &str) -> Result<AuthUrl, Fault> {
    let fault = |message: &str| {
        let hint = "write a URL such as http://auth.default.svc.cluster.local:4180/oauth2/auth, or \
                    https://$host/oauth2/auth for a path of the same host";
        Fault::new("InvalidAnnotation", message, hint)
    };
    let schemes = ["http://", "https://", "$scheme://", "$pass_access_scheme://"];
    let scheme = schemes.into_iter().find(|scheme| value.starts_with(scheme));
    let scheme = scheme.ok_or_else(|| fault("does not begin with http:// or https://"))?;
    let rest = &value[scheme.len()..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let target = template(&target)
        .ok_or_else(|| fault("has a path that cannot be sent, or a variable that is not known"))?;
    let secure = scheme == "https://";
    if ["$host", "$http_host", "$best_http_host"].contains(&authority) {
        return Ok(AuthUrl { host: None, secure, target });
    }
    if !scheme.starts_with("http") {
        return Err(fault("has a scheme that is a variable, and a host that is none"));
    }
    let host = self::authority(authority, secure).ok_or_else(|| fault("does not name a host"))?;
    Ok(AuthUrl { host: Some(host), secure, target })
}

/// The host of a URL and its port, and both as they are written.
pub(super) fn authority(written: &str, secure: bool) -> Option<(Arc<str>, u16, HeaderValue)> {
    let (name, port) = match written.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            (name, port.parse::<u16>().ok().filter(|port| *port != 0)?)
        }
        _ => (written, if secure { 443 } else { 80 }),
    };
    let name = host::canonical(name).filter(|name| !name.is_empty())?;
    let name = name.trim_start_matches('[').trim_end_matches(']');
    Some((name.into(), port, HeaderValue::try_from(written).ok()?))
}

fn set(setting: AuthenticationSetting) -> Setting {
    Setting::Authentication(setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_by_a_url_or_by_the_host_that_is_asked_for() {
        let read = |value: &str| {
            let url = url(value).map_err(|fault| fault.message)?;
            let host = url.host.map(|(name, port, field)| (format!("{name} {port}"), field));
            let host = host.map(|(host, field)| format!("{host} {}", field.to_str().unwrap()));
            Ok::<_, String>((host.unwrap_or_default(), url.secure, url.target.text().to_owned()))
        };
        for (value, host, secure, target) in [
            ("http://auth.test/check?a=b", "auth.test 80 auth.test", false, "/check?a=b"),
            ("https://AUTH.test:8443", "auth.test 8443 AUTH.test:8443", true, "/"),
            ("http://10.0.0.1:4180/x", "10.0.0.1 4180 10.0.0.1:4180", false, "/x"),
            ("http://[::1]:4180/x", "::1 4180 [::1]:4180", false, "/x"),
            ("http://a.test?x", "a.test 80 a.test", false, "/?x"),
            ("https://$host/oauth2/auth", "", true, "/oauth2/auth"),
            (
                "$scheme://$http_host/auth?u=$escaped_request_uri",
                "",
                false,
                "/auth?u=$escaped_request_uri",
            ),
        ] {
            assert_eq!(read(value), Ok((host.to_owned(), secure, target.to_owned())), "{value}");
        }
        for value in [
            "auth.test",
            "ftp://a.test/",
            "http://",
            "http:///x",
            "http://a b/",
            "http://u@a.test/",
            "http://a.test:0/",
            "http://a.test:x/",
            "http://a.test:/",
            "http://$host:80/",
            "http://$arg_x/",
            "http://a.test/$arg_x",
            "http://a.test/ x",
            "http://a.test/#x",
            "http://a.test/\nHost: x",
            "$scheme://a.test/",
        ] {
            assert!(read(value).is_err(), "{value}: {:?}", read(value));
        }
    }

    #[test]
    fn answers_count_by_status_for_a_time() {
        let read = |text: &str| match (AUTH_CACHE_DURATION.read)(text) {
            Ok(Setting::Authentication(AuthenticationSetting::CacheDurations(all))) => Some(all),
            _ => None,
        };
        let durations = read("200 202 10m, 401 5s").unwrap();
        let of = |status: u16| durations.of(status.try_into().unwrap()).map(|time| time.as_secs());
        assert_eq!([200, 202, 401, 403].map(of), [Some(600), Some(600), Some(5), None]);
        let alone = read("1h").unwrap();
        assert_eq!(alone.of(http::StatusCode::OK).map(|time| time.as_secs()), Some(3_600));
        assert!(read("any 1m").unwrap().of(http::StatusCode::FORBIDDEN).is_some());
        for text in ["2000 1m", "ok 1m", ",", "200 -1m", "10m 200"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_frames_a_message_is_not_passed_on() {
        assert!((AUTH_COPY.read)("X-User, x-groups").is_ok());
        for value in ["Content-Length", "X-User,Host", "a b", "X-User,é"] {
            assert!((AUTH_COPY.read)(value).is_err(), "{value}");
        }
    }
}
