//! The echo backend: `gatehouse-loadtest echo`.
//!
//! Owns the listening sockets and the accept loops; what a request gets is decided in `answer`.
//! It is the backend behind `make run`, the tests and the benchmark, so the plain path (no query,
//! no body) stays cheap: one runtime per thread, sockets shared by `SO_REUSEPORT`, no locks. It
//! must never be reachable from outside: it sleeps and sends bytes for whoever asks. Beside HTTP/1.1 in clear
//! text it speaks the same over TLS, and gRPC, on addresses of their own.

mod answer;
mod body;
mod grpc;
mod websocket;

use std::{
    cell::RefCell,
    convert::Infallible,
    net::{SocketAddr, TcpListener as StdListener},
    path::{Path, PathBuf},
    rc::Rc,
    str::FromStr,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    runtime,
    task::LocalSet,
};
use tokio_rustls::TlsAcceptor;

use answer::Identity;

/// Pending connections per socket: as many as a connection-per-request run opens in one burst.
const BACKLOG: i32 = 4096;

/// How long an accept loop rests after an error such as `EMFILE`.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);

/// Flags of `gatehouse-loadtest echo`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Address to listen on.
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Service name that answers carry.
    #[arg(long, value_name = "NAME")]
    pub service: String,
    /// Endpoint name that answers carry; the listening address by default.
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,
    /// A further address and the service it stands for; may repeat.
    #[arg(long, value_name = "ADDR=SERVICE")]
    pub also: Vec<Listener>,
    /// An address where the same is spoken over TLS, and its service; may repeat.
    #[arg(long, value_name = "ADDR=SERVICE", requires = "certificate")]
    pub tls: Vec<Listener>,
    /// PEM file with the certificate and the key for it.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// An address where gRPC is spoken in clear text, and its service; may repeat.
    #[arg(long, value_name = "ADDR=SERVICE")]
    pub grpc: Vec<Listener>,
    /// Threads; one per core by default.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// One address of the echo backend and who answers there.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The service it says it is.
    pub service: String,
    /// The endpoint it says it is.
    pub endpoint: String,
}

impl FromStr for Listener {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((address, service)) = text.split_once('=') else {
            bail!("`{text}` is not ADDR=SERVICE, for example 127.0.0.1:9002=beta");
        };
        let address: SocketAddr =
            address.parse().with_context(|| format!("`{address}` is not an IP:PORT address"))?;
        Ok(Self { address, service: service.to_owned(), endpoint: address.to_string() })
    }
}

/// What is spoken on an address.
#[derive(Clone)]
enum Protocols {
    Http1,
    Http1OverTls(TlsAcceptor),
    Grpc,
}

/// Serves all addresses until the process ends.
pub fn run(options: Options) -> anyhow::Result<()> {
    let endpoint = options.endpoint.unwrap_or_else(|| options.listen.to_string());
    let mut listeners =
        vec![Listener { address: options.listen, service: options.service, endpoint }];
    listeners.extend(options.also);
    let mut speaking: Vec<_> =
        listeners.into_iter().map(|listener| (listener, Protocols::Http1)).collect();
    if let Some(certificate) = &options.certificate {
        let tls = Protocols::Http1OverTls(acceptor(certificate)?);
        speaking.extend(options.tls.into_iter().map(|listener| (listener, tls.clone())));
    }
    speaking.extend(options.grpc.into_iter().map(|listener| (listener, Protocols::Grpc)));
    let threads = options.threads.unwrap_or_else(cores).max(1);
    let workers = spawn_speaking(&speaking, threads)?;
    for worker in workers {
        // A worker only returns when its runtime could not be built.
        if worker.join().is_err() {
            bail!("an echo thread ended unexpectedly");
        }
    }
    Ok(())
}

/// Starts the threads; every address accepts connections when this returns, in the network namespace of
/// the calling thread. An error when an address cannot be listened on.
pub fn spawn(
    listeners: &[Listener],
    threads: usize,
) -> anyhow::Result<Vec<thread::JoinHandle<()>>> {
    let speaking: Vec<_> =
        listeners.iter().map(|listener| (listener.clone(), Protocols::Http1)).collect();
    spawn_speaking(&speaking, threads)
}

fn spawn_speaking(
    listeners: &[(Listener, Protocols)],
    threads: usize,
) -> anyhow::Result<Vec<thread::JoinHandle<()>>> {
    let mut workers = Vec::with_capacity(threads);
    for core in 0..threads {
        let mut sockets = Vec::with_capacity(listeners.len());
        for (listener, protocols) in listeners {
            sockets.push((listen(listener.address)?, listener.clone(), protocols.clone()));
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = thread::Builder::new().name(format!("echo-{core}")).spawn(move || {
            LocalSet::new().block_on(&runtime, accept_all(sockets));
        })?;
        workers.push(worker);
    }
    Ok(workers)
}

/// One core's share: an accept loop per address, all on this thread.
async fn accept_all(sockets: Vec<(StdListener, Listener, Protocols)>) {
    let mut loops = Vec::with_capacity(sockets.len());
    for (socket, listener, protocols) in sockets {
        loops.push(tokio::task::spawn_local(accept(socket, listener, protocols)));
    }
    for accepting in loops {
        if let Ok(Err(error)) = accepting.await {
            eprintln!("echo: {error:#}");
        }
    }
}

async fn accept(socket: StdListener, of: Listener, protocols: Protocols) -> anyhow::Result<()> {
    let address = of.address;
    let listener =
        TcpListener::from_std(socket).with_context(|| format!("cannot serve {address}"))?;
    let identity = Rc::new(Identity::new(of.service, of.endpoint));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_BACKOFF).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (identity, protocols) = (Rc::clone(&identity), protocols.clone());
        tokio::task::spawn_local(async move {
            match protocols {
                Protocols::Http1 => serve_http1(stream, identity).await,
                Protocols::Http1OverTls(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve_http1(stream, identity).await;
                    }
                }
                Protocols::Grpc => grpc::serve(stream).await,
            }
        });
    }
}

async fn serve_http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    identity: Rc<Identity>,
) {
    // The line buffer is shared by all requests of a connection, one at a time.
    let line = Rc::new(RefCell::new(String::with_capacity(256)));
    let service = service_fn(|request| {
        let (identity, line) = (Rc::clone(&identity), Rc::clone(&line));
        async move { Ok::<_, Infallible>(answer::answer(&identity, &line, request).await) }
    });
    // A client that goes away is the normal end of a connection.
    let _ =
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

/// TLS with the certificate and the key of a PEM file.
fn acceptor(file: &Path) -> anyhow::Result<TlsAcceptor> {
    let read = || -> anyhow::Result<ServerConfig> {
        let chain = CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(file)?;
        Ok(ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?)
    };
    let config = read().with_context(|| format!("certificate and key in {}", file.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn listen(address: SocketAddr) -> anyhow::Result<StdListener> {
    let open = || -> std::io::Result<StdListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().with_context(|| format!("cannot listen on {address}"))
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests;
