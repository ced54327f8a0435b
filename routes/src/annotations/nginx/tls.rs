//! Rows of TLS of the host.

use super::honoured;
use crate::annotations::{
    table::Annotation,
    value::{CIPHERS, FORCE_SSL_REDIRECT, OWN_ORDER, PASS_THROUGH, SSL_REDIRECT},
};

pub(super) const ROWS: &[Annotation] = &[
    honoured(
        "force-ssl-redirect",
        FORCE_SSL_REDIRECT,
        "false",
        "Redirect to https also if the host has no `tls` entry.",
    ),
    honoured(
        "ssl-ciphers",
        CIPHERS,
        "",
        "Ciphers that clients of the host may use, of those that `--tls-ciphers` and the ConfigMap leave; the order is \
         that of the list.",
    )
    .protecting()
    .of_host(),
    honoured(
        "ssl-passthrough",
        PASS_THROUGH,
        "false",
        "Whether TLS goes to the backend of `/` as it is, for every host of the Ingress.",
    )
    .protecting()
    .of_host(),
    honoured(
        "ssl-prefer-server-ciphers",
        OWN_ORDER,
        "",
        "Whether our order of ciphers counts, not that of the client. By default it does where a list is given.",
    ).tuning(),
    honoured(
        "ssl-redirect",
        SSL_REDIRECT,
        "true",
        "Redirect to https (308) if the host has a `tls` entry.",
    ),
];
