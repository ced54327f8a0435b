//! Values about the TLS that clients speak.

use super::{Fault, Parser, Setting, flag};
use crate::filter::tls_terms::Versions;

/// A lowest version, as the command line and OpenShift spell it.
pub(in crate::annotations) const TLS_VERSION: Parser = Parser {
    read: |value| match value.trim().trim_start_matches("TLSv").trim_start_matches("VersionTLS") {
        // All that are built in are at least that.
        "" | "1" | "1.0" | "10" | "1.1" | "11" | "1.2" | "12" => Ok(Setting::Nothing),
        "1.3" | "13" => Ok(Setting::TlsVersions(Versions::NEWEST)),
        _ => Err(Fault::new("InvalidAnnotation", "is not a version of TLS", "write 1.2 or 1.3")),
    },
    nothing: &["1.2"],
};
pub(in crate::annotations) const CIPHERS: Parser = Parser {
    read: |value| match value.trim() {
        "" | "DEFAULT" => Ok(Setting::Nothing),
        list => Ok(Setting::TlsCiphers(list.into())),
    },
    nothing: &["DEFAULT"],
};
pub(in crate::annotations) const OWN_ORDER: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => flag(value).map(Setting::TlsOwnOrder),
    },
    nothing: &[],
};
