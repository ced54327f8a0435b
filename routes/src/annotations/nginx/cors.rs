//! Rows of pages of other origins.

use super::honoured;
use crate::annotations::{
    table::Annotation,
    value::{
        CORS_CREDENTIALS, CORS_EXPOSE, CORS_HEADERS, CORS_MAX_AGE, CORS_METHODS, CORS_ORIGINS,
        ENABLE_CORS,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    honoured(
        "cors-allow-credentials",
        CORS_CREDENTIALS,
        "true",
        "Whether other origins may send cookies; never said to all origins.",
    )
    .but("with the origin `*` cookies are not allowed, as browsers demand"),
    honoured(
        "cors-allow-headers",
        CORS_HEADERS,
        "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization",
        "Headers that other origins may send.",
    ),
    honoured(
        "cors-allow-methods",
        CORS_METHODS,
        "GET, PUT, POST, DELETE, PATCH, OPTIONS",
        "Methods that other origins may use.",
    ),
    honoured(
        "cors-allow-origin",
        CORS_ORIGINS,
        "*",
        "Origins whose pages may send requests, separated by commas; `https://*.example.com` is any one label.",
    )
    .but("origins match whole; one that cannot be read admits no origin"),
    honoured(
        "cors-expose-headers",
        CORS_EXPOSE,
        "",
        "Headers of answers that other origins may see.",
    ),
    honoured(
        "cors-max-age",
        CORS_MAX_AGE,
        "1728000",
        "Seconds for which browsers remember what is allowed.",
    ).tuning(),
    honoured(
        "enable-cors",
        ENABLE_CORS,
        "false",
        "Whether preflights are answered (204) and CORS headers are set.",
    )
    .but("only preflights are answered here; other OPTIONS requests are the backend's"),
];
