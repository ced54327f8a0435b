//! Values about answers on their way back.

use std::sync::Arc;

use super::{Fault, Parser, Setting};

/// Something about answers, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AnswerSetting {
    /// The ConfigMap with fields of answers.
    CustomHeaders(Arc<str>),
}

/// A ConfigMap with fields of answers.
pub(in crate::annotations) const CUSTOM_HEADERS: Parser = Parser {
    read: |value| named(value, |name| Setting::Answer(AnswerSetting::CustomHeaders(name))),
    nothing: &[],
};

/// `name` or `namespace/name`; whether the namespace may be another one is the reader's to say.
fn named(value: &str, setting: fn(Arc<str>) -> Setting) -> Result<Setting, Fault> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(Setting::Nothing);
    }
    let is_name = |part: &str| {
        let known =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        !part.is_empty() && part.len() <= 253 && part.bytes().all(known)
    };
    let (namespace, name) = value.split_once('/').unwrap_or(("default", value));
    match is_name(namespace) && is_name(name) {
        true => Ok(setting(value.into())),
        false => Err(Fault::new(
            "InvalidAnnotation",
            "is not the name of an object",
            "write the name of an object of the same namespace",
        )),
    }
}
