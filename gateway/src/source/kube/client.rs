//! How this process talks to the API server: which one, as whom, and within which limits.
//!
//! [`Access::connect`] makes a client on the runtime that calls it. Its layers, from
//! the outside in: at most so many requests a second and at a time, reads that failed for the moment are
//! tried again, every request has a time limit, and every answer is counted ([`Requests`]). Tokens and
//! authorities in files are read again at least once a minute, as they rotate (kube does that).

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

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

use crate::regular_file;

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
        let named = || match &self.kubeconfig {
            Some(path) => format!("--kubeconfig {}", path.display()),
            None => "no API server is known: this is no Pod, and the kubeconfig (--kubeconfig, \
                     $KUBECONFIG or ~/.kube/config) cannot be used; --manifests PATH needs none"
                .to_owned(),
        };
        let usual = if self.kubeconfig.is_none() { usual() } else { Vec::new() };
        check_files(self.kubeconfig.iter().chain(&usual)).with_context(named)?;
        let kubeconfig = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let kubeconfig = kubeconfig.with_context(named)?;
        check_files(&files_of(&kubeconfig)).with_context(named)?;
        Config::from_custom_kubeconfig(kubeconfig, &options).await.with_context(named)
    }
}

/// Where kube looks for a kubeconfig that no flag names.
fn usual() -> Vec<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config"));
    match env::var_os("KUBECONFIG") {
        Some(list) => env::split_paths(&list).collect(),
        None => home().into_iter().collect(),
    }
}

/// The files that a kubeconfig names.
fn files_of(kubeconfig: &Kubeconfig) -> Vec<PathBuf> {
    let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let users = kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
    let of_users = users.flat_map(|user| {
        [&user.client_certificate, &user.client_key, &user.token_file].into_iter().flatten()
    });
    let of_clusters = clusters.filter_map(|cluster| cluster.certificate_authority.as_ref());
    of_clusters.chain(of_users).map(PathBuf::from).collect()
}

/// Fails for what kube would wait for, which reads them next: a pipe or a device. What is missing it says itself.
fn check_files<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> anyhow::Result<()> {
    for path in paths.into_iter().filter(|path| !path.as_os_str().is_empty()) {
        match regular_file::check(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| path.display().to_string());
            }
            _ => {}
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::regular_file::tests::make_pipe;

    #[tokio::test]
    async fn a_kubeconfig_that_has_no_end_or_names_such_a_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        make_pipe(&at("pipe"));
        let kubeconfig = |field: &str, of: &str| {
            let (cluster, user) = match of {
                "cluster" => (format!(", {field}: {}", at("pipe").display()), String::new()),
                _ => (String::new(), format!("{field}: {}", at("pipe").display())),
            };
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: a, \
                 user: a}}}}]\nclusters: [{{name: a, cluster: {{server: 'https://127.0.0.1:1'{cluster}}}}}]\nusers: \
                 [{{name: a, user: {{{user}}}}}]\n"
            )
        };
        for (name, text) in [
            ("authority", kubeconfig("certificate-authority", "cluster")),
            ("certificate", kubeconfig("client-certificate", "user")),
            ("key", kubeconfig("client-key", "user")),
            ("token", kubeconfig("tokenFile", "user")),
        ] {
            fs::write(at(name), text).unwrap();
        }
        for name in ["pipe", "authority", "certificate", "key", "token"] {
            let access = Access { kubeconfig: Some(at(name)), context: None };
            let why = access.config().await.map(|_| ()).unwrap_err();
            let why = format!("{why:#}");
            assert!(why.contains("it is no regular file") && why.contains("pipe"), "{name}: {why}");
        }
    }
}
