//! The logs of containers, for `kubectl logs`: `/containerLogs/NAMESPACE/POD/CONTAINER` by HTTPS.
//!
//! The API server asks here on behalf of those that it lets read logs. It checks no certificate, and neither do
//! we: only the hosts of a test reach this port.

use std::{convert::Infallible, fs, net::SocketAddr, sync::Arc, thread};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{net::TcpListener, runtime, task::LocalSet};
use tokio_rustls::TlsAcceptor;

use super::Site;

/// Serves logs on a thread of its own, until the process ends.
pub(super) fn serve(site: Arc<Site>, port: u16) -> anyhow::Result<()> {
    let address = SocketAddr::from((site.address, port));
    let listener = std::net::TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    let acceptor = acceptor(&site)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        let accept = accept(listener, acceptor, site);
        if let Err(error) = LocalSet::new().block_on(&runtime, accept) {
            eprintln!("logs are no longer served: {error:#}");
        }
    });
    Ok(())
}

async fn accept(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    site: Arc<Site>,
) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, site) = (acceptor.clone(), Arc::clone(&site));
        tokio::task::spawn_local(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(&site, request.uri().path(), request.uri().query());
                async { Ok::<_, Infallible>(answer) }
            });
            // A client that goes away early is none of our concern.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(site: &Site, path: &str, query: Option<&str>) -> Response<Full<Bytes>> {
    let words: Vec<&str> = path.split('/').collect();
    let text = match words[..] {
        ["", "containerLogs", namespace, pod, container] => {
            fs::read_to_string(site.log(namespace, pod, container)).ok()
        }
        _ => None,
    };
    let Some(text) = text else {
        let mut response = Response::new(Full::from("no such log\n"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let tail = query.into_iter().flat_map(|query| query.split('&'));
    let tail = tail.filter_map(|word| word.strip_prefix("tailLines=")?.parse().ok()).next();
    Response::new(Full::from(last_lines(&text, tail).to_owned()))
}

/// The end of a text; all of it without a number of lines.
fn last_lines(text: &str, lines: Option<usize>) -> &str {
    let Some(lines) = lines else { return text };
    let starts = text.char_indices().filter(|(at, c)| *c == '\n' && at + 1 < text.len());
    let mut starts: Vec<usize> = starts.map(|(at, _)| at + 1).collect();
    starts.insert(0, 0);
    let at = starts.len().saturating_sub(lines);
    starts.get(at).map_or("", |start| &text[*start..])
}

fn acceptor(site: &Site) -> anyhow::Result<TlsAcceptor> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([site.address.to_string()])?.self_signed(&key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn the_end_of_a_log_is_as_many_lines_as_asked_for() {
        let text = "one\ntwo\nthree\n";
        assert_eq!(last_lines(text, None), text);
        assert_eq!(last_lines(text, Some(2)), "two\nthree\n");
        assert_eq!(last_lines(text, Some(9)), text);
        assert_eq!(last_lines(text, Some(0)), "");
    }
}
