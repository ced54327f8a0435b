//! Values about answers that do not come from a backend, and about fields of messages: redirects, CORS,
//! `Host`, HSTS.

use http::HeaderValue;

use super::{Fault, Parser, Setting, flag};
use crate::{
    annotations::backend_text::BackendText,
    filter::cors::{OriginPattern, Origins},
    template::Template,
};

/// Statuses of a redirect.
const REDIRECTS: [u16; 6] = [300, 301, 302, 303, 307, 308];

pub(in crate::annotations) const PERMANENT: Parser =
    Parser { read: |value| redirect(value, Setting::Permanent), nothing: &[] };
pub(in crate::annotations) const PERMANENT_CODE: Parser =
    Parser { read: |value| code(value).map(Setting::PermanentCode), nothing: &[] };
pub(in crate::annotations) const TEMPORAL: Parser =
    Parser { read: |value| redirect(value, Setting::Temporal), nothing: &[] };
pub(in crate::annotations) const TEMPORAL_CODE: Parser =
    Parser { read: |value| code(value).map(Setting::TemporalCode), nothing: &[] };
pub(in crate::annotations) const APP_ROOT: Parser = Parser { read: app_root, nothing: &[] };
pub(in crate::annotations) const FROM_TO_WWW: Parser =
    Parser { read: |value| flag(value).map(Setting::FromToWww), nothing: &[] };
pub(in crate::annotations) const ALIASES: Parser = Parser { read: aliases, nothing: &[] };
pub(in crate::annotations) const KEEP_SLASH: Parser =
    Parser { read: |value| flag(value).map(Setting::KeepSlash), nothing: &[] };

pub(in crate::annotations) const ENABLE_CORS: Parser =
    Parser { read: |value| flag(value).map(Setting::EnableCors), nothing: &[] };
pub(in crate::annotations) const CORS_ORIGINS: Parser = Parser { read: origins, nothing: &[] };
pub(in crate::annotations) const CORS_METHODS: Parser =
    Parser { read: |value| tokens(value, Setting::CorsMethods), nothing: &[] };
pub(in crate::annotations) const CORS_HEADERS: Parser =
    Parser { read: |value| tokens(value, Setting::CorsHeaders), nothing: &[] };
pub(in crate::annotations) const CORS_EXPOSE: Parser =
    Parser { read: |value| tokens(value, Setting::CorsExpose), nothing: &[] };
pub(in crate::annotations) const CORS_CREDENTIALS: Parser =
    Parser { read: |value| flag(value).map(Setting::CorsCredentials), nothing: &[] };
pub(in crate::annotations) const CORS_MAX_AGE: Parser = Parser {
    read: |value| {
        let seconds = value.trim().parse::<u32>().map_err(|_| {
            Fault::new("InvalidAnnotation", "is not a number of seconds", "write seconds")
        })?;
        Ok(Setting::CorsMaxAge(HeaderValue::from(seconds)))
    },
    nothing: &[],
};

pub(in crate::annotations) const UPSTREAM_HOST: Parser =
    Parser { read: upstream_host, nothing: &[] };
pub(in crate::annotations) const FORWARDED_PREFIX: Parser =
    Parser { read: |value| field(value, Setting::ForwardedPrefix), nothing: &[] };
pub(in crate::annotations) const HSTS: Parser = Parser { read: hsts, nothing: &[] };

fn redirect(value: &str, setting: fn(Template) -> Setting) -> Result<Setting, Fault> {
    const HINT: &str = "write a URL such as https://www.example.com$request_uri";
    let fault = |message: String| Fault::new("InvalidRedirect", message, HINT);
    let value = value.trim();
    if value.is_empty() {
        return Ok(Setting::Nothing);
    }
    if !["http://", "https://", "$scheme://", "/"].iter().any(|begin| value.starts_with(begin)) {
        return Err(fault("is not a URL".to_owned()));
    }
    if let Some(bad) =
        value.bytes().find(|byte| !(b'!'..=b'~').contains(byte) || b"\"<>\\".contains(byte))
    {
        return Err(fault(format!("holds the byte 0x{bad:02x}")));
    }
    let unknown = |name| fault(format!("holds the variable {name}, which is not known"));
    Template::parse(value).map(setting).map_err(unknown)
}

fn code(value: &str) -> Result<u16, Fault> {
    let code = value.trim().parse().ok().filter(|code| REDIRECTS.contains(code));
    code.ok_or_else(|| {
        let message = "is not the status of a redirect";
        Fault::new("InvalidAnnotation", message, "write 301, 302, 303, 307 or 308")
    })
}

fn app_root(value: &str) -> Result<Setting, Fault> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(Setting::Nothing);
    }
    let fault = |message: String| {
        Fault::new("InvalidRedirect", message, "write a path of this host such as /app")
    };
    if !value.starts_with('/') || value.starts_with("//") || value == "/" {
        return Err(fault("is not a path below /".to_owned()));
    }
    match value.bytes().find(|byte| !(b'!'..=b'~').contains(byte) || b"\"<>\\$".contains(byte)) {
        Some(bad) => Err(fault(format!("holds the byte 0x{bad:02x}"))),
        None => Ok(Setting::AppRoot(value.into())),
    }
}

