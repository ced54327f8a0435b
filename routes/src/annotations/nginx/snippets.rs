//! Rows of configuration and rules of other programs, which are never executed.

use super::closes;
use crate::annotations::{
    table::Annotation,
    value::{FIREWALL, FLAG, TEXT},
};

/// Configuration of nginx about the question that a service is asked.
pub(in crate::annotations) const AUTH_SNIPPET: &str = "auth-snippet";

pub(super) const ROWS: &[Annotation] = &[
    closes(
        AUTH_SNIPPET,
        TEXT,
        "Configuration of nginx about auth-url. With `--understand-snippets` one that only sets fields of the question does \
         that.",
    )
    .remedy(
        "name the fields in a ConfigMap by auth-proxy-set-headers; with --understand-snippets the snippet is read as it \
         stands",
    ),
    closes(
        "configuration-snippet",
        TEXT,
        "Configuration of nginx, which may refuse requests. With `--understand-snippets` one that says only what has a \
         setting here does that.",
    )
    .remedy("say it with annotations; with --understand-snippets many a snippet is read as it stands"),
    closes("enable-modsecurity", FLAG, "Whether ModSecurity looks at requests."),
    closes("enable-owasp-core-rules", FLAG, "Whether ModSecurity uses the OWASP rules."),
    closes("lua-resty-waf", FIREWALL, "Mode of an older firewall."),
    closes("modsecurity-snippet", TEXT, "Rules of ModSecurity."),
    closes("modsecurity-transaction-id", TEXT, "Name of a request in the log of ModSecurity."),
    closes(
        "server-snippet",
        TEXT,
        "Configuration of nginx for the host. With `--understand-snippets` one that only changes fields, sizes and times does \
         that on the paths of its own object.",
    )
    .remedy(
        "say it with annotations; with --understand-snippets redirects, conditions and lists of clients are read in a \
         configuration-snippet of each Ingress of the host",
    )
    .of_host(),
    closes("stream-snippet", TEXT, "Configuration of nginx for TCP and UDP."),
];
