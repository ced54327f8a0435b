//! Values that say which requests a canary takes.

use http::{HeaderName, HeaderValue};

use super::{Fault, Parser, Setting, flag};
use crate::canary::ValueRegex;

pub(in crate::annotations) const CANARY: Parser =
    Parser { read: |value| flag(value).map(Setting::Canary), nothing: &[] };
pub(in crate::annotations) const CANARY_HEADER: Parser = Parser {
    read: |value| {
        text(value, "is not the name of a field", "write a name such as X-Canary", |name| {
            HeaderName::try_from(name).ok().map(Setting::CanaryHeader)
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const CANARY_VALUE: Parser = Parser {
    read: |value| {
        text(value, "is not the value of a field", "write plain text", |value| {
            HeaderValue::try_from(value).ok().map(Setting::CanaryValue)
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const CANARY_PATTERN: Parser = Parser {
    read: |value| {
        let hint = "look-around and back-references are not supported; use groups and classes";
        text(value, "is not an expression", hint, |value| {
            ValueRegex::new(value).ok().map(Setting::CanaryPattern)
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const CANARY_COOKIE: Parser = Parser {
    read: |value| {
        text(value, "is not the name of a cookie", "write a name such as canary", |name| {
            let token = |byte: u8| byte.is_ascii_graphic() && !b"=;,\"".contains(&byte);
            name.bytes().all(token).then(|| Setting::CanaryCookie(name.into()))
        })
    },
    nothing: &[],
};
pub(in crate::annotations) const CANARY_WEIGHT: Parser =
    Parser { read: |value| number(value, 0).map(Setting::CanaryWeight), nothing: &[] };
pub(in crate::annotations) const CANARY_TOTAL: Parser =
    Parser { read: |value| number(value, 1).map(Setting::CanaryTotal), nothing: &[] };

fn text(
    value: &str,
    message: &str,
    hint: &'static str,
    read: impl FnOnce(&str) -> Option<Setting>,
) -> Result<Setting, Fault> {
    match value.trim() {
        "" => Ok(Setting::Nothing),
        value => read(value).ok_or_else(|| Fault::new("InvalidAnnotation", message, hint)),
    }
}

fn number(value: &str, least: u32) -> Result<u32, Fault> {
    let number = value.trim().parse::<u32>().ok().filter(|number| *number >= least);
    number.ok_or_else(|| {
        let message = format!("is not a whole number from {least} on");
        Fault::new("InvalidAnnotation", message, "write a number such as 10")
    })
}
