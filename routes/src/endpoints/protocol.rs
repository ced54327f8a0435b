//! What the pods speak on a port, as far as its `appProtocol` says so.
//!
//! The parent asks for every port that a rule leads to. Here is only what the names mean; what follows from
//! them is the parent's business.

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1.1 in clear text, also where nothing is said or the name is none of ours.
    Http,
    /// HTTP/2 in clear text, by this name.
    Http2(&'static str),
    /// TLS, by this name.
    Tls(&'static str),
}

// Service names of IANA, those of KEP-3726 (`kubernetes.io/…`), and what meshes have made a habit.
const HTTP2: [&str; 4] = ["grpc", "h2c", "http2", "kubernetes.io/h2c"];
const TLS: [&str; 7] = ["grpcs", "h2", "https", "kubernetes.io/wss", "ssl", "tls", "wss"];

/// What an `appProtocol` means, whatever its case.
pub(super) fn spoken(app_protocol: Option<&str>) -> Spoken {
    let given = app_protocol.unwrap_or_default();
    let named = |names: &[&'static str]| {
        names.iter().copied().find(|name| name.eq_ignore_ascii_case(given))
    };
    match (named(&TLS), named(&HTTP2)) {
        (Some(name), _) => Spoken::Tls(name),
        (None, Some(name)) => Spoken::Http2(name),
        (None, None) => Spoken::Http,
    }
}
