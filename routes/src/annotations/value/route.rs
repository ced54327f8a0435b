//! Values as OpenShift's router reads them.

use super::{Fault, Parser, Setting, flag, is_off, one_of};
use crate::{path, policy::forwarded::ForwardedFields};

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
/// Requests at once.
pub(in crate::annotations) const CONCURRENT_TCP: Parser =
    Parser { read: |value| count(value, Setting::ConcurrentTcp), nothing: &["0"] };
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
/// A Secret of the object's own namespace.
pub(in crate::annotations) const OWN_SECRET: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        name if name.contains(['/', ' ']) => {
            let hint = "write the name of a Secret of the same namespace";
            Err(Fault::new("InvalidAnnotation", "names no Secret of the namespace", hint))
        }
        name => Ok(Setting::DestinationCa(name.into())),
    },
    nothing: &[],
};
/// Names of headers are spelled as the process lists them.
pub(in crate::annotations) const HEADER_CASE: Parser =
    Parser { read: |value| flag(value).map(Setting::HeaderCase), nothing: &[] };
/// What becomes of forwarding fields that a client sent.
pub(in crate::annotations) const FORWARDED_FIELDS: Parser = Parser {
    read: |value| {
        let modes = [
            ("append", ForwardedFields::Append),
            ("replace", ForwardedFields::Replace),
            ("if-none", ForwardedFields::IfNone),
            ("never", ForwardedFields::Never),
        ];
        Ok(one_of(value, &modes)?.map_or(Setting::Nothing, Setting::Forwarded))
    },
    nothing: &[],
};
/// Whether there is to be a field of the standard.
pub(in crate::annotations) const FORWARDED: Parser = Parser {
    read: |value| {
        let modes = [("add", ForwardedFields::Beside), ("only", ForwardedFields::Only)];
        Ok(one_of(value, &modes)?.map_or(Setting::Nothing, Setting::Forwarded))
    },
    nothing: &["off"],
};

fn count(value: &str, setting: fn(u32) -> Setting) -> Result<Setting, Fault> {
    match value.trim() {
        value if value == "0" || is_off(value) => Ok(Setting::Nothing),
        value => super::limits::number(value).map(setting),
    }
}
