//! Values about answers on their way back.

use std::sync::Arc;

use http::HeaderName;

use super::{Fault, Parser, Setting, flag, go_bool, is_off, named, one_of, size};
use crate::annotations::snippet::words;
use crate::filter::{answer_fields::may_be_set, change::Change, compress::Coding};

/// Something about answers, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AnswerSetting {
    /// The ConfigMap with fields of answers.
    CustomHeaders(Arc<str>),
    /// The ConfigMap with texts for errors.
    ErrorPages(Arc<str>),
    /// The Service that words errors.
    DefaultBackend(Arc<str>),
    /// Statuses of errors that are worded anew, ascending.
    Statuses(Arc<[u16]>),
    /// Errors of the backend are not.
    LeavesBackend(bool),
    CookieDomain(Option<Box<Change>>),
    CookiePath(Option<Box<Change>>),
    RedirectFrom(Arc<str>),
    RedirectTo(Arc<str>),
    /// Fields that clients do not get.
    Hide(Arc<[HeaderName]>),
    Security(Option<SecurityHeaders>),
    /// The connection to the backend is not kept.
    ClosesUpstream(bool),
    /// Codings of answers, the best liked first.
    Codings(Arc<[Coding]>),
    /// Media types that are compressed.
    CompressTypes(Arc<[Box<str>]>),
    /// Bytes below which nothing is.
    CompressMinimum(u64),
}

/// How careful browsers are told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecurityHeaders {
    Basic,
    Strict,
}

pub(in crate::annotations) const CUSTOM_HEADERS: Parser =
    Parser { read: |value| of_object(value, AnswerSetting::CustomHeaders), nothing: &[] };
pub(in crate::annotations) const ERROR_PAGES: Parser =
    Parser { read: |value| of_object(value, AnswerSetting::ErrorPages), nothing: &[] };
pub(in crate::annotations) const DEFAULT_BACKEND: Parser =
    Parser { read: |value| of_object(value, AnswerSetting::DefaultBackend), nothing: &[] };
pub(in crate::annotations) const HTTP_ERRORS: Parser = Parser { read: statuses, nothing: &[] };
pub(in crate::annotations) const LEAVE_ERRORS: Parser =
    Parser { read: |value| Ok(answer(AnswerSetting::LeavesBackend(flag(value)?))), nothing: &[] };
pub(in crate::annotations) const COOKIE_DOMAIN: Parser = Parser {
    read: |value| Ok(answer(AnswerSetting::CookieDomain(pair(value, Change::of_domain)?))),
    nothing: &["off"],
};
pub(in crate::annotations) const COOKIE_PATH: Parser = Parser {
    read: |value| Ok(answer(AnswerSetting::CookiePath(pair(value, Change::of_path)?))),
    nothing: &["off"],
};
pub(in crate::annotations) const REDIRECT_FROM: Parser =
    Parser { read: |value| Ok(redirect(value, AnswerSetting::RedirectFrom)), nothing: &["off"] };
pub(in crate::annotations) const REDIRECT_TO: Parser =
    Parser { read: |value| Ok(redirect(value, AnswerSetting::RedirectTo)), nothing: &["off"] };
pub(in crate::annotations) const HIDE: Parser = Parser { read: hide, nothing: &[] };
pub(in crate::annotations) const SECURITY: Parser = Parser {
    read: |value| {
        one_of(value, &[("basic", SecurityHeaders::Basic), ("strict", SecurityHeaders::Strict)])
            .map(|preset| answer(AnswerSetting::Security(preset)))
    },
    nothing: &["off"],
};
pub(in crate::annotations) const CONNECTION_HEADER: Parser = Parser {
    read: |value| {
        one_of(value, &[("keep-alive", false), ("close", true), ("upgrade", false)])
            .map(|closes| answer(AnswerSetting::ClosesUpstream(closes.unwrap_or(false))))
    },
    nothing: &["keep-alive"],
};

pub(in crate::annotations) const COMPRESS: Parser = Parser { read: codings, nothing: &["off"] };
pub(in crate::annotations) const COMPRESS_TYPES: Parser = Parser { read: types, nothing: &[] };
pub(in crate::annotations) const COMPRESS_MINIMUM: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => size(value).map(|bytes| answer(AnswerSetting::CompressMinimum(bytes))),
    },
    nothing: &[],
};

