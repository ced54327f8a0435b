//! How this process talks to the API server: which one, as whom, and within which limits.
//!
//! [`Access::connect`] makes a client for whoever needs one, on the runtime that calls it. Its layers, from
//! the outside in: at most so many requests a second and at a time, reads that failed for the moment are
//! tried again, every request has a time limit, and every answer is counted ([`Requests`]). Tokens and
//! authorities in files are read again at least once a minute, as they rotate (kube does that).

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _},
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{
    BoxError, ServiceBuilder,
    limit::{ConcurrencyLimitLayer, RateLimitLayer},
    retry::RetryLayer,
    timeout::TimeoutLayer,
};

mod requests;
mod retry;

pub use requests::Requests;

/// Requests of watches in one second: starts of watches, lists, single objects.
pub(super) const WATCHES: u64 = 100;
/// Requests that wait for the head of their answer at one time.
const AT_ONCE: usize = 32;
/// Time for the head of an answer.
const HEAD: Duration = Duration::from_secs(30);
/// Time for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest silence on a connection. The API server sends a bookmark on every watch once a minute.
const SILENCE: Duration = Duration::from_secs(100);
/// Silence after which the kernel asks whether the other side is still there, and how often it asks.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(20), Duration::from_secs(5), 3);

/// Which API server, and as whom.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
}

impl Access {
    /// A client that sends at most so many requests a second, counted by `requests`. Its tasks live on the
    /// runtime that this is called on.
    ///
    /// # Errors
    /// There is no usable configuration; whether the API server answers is not asked here.
    pub async fn connect(&self, requests: &Arc<Requests>, rate: u64) -> anyhow::Result<Client> {
        client(self.config().await?, requests, rate)
    }

    /// The flags if there are any, else the Pod's service account, else the usual kubeconfig.
    async fn config(&self) -> anyhow::Result<Config> {
        let explicit = self.kubeconfig.is_some() || self.context.is_some();
        if !explicit && env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
            return Config::incluster().context("the service account of this Pod cannot be used");
        }
        let options = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        match &self.kubeconfig {
            Some(path) => {
                let named = || format!("--kubeconfig {}", path.display());
                // Whoever reads it next would wait for a pipe.
                crate::regular_file::check(path).with_context(named)?;
                let kubeconfig = Kubeconfig::read_from(path).with_context(named)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.with_context(named)
            }
            None => Config::from_kubeconfig(&options).await.context(
                "no API server is known: this is no Pod, and the kubeconfig (--kubeconfig, \
                 $KUBECONFIG or ~/.kube/config) cannot be used; --manifests PATH needs none",
            ),
        }
    }
}

fn client(mut config: Config, requests: &Arc<Requests>, rate: u64) -> anyhow::Result<Client> {
    // The first one counts, and they are all the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    config.apply_debug_overrides();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let (idle, interval, times) = KEEPALIVE;
    tcp.set_keepalive(Some(idle));
    tcp.set_keepalive_interval(Some(interval));
    tcp.set_keepalive_retries(Some(times));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_read_timeout(Some(SILENCE));
    connector.set_write_timeout(Some(HEAD));
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(RateLimitLayer::new(rate, Duration::from_secs(1)))
        .layer(ConcurrencyLimitLayer::new(AT_ONCE))
        .layer(RetryLayer::new(retry::Reads::default()))
        .layer(requests::CountLayer(Arc::clone(requests)))
        .layer(TimeoutLayer::new(HEAD))
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}
