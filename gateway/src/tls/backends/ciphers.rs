//! Lists of ciphers as OpenSSL writes them, as far as the built-in ciphers are concerned.

use rustls::{CipherSuite, SupportedCipherSuite};

/// Names of the ciphers of TLS 1.2 that are built in.
const NAMES: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The ciphers that a list leaves of those that there are. What a list takes away (`!RC4`) is not built in anyway;
/// a name of a whole family (`HIGH`) stands for all of them. Those of TLS 1.3 are not what such a list is about.
pub(super) fn listed(
    list: &str,
    all: &[SupportedCipherSuite],
) -> Result<Vec<SupportedCipherSuite>, String> {
    let words = || {
        let words = list.split([':', ',', ' ']).map(str::trim);
        words.filter(|word| !word.is_empty() && !word.starts_with(['!', '-', '@']))
    };
    let named = |suite: &SupportedCipherSuite| {
        NAMES.iter().any(|(name, known)| {
            *known == suite.suite() && words().any(|word| word.eq_ignore_ascii_case(name))
        })
    };
    // A cipher's name has a hyphen, a family's has none.
    let families = words().any(|word| !word.contains('-') && !word.starts_with("TLS_"));
    let kept: Vec<_> = all
        .iter()
        .filter(|suite| suite.tls13().is_some() || families || named(suite))
        .copied()
        .collect();
    match kept.iter().any(|suite| suite.tls13().is_none()) {
        true => Ok(kept),
        false => Err(format!("none of the ciphers {list:?} is built in")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::certs::provider;

    fn left(list: &str) -> Option<usize> {
        let kept = listed(list, &provider().cipher_suites).ok()?;
        assert_eq!(kept.iter().filter(|suite| suite.tls13().is_some()).count(), 3, "{list}");
        Some(kept.len() - 3)
    }

    #[test]
    fn a_list_leaves_the_ciphers_that_it_names() {
        for (list, expected) in [
            ("ECDHE-RSA-AES128-GCM-SHA256", Some(1)),
            ("ecdhe-rsa-aes128-gcm-sha256:AES256-SHA:!MD5", Some(1)),
            ("ECDHE-RSA-AES128-GCM-SHA256, ECDHE-ECDSA-CHACHA20-POLY1305", Some(2)),
            ("HIGH:!aNULL:!MD5", Some(6)),
            ("EECDH+AESGCM:EDH+AESGCM", Some(6)),
            ("AES128-SHA", None),
            ("!HIGH", None),
            ("", None),
        ] {
            assert_eq!(left(list), expected, "{list:?}");
        }
    }
}
