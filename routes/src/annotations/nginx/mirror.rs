//! Rows of copies of requests.

use super::honoured;
use crate::annotations::{
    table::Annotation,
    value::{MIRROR_BODY, MIRROR_HOST, MIRROR_TARGET},
};

pub(super) const ROWS: &[Annotation] = &[
    honoured("mirror-host", MIRROR_HOST, "", "`Host` of copies; by default the host of the target."),
    honoured("mirror-request-body", MIRROR_BODY, "on", "`off`: copies have no body."),
    honoured(
        "mirror-target",
        MIRROR_TARGET,
        "",
        "Where a copy of each request is sent: a URL such as `https://test.example.com$request_uri`, in whose path \
         variables are filled in. A Service of the namespace (`http://NAME.NAMESPACE.svc:PORT`) gets copies at its \
         endpoints.",
    )
    .but(
        "A copy never delays its request: one that takes its body too slowly is broken off. Without a path in the \
         URL a copy asks for what its request asked for.",
    ),
];
