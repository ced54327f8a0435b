//! Rows of sizes and buffers of bodies.

use super::{harmless, honoured};
use crate::annotations::{
    table::Annotation,
    value::{
        BODY_MEMORY, BODY_SIZE, BUFFER_COUNT, BUFFER_FILE, BUFFER_SIZE, BUFFERING, FLAG,
        REQUEST_BUFFERING, TEXT,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    honoured(
        "client-body-buffer-size",
        BODY_MEMORY,
        "64k",
        "Where bodies of requests are read in whole: how much of one may be in memory, such as `1m`; the rest is in a file. Less than 64k is as good as 64k.",
    ).tuning(),
    harmless("http2-push-preload", FLAG, "Whether `Link` headers become HTTP/2 pushes."),
    honoured(
        "proxy-body-size",
        BODY_SIZE,
        "0",
        "Size of a request body at most, such as `8m`; larger ones get 413.",
    )
    .protecting(),
    honoured(
        "proxy-buffer-size",
        BUFFER_SIZE,
        "4k",
        "Size of one of the `proxy-buffers-number` buffers, such as `16k`: so much of an answer waits in memory where `proxy-buffering` \
         is on; 64k in any case. The head of an answer may have 256 KiB whatever it says.",
    ).tuning(),
    honoured(
        "proxy-buffering",
        BUFFERING,
        "",
        "`on`: an answer is taken from its backend as fast as that gives it, and waits here for its client, so that a slow one holds \
         no backend; what has come leaves at once. The backend has the last word by `X-Accel-Buffering: yes` or `no`, also beside \
         `off`; where nothing is said, answers pass as they come and that field with them. Upgrades and gRPC pass as they come.",
    ).tuning(),
    honoured(
        "proxy-buffers-number",
        BUFFER_COUNT,
        "4",
        "Number of buffers in memory for an answer that waits.",
    ).tuning(),
    harmless("proxy-busy-buffers-size", TEXT, "How much of them may be on its way."),
    honoured(
        "proxy-max-temp-file-size",
        BUFFER_FILE,
        "1024m",
        "How much of an answer that waits may be in a file; what is beyond waits in the backend. `0`: no file.",
    ).tuning(),
    honoured(
        "proxy-request-buffering",
        REQUEST_BUFFERING,
        "off",
        "`on`: the body of a request is read in whole before a backend gets it, so that a slow client holds no connection to a \
         backend, and the request may be sent again. Upgrades and gRPC pass as they come.",
    ).tuning(),
];
