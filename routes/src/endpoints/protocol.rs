//! What the pods speak on a port, as far as its `appProtocol` says so.
//!
//! The parent asks for every port that a rule leads to. Here is only what the names mean; what follows from
//! them is the parent's business.

use crate::transport::{Alpn, Speaks};

// Service names of IANA, those of KEP-3726 (`kubernetes.io/…`), and what meshes have made a habit.
const HTTP2: [&str; 4] = ["grpc", "h2c", "http2", "kubernetes.io/h2c"];
const TLS: [&str; 5] = ["https", "kubernetes.io/wss", "ssl", "tls", "wss"];
const HTTP2_OVER_TLS: [&str; 2] = ["grpcs", "h2"];

/// What an `appProtocol` means, whatever its case. Names that are none of ours say nothing.
pub(super) fn spoken(app_protocol: Option<&str>) -> Speaks {
    let given = app_protocol.unwrap_or_default();
    let named = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(given));
    if named(&TLS) {
        Speaks::Tls(Alpn::Http1)
    } else if named(&HTTP2_OVER_TLS) {
        Speaks::Tls(Alpn::Http2)
    } else if named(&HTTP2) {
        Speaks::Http2
    } else {
        Speaks::Http1
    }
}
