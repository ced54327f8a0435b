//! Values about the way to the backends: how long, how often.

use std::{sync::Arc, time::Duration};

use super::{Fault, Parser, Setting, go_bool, is_off, size};
use crate::{
    annotations::{buffers::AnswerBuffer, choice::ChoiceSetting},
    policy::retries::Failures,
};

/// Longest time that counts: what HAProxy's timers hold, in milliseconds.
const LONGEST: u64 = i32::MAX as u64;

pub(in crate::annotations) const CONNECT_TIMEOUT: Parser =
    Parser { read: |value| seconds(value, Setting::ConnectTimeout), nothing: &[] };
pub(in crate::annotations) const PAUSE_TIMEOUT: Parser =
    Parser { read: |value| seconds(value, Setting::PauseTimeout), nothing: &[] };
pub(in crate::annotations) const SEND_TIMEOUT: Parser =
    Parser { read: |value| seconds(value, Setting::SendTimeout), nothing: &[] };
pub(in crate::annotations) const BODY_TIMEOUT: Parser =
    Parser { read: |value| seconds(value, Setting::BodyTimeout), nothing: &[] };
pub(in crate::annotations) const BODY_RATE: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => number(value).map(Setting::BodyRate),
    },
    nothing: &[],
};
/// `on` or `off`.
pub(in crate::annotations) const REQUEST_BUFFERING: Parser =
    Parser { read: |value| switch(value, Setting::BufferRequests), nothing: &[] };
/// The same of answers.
pub(in crate::annotations) const BUFFERING: Parser = Parser {
    read: |value| switch(value, |on| Setting::AnswerBuffer(AnswerBuffer::On(on))),
    nothing: &[],
};
/// Bytes of one buffer.
pub(in crate::annotations) const BUFFER_SIZE: Parser = Parser {
    read: |value| bytes(value, |bytes| Setting::AnswerBuffer(AnswerBuffer::Size(bytes))),
    nothing: &[],
};
/// How many there are.
pub(in crate::annotations) const BUFFER_COUNT: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => number(value).map(|count| Setting::AnswerBuffer(AnswerBuffer::Count(count))),
    },
    nothing: &[],
};
/// Bytes in a file; zero stands for no file.
pub(in crate::annotations) const BUFFER_FILE: Parser = Parser {
    read: |value| bytes(value, |bytes| Setting::AnswerBuffer(AnswerBuffer::File(bytes))),
    nothing: &[],
};
/// Bytes of all buffers.
pub(in crate::annotations) const RESPONSE_MEMORY: Parser = Parser {
    read: |value| bytes(value, |bytes| Setting::AnswerBuffer(AnswerBuffer::Memory(bytes))),
    nothing: &[],
};
/// Bytes, in nginx's units.
pub(in crate::annotations) const BODY_MEMORY: Parser =
    Parser { read: |value| bytes(value, Setting::BodyMemory), nothing: &[] };
/// A version of the PROXY protocol.
pub(in crate::annotations) const PROXY_PROTOCOL: Parser = Parser {
    // An empty one is none of them, too: its author wants a header, and a template has lost its version.
    read: |value| {
        value.trim().parse().map(Setting::ProxyProtocol).map_err(|()| {
            let hint = "write one of the two, or remove the annotation";
            Fault::new("InvalidAnnotation", "is neither v1 nor v2", hint)
        })
    },
    nothing: &[],
};
/// Protocols that connections may become.
pub(in crate::annotations) const UPGRADES: Parser = Parser {
    read: |value| {
        value.parse().map(Setting::Upgrades).map_err(|what: String| {
            let hint = "write names as Upgrade has them, such as SPDY/3.1,tcp";
            Fault::new("InvalidAnnotation", what, hint)
        })
    },
    nothing: &[],
};
/// Seconds, or a time with its unit.
pub(in crate::annotations) const IDLE_TIMEOUT: Parser =
    Parser { read: |value| seconds(value, Setting::TunnelTimeout), nothing: &[] };
/// In OpenShift's units, milliseconds where there is none.
pub(in crate::annotations) const ROUTE_TIMEOUT: Parser =
    Parser { read: |value| time(value, 1, Setting::ReadTimeout), nothing: &[] };
