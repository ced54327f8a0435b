//! Rows of who may come in by address.

use super::honoured;
use crate::annotations::{
    table::Annotation,
    value::{DENIED_NETWORKS, NETWORKS, SATISFY},
};

pub(super) const ROWS: &[Annotation] = &[
    honoured(
        "allowlist-source-range",
        NETWORKS,
        "",
        "Client networks that may pass, separated by commas; others get 403.",
    )
    .protecting()
    .but("beside whitelist-source-range both must let a client pass"),
    honoured(
        "denylist-source-range",
        DENIED_NETWORKS,
        "",
        "Client networks that may not pass, separated by commas; they get 403.",
    )
    .protecting(),
    honoured(
        "satisfy",
        SATISFY,
        "all",
        "`any`: clients pass whose address may, or who authenticate; `all`: they need both.",
    )
    .protecting(),
    honoured(
        "whitelist-source-range",
        NETWORKS,
        "",
        "Older name of allowlist-source-range; where both are there, both must let a client pass.",
    )
    .protecting(),
];
