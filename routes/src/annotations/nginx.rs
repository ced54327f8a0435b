//! Rows of `nginx.ingress.kubernetes.io/`: every annotation that ingress-nginx publishes, and older ones that
//! are still about.
//!
//! What is not built closes the Ingress if it belongs to a protection, even where it would do nothing
//! alone: it shows that its author meant to be protected. Once a protection is built, its rows are
//! honoured; nothing else changes here.

use super::{
    table::{Annotation, Family, ObjectKind},
    value::Parser,
};

mod access;
mod answers;
mod authentication;
mod backends;
mod bodies;
mod canary;
mod client_certificates;
mod cors;
mod limits;
mod mirror;
mod observing;
mod paths;
mod sessions;
mod snippets;
mod timeouts;
mod tls;

pub(super) use snippets::AUTH_SNIPPET;

const ON: &[ObjectKind] = &[ObjectKind::Ingress];

/// Annotations of ingress-nginx.
pub(super) static FAMILY: Family = Family::new(
    "nginx.ingress.kubernetes.io/",
    ON,
    &[
        access::ROWS,
        answers::ROWS,
        authentication::ROWS,
        backends::ROWS,
        bodies::ROWS,
        canary::ROWS,
        client_certificates::ROWS,
        cors::ROWS,
        limits::ROWS,
        mirror::ROWS,
        observing::ROWS,
        paths::ROWS,
        sessions::ROWS,
        snippets::ROWS,
        timeouts::ROWS,
        tls::ROWS,
    ],
);

const fn honoured(
    name: &'static str,
    parser: Parser,
    default: &'static str,
    doc: &'static str,
) -> Annotation {
    Annotation::honoured(name, ON, parser, default, doc)
}

const fn harmless(name: &'static str, parser: Parser, doc: &'static str) -> Annotation {
    Annotation::harmless(name, ON, parser, doc)
}

const fn closes(name: &'static str, parser: Parser, doc: &'static str) -> Annotation {
    Annotation::closes(name, ON, parser, doc)
}
