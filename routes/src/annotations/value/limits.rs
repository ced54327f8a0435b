//! Values about how much a client may do.

use super::{Fault, Parser, Setting, is_off, networks};

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
        let exempt = networks(value)?;
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
