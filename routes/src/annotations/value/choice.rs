//! Values that say which endpoint gets a request.

use super::{Fault, Parser, Setting, flag};
use crate::{
    annotations::choice::{CheckedBy, ChoiceSetting},
    policy::{
        affinity::{Mode, SameSite},
        balance::Algorithm,
        hash_by::HashKey,
    },
};

/// Most endpoints that may share a key.
const MOST_SUBSET: u32 = 1_000;

/// The words of ingress-nginx, of OpenShift's router and our own.
pub(in crate::annotations) const ALGORITHM: Parser = Parser {
    read: |value| {
        let word = value.trim().to_ascii_lowercase().replace('_', "-");
        let algorithm = match &*word {
            "" => return Ok(Setting::Nothing),
            "round-robin" | "roundrobin" => Algorithm::RoundRobin,
            "least-request" | "least-conn" | "leastconn" => Algorithm::LeastRequest,
            "ewma" | "least-time" => Algorithm::LeastTime,
            "random" => Algorithm::Random,
            "source" | "ip-hash" => Algorithm::Hash { key: HashKey::client(), subset: 1 },
            _ => {
                return Err(Fault::new(
                    "InvalidAnnotation",
                    "is not a way to choose endpoints",
                    "write round_robin (roundrobin), least_request (leastconn), ewma, random or source",
                ));
            }
        };
        Ok(Setting::Choice(ChoiceSetting::Algorithm(algorithm)))
    },
    nothing: &[],
};
pub(in crate::annotations) const HASH_BY: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        text => match HashKey::parse(text) {
            Ok(key) => Ok(Setting::Choice(ChoiceSetting::HashBy(key))),
            Err(unknown) => Err(Fault::new(
                "InvalidAnnotation",
                format!("holds the variable {unknown:?}, which is not known"),
                "use $remote_addr, $request_uri, $uri, $args, $host, $http_NAME, $cookie_NAME or $arg_NAME",
            )),
        },
    },
    nothing: &[],
};
pub(in crate::annotations) const HASH_SUBSET: Parser =
    Parser { read: |value| switch(value, ChoiceSetting::Subset), nothing: &[] };
pub(in crate::annotations) const HASH_SUBSET_SIZE: Parser =
    Parser { read: |value| number(value, 1, MOST_SUBSET, ChoiceSetting::SubsetSize), nothing: &[] };
pub(in crate::annotations) const PANIC_PERCENT: Parser = Parser {
    read: |value| {
        let percent = |percent| ChoiceSetting::PanicPercent(u8::try_from(percent).unwrap_or(100));
        number(value.trim().trim_end_matches('%'), 0, 100, percent)
    },
    nothing: &["0"],
};

pub(in crate::annotations) const AFFINITY: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        "cookie" => Ok(Setting::Choice(ChoiceSetting::Affinity)),
        _ => Err(invalid("is not cookie", "write \"cookie\"")),
    },
    nothing: &[],
};
pub(in crate::annotations) const AFFINITY_MODE: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        "balanced" => Ok(Setting::Choice(ChoiceSetting::Mode(Mode::Balanced))),
        "persistent" => Ok(Setting::Choice(ChoiceSetting::Mode(Mode::Persistent))),
        _ => Err(invalid("is not balanced or persistent", "write one of the two")),
    },
    nothing: &[],
};
pub(in crate::annotations) const AFFINITY_CANARY: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        "sticky" => Ok(Setting::Choice(ChoiceSetting::StickyCanary(true))),
        "legacy" => Ok(Setting::Choice(ChoiceSetting::StickyCanary(false))),
        _ => Err(invalid("is not sticky or legacy", "write one of the two")),
    },
    nothing: &[],
};
pub(in crate::annotations) const SESSION_NAME: Parser =
    Parser { read: |value| name(value, ChoiceSetting::CookieName), nothing: &[] };
pub(in crate::annotations) const ROUTER_COOKIE_NAME: Parser =
    Parser { read: router_cookie_name, nothing: &[] };
