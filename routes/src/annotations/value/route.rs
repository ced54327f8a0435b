//! Values as OpenShift's router reads them.

use super::{Fault, Parser, Setting, flag, is_off};
use crate::path;

/// The switch of the limits for each client.
pub(in crate::annotations) const ROUTE_LIMITS: Parser = Parser {
    read: |value| match value.trim() {
        value if is_off(value) => Ok(Setting::LimitConnections(false)),
        value => flag(value).map(Setting::LimitConnections),
    },
    nothing: &["false"],
};
/// Requests within 10 s.
pub(in crate::annotations) const RATE_HTTP: Parser =
    Parser { read: |value| count(value, Setting::RateHttp), nothing: &["0"] };
/// Connections within 3 s.
pub(in crate::annotations) const RATE_TCP: Parser =
    Parser { read: |value| count(value, Setting::RateTcp), nothing: &["0"] };
/// What stands in for the path of the Route, as it stands.
pub(in crate::annotations) const PREFIX_TARGET: Parser = Parser {
    read: |value| {
        let value = value.trim();
        if value.is_empty() {
            return Ok(Setting::Nothing);
        }
        path::pattern(value).map(|path| Setting::PrefixTarget(path.into())).map_err(|error| {
            let hint = "write a path such as / or /app; it replaces that of the Route";
            Fault::new("InvalidRewriteTarget", format!("cannot be sent: {error}"), hint)
        })
    },
    nothing: &[],
};
/// What becomes of forwarding fields that a client sent.
pub(in crate::annotations) const FORWARDED_FIELDS: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => value.parse().map(Setting::Forwarded).map_err(|()| {
            let message = "is not append, replace, if-none or never";
            Fault::new("InvalidAnnotation", message, "write one of the four")
        }),
    },
    nothing: &[],
};

fn count(value: &str, setting: fn(u32) -> Setting) -> Result<Setting, Fault> {
    match value.trim() {
        value if value == "0" || is_off(value) => Ok(Setting::Nothing),
        value => super::limits::number(value).map(setting),
    }
}
