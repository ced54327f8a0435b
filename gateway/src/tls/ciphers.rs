//! Lists of ciphers as OpenSSL writes them (`openssl-ciphers(1)`), as far as the built-in ciphers are concerned.
//!
//! Lists come from flags, annotations and the profiles of OpenShift; what they leave is in their order.

use rustls::{CipherSuite, SupportedCipherSuite};

use super::certs::provider;

/// A cipher of TLS 1.2 that is built in. Each of them has ECDHE and an AEAD.
struct Known {
    openssl: &'static str,
    iana: &'static str,
    suite: CipherSuite,
    /// The words of OpenSSL that it is among, besides those of [`COMMON`].
    families: &'static [&'static str],
}

/// Families that all of them belong to.
const COMMON: [&str; 8] =
    ["ALL", "DEFAULT", "HIGH", "TLSv1.2", "ECDHE", "EECDH", "kECDHE", "kEECDH"];

/// In OpenSSL's order.
const KNOWN: [Known; 6] = [
    Known {
        openssl: "ECDHE-ECDSA-AES256-GCM-SHA384",
        iana: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        families: &["ECDSA", "aECDSA", "AES", "AES256", "AESGCM", "FIPS"],
    },
    Known {
        openssl: "ECDHE-RSA-AES256-GCM-SHA384",
        iana: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        families: &["aRSA", "AES", "AES256", "AESGCM", "FIPS"],
    },
    Known {
        openssl: "ECDHE-ECDSA-CHACHA20-POLY1305",
        iana: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        families: &["ECDSA", "aECDSA", "CHACHA20"],
    },
    Known {
        openssl: "ECDHE-RSA-CHACHA20-POLY1305",
        iana: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        families: &["aRSA", "CHACHA20"],
    },
    Known {
        openssl: "ECDHE-ECDSA-AES128-GCM-SHA256",
        iana: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        suite: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        families: &["ECDSA", "aECDSA", "AES", "AES128", "AESGCM", "FIPS"],
    },
    Known {
        openssl: "ECDHE-RSA-AES128-GCM-SHA256",
        iana: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        suite: CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        families: &["aRSA", "AES", "AES128", "AESGCM", "FIPS"],
    },
];

/// The ciphers of TLS 1.3, which OpenSSL and the RFC call the same.
const TLS13: [(&str, CipherSuite); 3] = [
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
];

impl Known {
    /// Whether a word means this cipher: a name, a family, or several families joined by `+`.
    fn is(&self, word: &str) -> bool {
        let name = |name: &str| name.eq_ignore_ascii_case(word);
        let among = |family: &str| {
            let mut all = COMMON.iter().chain(self.families);
            all.any(|known| known.eq_ignore_ascii_case(family))
        };
        name(self.openssl) || name(self.iana) || word.split('+').all(among)
    }
}

/// What a list leaves of the ciphers that are built in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed<'l> {
    /// Of TLS 1.2.
    tls12: Vec<CipherSuite>,
    /// Of TLS 1.3; `None`: the list says nothing about them, and all are left.
    tls13: Option<Vec<CipherSuite>>,
    /// What it names that is not built in.
    pub(crate) absent: Vec<&'l str>,
}

/// Reads a list.
pub(crate) fn listed(list: &str) -> Listed<'_> {
    let (mut tls12, mut tls13) = (Vec::new(), Vec::new());
    let (mut never, mut absent) = (Vec::new(), Vec::new());
    for word in list.split([':', ',', ';', ' ']).filter(|word| !word.is_empty()) {
        // How strong keys are is not for a list to say here: `@SECLEVEL=1`, `@STRENGTH`.
        if word.starts_with('@') {
            continue;
        }
        let (sign, word) = match word.split_at_checked(1) {
            Some((sign @ ("!" | "-" | "+"), rest)) => (sign, rest),
            _ => ("", word),
        };
        let meant = || KNOWN.iter().filter(|known| known.is(word)).map(|known| known.suite);
        match sign {
            "!" => never.extend(meant()),
            "" => {
                let of_tls13 = TLS13.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
                let before = tls13.len();
                tls13.extend(of_tls13.map(|(_, suite)| *suite));
                if before == tls13.len() && meant().next().is_none() {
                    absent.push(word);
                }
                for suite in meant().filter(|suite| !never.contains(suite)) {
                    if !tls12.contains(&suite) {
                        tls12.push(suite);
                    }
                }
                continue;
            }
            _ => {}
        }
        let (taken, left): (Vec<_>, Vec<_>) =
            tls12.into_iter().partition(|suite| meant().any(|meant| meant == *suite));
        // `+` moves to the end.
        tls12 = left.into_iter().chain(taken.into_iter().filter(|_| sign == "+")).collect();
    }
    Listed { tls12, tls13: (!tls13.is_empty()).then_some(tls13), absent }
}

