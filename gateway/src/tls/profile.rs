//! The TLS profile: versions and ciphers that clients may speak. The command line says what there is, and terms narrow
//! that (see `handshakes`).

use std::{fmt, sync::Arc};

use gatehouse_routes::filter::tls_terms::{TlsTerms, Versions};
use rustls::{
    CipherSuite, NamedGroup, ServerConfig, SupportedCipherSuite,
    crypto::{CryptoProvider, SupportedKxGroup},
    version,
};

use super::{certs::provider, ciphers::listed};
use crate::config::{TlsProfile, TlsSettings, TlsVersion};

/// The ciphers of OpenShift's profile `Old` that are not built in: the others are those of `Intermediate`.
const OLD: &str = "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:\
                   ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:\
                   DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305:\
                   DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:\
                   AES256-SHA256:AES128-SHA:AES256-SHA:DES-CBC3-SHA";

/// Which of the built-in ciphers, by their place among those of [`provider`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CipherSet(u16);

impl CipherSet {
    /// The cipher that a connection agreed on.
    pub(crate) fn of(suite: CipherSuite) -> Self {
        let known = provider().cipher_suites.iter().position(|known| known.suite() == suite);
        Self(known.map_or(0, |at| 1 << at))
    }

    /// Whether all of `other` are in it.
    #[inline]
    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How sessions are resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// Clients keep them in tickets, which every node of the group understands.
    Tickets,
    /// This process remembers them.
    Remembered,
    /// They are not.
    Never,
}

/// Versions and ciphers that clients may speak, and what else is said of handshakes. Never without a cipher.
#[derive(Clone)]
pub struct Profile {
    /// In order of preference; a cipher is one of one version.
    ciphers: Vec<SupportedCipherSuite>,
    groups: Vec<&'static dyn SupportedKxGroup>,
    /// The order of ciphers is ours, not the client's.
    pub(crate) own_order: bool,
    /// HTTP/2 is offered.
    pub(crate) http2: bool,
    pub(crate) sessions: Sessions,
    /// Seconds for which they may be, if that is said.
    pub(crate) lifetime: Option<u32>,
    /// A handshake for a name without a rule of its own fails.
    pub(crate) only_known_names: bool,
}

impl Default for Profile {
    /// All that is built in.
    fn default() -> Self {
        let CryptoProvider { cipher_suites, kx_groups, .. } = &**provider();
        Self {
            ciphers: cipher_suites.clone(),
            groups: kx_groups.clone(),
            own_order: false,
            http2: true,
            sessions: Sessions::Tickets,
            lifetime: None,
            only_known_names: false,
        }
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ciphers = self.ciphers.iter().map(SupportedCipherSuite::suite);
        f.debug_list().entries(ciphers).finish()
    }
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        let all = |profile: &Self| {
            let Self { own_order, http2, sessions, lifetime, only_known_names, .. } = *profile;
            let groups: Vec<_> = profile.groups.iter().map(|group| group.name()).collect();
            (own_order, http2, sessions, lifetime, only_known_names, groups)
        };
        self.ciphers == other.ciphers && all(self) == all(other)
    }
}

