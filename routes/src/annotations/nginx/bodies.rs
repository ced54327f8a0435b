//! Rows of sizes and buffers of bodies.

use super::{harmless, honoured};
use crate::annotations::{
    table::Annotation,
    value::{BODY_MEMORY, BODY_SIZE, FLAG, REQUEST_BUFFERING, SWITCH, TEXT},
};

pub(super) const ROWS: &[Annotation] = &[
    honoured(
        "client-body-buffer-size",
        BODY_MEMORY,
        "64k",
        "Where bodies of requests are read in whole: how much of one may be in memory, such as `1m`; the rest is in a file. Less than 64k is as good as 64k.",
    ),
    harmless("http2-push-preload", FLAG, "Whether `Link` headers become HTTP/2 pushes."),
    honoured(
        "proxy-body-size",
        BODY_SIZE,
        "0",
        "Size of a request body at most, such as `8m`; larger ones get 413.",
    )
    .protecting(),
    harmless(
        "proxy-buffer-size",
        TEXT,
        "Buffer for the head of an answer: 256 KiB of fields pass.",
    ),
    harmless("proxy-buffering", SWITCH, "Whether answers are read ahead: they pass as they come."),
    harmless("proxy-buffers-number", TEXT, "Buffers for an answer."),
    harmless("proxy-busy-buffers-size", TEXT, "How much of them may be on its way."),
    harmless("proxy-max-temp-file-size", TEXT, "How much of an answer may be in a file."),
    honoured(
        "proxy-request-buffering",
        REQUEST_BUFFERING,
        "off",
        "`on`: the body of a request is read in whole before a backend gets it, so that a slow client holds no connection to a \
         backend, and the request may be sent again. Upgrades and gRPC pass as they come.",
    ),
];
