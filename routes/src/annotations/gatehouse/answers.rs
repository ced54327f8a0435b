//! Rows of what answers look like.

use super::{INGRESS, ROUTED};
use crate::annotations::{
    table::Annotation,
    value::{
        BUFFER_FILE, BUFFERING, COMPRESS, COMPRESS_MINIMUM, COMPRESS_TYPES, ERROR_PAGES, HIDE,
        RESPONSE_MEMORY, SECURITY,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    Annotation::honoured(
        "compress",
        ROUTED,
        COMPRESS,
        "off",
        "Codings of answers for clients that take them, the best liked first: `br, zstd, gzip`, or `on` for all. Off unless asked for: what an attacker can have repeated beside a secret tells it by its length (BREACH).",
    ).tuning(),
    Annotation::honoured(
        "compress-min-length",
        ROUTED,
        COMPRESS_MINIMUM,
        "256",
        "Bytes of an answer below which it is not compressed, if it says its length.",
    ).tuning(),
    Annotation::honoured(
        "compress-types",
        ROUTED,
        COMPRESS_TYPES,
        "application/atom+xml application/javascript application/json application/manifest+json application/rss+xml application/wasm application/xhtml+xml application/xml font/otf font/ttf image/svg+xml text/css text/html text/javascript text/plain text/xml",
        "Media types of answers that are compressed, separated by blanks; `text/*` is all of a kind.",
    ).tuning(),
    Annotation::honoured(
        "error-pages",
        ROUTED,
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
        "response-buffering",
        ROUTED,
        BUFFERING,
        "",
        "`on`: an answer is taken from its backend as fast as that gives it, and waits here for its client, so that a slow one holds \
         no backend; what has come leaves at once. The backend has the last word by `X-Accel-Buffering: yes` or `no`, also beside \
         `off`; where nothing is said, answers pass as they come and that field with them. Upgrades and gRPC pass as they come.",
    ).tuning(),
    Annotation::honoured(
        "response-file",
        ROUTED,
        BUFFER_FILE,
        "1024m",
        "How much of an answer that waits may be in a file; what is beyond waits in the backend. `0`: no file.",
    ).tuning(),
    Annotation::honoured(
        "response-memory",
        ROUTED,
        RESPONSE_MEMORY,
        "",
        "How much of an answer that waits may be in memory, such as `1m`. Less than 64k is as good as 64k.",
    ).tuning(),
    Annotation::honoured(
        "security-headers",
        INGRESS,
        SECURITY,
        "off",
        "Headers that make browsers careful, on answers without their own: `basic` harms nearly no site, `strict` is for sites that load nothing of others.",
    ),
];