impl Profile {
    /// What these settings ask for, as far as it is built in, and what of it is not.
    ///
    /// # Errors
    /// Nothing of it is.
    pub(crate) fn new(settings: &TlsSettings) -> anyhow::Result<(Self, Option<String>)> {
        let TlsSettings { tls_profile, tls_min_version, tls_ciphers } = settings;
        anyhow::ensure!(
            *tls_profile != TlsProfile::Custom
                || tls_min_version.is_some()
                || tls_ciphers.is_some(),
            "--tls-profile custom says nothing without --tls-min-version or --tls-ciphers"
        );
        let lowest = tls_min_version.unwrap_or(match tls_profile {
            TlsProfile::Old => TlsVersion::Tls10,
            TlsProfile::Intermediate | TlsProfile::Custom => TlsVersion::Tls12,
            TlsProfile::Modern => TlsVersion::Tls13,
        });
        let list = tls_ciphers.as_deref();
        let ciphers = listed(list.unwrap_or("DEFAULT"));
        if let Some(list) = list {
            anyhow::ensure!(
                !ciphers.nothing(),
                "--tls-ciphers {list:?} leaves no cipher: ECDHE with AES-GCM or ChaCha20 and those of TLS 1.3 are \
                 built in, such as ECDHE-RSA-AES128-GCM-SHA256 and TLS_AES_128_GCM_SHA256"
            );
        }
        let terms = TlsTerms {
            versions: Versions { tls12: lowest < TlsVersion::Tls13, tls13: true },
            ciphers: tls_ciphers.iter().map(|list| Arc::from(&**list)).collect(),
            own_order: None,
        };
        let profile = Self::default().narrowed(&terms).map_err(anyhow::Error::msg)?;
        let old_ciphers = *tls_profile == TlsProfile::Old && list.is_none();
        let absent: Vec<_> = (lowest == TlsVersion::Tls10)
            .then_some("TLS 1.0")
            .into_iter()
            .chain((lowest <= TlsVersion::Tls11).then_some("TLS 1.1"))
            .chain(old_ciphers.then(|| OLD.split(':')).into_iter().flatten())
            .chain(ciphers.absent.iter().copied())
            .collect();
        let absent = (!absent.is_empty()).then(|| absent.join(", "));
        Ok((profile, absent))
    }

    /// What these terms leave of it.
    ///
    /// # Errors
    /// No cipher.
    pub(crate) fn narrowed(&self, terms: &TlsTerms) -> Result<Self, &'static str> {
        let Versions { tls12, tls13 } = terms.versions;
        let mut ciphers = self.ciphers.clone();
        ciphers.retain(|suite| match suite {
            SupportedCipherSuite::Tls12(_) => tls12,
            SupportedCipherSuite::Tls13(_) => tls13,
        });
        // The first list is the last one to put them in its order.
        for list in terms.ciphers.iter().rev() {
            let left: Vec<_> = ciphers.iter().map(SupportedCipherSuite::suite).collect();
            ciphers = listed(list).suites();
            ciphers.retain(|suite| left.contains(&suite.suite()));
        }
        if ciphers.is_empty() {
            return Err("no version with a cipher is left of what is asked for");
        }
        let own_order = self.own_order || !terms.ciphers.is_empty();
        Ok(Self { ciphers, own_order: terms.own_order.unwrap_or(own_order), ..self.clone() })
    }

    /// The same with none but these groups of key exchange, as OpenSSL names them, and those names that are not
    /// built in.
    ///
    /// # Errors
    /// None of them is.
    pub(crate) fn with_groups<'l>(
        &self,
        list: &'l str,
    ) -> Result<(Self, Vec<&'l str>), &'static str> {
        let mut groups: Vec<&'static dyn SupportedKxGroup> = Vec::new();
        let mut absent = Vec::new();
        for name in list.split([':', ',', ' ']).filter(|name| !name.is_empty()) {
            let meant = match &*name.to_ascii_lowercase() {
                "x25519" => NamedGroup::X25519,
                "prime256v1" | "secp256r1" | "p-256" => NamedGroup::secp256r1,
                "secp384r1" | "p-384" => NamedGroup::secp384r1,
                "x25519mlkem768" => NamedGroup::X25519MLKEM768,
                _ => NamedGroup::Unknown(0),
            };
            match self.groups.iter().find(|group| group.name() == meant) {
                Some(group) => groups.push(*group),
                None => absent.push(name),
            }
        }
        match groups.is_empty() {
            true => Err("no group of key exchange is left of what is asked for"),
            false => Ok((Self { groups, ..self.clone() }, absent)),
        }
    }

    /// Its ciphers.
    pub(crate) fn allowed(&self) -> CipherSet {
        let each = self.ciphers.iter().map(|suite| CipherSet::of(suite.suite()).0);
        CipherSet(each.fold(0, |all, one| all | one))
    }

    /// Whether TLS 1.2 is spoken.
    pub(crate) fn tls12(&self) -> bool {
        self.ciphers.iter().any(|suite| matches!(suite, SupportedCipherSuite::Tls12(_)))
    }

    /// Begins the configuration of handshakes.
    pub(crate) fn builder(
        &self,
    ) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, rustls::Error> {
        let tls13 =
            self.ciphers.iter().any(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)));
        let versions: &[_] = match (self.tls12(), tls13) {
            (true, true) => rustls::ALL_VERSIONS,
            (true, false) => &[&version::TLS12],
            (false, _) => &[&version::TLS13],
        };
        let provider = CryptoProvider {
            cipher_suites: self.ciphers.clone(),
            kx_groups: self.groups.clone(),
            ..(**provider()).clone()
        };
        ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions)
    }
}

