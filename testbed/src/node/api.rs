//! Questions to the API server, over one connection that is made anew when it breaks.
//!
//! Used by the node agent. JSON over HTTP/1.1 with a client certificate; nothing is watched.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{net::TcpStream, runtime::Runtime, time::timeout};
use tokio_rustls::TlsConnector;

/// Longest time for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the API server is, and what to show it.
#[derive(Debug, Clone, clap::Args)]
pub struct Access {
    /// The API server: `https://10.77.0.1:6443`.
    #[arg(long, value_name = "URL")]
    pub server: Uri,
    /// Certificates of authorities to trust, PEM.
    #[arg(long, value_name = "FILE")]
    pub authority: PathBuf,
    /// The node's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

impl Access {
    /// The API server's name or address, without the brackets that a URL has around IPv6.
    pub(super) fn host(&self) -> anyhow::Result<&str> {
        let host = self.server.host().context("no host in --server")?;
        Ok(host.trim_matches(['[', ']']))
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        self.server.port_u16().unwrap_or(443)
    }
}

/// How the body of a change is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// A whole object.
    Create,
    /// Members of objects are set; lists are replaced in whole.
    Merge,
    /// An object's end.
    Delete,
}

/// A client of its own; blocks.
pub(super) struct Api {
    runtime: Runtime,
    connector: TlsConnector,
    host: String,
    port: u16,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Api {
    /// Reads the credentials; asks nothing yet.
    pub(super) fn new(access: &Access) -> anyhow::Result<Self> {
        let read = |file: &PathBuf| {
            fs::read(file).with_context(|| format!("cannot read {}", file.display()))
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&read(&access.authority)?) {
            roots.add(certificate?)?;
        }
        let certificate = CertificateDer::from_pem_slice(&read(&access.certificate)?)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&access.key)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            connector: TlsConnector::from(Arc::new(config)),
            host: access.host()?.to_owned(),
            port: access.port(),
            sender: None,
        })
    }

    /// An object or a list; none when it does not exist.
    pub(super) fn get<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<Option<T>> {
        let request = Request::get(path).body(Full::default())?;
        let (status, body) = self.ask(request)?;
        match status {
            200 => Ok(Some(serde_json::from_slice(&body).with_context(|| path.to_owned())?)),
            404 => Ok(None),
            _ => bail!("GET {path}: {status} {}", String::from_utf8_lossy(&body)),
        }
    }

    /// Changes something; what the answer holds. None when the object is gone or, to be created, is there.
    pub(super) fn send(
        &mut self,
        change: Change,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Option<Value>> {
        let (method, content) = match change {
            Change::Create => (Method::POST, "application/json"),
            Change::Merge => (Method::PATCH, "application/merge-patch+json"),
            Change::Delete => (Method::DELETE, "application/json"),
        };
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(header::CONTENT_TYPE, content)
            .body(Full::from(serde_json::to_vec(body)?))?;
        let (status, body) = self.ask(request)?;
        match status {
            200..=202 => Ok(Some(serde_json::from_slice(&body)?)),
            404 | 409 => Ok(None),
            _ => bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&body)),
        }
    }

    fn ask(&mut self, mut request: Request<Full<Bytes>>) -> anyhow::Result<(u16, Bytes)> {
        let host = match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        };
        request.headers_mut().insert(header::HOST, host.parse()?);
        let Self { runtime, connector, host, port, sender } = self;
        let asked = async {
            let mut connection = match sender.take().filter(|sender| !sender.is_closed()) {
                Some(connection) => connection,
                None => connect(connector, host, *port).await?,
            };
            let answer = connection.send_request(request).await?;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await?.to_bytes();
            *sender = Some(connection);
            anyhow::Ok((status, body))
        };
        let answer = runtime.block_on(async { timeout(PATIENCE, asked).await });
        answer.context("no answer from the API server in time")?
    }
}

async fn connect(
    connector: &TlsConnector,
    host: &str,
    port: u16,
) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let stream = connector.connect(ServerName::try_from(host.to_owned())?, stream).await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the runtime, or when the server closes it.
    drop(tokio::spawn(connection));
    Ok(sender)
}
