//! What each peer is told, in its own language: the same job for all.
//!
//! HTTP and HTTPS (TLS 1.2 and 1.3, HTTP/2 by ALPN) on loopback, every host to its service, ten services,
//! keep-alive to the backend, `X-Forwarded-*`, `X-Real-IP` and `X-Request-ID` added, two threads, no
//! access log. All else is the server's default, but for limits that would end a connection or a burst
//! in the middle of a run. HAProxy as the server of OpenShift's Routes is in [`router`].

mod envoy;
mod gatehouse;
mod haproxy;
mod nginx;
mod router;

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use gatehouse_testbed::certificate::Certificate;

use super::{
    kind::Kind,
    setup::{Serves, Setup},
};

/// Services that the hosts are spread over.
const SERVICES: usize = 10;

/// Idle connections to the backend that a peer may keep per thread and service.
const IDLE_UPSTREAM: usize = 256;

/// The backend's addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backends {
    pub(super) http: SocketAddr,
    /// The same again, as a second endpoint.
    pub(super) http_too: SocketAddr,
    pub(super) tls: SocketAddr,
    pub(super) grpc: SocketAddr,
    /// Says who may pass.
    pub(super) auth: SocketAddr,
}

/// What a peer is to serve.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) setup: &'static Setup,
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) admin: SocketAddr,
    /// Of the TCP port that is passed on.
    pub(super) tcp: SocketAddr,
    pub(super) backends: Backends,
    pub(super) certificate: Certificate,
    /// The peer's own folder, for configuration and log.
    pub(super) folder: PathBuf,
}

impl Site {
    /// Writes what a peer reads and returns its arguments.
    pub(super) fn write(&self, kind: Kind) -> anyhow::Result<Vec<String>> {
        if let Serves::Hosts { feature, .. } = self.setup.serves {
            for (name, content) in feature.files {
                self.write_file(name, content)?;
            }
        }
        let arguments = match kind {
            Kind::Gatehouse => {
                fs::create_dir(self.folder.join("manifests"))?;
                self.write_file("manifests/site.yaml", &gatehouse::manifests(self))?;
                let path = |name| self.folder.join(name).to_string_lossy().into_owned();
                #[rustfmt::skip]
                let arguments = [
                    "run", "--manifests", &path("manifests"), "--state-dir", &path("state"),
                    "--http", &self.http.to_string(), "--https", &self.https.to_string(),
                    "--admin", &self.admin.to_string(), "--threads", "2", "--no-access-log",
                ].map(str::to_owned);
                arguments.to_vec()
            }
            Kind::Nginx => {
                let file = self.write_file("nginx.conf", &nginx::configuration(self))?;
                let folder = self.folder.to_string_lossy();
                ["-p", &folder, "-e", "stderr", "-c", &file].map(str::to_owned).to_vec()
            }
            Kind::Haproxy => {
                let text = match self.setup.serves {
                    Serves::Routes { clear } => router::configuration(self, clear)?,
                    _ => haproxy::configuration(self)?,
                };
                let file = self.write_file("haproxy.cfg", &text)?;
                vec!["-db".to_owned(), "-f".to_owned(), file]
            }
            Kind::Envoy => {
                let file = self.write_file("envoy.json", &envoy::bootstrap(self).to_string())?;
                #[rustfmt::skip]
                let arguments = [
                    "-c", &file, "--concurrency", "2", "--disable-hot-restart", "--log-level", "error",
                ].map(str::to_owned);
                arguments.to_vec()
            }
        };
        Ok(arguments)
    }

    /// Names of the hosts of Ingresses.
    fn hosts(&self) -> Vec<String> {
        match self.setup.serves {
            Serves::Hosts { count: 1, .. } => vec![super::scenario::HOST.to_owned()],
            Serves::Hosts { count, .. } => (0..count).map(super::setup::host_name).collect(),
            Serves::Routes { .. } | Serves::Tcp => Vec::new(),
        }
    }

    /// Where services of hosts are.
    fn endpoint(&self) -> SocketAddr {
        match self.setup.serves {
            Serves::Hosts { feature, .. } if feature.grpc => self.backends.grpc,
            _ => self.backends.http,
        }
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{auth}", &self.backends.auth.to_string())
            .replace("{folder}", &self.folder.to_string_lossy())
    }

    fn write_file(&self, name: &str, content: &str) -> anyhow::Result<String> {
        let file = self.folder.join(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file.to_string_lossy().into_owned())
    }
}

fn service_of(number: usize) -> String {
    format!("service-{}", number % SERVICES)
}
