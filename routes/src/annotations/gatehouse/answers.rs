//! Rows of what answers look like.

use super::INGRESS;
use crate::annotations::{
    table::Annotation,
    value::{COMPRESS, COMPRESS_MINIMUM, COMPRESS_TYPES, ERROR_PAGES, HIDE, SECURITY},
};

pub(super) const ROWS: &[Annotation] = &[
    Annotation::honoured(
        "compress",
        INGRESS,
        COMPRESS,
        "off",
        "Codings of answers for clients that take them, the best liked first: `br, zstd, gzip`, or `on` for all. Off unless asked for: what an attacker can have repeated beside a secret tells it by its length (BREACH).",
    ),
    Annotation::honoured(
        "compress-min-length",
        INGRESS,
        COMPRESS_MINIMUM,
        "256",
        "Bytes of an answer below which it is not compressed, if it says its length.",
    ),
    Annotation::honoured(
        "compress-types",
        INGRESS,
        COMPRESS_TYPES,
        "application/atom+xml application/javascript application/json application/manifest+json application/rss+xml application/wasm application/xhtml+xml application/xml font/otf font/ttf image/svg+xml text/css text/html text/javascript text/plain text/xml",
        "Media types of answers that are compressed, separated by blanks; `text/*` is all of a kind.",
    ),
    Annotation::honoured(
        "error-pages",
        INGRESS,
        ERROR_PAGES,
        "",
        "ConfigMap of the same namespace whose entries (`404.html`, `503.json`, `5xx.txt` and the like) are the texts of errors of the gateway itself, and of those of custom-http-errors. `{{status}}`, `{{reason}}` and `{{request_id}}` are filled in.",
    ),
    Annotation::honoured(
        "hide-headers",
        INGRESS,
        HIDE,
        "",
        "Headers of the backend's answers that clients do not get, separated by commas.",
    ),
    Annotation::honoured(
        "security-headers",
        INGRESS,
        SECURITY,
        "off",
        "Headers that make browsers careful, on answers without their own: `basic` harms nearly no site, `strict` is for sites that load nothing of others.",
    ),
];
