//! Values about the way to the backend.

use std::{net::IpAddr, sync::Arc};

use super::{Fault, Parser, Setting, flag, is_off};
use crate::{
    annotations::transport::{Part, SecretName, protocol},
    host,
    transport::TlsVersions,
};

/// What is spoken to the backend.
pub(in crate::annotations) const PROTOCOL: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        name => protocol(name).map(|it| Setting::Transport(Part::Speaks(it))).ok_or_else(|| {
            let message = "is not HTTP, HTTPS, GRPC or GRPCS; nothing else is spoken to backends";
            Fault::new("InvalidAnnotation", message, "write what the pods speak on this port")
        }),
    },
    nothing: &[],
};
/// A Secret with certificates.
pub(in crate::annotations) const PROXY_SECRET: Parser =
    Parser { read: |value| secret(value, |it| Setting::Transport(Part::Secret(it))), nothing: &[] };
pub(in crate::annotations) const PROXY_VERIFY: Parser =
    Parser { read: |value| switch(value, Part::Verify), nothing: &["off"] };
pub(in crate::annotations) const PROXY_SERVER_NAME: Parser =
    Parser { read: |value| switch(value, Part::ServerName), nothing: &["off"] };
pub(in crate::annotations) const OF_SERVICE: Parser = Parser {
    read: |value| flag(value).map(|on| Setting::Transport(Part::Whole(on))),
    nothing: &["false"],
};
pub(in crate::annotations) const PROXY_DEPTH: Parser =
    Parser { read: |value| depth(value, |it| Setting::Transport(Part::Depth(it))), nothing: &[] };
/// The name of a server.
pub(in crate::annotations) const PROXY_NAME: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        name => {
            let address = name.parse::<IpAddr>().ok().map(|ip| ip.to_string());
            let name = address.or_else(|| host::canonical(name).map(|name| name.into_owned()));
            name.map(|name| Setting::Transport(Part::Name(name.into()))).ok_or_else(|| {
                let hint = "write the name that stands in the backend's certificate";
                Fault::new("InvalidAnnotation", "is neither a DNS name nor an address", hint)
            })
        }
    },
    nothing: &[],
};
/// Versions of TLS, separated by spaces, as nginx spells them.
pub(in crate::annotations) const PROXY_VERSIONS: Parser = Parser { read: versions, nothing: &[] };
/// Ciphers as OpenSSL lists them.
pub(in crate::annotations) const PROXY_CIPHERS: Parser = Parser {
    read: |value| match value.trim() {
        "" | "DEFAULT" => Ok(Setting::Nothing),
        ciphers => Ok(Setting::Transport(Part::Ciphers(ciphers.into()))),
    },
    nothing: &["DEFAULT"],
};

/// `on` or `off`.
fn switch(value: &str, part: fn(bool) -> Part) -> Result<Setting, Fault> {
    match value.trim() {
        "" => Ok(Setting::Nothing),
        "on" | "true" => Ok(Setting::Transport(part(true))),
        value if is_off(value) => Ok(Setting::Transport(part(false))),
        _ => {
            Err(Fault::new("InvalidAnnotation", "is neither on nor off", "write \"on\" or \"off\""))
        }
    }
}

/// `name` or `namespace/name`.
pub(super) fn secret(
    value: &str,
    setting: impl FnOnce(SecretName) -> Setting,
) -> Result<Setting, Fault> {
    let fits = |part: &str| !part.is_empty() && !part.contains(['/', ' ']);
    let (namespace, name) = match value.trim() {
        "" => return Ok(Setting::Nothing),
        value => match value.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, value),
        },
    };
    if !namespace.is_none_or(fits) || !fits(name) {
        let hint = "write the name of a Secret, or namespace/name";
        return Err(Fault::new("InvalidAnnotation", "names no Secret", hint));
    }
    Ok(setting(SecretName { namespace: namespace.map(Arc::from), name: name.into() }))
}

/// Certificates between two others.
pub(super) fn depth(value: &str, setting: impl FnOnce(u8) -> Setting) -> Result<Setting, Fault> {
    match value.trim() {
        "" => Ok(Setting::Nothing),
        value => value.parse::<u8>().map(setting).map_err(|_| {
            let hint = "write how many certificates may stand between the two ends, such as 1";
            Fault::new("InvalidAnnotation", "is not a number from 0 to 255", hint)
        }),
    }
}

fn versions(value: &str) -> Result<Setting, Fault> {
    const OLD: [&str; 4] = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1"];
    let mut found = TlsVersions { tls12: false, tls13: false };
    let mut words = value.split_whitespace().peekable();
    if words.peek().is_none() {
        return Ok(Setting::Nothing);
    }
    for word in words {
        match word {
            "TLSv1.2" => found.tls12 = true,
            "TLSv1.3" => found.tls13 = true,
            // The others go on without it.
            old if OLD.contains(&old) => {}
            _ => {
                let message = format!("holds {word:?}, which is no version of TLS");
                return Err(Fault::new("InvalidAnnotation", message, "write TLSv1.2 TLSv1.3"));
            }
        }
    }
    if found == (TlsVersions { tls12: false, tls13: false }) {
        let message = "names only versions that are not spoken any more (RFC 8996)";
        return Err(Fault::new("InvalidAnnotation", message, "write TLSv1.2 TLSv1.3"));
    }
    Ok(Setting::Transport(Part::Versions(found)))
}
