//! Rows of the TLS that clients speak.

use super::ROUTED;
use crate::annotations::{table::Annotation, value::TLS_VERSION};

pub(super) const ROWS: &[Annotation] = &[Annotation::honoured(
    "tls-min-version",
    ROUTED,
    TLS_VERSION,
    "1.2",
    "Lowest version of TLS that clients of the hosts may speak, as `--tls-min-version` says for all: `1.2` or `1.3`. Older \
     ones are never spoken.",
)
.protecting()
.of_host()];
