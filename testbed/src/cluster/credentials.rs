//! Keys, certificates and kubeconfigs of a cluster: one authority signs the API server and its clients.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

/// The authority of a cluster. Its certificates live as long as rcgen's default: for ever, for a test.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
#[derive(Debug)]
pub(super) struct Identity {
    /// The certificate.
    pub(super) certificate: String,
    /// PKCS #8.
    pub(super) key: String,
}

/// What a client shows to the API server.
#[derive(Debug)]
pub(super) enum Credential<'a> {
    /// A client certificate.
    Certificate(&'a Identity),
    /// A bearer token.
    Token(&'a str),
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// A new one.
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "testbed authority");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self(CertifiedIssuer::self_signed(params, key)?))
    }

    /// Its certificate.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate for these names and addresses.
    pub(super) fn server(&self, names: &[String]) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "testbed server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A client's certificate: the API server takes the common name for the user's, the organisation for
    /// a group of that user.
    pub(super) fn client(&self, user: &str, group: &str) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> anyhow::Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.0)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

/// A key that tokens of `ServiceAccount`s are signed with, and the one that they are checked with, PEM.
pub(super) fn token_keys() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// A kubeconfig with everything in it, for one cluster and one user.
pub(super) fn kubeconfig(
    server: SocketAddr,
    authority: &Authority,
    credential: &Credential<'_>,
) -> String {
    let user = match credential {
        Credential::Certificate(Identity { certificate, key }) => format!(
            "client-certificate-data: {}\n      client-key-data: {}",
            STANDARD.encode(certificate),
            STANDARD.encode(key)
        ),
        Credential::Token(token) => format!("token: {token}"),
    };
    format!(
        "apiVersion: v1
kind: Config
clusters:
  - name: testbed
    cluster:
      server: https://{server}
      certificate-authority-data: {}
users:
  - name: testbed
    user:
      {user}
contexts:
  - name: testbed
    context: {{cluster: testbed, user: testbed, namespace: default}}
current-context: testbed
",
        STANDARD.encode(authority.pem())
    )
}
