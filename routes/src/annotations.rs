//! The annotations that an Ingress is read for: one table, from which the parser and the docs are made.
//!
//! Every other `nginx.ingress.kubernetes.io/` annotation on an Ingress of ours is named in a
//! [`Problem`]; one that would have protected the Ingress closes it instead, so that nothing is served
//! with less protection than its author asked for.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{objects::ObjectRef, path, problem::Problem};

/// What the annotations of ingress-nginx begin with.
pub const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// One row of [`TABLE`].
#[derive(Debug)]
pub struct Annotation {
    /// Name without [`PREFIX`].
    pub name: &'static str,
    /// How the value is read and what happens because of it.
    pub kind: Kind,
    /// Value that stands in where the annotation is missing or cannot be read.
    pub default: &'static str,
    /// One sentence for the docs.
    pub doc: &'static str,
}

/// What an annotation holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`, as Go's `strconv.ParseBool` reads it.
    Bool,
    /// A path to send to the backend, possibly with `$1` to `$9`.
    RewriteTarget,
    /// A protection that is not supported yet: every path of the Ingress is denied with 503.
    Protects,
    /// `true` changes what the Ingress is, which is not supported yet: it is not served at all.
    Excludes,
}

/// Every annotation that changes what happens, by name.
pub static TABLE: &[Annotation] = &[
    row("allowlist-source-range", Kind::Protects, "", "Client addresses that may pass."),
    row("auth-secret", Kind::Protects, "", "Users and passwords of HTTP authentication."),
    row("auth-tls-match-cn", Kind::Protects, "", "Name that a client certificate must have."),
    row(
        "auth-tls-secret",
        Kind::Protects,
        "",
        "Authorities that client certificates must chain to.",
    ),
    row(
        "auth-tls-verify-client",
        Kind::Protects,
        "off",
        "Whether a client certificate is asked for.",
    ),
    row("auth-type", Kind::Protects, "", "Kind of HTTP authentication."),
    row("auth-url", Kind::Protects, "", "Service that is asked whether a request may pass."),
    row("canary", Kind::Excludes, "false", "Takes a share of another Ingress' traffic."),
    row("denylist-source-range", Kind::Protects, "", "Client addresses that may not pass."),
    row(
        "force-ssl-redirect",
        Kind::Bool,
        "false",
        "Redirect to https also if the host has no `tls` entry.",
    ),
    row(
        "rewrite-target",
        Kind::RewriteTarget,
        "",
        "Path to send to the backend instead of the one received.",
    ),
    row(
        "ssl-redirect",
        Kind::Bool,
        "true",
        "Redirect to https (308) if the host has a `tls` entry.",
    ),
    row(
        "use-regex",
        Kind::Bool,
        "false",
        "Read paths of type ImplementationSpecific as regular expressions.",
    ),
    row("whitelist-source-range", Kind::Protects, "", "Older name of allowlist-source-range."),
];

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Annotation {
    Annotation { name, kind, default, doc }
}

/// What the annotations of one Ingress ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) rewrite: Option<Target>,
    pub(crate) use_regex: bool,
    pub(crate) ssl_redirect: bool,
    pub(crate) force_ssl_redirect: bool,
    /// Every path is to be denied, for this reason.
    pub(crate) deny: Option<&'static str>,
    /// The Ingress is not to be served at all.
    pub(crate) excluded: bool,
}

/// A usable `rewrite-target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As a request path spells it, references kept.
    pub(crate) text: Arc<str>,
    /// Whether it refers to `$1` … `$9`.
    pub(crate) captures: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let flag = |name| row_of(name).and_then(|row| parse_bool(row.default)).unwrap_or_default();
        Self {
            rewrite: None,
            use_regex: flag("use-regex"),
            ssl_redirect: flag("ssl-redirect"),
            force_ssl_redirect: flag("force-ssl-redirect"),
            deny: None,
            excluded: false,
        }
    }
}

/// Reads the annotations of an Ingress of ours.
pub(crate) fn parse(object: &ObjectRef, metadata: &ObjectMeta) -> (Settings, Vec<Problem>) {
    let mut settings = Settings::default();
    let mut problems = Vec::new();
    for (full, value) in metadata.annotations.iter().flatten() {
        let Some(name) = full.strip_prefix(PREFIX) else { continue };
        let field = format!("metadata.annotations[{full}]");
        match row_of(name) {
            Some(row) => problems.extend(settings.apply(object, row, value, field)),
            None => problems.push(Problem::warning(
                object,
                "AnnotationIgnored",
                field,
                format!("annotation {full} is not supported and has no effect"),
                "remove it once the Ingress works without it",
            )),
        }
    }
    (settings, problems)
}