/// What is said of what is asked for and not built in.
pub(crate) fn reduced(absent: &str) -> String {
    format!("clients cannot use {absent}: not built in")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(
        tls_profile: TlsProfile,
        tls_min_version: Option<TlsVersion>,
        ciphers: Option<&str>,
    ) -> anyhow::Result<(Profile, Option<String>)> {
        let tls_ciphers = ciphers.map(str::to_owned);
        Profile::new(&TlsSettings { tls_profile, tls_min_version, tls_ciphers })
    }

    #[test]
    fn a_profile_gives_the_lowest_version_unless_one_is_said() {
        use {TlsProfile as P, TlsVersion as V};
        for (name, lowest, versions, reduced) in [
            (P::Old, None, 2, true),
            (P::Old, Some(V::Tls12), 2, true),
            (P::Intermediate, None, 2, false),
            (P::Intermediate, Some(V::Tls11), 2, true),
            (P::Intermediate, Some(V::Tls13), 1, false),
            (P::Modern, None, 1, false),
            (P::Modern, Some(V::Tls12), 2, false),
            (P::Custom, Some(V::Tls12), 2, false),
        ] {
            let (profile, absent) = profile(name, lowest, None).unwrap();
            assert_eq!(1 + usize::from(profile.tls12()), versions, "{name:?} {lowest:?}");
            assert_eq!(absent.is_some(), reduced, "{name:?} {lowest:?}");
            assert!(!profile.own_order);
        }
    }

    #[test]
    fn nothing_of_what_old_lacks_is_built_in() {
        assert_eq!(listed(OLD).absent.len(), OLD.split(':').count());
    }

    #[test]
    fn a_list_takes_the_place_of_the_ciphers_of_the_profile() {
        let list = "ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA,TLS_AES_128_GCM_SHA256";
        let (some, absent) = profile(TlsProfile::Old, Some(TlsVersion::Tls12), Some(list)).unwrap();
        assert_eq!((some.ciphers.len(), some.own_order), (2, true));
        assert_eq!(absent.as_deref(), Some("AES128-SHA"));
        // TLS 1.2 without a cipher is not spoken.
        let (newest, _) =
            profile(TlsProfile::Custom, None, Some("TLS_AES_128_GCM_SHA256")).unwrap();
        assert!(!newest.tls12());
    }

    #[test]
    fn what_leaves_nothing_is_an_error_that_says_what_there_is() {
        let error = |result: anyhow::Result<_>| result.map(drop).unwrap_err().to_string();
        let nothing = error(profile(TlsProfile::Custom, None, Some("AES128-SHA:HIGH+aNULL")));
        assert!(nothing.contains("ECDHE-RSA-AES128-GCM-SHA256"), "{nothing}");
        assert!(error(profile(TlsProfile::Custom, None, None)).contains("--tls-min-version"));
    }
}