pub(in crate::annotations) const ROUTE_TUNNEL: Parser =
    Parser { read: |value| time(value, 1, Setting::TunnelTimeout), nothing: &[] };

pub(in crate::annotations) const WEIGHTS: Parser = Parser { read: weights, nothing: &[] };
pub(in crate::annotations) const SLOW_START: Parser = Parser {
    read: |value| seconds(value, |time| Setting::Choice(ChoiceSetting::SlowStart(time))),
    nothing: &[],
};

pub(in crate::annotations) const CHECK_INTERVAL: Parser = Parser {
    read: |value| seconds(value, |time| Setting::Choice(ChoiceSetting::CheckInterval(time))),
    nothing: &[],
};
pub(in crate::annotations) const CHECK_TIMEOUT: Parser = Parser {
    read: |value| seconds(value, |time| Setting::Choice(ChoiceSetting::CheckTimeout(time))),
    nothing: &[],
};
pub(in crate::annotations) const ROUTE_CHECK_INTERVAL: Parser = Parser {
    read: |value| time(value, 1, |time| Setting::Choice(ChoiceSetting::RouterCheckInterval(time))),
    nothing: &[],
};

pub(in crate::annotations) const NEXT_UPSTREAM: Parser = Parser { read: failures, nothing: &[] };
pub(in crate::annotations) const NEXT_TRIES: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => number(value).map(Setting::Tries),
    },
    nothing: &[],
};
/// Zero stands for as long as it takes.
pub(in crate::annotations) const NEXT_TIME: Parser = Parser {
    read: |value| match value.trim() {
        "0" => Ok(Setting::TriesTime(Duration::ZERO)),
        value => seconds(value, Setting::TriesTime),
    },
    nothing: &[],
};

pub(super) fn seconds(value: &str, setting: fn(Duration) -> Setting) -> Result<Setting, Fault> {
    time(value, 1000, setting)
}

/// A time of `unit` milliseconds each, or of the unit that is behind it.
pub(in crate::annotations) fn time(
    value: &str,
    unit: u64,
    setting: fn(Duration) -> Setting,
) -> Result<Setting, Fault> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(Setting::Nothing);
    }
    let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let micros = match &value[digits.len()..] {
        "" => Some(unit * 1_000),
        "us" => Some(1),
        "ms" => Some(1_000),
        "s" => Some(1_000_000),
        "m" => Some(60_000_000),
        "h" => Some(3_600_000_000),
        "d" => Some(86_400_000_000),
        _ => None,
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    // What is too long for a number is as long as can be.
    let number = || digits.parse().unwrap_or(u64::MAX);
    let number = (plain && !digits.is_empty()).then(number).filter(|number| *number > 0);
    number.zip(micros).map_or_else(
        || {
            let message = "is not a time";
            Err(Fault::new("InvalidAnnotation", message, "write a time such as 60s, 5m or 1h"))
        },
        |(number, micros)| {
            let longest = LONGEST * 1_000;
            let micros = number.saturating_mul(micros).min(longest);
            // A clock of milliseconds does not see less.
            Ok(setting(Duration::from_millis(micros.div_ceil(1_000))))
        },
    )
}

/// `on` or `off`.
fn switch(value: &str, setting: impl FnOnce(bool) -> Setting) -> Result<Setting, Fault> {
    match value.trim() {
        "" => Ok(Setting::Nothing),
        value if is_off(value) => Ok(setting(false)),
        value if value.eq_ignore_ascii_case("on") || go_bool(value) == Some(true) => {
            Ok(setting(true))
        }
        _ => {
            Err(Fault::new("InvalidAnnotation", "is neither on nor off", "write \"on\" or \"off\""))
        }
    }
}

/// A size in nginx's units.
fn bytes(value: &str, setting: impl FnOnce(u64) -> Setting) -> Result<Setting, Fault> {
    match value.trim() {
        "" => Ok(Setting::Nothing),
        value => size(value).map(setting),
    }
}

fn number(value: &str) -> Result<u32, Fault> {
    let plain = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| plain).ok_or_else(|| {
        let message = "is not a number";
        Fault::new("InvalidAnnotation", message, "write a number such as 3")
    })
}

