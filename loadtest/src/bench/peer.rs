//! The servers that are compared: where their programs are, how they are started and what version they
//! are. What they are told to do is in [`config`](super::config). Used by [`super`]; a peer ends when it is dropped.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use super::{config::Site, kind::Kind, setup::Serves};
use anyhow::{Context as _, bail};
use gatehouse_testbed::process::{Process, find_program};

/// A running peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) process: Process,
    /// Where it listens for HTTP, or for TCP if that is all that it does.
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    /// Memory before the first load, in KiB; zero until it is known.
    pub(super) memory_at_start: u64,
}

impl Peer {
    /// Writes the configuration for `site` and starts the server. It may not answer yet.
    pub(super) fn start(
        kind: Kind,
        site: &Site,
        gatehouse: &Path,
        tools: &Path,
    ) -> anyhow::Result<Self> {
        let program = program(kind, gatehouse, tools)?;
        let arguments = site.write(kind)?;
        let log = site.folder.join("log");
        let process = Process::start(&kind.to_string(), &program, arguments, Some(&log))?;
        let http = if matches!(site.setup.serves, Serves::Tcp) { site.tcp } else { site.http };
        Ok(Self { process, http, https: site.https, memory_at_start: 0 })
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
