//! The thread that asks for keys: a GET, over TLS where the URL says so, to an address that backends may have, too.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gatehouse_routes::{endpoints, filter::authentication::jwt::KeyUrl, model::EndpointSet};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc::UnboundedReceiver,
    task::{JoinSet, LocalSet},
};

use super::Job;
use crate::{
    tls::backends::outside,
    tokens::KeySet,
    upstream::{
        interim::{Lookout, UpstreamIo},
        names::resolver::Resolver,
    },
};

/// Longest that an issuer may take, over all.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest that one address may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Addresses of a name that are tried.
const TRIED: usize = 3;
/// Most bytes of a JWK Set.
const LONGEST: usize = 512 * 1024;

/// Starts the thread, which ends with the last sender.
pub(super) fn start(jobs: UnboundedReceiver<Job>, resolver: Resolver) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("issuers".to_owned())
        .spawn(move || LocalSet::new().block_on(&runtime, run(jobs, resolver)))?;
    Ok(())
}

async fn run(mut jobs: UnboundedReceiver<Job>, resolver: Resolver) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            job = jobs.recv() => {
                let Some(Job { issuer, service }) = job else { return };
                let resolver = resolver.clone();
                under_way.spawn_local(async move {
                    let keys = keys(&issuer.url, service.as_deref(), &resolver);
                    let asked = tokio::time::timeout(DEADLINE, keys).await;
                    match asked.unwrap_or_else(|_| Err("it has not answered in time".to_owned())) {
                        Ok(keys) => issuer.learned(keys, Instant::now()),
                        Err(why) => {
                            let url = &issuer.url;
                            tracing::warn!(%url, why, "keys of tokens cannot be had");
                            issuer.failed(Instant::now());
                        }
                    }
                });
            }
            Some(_) = under_way.join_next() => {}
        }
    }
}

/// Asks for the keys at a URL.
async fn keys(
    url: &KeyUrl,
    service: Option<&EndpointSet>,
    resolver: &Resolver,
) -> Result<KeySet, String> {
    let mut why = "its name has no address that may be asked".to_owned();
    for address in addresses(url, service, resolver).await {
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Err(error) => why = format!("{address}: {error}"),
            Ok(stream) if url.secure => {
                let way = outside::way(&url.name.host, url.trust.as_ref())
                    .map_err(|why| why.to_string())?;
                let stream = way.connector.connect(way.name.clone(), stream).await;
                return asked(url, stream.map_err(|error| format!("{address}: {error}"))?).await;
            }
            Ok(stream) => return asked(url, stream).await,
        }
    }
    Err(why)
}

/// Where it is asked: at endpoints of the Service, or at addresses of the name that it leads to.
async fn addresses(
    url: &KeyUrl,
    service: Option<&EndpointSet>,
    resolver: &Resolver,
) -> Vec<SocketAddr> {
    let name = match service.map(|service| (service, service.external.as_ref())) {
        None => &url.name,
        Some((_, Some(name))) => name,
        Some((service, None)) => {
            let endpoints = service.endpoints.iter().map(|endpoint| endpoint.address);
            return fastrand::choose_multiple(endpoints, TRIED);
        }
    };
    let answer = resolver.resolve(&name.host).await;
    let may =
        |ip: &&IpAddr| endpoints::refusal(**ip).is_none() || (name.loopback && ip.is_loopback());
    let allowed = answer.addresses.iter().filter(may).take(TRIED);
    allowed.map(|ip| SocketAddr::new(*ip, name.port)).collect()
}

async fn asked(
    url: &KeyUrl,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> Result<KeySet, String> {
    let text = |error: hyper::Error| error.to_string();
    let lookout = Rc::<Lookout>::default();
    lookout.begin();
    let stream = TokioIo::new(UpstreamIo::new(stream, lookout));
    let (mut sender, connection) = http1::handshake(stream).await.map_err(text)?;
    let driven = tokio::task::spawn_local(connection);
    let request = Request::builder()
        .uri(&*url.target)
        .header(header::HOST, &url.authority)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, HeaderValue::from_static("gatehouse"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(text)?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answers {}", response.status()));
    }
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    driven.abort();
    let keys = KeySet::parse(&String::from_utf8_lossy(&body));
    if keys.is_empty() {
        return Err("its answer has no key that can verify a signature".to_owned());
    }
    Ok(keys)
}