fn row_of(name: &str) -> Option<&'static Annotation> {
    TABLE.binary_search_by_key(&name, |row| row.name).ok().map(|at| &TABLE[at])
}

impl Settings {
    fn apply(
        &mut self,
        object: &ObjectRef,
        row: &Annotation,
        value: &str,
        field: String,
    ) -> Option<Problem> {
        match row.kind {
            Kind::Bool => {
                let Some(on) = parse_bool(value) else {
                    let message = format!("value {value:?} is neither true nor false");
                    let hint = format!("write \"true\" or \"false\"; {:?} is used", row.default);
                    return Some(Problem::warning(
                        object,
                        "InvalidAnnotation",
                        field,
                        message,
                        hint,
                    ));
                };
                match row.name {
                    "use-regex" => self.use_regex = on,
                    "ssl-redirect" => self.ssl_redirect = on,
                    _ => self.force_ssl_redirect = on,
                }
                None
            }
            Kind::RewriteTarget => self.apply_rewrite(object, value.trim(), field),
            // What is switched off protects nothing.
            Kind::Protects if matches!(value.trim(), "") || value.trim() == row.default => None,
            Kind::Protects => {
                self.deny = Some("ProtectionNotSupported");
                Some(Problem::error(
                    object,
                    "ProtectionNotSupported",
                    field,
                    format!("{} is not supported yet, so every path is closed (503)", row.name),
                    "remove the annotation if the paths may be open",
                ))
            }
            Kind::Excludes if parse_bool(value) != Some(true) => None,
            Kind::Excludes => {
                self.excluded = true;
                Some(Problem::error(
                    object,
                    "CanaryNotSupported",
                    field,
                    "canary is not supported yet, so this Ingress is not served",
                    "split the traffic with the weights of a Route",
                ))
            }
        }
    }

    fn apply_rewrite(&mut self, object: &ObjectRef, value: &str, field: String) -> Option<Problem> {
        if value.is_empty() {
            return None;
        }
        match target(value) {
            Ok(target) => {
                self.rewrite = Some(target);
                None
            }
            Err((message, hint)) => {
                // A request sent on unchanged could reach what the rewrite was to keep out of reach.
                self.deny = Some("InvalidRewriteTarget");
                let message = format!("value {value:?} {message}; every path is closed (503)");
                Some(Problem::error(object, "InvalidRewriteTarget", field, message, hint))
            }
        }
    }
}

/// Checks a `rewrite-target`; `Err` holds what is wrong and what to do.
fn target(value: &str) -> Result<Target, (String, &'static str)> {
    if value.starts_with("http://") || value.starts_with("https://") {
        return Err(("is a redirect, which is not supported yet".into(), "use a path"));
    }
    if value.contains('?') {
        return Err(("holds a query".into(), "write the path only; the query is kept as received"));
    }
    if !value.starts_with(['/', '$']) {
        return Err(("does not begin with '/'".into(), "begin the path with '/'"));
    }
    let bytes = value.as_bytes();
    let mut captures = false;
    for (at, _) in value.match_indices('$') {
        if !bytes.get(at + 1).is_some_and(|next| (b'1'..=b'9').contains(next)) {
            let message = "holds a '$' that is not followed by a digit from 1 to 9".into();
            return Err((message, "only $1 to $9 can be filled in"));
        }
        captures = true;
    }
    if captures {
        // The parts between the references are checked once they are put together.
        if let Some(bad) = bytes.iter().find(|b| !(b'!'..=b'~').contains(b) || b"#\\".contains(b)) {
            return Err((format!("holds the byte 0x{bad:02x}"), "percent-encode it"));
        }
        return Ok(Target { text: value.into(), captures });
    }
    match path::pattern(value) {
        Ok(text) => Ok(Target { text: text.into(), captures }),
        Err(error) => {
            Err((format!("cannot be sent: {error}"), "write a path that a client could send"))
        }
    }
}

/// Go's `strconv.ParseBool`, which ingress-nginx uses.
fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