/// A list of origins. One that cannot be read lets nobody in, it does not open the list.
fn origins(value: &str) -> Result<Setting, Fault> {
    let entries = value.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let entries: Vec<&str> = entries.collect();
    if entries.is_empty() {
        return Ok(Setting::Nothing);
    }
    if entries.contains(&"*") {
        return Ok(Setting::CorsOrigins(Origins::Any));
    }
    let patterns = entries.iter().filter_map(|entry| OriginPattern::parse(entry)).collect();
    let known = Setting::CorsOrigins(Origins::Some(patterns));
    match entries.iter().find(|entry| OriginPattern::parse(entry).is_none()) {
        None => Ok(known),
        Some(bad) => {
            let message = format!("holds {bad:?}, which is no origin; the others count");
            let hint = "write origins such as https://app.example.com or https://*.example.com";
            Err(Fault { leaves: known, ..Fault::new("InvalidAnnotation", message, hint) })
        }
    }
}

/// Names separated by commas.
fn tokens(value: &str, setting: fn(HeaderValue) -> Setting) -> Result<Setting, Fault> {
    let names: Vec<&str> =
        value.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let is_token = |name: &&str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    if names.is_empty() {
        return Ok(Setting::Nothing);
    }
    let joined = HeaderValue::try_from(names.join(", ")).ok();
    let joined = joined.filter(|_| names.iter().all(is_token));
    joined.map(setting).ok_or_else(|| {
        let message = "is not a list of names";
        Fault::new("InvalidAnnotation", message, "separate names by commas")
    })
}

/// Hosts, separated by commas or white space; each counts once.
/// A list of hosts. What is none makes no alias, and the others do.
fn aliases(value: &str) -> Result<Setting, Fault> {
    let names = value.split([',', ' ', '\t', '\r', '\n']).filter(|name| !name.is_empty());
    let (mut hosts, mut bad) = (Vec::new(), None);
    for name in names {
        match crate::host::pattern(name) {
            Ok(host) if !hosts.contains(&host) => hosts.push(host),
            Ok(_) => {}
            Err(error) => {
                bad.get_or_insert((name, error));
            }
        }
    }
    let known = if hosts.is_empty() { Setting::Nothing } else { Setting::Aliases(hosts.into()) };
    let Some((name, error)) = bad else { return Ok(known) };
    let others = if known == Setting::Nothing { "" } else { "; the others count" };
    let message = format!("holds {name:?}, which {error}{others}");
    let hint = "write hosts such as www.example.com, separated by commas; expressions are not read";
    Err(Fault { leaves: known, ..Fault::new("InvalidAnnotation", message, hint) })
}

fn field(value: &str, setting: fn(HeaderValue) -> Setting) -> Result<Setting, Fault> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(Setting::Nothing);
    }
    let plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'$');
    let field = HeaderValue::try_from(value).ok().filter(|_| plain);
    field.map(setting).ok_or_else(|| {
        let message = "is not the value of a field";
        Fault::new("InvalidAnnotation", message, "write plain text; variables are not filled in")
    })
}

fn upstream_host(value: &str) -> Result<Setting, Fault> {
    let value = value.trim();
    // That is what the backend gets anyway.
    if matches!(value, "" | "$host" | "$http_host" | "$best_http_host") {
        return Ok(Setting::Nothing);
    }
    let is_host = |text: String| {
        let host = match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => &text,
        };
        crate::host::canonical(host).is_some()
    };
    let text = BackendText::new(value).filter(|text| text.sample().is_some_and(is_host));
    text.map(Setting::UpstreamHost).ok_or_else(|| {
        let hint = "write a host such as app.example.com; $service_name, $service_port, $namespace and \
                    $ingress_name are filled in";
        Fault::new("InvalidAnnotation", "is not a host", hint)
    })
}

/// `max-age=SECONDS`, `includeSubDomains` and `preload`, in any order (RFC 6797 §6.1).
fn hsts(value: &str) -> Result<Setting, Fault> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(Setting::Nothing);
    }
    let mut seen = Vec::new();
    let known = value.split(';').map(str::trim).all(|part| {
        let lower = part.to_ascii_lowercase();
        let (name, seconds) = lower.split_once('=').unzip();
        let name = name.unwrap_or(&lower);
        let known = match (name, seconds) {
            ("max-age", Some(text)) => {
                let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                let digits = unquoted.unwrap_or(text);
                !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
            }
            ("includesubdomains" | "preload", None) => true,
            _ => false,
        };
        // Clients ignore the whole field where one comes twice.
        let first = seen.iter().all(|other| other != name);
        seen.push(name.to_owned());
        known && first
    });
    let max_age = seen.iter().any(|name| name == "max-age");
    let field = HeaderValue::try_from(value).ok().filter(|_| known && max_age);
    field.map(Setting::Hsts).ok_or_else(|| {
        let message = "is not a value of Strict-Transport-Security";
        Fault::new("InvalidAnnotation", message, "write max-age=31536000;includeSubDomains;preload")
    })
}
