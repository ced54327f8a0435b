//! What the end-to-end tests of the gateway share: the gateway's process, a recording backend, a strict
//! HTTP/1.1 judge, raw clients (plain, TLS, HTTP/2 frames) and manifests as text.
//!
//! Used by `gateway/tests/`. Nothing here links against the gateway's own code: a test sees only what a
//! stranger on the network sees.

pub mod backend;
pub mod bed;
pub mod call;
pub mod client;
pub mod curl;
pub mod gateway;
pub mod h2raw;
pub mod issuer;
pub mod manifests;
pub mod pki;
pub mod s_client;
pub mod secure;
pub mod strict;
pub mod tls;
pub mod tunnel;

/// Bytes as a person can read them in a failure: escaped, and cut in the middle when long.
pub fn show(bytes: &[u8]) -> String {
    const EDGE: usize = 600;
    if bytes.len() <= 2 * EDGE {
        return bytes.escape_ascii().to_string();
    }
    format!(
        "{} …[{} bytes]… {}",
        bytes[..EDGE].escape_ascii(),
        bytes.len() - 2 * EDGE,
        bytes[bytes.len() - EDGE..].escape_ascii()
    )
}
