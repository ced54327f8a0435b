//! Whose certificate is believed of an endpoint, and the configuration of the handshake around that.

use std::sync::Arc;

use gatehouse_routes::transport::BackendTls;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use super::ciphers;
use crate::tls::{
    certs::provider,
    chain::{Authorities, Purpose},
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

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
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
        Some(list) => Arc::new(CryptoProvider {
            cipher_suites: ciphers::listed(list, &provider().cipher_suites)?,
            ..(**provider()).clone()
        }),
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
