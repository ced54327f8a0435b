//! Whose certificate is believed of an endpoint, and the configuration of the handshake around that.

use std::sync::Arc;

use gatehouse_routes::transport::BackendTls;
use rustls::{
    CertificateError, ClientConfig, Error, OtherError,
    client::danger::{ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use crate::tls::{
    certs::{checks_signatures, provider},
    chain::{Authorities, Purpose},
    ciphers::listed,
};

/// Believes the certificates that certain authorities have signed, or all of them. That the endpoint has the key
/// of its certificate is always made sure of.
#[derive(Debug)]
pub(super) struct EndpointVerifier {
    /// `None`: all.
    pub(super) authorities: Option<Authorities>,
    pub(super) depth: Option<u8>,
    /// `None`: whatever its name.
    pub(super) name: Option<ServerName<'static>>,
}

impl ServerCertVerifier for EndpointVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        authorities
            .verify(end_entity, intermediates, Purpose::Server, self.depth, now)
            .map_err(refused)?;
        if let Some(name) = &self.name {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            rustls::client::verify_server_name(&certificate, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    checks_signatures!();
}

/// As the handshake tells it, to the endpoint and in the log.
fn refused(error: webpki::Error) -> Error {
    Error::InvalidCertificate(match error {
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

/// The configuration of handshakes. Sessions are remembered for each name.
pub(super) fn config(
    tls: &BackendTls,
    verifier: EndpointVerifier,
    identity: Option<CertifiedKey>,
) -> Result<ClientConfig, String> {
    let provider = match &tls.ciphers {
        None => Arc::clone(provider()),
        Some(list) => {
            let ciphers = listed(list);
            if !ciphers.tls12() {
                return Err(format!("none of the ciphers {list:?} is built in"));
            }
            let cipher_suites = ciphers.suites();
            Arc::new(CryptoProvider { cipher_suites, ..(**provider()).clone() })
        }
    };
    let versions: &[_] = match (tls.versions.tls12, tls.versions.tls13) {
        (true, false) => &[&TLS12],
        (false, true) => &[&TLS13],
        _ => &[&TLS13, &TLS12],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
    };
    config.enable_sni = tls.server_name.is_some();
    Ok(config)
}
