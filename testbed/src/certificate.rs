//! The certificate that all peers of a run present: ECDSA P-256, as most of the web has it.
//!
//! Made fresh for each run by the benchmark; every peer gets the same files, so that no handshake is
//! cheaper by its key.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;

/// A server certificate and the authority that signed it.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The authority, for a client's trust store.
    pub authority: CertificateDer<'static>,
    /// The same as PEM.
    pub authority_pem: String,
    /// File with that.
    pub authority_file: PathBuf,
    /// Server certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PKCS #8 PEM.
    pub key_pem: String,
    /// File with the certificate.
    pub certificate_file: PathBuf,
    /// File with the key.
    pub key_file: PathBuf,
    /// File with both, as HAProxy wants it.
    pub bundle_file: PathBuf,
}

impl Certificate {
    /// Makes a certificate for `names` and writes it into `folder`.
    pub fn make(folder: &Path, names: &[&str]) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "loadtest authority");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let authority = CertifiedIssuer::self_signed(params, key)?;

        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "loadtest");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &authority)?;

        let (certificate_pem, key_pem) = (certificate.pem(), key.serialize_pem());
        let made = Self {
            authority: authority.der().clone(),
            authority_pem: authority.pem(),
            authority_file: folder.join("ca.crt"),
            certificate_file: folder.join("tls.crt"),
            key_file: folder.join("tls.key"),
            bundle_file: folder.join("tls.pem"),
            certificate_pem,
            key_pem,
        };
        let bundle = format!("{}{}", made.certificate_pem, made.key_pem);
        for (file, text) in [
            (&made.authority_file, &made.authority_pem),
            (&made.certificate_file, &made.certificate_pem),
            (&made.key_file, &made.key_pem),
            (&made.bundle_file, &bundle),
        ] {
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(made)
    }
}
