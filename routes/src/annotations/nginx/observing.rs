//! Rows of logs and traces.

use super::harmless;
use crate::annotations::{
    table::Annotation,
    value::{FLAG, FLAG_ON, TEXT},
};

pub(super) const ROWS: &[Annotation] = &[
    harmless("enable-access-log", FLAG_ON, "Whether requests are logged: they are."),
    harmless("enable-opentelemetry", FLAG, "Whether requests are traced."),
    harmless("enable-opentracing", FLAG, "Whether requests are traced, in an older form."),
    harmless("enable-rewrite-log", FLAG, "Whether nginx writes down its rewrites."),
    harmless("opentelemetry-operation-name", TEXT, "What traces are called."),
    harmless("opentelemetry-trust-incoming-span", TEXT, "Whether traces of clients go on."),
    harmless(
        "opentracing-trust-incoming-span",
        TEXT,
        "Whether traces of clients go on, in an older form.",
    ),
];
