//! Rows of clients that are kept on an endpoint.

use super::{harmless, honoured};
use crate::annotations::{
    table::Annotation,
    value::{
        AFFINITY, AFFINITY_CANARY, AFFINITY_MODE, SESSION_CONDITIONAL, SESSION_DOMAIN,
        SESSION_EXPIRES, SESSION_MAX_AGE, SESSION_MOVES, SESSION_NAME, SESSION_PARTITIONED,
        SESSION_PATH, SESSION_SAME_SITE, SESSION_SECURE, TEXT,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    honoured(
        "affinity",
        AFFINITY,
        "",
        "`cookie`: clients are kept on one endpoint by a cookie, which is sealed.",
    ),
    honoured(
        "affinity-canary-behavior",
        AFFINITY_CANARY,
        "sticky",
        "`sticky`: clients are kept on a canary, or off it; `legacy`: the canary decides with each request.",
    ),
    honoured(
        "affinity-mode",
        AFFINITY_MODE,
        "balanced",
        "`balanced`: a new endpoint takes its part of all clients; `persistent`: clients stay.",
    ),
    honoured(
        "session-cookie-change-on-failure",
        SESSION_MOVES,
        "false",
        "Whether a client stays where it was sent when its endpoint failed.",
    ),
    honoured(
        "session-cookie-conditional-samesite-none",
        SESSION_CONDITIONAL,
        "false",
        "Leaves `SameSite=None` out for browsers that do not know it.",
    ),
    honoured("session-cookie-domain", SESSION_DOMAIN, "", "Domain of the cookie."),
    honoured(
        "session-cookie-expires",
        SESSION_EXPIRES,
        "",
        "Seconds that it lasts, as a date for old browsers.",
    ),
    harmless(
        "session-cookie-hash",
        TEXT,
        "How older versions made the value of the cookie; here it is sealed.",
    ),
    honoured(
        "session-cookie-max-age",
        SESSION_MAX_AGE,
        "",
        "Seconds that it lasts; without, as long as the browser is open.",
    ),
    honoured(
        "session-cookie-name",
        SESSION_NAME,
        "INGRESSCOOKIE",
        "Name of the cookie for affinity.",
    ),
    honoured(
        "session-cookie-partitioned",
        SESSION_PARTITIONED,
        "false",
        "Whether it is for one site only.",
    ),
    honoured(
        "session-cookie-path",
        SESSION_PATH,
        "",
        "Path of the cookie; without, the path of the rule, of a regular expression the part that does not vary.",
    ),
    honoured(
        "session-cookie-samesite",
        SESSION_SAME_SITE,
        "",
        "SameSite of the cookie: `None`, `Lax` or `Strict`.",
    ),
    honoured(
        "session-cookie-secure",
        SESSION_SECURE,
        "",
        "Whether it is for https only; without, that of a request over https is.",
    ),
];
