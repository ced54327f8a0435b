//! Backends that speak TLS, HTTP/2 or both, and say in their answers how they were spoken to.
//!
//! An answer is one line, `sni=… client=… alpn=… connection=… host=… path=…`. Over HTTP/2 some paths do other things: see
//! [`Secure`].

#![allow(clippy::unwrap_used, reason = "a bed that cannot be made fails its test")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytes::Bytes;
use h2::{Reason, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

use crate::gatehouse::tls::Pair;

/// Names of the trailers that a request had.
const HEARD: http::HeaderName = http::HeaderName::from_static("heard");

/// A running backend.
///
/// Over HTTP/2, `/echo` sends the body back as it comes and ends with the trailers `grpc-status: 0` and, if there were
/// any, `got` with that of the request, in `heard` the names of all it had; `/only` answers without a body; `/refuse` is refused the first time it is
/// asked for, `/reset` broken off within its body, `/old` taken over HTTP/1.1 alone; after `/leave` the connection takes no more requests.
pub struct Secure {
    /// Where it listens.
    pub addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    _stop: oneshot::Sender<()>,
}

/// What is known of a connection.
#[derive(Clone)]
struct Facts {
    number: usize,
    text: String,
    refused: Arc<AtomicUsize>,
}

impl Secure {
    /// Shows this certificate, and asks for one of the client. `alpn`: what it speaks.
    pub fn tls(pair: &Pair, alpn: &[&str]) -> Self {
        Self::asking(pair, alpn, false)
    }

    /// Shows this certificate, and serves no client that shows none.
    pub fn demanding(pair: &Pair) -> Self {
        Self::asking(pair, &[], true)
    }

    fn asking(pair: &Pair, alpn: &[&str], mandatory: bool) -> Self {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyClient { mandatory }))
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self::start(Some(TlsAcceptor::from(Arc::new(config))))
    }

    /// Speaks HTTP/2 in clear text.
    pub fn h2c() -> Self {
        Self::start(None)
    }

    /// Connections since the start.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn start(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let (stop, stopped) = oneshot::channel();
        let counter = Arc::clone(&connections);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, acceptor, counter) => (),
                    _ = stopped => (),
                }
            });
        });
        Self { addr, connections, _stop: stop }
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, counter: Arc<AtomicUsize>) {
    let refused = Arc::<AtomicUsize>::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, refused) = (acceptor.clone(), Arc::clone(&refused));
        let number = counter.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            drop(stream.set_nodelay(true));
            drop(serve(stream, acceptor, number, refused).await);
        });
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    number: usize,
    refused: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let Some(acceptor) = acceptor else {
        let text = "sni=- client=- alpn=-".to_owned();
        serve_http2(stream, Facts { number, text, refused }).await;
        return Ok(());
    };
    let stream = acceptor.accept(stream).await?;
    let session = stream.get_ref().1;
    let alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let client = session.peer_certificates().map_or("-", |_| "certificate");
    let name = session.server_name().unwrap_or("-");
    let text = format!("sni={name} client={client} alpn={}", alpn.as_deref().unwrap_or("-"));
    let facts = Facts { number, text, refused };
    if alpn.as_deref() == Some("h2") {
        serve_http2(stream, facts).await;
        return Ok(());
    }
    serve_http1(stream, &facts).await
}

/// Requests one after the other. A body comes in chunks, and is sent back as it came.
async fn serve_http1<S>(mut stream: S, facts: &Facts) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        head.clear();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let host = text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let mut body = Vec::new();
        while text.contains("transfer-encoding: chunked") && !body.ends_with(b"\r\n0\r\n\r\n") {
            body.push(stream.read_u8().await?);
        }
        let upgrades = text.contains("upgrade: websocket");
        let body = format!("{}{}", facts.line(host, path), String::from_utf8_lossy(&body));
        let answer = match upgrades {
            true => {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: \
                 websocket\r\n\r\n"
                    .to_owned()
                    + &body
            }
            false => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
        if upgrades {
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::io::copy(&mut read, &mut write).await?;
            return Ok(());
        }
    }
}

async fn serve_http2<S>(stream: S, facts: Facts)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        if request.uri().path() == "/leave" {
            connection.graceful_shutdown();
        }
        let facts = facts.clone();
        tokio::spawn(async move {
            drop(answer(request, respond, &facts).await);
        });
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    facts: &Facts,
) -> Result<(), h2::Error> {
    let path = request.uri().path().to_owned();
    let response = || Response::builder().header("content-type", "application/grpc").body(());
    match &*path {
        "/echo" => {
            let mut body = request.into_body();
            let mut send = respond.send_response(response().unwrap(), false)?;
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                send.send_data(data, false)?;
            }
            let mut trailers = HeaderMap::new();
            let heard = body.trailers().await?.unwrap_or_default();
            if let Some(got) = heard.get("sent") {
                trailers.insert("got", got.clone());
            }
            let names: Vec<_> = heard.keys().map(http::HeaderName::as_str).collect();
            trailers.extend(HeaderValue::from_str(&names.join(" ")).map(|it| (HEARD, it)));
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            send.send_trailers(trailers)
        }
        "/only" => {
            let mut response = response().unwrap();
            response.headers_mut().insert("grpc-status", HeaderValue::from_static("5"));
            respond.send_response(response, true).map(drop)
        }
        "/refuse" if facts.refused.fetch_add(1, Ordering::Relaxed) == 0 => {
            respond.send_reset(Reason::REFUSED_STREAM);
            Ok(())
        }
        "/old" => {
            respond.send_reset(Reason::HTTP_1_1_REQUIRED);
            Ok(())
        }
        "/reset" => {
            let mut send = respond.send_response(response().unwrap(), false)?;
            send.send_data(Bytes::from_static(b"part"), false)?;
            tokio::task::yield_now().await;
            send.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        _ => {
            let host = request.uri().authority().map(|host| host.to_string()).unwrap_or_default();
            let body = facts.line(&host, &path);
            let mut send = respond.send_response(Response::new(()), false)?;
            send.send_data(Bytes::from(body), true)
        }
    }
}

impl Facts {
    fn line(&self, host: &str, path: &str) -> String {
        format!("{} connection={} host={host} path={path}\n", self.text, self.number)
    }
}

/// Takes any certificate of a client and, where that is not mandatory, none.
#[derive(Debug)]
struct AnyClient {
    mandatory: bool,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
