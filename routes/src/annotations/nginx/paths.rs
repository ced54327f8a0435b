//! Rows of hosts, paths, rewrites and redirects.

use super::{harmless, honoured};
use crate::annotations::{
    table::Annotation,
    value::{
        ALIASES, APP_ROOT, FLAG, FORWARDED_PREFIX, FROM_TO_WWW, KEEP_SLASH, PERMANENT,
        PERMANENT_CODE, REWRITE, TEMPORAL, TEMPORAL_CODE, USE_REGEX,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    honoured("app-root", APP_ROOT, "", "Path to which requests of `/` are redirected (302)."),
    honoured(
        "from-to-www-redirect",
        FROM_TO_WWW,
        "false",
        "Redirect the host with `www.`, or without, to this one (308).",
    ),
    honoured(
        "permanent-redirect",
        PERMANENT,
        "",
        "URL to which all requests are redirected for good; `$request_uri` and the like are filled in.",
    )
    .but("a client that the lists of addresses keep out gets 403 and no redirect"),
    honoured("permanent-redirect-code", PERMANENT_CODE, "301", "Status of that redirect."),
    honoured(
        "preserve-trailing-slash",
        KEEP_SLASH,
        "false",
        "Whether the redirect to https keeps a slash at the end.",
    ),
    harmless("relative-redirects", FLAG, "Whether redirects leave out scheme and host."),
    honoured(
        "rewrite-target",
        REWRITE,
        "",
        "Path to send to the backend instead of the one received; a query behind it goes before the client's own, and a \
         `?` at its end leaves that out. A URL: where the client is sent (302).",
    )
    .protecting(),
    honoured(
        "server-alias",
        ALIASES,
        "",
        "More names of the Ingress' hosts, separated by commas; a host that any object has rules for is no alias.",
    ),
    honoured(
        "temporal-redirect",
        TEMPORAL,
        "",
        "URL to which all requests are redirected for now; it goes before permanent-redirect.",
    )
    .but("a client that the lists of addresses keep out gets 403 and no redirect"),
    honoured("temporal-redirect-code", TEMPORAL_CODE, "302", "Status of that redirect."),
    harmless("use-port-in-redirects", FLAG, "Whether redirects name the port."),
    honoured(
        "use-regex",
        USE_REGEX,
        "false",
        "Read paths of type ImplementationSpecific as regular expressions.",
    ),
    honoured(
        "x-forwarded-prefix",
        FORWARDED_PREFIX,
        "",
        "X-Forwarded-Prefix for the backend, along with a rewrite.",
    ),
];
