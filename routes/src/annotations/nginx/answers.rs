//! Rows of errors, headers, cookies and redirects of answers.

use super::honoured;
use crate::annotations::{
    table::Annotation,
    value::{
        COOKIE_DOMAIN, COOKIE_PATH, CUSTOM_HEADERS, DEFAULT_BACKEND, HTTP_ERRORS, LEAVE_ERRORS,
        REDIRECT_FROM, REDIRECT_TO,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    honoured(
        "custom-headers",
        CUSTOM_HEADERS,
        "",
        "ConfigMap of the same namespace whose entries are headers of all answers; without it every path is closed (503).",
    )
    .protecting(),
    honoured(
        "custom-http-errors",
        HTTP_ERRORS,
        "",
        "Statuses from 300 to 599, separated by commas, of answers that clients do not get: default-backend, or `gatehouse.io/error-pages`, or a short text stands in.",
    ),
    honoured(
        "default-backend",
        DEFAULT_BACKEND,
        "",
        "Service of the same namespace (its first port) that words the errors of custom-http-errors, and answers where the backend has no endpoint.",
    ),
    honoured(
        "disable-proxy-intercept-errors",
        LEAVE_ERRORS,
        "false",
        "Whether custom-http-errors leaves answers of the backend as they are.",
    ),
    honoured(
        "proxy-cookie-domain",
        COOKIE_DOMAIN,
        "off",
        "Domain of the backend's cookies and the one that stands there instead, such as `localhost example.com`.",
    ),
    honoured(
        "proxy-cookie-path",
        COOKIE_PATH,
        "off",
        "Begin of the path of the backend's cookies and what stands there instead, such as `/app /`. Behind a semicolon stand attributes that they get besides, such as `/ \"/; Secure; SameSite=Lax\"`: `Secure`, `HttpOnly`, `Partitioned`, `SameSite`.",
    ),
    honoured(
        "proxy-redirect-from",
        REDIRECT_FROM,
        "off",
        "Begin of `Location` and `Refresh` of the backend that is changed, or an expression behind `~`.",
    ),
    honoured(
        "proxy-redirect-to",
        REDIRECT_TO,
        "off",
        "What that is changed to; `$1` to `$9`, `$host`, `$http_host` and `$scheme` are filled in.",
    ),
];