pub(in crate::annotations) const SESSION_PATH: Parser = Parser {
    read: |value| {
        let path =
            |text: &str| text.starts_with('/').then(|| ChoiceSetting::CookiePath(text.into()));
        attribute(value, path, "is not the path of a cookie", "write a path such as /")
    },
    nothing: &[],
};
pub(in crate::annotations) const SESSION_DOMAIN: Parser = Parser {
    read: |value| {
        let domain = |text: &str| Some(ChoiceSetting::CookieDomain(text.into()));
        attribute(
            value,
            domain,
            "is not the domain of a cookie",
            "write a domain such as example.com",
        )
    },
    nothing: &[],
};
pub(in crate::annotations) const SESSION_SAME_SITE: Parser =
    Parser { read: |value| same_site(value, ChoiceSetting::CookieSameSite), nothing: &[] };
pub(in crate::annotations) const ROUTER_SAME_SITE: Parser =
    Parser { read: router_same_site, nothing: &[] };
pub(in crate::annotations) const SESSION_CONDITIONAL: Parser =
    Parser { read: |value| switch(value, ChoiceSetting::ConditionalNone), nothing: &[] };
pub(in crate::annotations) const SESSION_SECURE: Parser =
    Parser { read: |value| switch(value, ChoiceSetting::CookieSecure), nothing: &[] };
pub(in crate::annotations) const SESSION_PARTITIONED: Parser =
    Parser { read: |value| switch(value, ChoiceSetting::Partitioned), nothing: &[] };
pub(in crate::annotations) const SESSION_MOVES: Parser =
    Parser { read: |value| switch(value, ChoiceSetting::Moves), nothing: &[] };
pub(in crate::annotations) const SESSION_MAX_AGE: Parser =
    Parser { read: |value| number(value, 0, u32::MAX, ChoiceSetting::MaxAge), nothing: &[] };
pub(in crate::annotations) const SESSION_EXPIRES: Parser =
    Parser { read: |value| number(value, 0, u32::MAX, ChoiceSetting::Expires), nothing: &[] };
/// As OpenShift's router reads it: what is no boolean of Go leaves the cookie, and is told of.
pub(in crate::annotations) const NO_ROUTER_COOKIE: Parser = Parser {
    read: |value| {
        if value.trim().is_empty() {
            return Ok(Setting::Nothing);
        }
        flag(value).map(|off| Setting::Choice(ChoiceSetting::NoRouterCookie(off)))
    },
    nothing: &["false"],
};

pub(in crate::annotations) const MAX_CONNECTIONS: Parser = Parser {
    read: |value| match value.trim() {
        "" | "0" => Ok(Setting::Nothing),
        value => {
            let plain = value.bytes().all(|byte| byte.is_ascii_digit());
            let count = value.parse().ok().filter(|_| plain);
            count.map(ChoiceSetting::MaxConnections).map(Setting::Choice).ok_or_else(|| {
                invalid("is not a number of connections", "write a number such as 100")
            })
        }
    },
    nothing: &["0"],
};
pub(in crate::annotations) const MAX_PENDING: Parser =
    Parser { read: |value| number(value, 0, u32::MAX, ChoiceSetting::MaxPending), nothing: &[] };
pub(in crate::annotations) const CHECK: Parser = Parser {
    read: |value| {
        let by = match value.trim().to_ascii_lowercase().as_str() {
            "" | "off" | "false" => return Ok(Setting::Nothing),
            "tcp" => CheckedBy::Tcp,
            "http" => CheckedBy::Http,
            "grpc" => CheckedBy::Grpc,
            _ => return Err(invalid("is not tcp, http or grpc", "write one of the three")),
        };
        Ok(Setting::Choice(ChoiceSetting::Check(by)))
    },
    nothing: &["off"],
};
pub(in crate::annotations) const CHECK_PATH: Parser = Parser {
    read: |value| {
        let path =
            |text: &str| text.starts_with('/').then(|| ChoiceSetting::CheckPath(text.into()));
        attribute(value, path, "is not a path", "write a path such as /healthz")
    },
    nothing: &[],
};
pub(in crate::annotations) const CHECK_HOST: Parser = Parser {
    read: |value| {
        let host = |text: &str| Some(ChoiceSetting::CheckHost(text.into()));
        attribute(value, host, "is not a host", "write a name such as www.example.com")
    },
    nothing: &[],
};
pub(in crate::annotations) const CHECK_SERVICE: Parser = Parser {
    read: |value| {
        let short =
            |text: &str| (text.len() < 128).then(|| ChoiceSetting::CheckService(text.into()));
        attribute(value, short, "is not the name of a service", "write a name such as acme.Shop")
    },
    nothing: &[],
};
pub(in crate::annotations) const CHECK_FALL: Parser =
    Parser { read: |value| number(value, 1, 1_000, ChoiceSetting::CheckFall), nothing: &[] };
