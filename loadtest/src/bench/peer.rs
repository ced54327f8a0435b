//! The servers that are compared: where their programs are, how they are started and what version they
//! are. What they are told to do is in [`config`]. Used by [`super`]; a peer ends when it is dropped.

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use gatehouse_testbed::{
    ports,
    process::{Process, find_program},
};
use serde::Serialize;

use super::config::{self, Site};

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// This project.
    Gatehouse,
    /// nginx, the measure that others are compared with.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Envoy.
    Envoy,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Gatehouse => "gatehouse",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
        })
    }
}

/// A running peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) process: Process,
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
}

impl Peer {
    /// Writes the configuration for `site` and starts the server. It may not answer yet.
    pub(super) fn start(
        kind: Kind,
        site: &Site,
        gatehouse: &Path,
        tools: &Path,
    ) -> anyhow::Result<Self> {
        let [http, https, admin] = ports::free()?;
        let program = program(kind, gatehouse, tools)?;
        let arguments: Vec<String> = match kind {
            Kind::Gatehouse => {
                let manifests = site.folder.join("manifests");
                fs::create_dir(&manifests)?;
                fs::write(manifests.join("site.yaml"), config::gatehouse(site))?;
                let state = site.folder.join("state");
                #[rustfmt::skip]
                let arguments = [
                    "run", "--manifests", &text(&manifests), "--state-dir", &text(&state),
                    "--http", &http.to_string(), "--https", &https.to_string(),
                    "--admin", &admin.to_string(), "--threads", "2", "--no-access-log",
                ].map(str::to_owned);
                arguments.to_vec()
            }
            Kind::Nginx => {
                let file = write(site, "nginx.conf", &config::nginx(site, http, https))?;
                ["-p", &text(&site.folder), "-e", "stderr", "-c", &file].map(str::to_owned).to_vec()
            }
            Kind::Haproxy => {
                write(site, "hosts.map", &config::haproxy_map(site))?;
                let file = write(site, "haproxy.cfg", &config::haproxy(site, http, https))?;
                vec!["-db".to_owned(), "-f".to_owned(), file]
            }
            Kind::Envoy => {
                let file =
                    write(site, "envoy.json", &config::envoy(site, http, https).to_string())?;
                #[rustfmt::skip]
                let arguments = [
                    "-c", &file, "--concurrency", "2", "--disable-hot-restart", "--log-level", "error",
                ].map(str::to_owned);
                arguments.to_vec()
            }
        };
        let log = site.folder.join("log");
        let process = Process::start(&kind.to_string(), &program, arguments, Some(&log))?;
        Ok(Self { process, http, https })
    }
}

/// The first line of what the server says about its version.
pub(super) fn version(kind: Kind, gatehouse: &Path, tools: &Path) -> String {
    let flag = match kind {
        Kind::Gatehouse | Kind::Envoy => "--version",
        Kind::Nginx | Kind::Haproxy => "-v",
    };
    let output = program(kind, gatehouse, tools)
        .and_then(|program| Ok(Command::new(program).arg(flag).output()?));
    let Ok(output) = output else { return format!("{kind}, version unknown") };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let line = text.lines().next().unwrap_or_default();
    match kind {
        // `…/envoy  version: HASH/1.40.0/Clean/RELEASE/BoringSSL`
        Kind::Envoy => format!("Envoy {}", line.split('/').rev().nth(3).unwrap_or(line)),
        Kind::Nginx => line.replace("nginx version: ", "").replace('/', " "),
        Kind::Haproxy => line.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
        Kind::Gatehouse => line.to_owned(),
    }
    .replace("HAProxy version", "HAProxy")
}

fn program(kind: Kind, gatehouse: &Path, tools: &Path) -> anyhow::Result<PathBuf> {
    let (name, found) = match kind {
        Kind::Gatehouse => ("gatehouse", gatehouse.is_file().then(|| gatehouse.to_owned())),
        Kind::Nginx => ("nginx", find_program("nginx")),
        Kind::Haproxy => ("haproxy", find_program("haproxy")),
        Kind::Envoy => {
            let bundled = tools.join("envoy/envoy/_bin/envoy");
            ("envoy", bundled.is_file().then_some(bundled).or_else(|| find_program("envoy")))
        }
    };
    let Some(program) = found else {
        bail!("no program `{name}`; `make bench` installs it, --peers leaves it out");
    };
    fs::canonicalize(&program).with_context(|| format!("program {}", program.display()))
}

fn write(site: &Site, name: &str, content: &str) -> anyhow::Result<String> {
    let file = site.folder.join(name);
    fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(text(&file))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