fn codings(value: &str) -> Result<Setting, Fault> {
    let value = value.trim();
    if is_off(value) {
        return Ok(answer(AnswerSetting::Codings(Arc::default())));
    }
    if value.eq_ignore_ascii_case("on") || go_bool(value) == Some(true) {
        return Ok(answer(AnswerSetting::Codings(Coding::ALL.into())));
    }
    let words = value.split([',', ' ']).filter(|word| !word.is_empty());
    let known = |word: &str| {
        let brotli = word.eq_ignore_ascii_case("brotli").then_some(Coding::Brotli);
        let named = |coding: &Coding| word.eq_ignore_ascii_case(coding.name());
        brotli.or_else(|| Coding::ALL.into_iter().find(named)).ok_or_else(|| {
            let message = format!("holds {word:?}, which is none of br, zstd and gzip");
            Fault::new("InvalidAnnotation", message, "write br, zstd, gzip, on or off")
        })
    };
    Ok(answer(AnswerSetting::Codings(words.map(known).collect::<Result<_, _>>()?)))
}

fn types(value: &str) -> Result<Setting, Fault> {
    let words = value.split([',', ' ', '\n']).filter(|word| !word.is_empty());
    let types: Arc<[Box<str>]> = words.map(|word| word.to_ascii_lowercase().into()).collect();
    match types.iter().find(|word| !word.contains('/')) {
        _ if types.is_empty() => Ok(Setting::Nothing),
        None => Ok(answer(AnswerSetting::CompressTypes(types))),
        Some(bad) => {
            let message = format!("holds {bad:?}, which is no media type");
            Err(Fault::new("InvalidAnnotation", message, "write types such as text/html"))
        }
    }
}

fn answer(setting: AnswerSetting) -> Setting {
    Setting::Answer(setting)
}

fn of_object(value: &str, setting: fn(Arc<str>) -> AnswerSetting) -> Result<Setting, Fault> {
    named(value, |name| answer(setting(name)))
}

fn statuses(value: &str) -> Result<Setting, Fault> {
    let mut all = Vec::new();
    for text in value.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let status = text.parse::<u16>().ok().filter(|status| (300..=599).contains(status));
        all.push(status.ok_or_else(|| {
            let message = format!("holds {text:?}, which is no status from 300 to 599");
            Fault::new("InvalidAnnotation", message, "write statuses such as 404,503")
        })?);
    }
    all.sort_unstable();
    all.dedup();
    Ok(if all.is_empty() { Setting::Nothing } else { answer(AnswerSetting::Statuses(all.into())) })
}

/// What is looked for and what stands there instead, a blank between them.
fn pair(
    value: &str,
    change: fn(&str, &str) -> Result<Change, String>,
) -> Result<Option<Box<Change>>, Fault> {
    const HINT: &str = "write what is looked for, a blank, and what stands there instead, in quotes if it holds \
                        blanks or semicolons";
    let words = words(value).map_err(|why| {
        Fault::new("InvalidAnnotation", format!("is not a pair: it holds {why}"), HINT)
    })?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => Ok(None),
        [off] if is_off(off) => Ok(None),
        [from, to] => {
            let fault =
                |why| Fault::new("InvalidAnnotation", format!("cannot be used: {why}"), HINT);
            change(from, to).map(|change| Some(Box::new(change))).map_err(fault)
        }
        _ => Err(Fault::new("InvalidAnnotation", "is not a pair", HINT)),
    }
}

fn redirect(value: &str, setting: fn(Arc<str>) -> AnswerSetting) -> Setting {
    match value.trim() {
        // `default` stands for the address of the upstream, which no backend knows.
        value if is_off(value) || value == "default" => Setting::Nothing,
        value => answer(setting(value.into())),
    }
}

fn hide(value: &str) -> Result<Setting, Fault> {
    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Option<Arc<[HeaderName]>> =
        names.map(|name| HeaderName::try_from(name).ok().filter(may_be_set)).collect();
    match names {
        Some(names) if names.is_empty() => Ok(Setting::Nothing),
        Some(names) => Ok(answer(AnswerSetting::Hide(names))),
        None => Err(Fault::new(
            "InvalidAnnotation",
            "is not a list of fields that may be hidden",
            "separate names by commas",
        )),
    }
}