pub(in crate::annotations) const CHECK_RISE: Parser =
    Parser { read: |value| number(value, 1, 1_000, ChoiceSetting::CheckRise), nothing: &[] };

fn invalid(message: &str, hint: &'static str) -> Fault {
    Fault::new("InvalidAnnotation", message, hint)
}

fn switch(value: &str, setting: fn(bool) -> ChoiceSetting) -> Result<Setting, Fault> {
    match value.trim() {
        "" => Ok(Setting::Nothing),
        value => flag(value).map(setting).map(Setting::Choice),
    }
}

fn number(
    value: &str,
    least: u32,
    most: u32,
    setting: impl FnOnce(u32) -> ChoiceSetting,
) -> Result<Setting, Fault> {
    whole(value, least, most, |number| Setting::Choice(setting(number)))
}

/// A whole number within bounds.
pub(super) fn whole(
    value: &str,
    least: u32,
    most: u32,
    setting: impl FnOnce(u32) -> Setting,
) -> Result<Setting, Fault> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(Setting::Nothing);
    }
    let plain = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|number| plain && (least..=most).contains(number));
    number.map(setting).ok_or_else(|| {
        invalid(&format!("is not a number from {least} to {most}"), "write a number such as 3")
    })
}

/// Whether cookies may have this name: a token of RFC 9110.
pub(in crate::annotations) fn is_cookie_name(value: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !value.is_empty() && value.bytes().all(token)
}

/// As OpenShift's router reads it.
fn router_cookie_name(value: &str) -> Result<Setting, Fault> {
    if value.trim().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return name(value, ChoiceSetting::RouterCookieName);
    }
    Err(invalid("is not the name of a cookie", "use letters, digits, '-' and '_'"))
}

/// As OpenShift's router reads it, which compares letter by letter.
fn router_same_site(value: &str) -> Result<Setting, Fault> {
    match value.trim() {
        "" | "None" | "Lax" | "Strict" => same_site(value, ChoiceSetting::RouterSameSite),
        _ => Err(invalid("is not Lax, Strict or None", "write one of the three as it stands here")),
    }
}

/// The name of a cookie.
fn name(value: &str, setting: fn(std::sync::Arc<str>) -> ChoiceSetting) -> Result<Setting, Fault> {
    match value.trim() {
        "" => Ok(Setting::Nothing),
        value if is_cookie_name(value) => Ok(Setting::Choice(setting(value.into()))),
        _ => Err(invalid("is not the name of a cookie", "use letters, digits, '-' and '_'")),
    }
}

/// The value of an attribute: RFC 6265 §4.1.1 lets no semicolon and no control character in.
fn attribute(
    value: &str,
    setting: impl FnOnce(&str) -> Option<ChoiceSetting>,
    message: &str,
    hint: &'static str,
) -> Result<Setting, Fault> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(Setting::Nothing);
    }
    let plain = value.bytes().all(|byte| byte.is_ascii_graphic() && !b";,\"\\".contains(&byte));
    let setting = if plain { setting(value) } else { None };
    setting.map(Setting::Choice).ok_or_else(|| invalid(message, hint))
}

fn same_site(value: &str, setting: fn(SameSite) -> ChoiceSetting) -> Result<Setting, Fault> {
    let same_site = match value.trim() {
        "" => return Ok(Setting::Nothing),
        "None" | "none" => SameSite::None,
        "Lax" | "lax" => SameSite::Lax,
        "Strict" | "strict" => SameSite::Strict,
        _ => return Err(invalid("is not None, Lax or Strict", "write one of the three")),
    };
    Ok(Setting::Choice(setting(same_site)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_boolean_of_go_leaves_the_routers_cookie_and_is_told_of() {
        let read = |value| (NO_ROUTER_COOKIE.read)(value);
        let off = |off| Ok(Setting::Choice(ChoiceSetting::NoRouterCookie(off)));
        assert_eq!((read("True"), read("0")), (off(true), off(false)));
        assert_eq!((read(""), read(" ")), (Ok(Setting::Nothing), Ok(Setting::Nothing)));
        for value in ["yes", "tRUE", " true", "on"] {
            assert_eq!(
                read(value).map_err(|fault| fault.reason),
                Err("InvalidAnnotation"),
                "{value}"
            );
        }
    }
}
