//! Values that say when endpoints are ejected for their answers, and how many requests are tried again.

use std::{num::NonZeroU32, time::Duration};

use super::{Fault, Parser, Setting, choice, policy};
use crate::annotations::{choice::ChoiceSetting, ejection::EjectionSetting};

pub(in crate::annotations) const EJECT_ERRORS: Parser =
    Parser { read: |value| count(value, EjectionSetting::Errors), nothing: &[] };
pub(in crate::annotations) const EJECT_SUCCESS_RATE: Parser =
    Parser { read: |value| percent(value, 1, EjectionSetting::SuccessRate), nothing: &[] };
pub(in crate::annotations) const EJECT_INTERVAL: Parser = Parser {
    read: |value| policy::seconds(value, |time| of(EjectionSetting::Interval(time))),
    nothing: &[],
};
pub(in crate::annotations) const EJECT_REQUESTS: Parser =
    Parser { read: |value| count(value, EjectionSetting::Requests), nothing: &[] };
pub(in crate::annotations) const EJECT_TIME: Parser = Parser {
    read: |value| policy::seconds(value, |time: Duration| of(EjectionSetting::Time(time))),
    nothing: &[],
};
pub(in crate::annotations) const EJECT_SHARE: Parser =
    Parser { read: |value| percent(value, 0, EjectionSetting::Share), nothing: &[] };
pub(in crate::annotations) const RETRY_BUDGET: Parser = Parser {
    read: |value| {
        let budget = |percent| Setting::RetryBudget(u8::try_from(percent).unwrap_or(100));
        choice::whole(value.trim().trim_end_matches('%'), 0, 100, budget)
    },
    nothing: &[],
};
pub(in crate::annotations) const RETRY_MINIMUM: Parser = Parser {
    read: |value| choice::whole(value, 0, 1_000_000, Setting::RetryMinimum),
    nothing: &[],
};

fn of(setting: EjectionSetting) -> Setting {
    Setting::Choice(ChoiceSetting::Ejection(setting))
}

fn count(value: &str, setting: fn(NonZeroU32) -> EjectionSetting) -> Result<Setting, Fault> {
    // The bound keeps zero out.
    let counted =
        |count| NonZeroU32::new(count).map_or(Setting::Nothing, |count| of(setting(count)));
    choice::whole(value, 1, 1_000_000, counted)
}

fn percent(value: &str, least: u32, setting: fn(u8) -> EjectionSetting) -> Result<Setting, Fault> {
    let percent = |percent| of(setting(u8::try_from(percent).unwrap_or(100)));
    choice::whole(value.trim().trim_end_matches('%'), least, 100, percent)
}