impl Listed<'_> {
    /// Whether there is one of TLS 1.2.
    pub(crate) fn tls12(&self) -> bool {
        !self.tls12.is_empty()
    }

    /// Whether there is none at all, not even one of TLS 1.3 that the list names.
    pub(crate) fn nothing(&self) -> bool {
        self.tls12.is_empty() && self.tls13.is_none()
    }

    /// The ciphers, those of TLS 1.3 first.
    pub(crate) fn suites(&self) -> Vec<SupportedCipherSuite> {
        let every = TLS13.map(|(_, suite)| suite);
        let tls13 = self.tls13.as_deref().unwrap_or(&every);
        let built_in = |suite: &CipherSuite| {
            provider().cipher_suites.iter().find(|known| known.suite() == *suite).copied()
        };
        tls13.iter().chain(&self.tls12).filter_map(built_in).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the ciphers of TLS 1.2 that a list leaves.
    fn left(list: &str) -> String {
        let name =
            |suite: &CipherSuite| KNOWN.iter().find(|known| known.suite == *suite).unwrap().openssl;
        listed(list).tls12.iter().map(name).collect::<Vec<_>>().join(":")
    }

    /// What OpenSSL itself makes of it, without what is not built in here.
    fn openssl(list: &str) -> String {
        let mut openssl = std::process::Command::new("openssl");
        let output = openssl.args(["ciphers", "-tls1_2", list]).output().expect("openssl");
        assert!(output.status.success(), "{list}");
        let built_in = |name: &&str| KNOWN.iter().any(|known| known.openssl == *name);
        let output = String::from_utf8(output.stdout).unwrap();
        output.trim().split(':').filter(built_in).collect::<Vec<_>>().join(":")
    }

    #[test]
    fn a_list_leaves_what_openssl_makes_of_it_in_the_same_order() {
        for list in [
            "DEFAULT",
            "HIGH:!aNULL:!MD5",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256:AES256-SHA:!MD5",
            "ECDHE-RSA-AES128-GCM-SHA256,ECDHE-ECDSA-CHACHA20-POLY1305",
            "EECDH+AESGCM:EDH+AESGCM",
            "AES256+EECDH:AES256+EDH",
            "CHACHA20:ECDHE+AES128:-aRSA",
            "ECDHE+AESGCM:!AES128:AES128",
            "ECDHE+AESGCM:-AES128:AES128",
            "HIGH:+AES256",
            "FIPS:!ECDSA:@STRENGTH",
            "kEECDH+CHACHA20:TLSv1.2:!ECDHE-RSA-AES256-GCM-SHA384",
        ] {
            assert_eq!(left(list), openssl(list), "{list:?}");
            assert!(!left(list).is_empty(), "{list:?}");
        }
    }

    #[test]
    fn all_that_is_built_in_has_a_name() {
        assert_eq!(listed("ALL").suites().len(), provider().cipher_suites.len());
        for suite in [&KNOWN[0], &KNOWN[5]] {
            assert_eq!(listed(suite.iana), listed(suite.openssl));
        }
    }

    #[test]
    fn names_of_tls13_choose_among_tls13_and_what_is_not_built_in_is_named() {
        let list = listed("TLS_AES_128_GCM_SHA256:DHE-RSA-AES128-GCM-SHA256:!RC4:RSA+AES");
        assert_eq!(list.suites().len(), 1);
        assert!(!list.tls12() && !list.nothing());
        assert_eq!(list.absent, ["DHE-RSA-AES128-GCM-SHA256", "RSA+AES"]);
        for list in ["AES128-SHA", "!HIGH", ""] {
            assert!(listed(list).nothing(), "{list:?}");
        }
    }
}
