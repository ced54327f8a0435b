//! What is wrong with what annotations say of the TLS that clients speak.

use super::table::Found;
use crate::{filter::tls_terms::REDUCED, objects::ObjectRef, problem::Problem, rule::RouteRule};

const TLS_CIPHERS: Found<'static> =
    Found { name: "nginx.ingress.kubernetes.io/ssl-ciphers", value: "" };
const TLS_MIN_VERSION: Found<'static> = Found { name: "gatehouse.io/tls-min-version", value: "" };

/// An object's list names ciphers that are not built in.
pub fn reduced(object: &ObjectRef, absent: &str) -> Problem {
    Problem::warning(
        object,
        REDUCED,
        TLS_CIPHERS.field(),
        format!("clients cannot use {absent}: not built in"),
        "clients need TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3",
    )
}

/// What an object's terms leave of TLS is not what they ask for.
pub fn impossible(rule: &RouteRule, what: &str) -> Problem {
    let ciphers = rule.tls_terms().is_some_and(|terms| !terms.ciphers.is_empty());
    Problem::error(
        &rule.object,
        "TlsTermsImpossible",
        if ciphers { TLS_CIPHERS } else { TLS_MIN_VERSION }.field(),
        format!("TLS of {}: {what}", rule.host),
        "name ciphers such as ECDHE-RSA-AES128-GCM-SHA256 or HIGH, and versions that the command line and the \
         ConfigMap of --nginx-config leave",
    )
}

/// A host speaks TLS by other terms than an object asks for. `stricter`: by those of its namespace, which include them.
pub(crate) fn differ(rule: &RouteRule, stricter: bool) -> Problem {
    let (object, host) = (&rule.object, &rule.host);
    let field = "metadata.annotations";
    let hint = "a host has one handshake: write the same gatehouse.io/tls-min-version, ssl-ciphers and \
                ssl-prefer-server-ciphers in all of its objects";
    if stricter {
        let message = format!(
            "other objects ask for other TLS of {host}: what all of them allow is spoken there"
        );
        return Problem::warning(object, "TlsTermsDiffer", field, message, hint);
    }
    let message = format!(
        "{host} belongs to another namespace, which asks for less of TLS, so the paths of this object are closed \
         there (503)"
    );
    Problem::error(object, "TlsTermsDiffer", field, message, hint)
}
