//! A small HTTP/1.1 client: one request per connection, over TCP or TLS.
//!
//! Used to verify answers before measuring, and as the load for the two connection-per-request
//! scenarios. wrk cannot be used there: it starts its clock after the connection stands and resumes
//! TLS sessions, so it would measure neither the set-up nor a full handshake.

use std::{
    cell::RefCell,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustls::{ClientConfig, RootCertStore, client::Resumption, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net, runtime,
    task::LocalSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::certificate::Certificate;

/// Longest time for one request, connection set-up included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What to ask for, and where.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where to connect to.
    pub address: SocketAddr,
    /// Host header, and server name over TLS.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// The certificate to trust; none for plain HTTP.
    pub tls: Option<Certificate>,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Status line and fields, in lower case.
    pub head: String,
    /// Body, without the head.
    pub body: Vec<u8>,
}

/// What a load run did.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Requests that were answered with a 2xx status.
    pub good: u64,
    /// Requests that were not: another status, a broken connection, a time-out.
    pub bad: u64,
    /// Length of the run.
    pub elapsed: Duration,
    /// Median latency.
    pub p50: Duration,
    /// 99th percentile of the latency.
    pub p99: Duration,
}

/// Asks once; an error when the answer is not there within `limit`.
pub fn get(target: &Target, limit: Duration) -> anyhow::Result<Answer> {
    get_with(target, &[], limit)
}

/// As [`get`], with further fields in the request.
pub fn get_with(
    target: &Target,
    fields: &[(&str, &str)],
    limit: Duration,
) -> anyhow::Result<Answer> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::new(target, fields)?;
    let mut buffer = Vec::new();
    runtime.block_on(client.ask(&mut buffer, limit))?;
    parse(&buffer).with_context(|| format!("answer of {}", target.address))
}

/// A connection that has had one answer and stays open. Plain TCP only.
pub fn open(target: &Target, limit: Duration) -> anyhow::Result<TcpStream> {
    let Target { address, host, path, .. } = target;
    let mut stream = TcpStream::connect_timeout(address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer)? {
            0 => bail!("{address} closed a connection that was to stay open"),
            read => answer.extend_from_slice(&buffer[..read]),
        }
        if let Ok(Answer { status: 200, .. }) = parse(&answer) {
            return Ok(stream);
        }
    }
}

/// Opens a connection for every request, `concurrency` at a time, for `duration`. TLS handshakes are
/// full ones (no resumption, X25519); latency counts from before the connection until the answer's end.
pub fn connect_storm(
    target: &Target,
    concurrency: usize,
    duration: Duration,
) -> anyhow::Result<Load> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Rc::new(Client::new(target, &[])?);
    let latencies = Rc::new(RefCell::new(Vec::<u32>::with_capacity(1 << 18)));
    let started = Instant::now();
    let bad = LocalSet::new().block_on(&runtime, async {
        let mut clients = Vec::with_capacity(concurrency);
        for _ in 0..concurrency {
            let (client, latencies) = (Rc::clone(&client), Rc::clone(&latencies));
            clients.push(tokio::task::spawn_local(async move {
                let (mut bad, mut buffer) = (0, Vec::with_capacity(4096));
                while started.elapsed() < duration {
                    buffer.clear();
                    let asked = Instant::now();
                    let result = client.ask(&mut buffer, REQUEST_TIMEOUT).await;
                    if result.is_ok() && buffer.starts_with(b"HTTP/1.1 200") {
                        let micros = u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX);
                        latencies.borrow_mut().push(micros);
                    } else {
                        bad += 1;
                        // A refusing server is not to be asked in a busy loop.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                bad
            }));
        }
        let mut bad = 0;
        for client in clients {
            bad += client.await.unwrap_or(1);
        }
        bad
    });
    let elapsed = started.elapsed();
    let mut latencies = latencies.take();
    Ok(Load {
        good: latencies.len() as u64,
        bad,
        elapsed,
        p50: percentile(&mut latencies, 50),
        p99: percentile(&mut latencies, 99),
    })
}

/// The given percentile of latencies in microseconds; zero when there are none.
pub fn percentile(latencies: &mut [u32], percent: usize) -> Duration {
    if latencies.is_empty() {
        return Duration::ZERO;
    }
    let at = (latencies.len() * percent / 100).min(latencies.len() - 1);
    let (_, value, _) = latencies.select_nth_unstable(at);
    Duration::from_micros(u64::from(*value))
}

/// A target made ready for many requests.
struct Client {
    address: SocketAddr,
    request: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Client {
    fn new(target: &Target, fields: &[(&str, &str)]) -> anyhow::Result<Self> {
        let Target { address, host, path, tls } = target;
        let fields: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n{fields}\r\n"
        );
        let tls = match tls {
            None => None,
            Some(certificate) => {
                let name = ServerName::try_from(host.clone())
                    .with_context(|| format!("host `{host}` is no server name"))?;
                Some((connector(certificate)?, name))
            }
        };
        Ok(Self { address: *address, request, tls })
    }

    /// One connection, one request, the whole answer in `buffer`.
    async fn ask(&self, buffer: &mut Vec<u8>, limit: Duration) -> anyhow::Result<()> {
        timeout(limit, async {
            let stream = net::TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            match &self.tls {
                None => exchange(stream, &self.request, buffer).await,
                Some((connector, name)) => {
                    let stream = connector.connect(name.clone(), stream).await?;
                    exchange(stream, &self.request, buffer).await
                }
            }
        })
        .await
        .with_context(|| format!("no answer from {} in time", self.address))?
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<()> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    // Some servers close TLS without a close_notify; whether the answer is whole, its length tells.
    let read = stream.read_to_end(buffer).await;
    if buffer.is_empty() {
        read?;
        bail!("the connection was closed without an answer");
    }
    Ok(())
}

fn connector(certificate: &Certificate) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.authority.clone())?;
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // One group that every peer knows, so that all do the same work in one round trip.
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes an answer apart and checks that its body is as long as its head says.
fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        bail!("no whole head in {} bytes", bytes.len());
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let Some(status) = status else { bail!("no status in `{head}`") };
    let body = bytes[end + 4..].to_vec();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    if let Some(length) = length.and_then(|length| length.trim().parse::<usize>().ok())
        && length != body.len()
    {
        bail!("a body of {} bytes where {length} were announced", body.len());
    }
    Ok(Answer { status, head, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_short_body_is_an_error() {
        let whole = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
        let answer = parse(whole).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (404, b"no".as_slice()));
        let error = parse(&whole[..whole.len() - 1]).unwrap_err().to_string();
        assert_eq!(error, "a body of 1 bytes where 2 were announced");
        assert!(parse(b"HTTP/1.1 200").is_err());
    }

    #[test]
    fn percentiles_are_taken_from_the_sorted_latencies() {
        let mut latencies: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut latencies, 50), Duration::from_micros(51));
        assert_eq!(percentile(&mut latencies, 99), Duration::from_micros(100));
        assert_eq!(percentile(&mut [], 99), Duration::ZERO);
    }
}
