//! TLS for the tests: throw-away certificates and a client that takes any certificate and says
//! which one it was shown.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct,
    HandshakeKind, SignatureScheme, StreamOwned, SupportedProtocolVersion,
    client::{
        WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    version,
};

use crate::{
    gatehouse::client::{Wire, dial},
    wait,
};

/// A self-signed certificate and its key, as a Secret holds them.
pub struct Pair {
    /// PEM.
    pub certificate: String,
    /// PEM, PKCS #8.
    pub key: String,
    /// The certificate as a client is shown it.
    pub der: Vec<u8>,
}

/// A new certificate for these names.
pub fn certificate(names: &[&str]) -> Pair {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("names are valid");
    Pair {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
        der: made.cert.der().to_vec(),
    }
}

/// What a client offers that takes any certificate.
pub fn client_config(alpn: &[&str]) -> Arc<ClientConfig> {
    let mut config = offering().with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// The same of one that knows no newer version than TLS 1.2.
pub fn client_config_of_tls12() -> Arc<ClientConfig> {
    Arc::new(offering_versions(&[&version::TLS12]).with_no_client_auth())
}

/// The ClientHello of one that knows no newer version than TLS 1.1, and so no signature algorithms (RFC 4346,
/// section 7.4.1.2).
pub fn hello_of_tls11(name: &str) -> Vec<u8> {
    let list = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let server_name = list(&[&[0][..], &list(name.as_bytes())].concat());
    let extensions = list(&[&[0, 0][..], &list(&server_name)].concat());
    // Its version, 32 random bytes and no session; one cipher suite, and no compression.
    let hello = [&[3, 2][..], &[7; 32], &[0], &[0, 2, 0, 0x2f], &[1, 0], &extensions].concat();
    let message = [&[1, 0][..], &list(&hello)].concat();
    [&[22, 3, 1][..], &list(&message)].concat()
}

/// The same of one that shows a certificate, and speaks HTTP/1.1.
pub fn client_config_showing(pair: &Pair) -> Arc<ClientConfig> {
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
    let chain = chain.collect::<Result<_, _>>().expect("a chain in PEM");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key in PEM");
    Arc::new(offering().with_client_auth_cert(chain, key).expect("a pair"))
}

fn offering() -> ConfigBuilder<ClientConfig, WantsClientCert> {
    offering_versions(ALL_VERSIONS)
}

fn offering_versions(
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("the provider supports TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(aws_lc_rs::default_provider())))
}

/// A TLS connection over one TCP connection.
pub struct Tls(pub StreamOwned<ClientConnection, TcpStream>);

impl Tls {
    /// Connects and completes the handshake; an error says how far it came.
    pub fn connect(addr: SocketAddr, sni: &str, alpn: &[&str]) -> std::io::Result<Self> {
        Self::connect_with(client_config(alpn), addr, sni)
    }

    /// Connects with a configuration of its own, which remembers session tickets.
    pub fn connect_with(
        config: Arc<ClientConfig>,
        addr: SocketAddr,
        sni: &str,
    ) -> std::io::Result<Self> {
        Self::with(config, dial(addr), sni)
    }

    /// Completes the handshake on a connection that is open.
    pub fn over(wire: TcpStream, sni: &str, alpn: &[&str]) -> std::io::Result<Self> {
        Self::with(client_config(alpn), wire, sni)
    }

    fn with(config: Arc<ClientConfig>, wire: TcpStream, sni: &str) -> std::io::Result<Self> {
        let name = ServerName::try_from(sni.to_owned()).expect("a valid server name");
        let connection = ClientConnection::new(config, name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, wire);
        stream.sock.set_read_timeout(Some(wait::LIMIT))?;
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(stream))
    }

    /// Whether the handshake took up an earlier session by its ticket.
    pub fn resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The leaf certificate that the server showed.
    pub fn peer(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().and_then(|c| c.first()).map_or(vec![], |c| c.to_vec())
    }

    /// The protocol agreed by ALPN.
    pub fn alpn(&self) -> Option<String> {
        self.0.conn.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned())
    }
}

impl Read for Tls {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buf) {
            // A close without close_notify: to these tests an end like any other.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }
}

impl Write for Tls {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Wire for Tls {
    fn socket(&self) -> &TcpStream {
        &self.0.sock
    }
}

#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
