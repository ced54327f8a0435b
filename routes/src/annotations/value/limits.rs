//! Values about how much a client may do.

use http::{HeaderName, StatusCode};

use super::{Fault, Parser, Setting, flag, is_off, listed, policy};
use crate::{
    filter::{authentication::jwt::Claim, limit_key::LimitKey, rate_limit::LimitScope},
    policy::hash_by::HashKey,
};

pub(in crate::annotations) const RATE_PER_SECOND: Parser =
    Parser { read: |value| rate(value, Setting::PerSecond), nothing: &["0"] };
pub(in crate::annotations) const RATE_PER_MINUTE: Parser =
    Parser { read: |value| rate(value, Setting::PerMinute), nothing: &["0"] };
pub(in crate::annotations) const BURST: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => number(value).map(Setting::Burst),
    },
    nothing: &[],
};
pub(in crate::annotations) const LIMIT_EXEMPT: Parser = Parser {
    read: |value| {
        let exempt = listed(value)?;
        Ok(if exempt.is_empty() { Setting::Nothing } else { Setting::LimitExempt(exempt) })
    },
    nothing: &[],
};

pub(in crate::annotations) const CONNECTIONS: Parser =
    Parser { read: |value| rate(value, Setting::Connections), nothing: &["0"] };
/// KiB per second.
pub(in crate::annotations) const PACE: Parser =
    Parser { read: |value| kib(value, Setting::PaceRate), nothing: &["0"] };
/// KiB.
pub(in crate::annotations) const PACE_AFTER: Parser =
    Parser { read: |value| kib(value, Setting::PaceAfter), nothing: &["0"] };

/// What tells clients apart.
pub(in crate::annotations) const LIMIT_BY: Parser = Parser {
    read: |value| {
        let value = value.trim();
        let (kind, name) = value.split_once(':').unwrap_or((value, ""));
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_token = !name.is_empty() && name.bytes().all(token);
        let key = match (kind, name) {
            ("", "") => return Ok(Setting::Nothing),
            ("address", "") => Some(LimitKey::Address),
            ("header", name) => HeaderName::try_from(name).ok().map(LimitKey::Header),
            ("cookie", name) if is_token => Some(LimitKey::Cookie(name.into())),
            ("claim", name) if !name.is_empty() => Some(LimitKey::Claim(Claim(name.into()))),
            _ => None,
        };
        key.map(Setting::LimitBy).ok_or_else(|| {
            let message = "is not address, header:NAME, cookie:NAME or claim:NAME";
            Fault::new("InvalidAnnotation", message, "write a key such as header:X-Api-Key")
        })
    },
    nothing: &["address"],
};
/// Requests within a window, on all nodes.
pub(in crate::annotations) const GROUP_RATE: Parser =
    Parser { read: |value| rate(value, Setting::GroupRate), nothing: &["0"] };
pub(in crate::annotations) const GROUP_WINDOW: Parser =
    Parser { read: |value| policy::time(value, 1000, Setting::GroupWindow), nothing: &[] };
pub(in crate::annotations) const GROUP_EXEMPT: Parser = Parser {
    read: |value| {
        let exempt = listed(value)?;
        Ok(if exempt.is_empty() { Setting::Nothing } else { Setting::GroupExempt(exempt) })
    },
    nothing: &[],
};
pub(in crate::annotations) const GROUP_KEY: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        "$remote_addr" | "${remote_addr}" | "$binary_remote_addr" => {
            Ok(Setting::GroupKey(LimitKey::Address))
        }
        text => match HashKey::parse_identity(text) {
            Ok(key) => Ok(Setting::GroupKey(LimitKey::Text(key))),
            Err(unknown) => Err(Fault::new(
                "InvalidAnnotation",
                format!("holds the variable {unknown}, which is not known"),
                "use $remote_addr, $http_NAME, $cookie_NAME, $arg_NAME, $host, $uri and the like",
            )),
        },
    },
    nothing: &["$remote_addr"],
};
/// Where limits count.
pub(in crate::annotations) const LIMIT_SCOPE: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        "node" => Ok(Setting::LimitScope(LimitScope::Node)),
        "group" => Ok(Setting::LimitScope(LimitScope::Group)),
        _ => {
            let message = "is not node or group";
            Err(Fault::new("InvalidAnnotation", message, "write group or node"))
        }
    },
    nothing: &["node"],
};
pub(in crate::annotations) const LIMIT_STATUS: Parser =
    Parser { read: |value| status(value, Setting::LimitStatus), nothing: &[] };
pub(in crate::annotations) const CONNECTIONS_STATUS: Parser =
    Parser { read: |value| status(value, Setting::ConnectionsStatus), nothing: &[] };
pub(in crate::annotations) const LIMIT_SHOWN: Parser =
    Parser { read: |value| flag(value).map(Setting::LimitShown), nothing: &["false"] };

/// What ingress-nginx takes: 400 to 599.
fn status(value: &str, setting: fn(StatusCode) -> Setting) -> Result<Setting, Fault> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(Setting::Nothing);
    }
    let status = value.parse().ok().filter(|status| (400..=599).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    status.map(setting).ok_or_else(|| {
        Fault::new(
            "InvalidAnnotation",
            "is not a status from 400 to 599",
            "write a status such as 429",
        )
    })
}

fn kib(value: &str, setting: fn(u64) -> Setting) -> Result<Setting, Fault> {
    match value.trim() {
        value if value == "0" || is_off(value) => Ok(Setting::Nothing),
        value => number(value).map(|kib| setting(u64::from(kib) << 10)),
    }
}

fn rate(value: &str, setting: fn(u32) -> Setting) -> Result<Setting, Fault> {
    match value.trim() {
        value if value == "0" || is_off(value) => Ok(Setting::Nothing),
        value => number(value).map(setting),
    }
}

/// A million requests at most: beyond that a limit is none.
pub(super) fn number(value: &str) -> Result<u32, Fault> {
    let number = value.parse::<u32>().ok().filter(|number| (1..=1_000_000).contains(number));
    number.ok_or_else(|| {
        let message = "is not a number from 1 to 1000000";
        Fault::new("InvalidAnnotation", message, "write a number such as 10")
    })
}