/// `service=weight`, separated by commas; one weight at least is not zero.
fn weights(value: &str) -> Result<Setting, Fault> {
    let fault = |message: String| {
        let hint =
            "write Services of the namespace and numbers up to 65535, such as app=80,app-v2=20";
        Fault::new("InvalidAnnotation", message, hint)
    };
    let mut weights: Vec<(Arc<str>, u16)> = Vec::new();
    for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let known = part.split_once('=').and_then(|(name, weight)| {
            let name = name.trim();
            let valid = crate::host::canonical(name).is_some();
            weight.trim().parse().ok().filter(|_| valid).map(|weight: u16| (name, weight))
        });
        let (name, weight) =
            known.ok_or_else(|| fault(format!("holds {part:?}, which is no share")))?;
        if weights.iter().any(|(other, _)| **other == *name) {
            return Err(fault(format!("names {name:?} twice")));
        }
        weights.push((name.into(), weight));
    }
    match &*weights {
        [] => Ok(Setting::Nothing),
        all if all.iter().all(|(_, weight)| *weight == 0) => {
            Err(fault("gives nothing to anybody".into()))
        }
        _ => Ok(Setting::Weights(weights.into())),
    }
}

/// The words of nginx's `proxy_next_upstream`.
fn failures(value: &str) -> Result<Setting, Fault> {
    if value.trim().is_empty() {
        return Ok(Setting::Nothing);
    }
    if is_off(value) {
        return Ok(Setting::RetryOn(Failures::NONE));
    }
    let mut failures = Failures::NONE;
    for word in value.split_whitespace() {
        let known = match word {
            "error" => Some(Failures::ERROR),
            "timeout" => Some(Failures::TIMEOUT),
            "invalid_header" => Some(Failures::INVALID),
            "non_idempotent" => Some(Failures::NON_IDEMPOTENT),
            _ => word
                .strip_prefix("http_")
                .and_then(|status| status.parse().ok())
                .and_then(Failures::status),
        };
        failures = failures.and(known.ok_or_else(|| {
            Fault::new(
                "InvalidAnnotation",
                format!("holds {word:?}, which is no failure"),
                "write words such as error, timeout, invalid_header, http_502, http_503, non_idempotent, or off",
            )
        })?);
    }
    Ok(Setting::RetryOn(failures))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(parser: Parser, value: &str) -> Option<u128> {
        match (parser.read)(value) {
            Ok(Setting::PauseTimeout(time) | Setting::ReadTimeout(time)) => Some(time.as_millis()),
            _ => None,
        }
    }

    #[test]
    fn a_time_is_in_seconds_for_nginx_and_in_milliseconds_for_routes_unless_it_says() {
        for (value, nginx, route) in [
            ("60", 60_000, 60),
            ("5s", 5_000, 5_000),
            ("2m", 120_000, 120_000),
            ("1h", 3_600_000, 3_600_000),
            ("1500ms", 1_500, 1_500),
            ("10us", 1, 1),
            ("99999999999d", u128::from(LONGEST), u128::from(LONGEST)),
            ("99999999999999999999999", u128::from(LONGEST), u128::from(LONGEST)),
        ] {
            assert_eq!(millis(PAUSE_TIMEOUT, value), Some(nginx), "{value}");
            assert_eq!(millis(ROUTE_TIMEOUT, value), Some(route), "{value}");
        }
        for value in ["0", "-1", "1.5", "5 s", "s", "5x", "é"] {
            assert!((PAUSE_TIMEOUT.read)(value).is_err(), "{value}");
        }
        assert_eq!((PAUSE_TIMEOUT.read)(" "), Ok(Setting::Nothing));
    }

    #[test]
    fn failures_are_nginx_words() {
        let read = |value| (NEXT_UPSTREAM.read)(value);
        let both = Failures::ERROR.and(Failures::TIMEOUT);
        assert_eq!(read("error timeout"), Ok(Setting::RetryOn(both)));
        assert_eq!(read("off"), Ok(Setting::RetryOn(Failures::NONE)));
        let Ok(Setting::RetryOn(failures)) = read("http_503 non_idempotent http_404") else {
            panic!("not read");
        };
        assert!(failures.has_status(503) && failures.has_status(404) && !failures.has_status(502));
        assert!(failures.has(Failures::NON_IDEMPOTENT) && !failures.has(Failures::ERROR));
        for value in ["http_200", "errors", "error,timeout"] {
            assert!(read(value).is_err(), "{value}");
        }
    }
}
