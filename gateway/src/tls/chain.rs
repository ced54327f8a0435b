//! Whether a chain of certificates leads to an authority that is believed (RFC 5280 §6).
//!
//! Asked of the endpoints of backends (`tls::backends`) and of clients. Names are the caller's business.

use std::fmt;

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime, pem::PemObject as _,
};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use super::certs::provider;

/// Authorities that are believed, and what they have taken back.
pub struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    revoked: Vec<CertRevocationList<'static>>,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("certificates", &self.certificates.len())
            .field("lists", &self.revoked.len())
            .finish_non_exhaustive()
    }
}

/// What a certificate is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be a server.
    Server,
    /// To be a client.
    Client,
}

impl Authorities {
    /// Reads authorities, and lists of what they have revoked; both PEM.
    ///
    /// # Errors
    /// Text that names what is wrong: no certificate, damaged PEM, a certificate or a list that cannot be read.
    pub fn parse((name, pem): (&str, &[u8]), lists: Option<(&str, &[u8])>) -> Result<Self, String> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| format!("{name} is not valid PEM"))?;
        if certificates.is_empty() {
            return Err(format!("{name} holds no PEM certificate"));
        }
        let anchor = |der: &CertificateDer<'static>| {
            webpki::anchor_from_trusted_cert(der).map(|anchor| anchor.to_owned())
        };
        let anchors = certificates.iter().map(anchor).collect::<Result<_, _>>();
        let anchors =
            anchors.map_err(|error| format!("{name} holds an unusable certificate: {error}"))?;
        let revoked = match lists {
            None => Vec::new(),
            Some((name, pem)) => revocation_lists(name, pem)?,
        };
        Ok(Self { certificates, anchors, revoked })
    }

    /// Their names, without the tag of the sequence that they are.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &[u8]> {
        self.anchors.iter().map(|anchor| anchor.subject.as_ref())
    }

    /// Whether a chain (leaf first) leads to one of them, through so many certificates at most.
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        purpose: Purpose,
        depth: Option<u8>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let short_enough = |path: &VerifiedPath<'_>| {
            let between = path.intermediate_certificates().count();
            match depth {
                Some(depth) if between > usize::from(depth) => Err(Error::MaximumPathDepthExceeded),
                _ => Ok(()),
            }
        };
        let certificate = EndEntityCert::try_from(leaf)?;
        let usage = match purpose {
            Purpose::Server => KeyUsage::server_auth(),
            Purpose::Client => KeyUsage::client_auth(),
        };
        let lists: Vec<_> = self.revoked.iter().collect();
        // As OpenSSL does it: with lists, every authority of the chain needs one.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|builder| {
            builder
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let verified = certificate.verify_for_usage(
            provider().signature_verification_algorithms.all,
            &self.anchors,
            others,
            now,
            usage,
            revocation,
            Some(&short_enough),
        );
        match verified {
            // A server whose own self-signed certificate is the authority: its dates have been looked at before.
            Err(Error::CaUsedAsEndEntity) if self.certificates.iter().any(|own| own == leaf) => {
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }
}

fn revocation_lists(name: &str, pem: &[u8]) -> Result<Vec<CertRevocationList<'static>>, String> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{name} is not valid PEM"))?;
    if lists.is_empty() {
        return Err(format!("{name} holds no PEM list of revoked certificates"));
    }
    let list = |der: &CertificateRevocationListDer<'_>| {
        OwnedCertRevocationList::from_der(der).map(CertRevocationList::from)
    };
    let lists = lists.iter().map(list).collect::<Result<_, _>>();
    lists.map_err(|error| format!("{name} holds an unusable list: {error}"))
}

#[cfg(test)]
mod tests;
