//! Names of fields that mean something to this gateway and to what stands behind it: which of them say where a request
//! comes from and who its client is, in any spelling that a server may take for the same.
//!
//! Heads and trailers of requests are held against the same names; what a head may not say no trailer says.

/// Says how many gateways like this one the request has come through.
pub(crate) const HOPS: &str = "gatehouse-hops";

/// True for the fields that say where a request came from and with which certificate, in any spelling that an application server
/// may fold into the same variable (`_` for `-`), and for such spellings of the framing fields.
pub(crate) fn is_forwarded(name: &str) -> bool {
    const OURS: [&str; 10] = [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-forwarded-proto-version",
        "x-forwarded-scheme",
        "x-forwarded-prefix",
        "x-real-ip",
        "x-request-id",
    ];
    const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];
    OURS.iter().any(|ours| is_alias(name, ours))
        || is_certificate(name)
        || FRAMING.iter().any(|framing| name != *framing && is_alias(name, framing))
}

/// True for the fields that say which certificate a client has shown, in any such spelling.
pub(crate) fn is_certificate(name: &str) -> bool {
    const NAMES: [&str; 4] =
        ["x-forwarded-client-cert", "client-cert", "client-cert-chain", "x-ssl"];
    NAMES.iter().any(|ours| is_alias(name, ours))
        || is_alias(name.get(..10).unwrap_or_default(), "ssl-client")
        || is_alias(name.get(..6).unwrap_or_default(), "x-ssl-")
}

fn is_alias(name: &str, ours: &str) -> bool {
    name.len() == ours.len()
        && name.bytes().zip(ours.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
}

/// Whether an application server may fold two names into the same variable (`_` for `-`, as CGI has it).
pub(crate) fn is_alike(name: &str, other: &str) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() == other.len() && name.bytes().map(dashed).eq(other.bytes().map(dashed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_forwarding_field_is_recognised() {
        for name in [
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_proto",
            "x-forwarded-proto-version",
            "x_real_ip",
            "forwarded",
            "content_length",
            "transfer_encoding",
            "x-ssl",
            "x-ssl-client-cn",
            "x_ssl_client_der",
            "ssl-client-verify",
            "client-cert",
            "x-forwarded-client-cert",
        ] {
            assert!(is_forwarded(name), "{name}");
        }
        for name in [
            "x-forwarded",
            "host",
            "content-length",
            "transfer-encoding",
            "x-forwarded-forx",
            "forward",
            "x-sslabs",
            "client-certificate",
        ] {
            assert!(!is_forwarded(name), "{name}");
        }
    }
}
