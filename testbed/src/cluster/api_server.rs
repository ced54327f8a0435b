//! The API server of a cluster, which may be away for a while: its objects and its address stay.

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::Context as _;

use super::{eventually, member::Member};

/// The API server.
#[derive(Debug)]
pub struct ApiServer {
    member: Member,
    address: SocketAddr,
    /// A command that prints the status of `/readyz`.
    probe: Vec<String>,
}

impl ApiServer {
    pub(super) fn new(
        member: Member,
        address: SocketAddr,
        prefix: &[String],
        folder: &Path,
    ) -> Self {
        let authority = folder.join("ca.crt").display().to_string();
        let url = format!("https://{address}/readyz");
        let words = ["curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"];
        let words = words.map(str::to_owned).into_iter().chain([authority, url]);
        Self { member, address, probe: prefix.iter().cloned().chain(words).collect() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it: connections break, further ones are refused.
    pub fn stop(&self) {
        self.member.stop();
    }

    /// Starts it again and waits until it is ready. Watches from before are answered 410 Expired from then on.
    pub fn start(&self) -> anyhow::Result<()> {
        self.member.start()?;
        self.wait_ready()
    }

    /// Kills it and starts it again.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.stop();
        self.start()
    }

    /// From now on it answers nothing, and connections stay (SIGSTOP).
    pub fn pause(&self) {
        self.member.pause();
    }

    /// It goes on.
    pub fn resume(&self) {
        self.member.resume();
    }

    pub(super) fn wait_ready(&self) -> anyhow::Result<()> {
        eventually("the API server is ready", || {
            self.member.check()?;
            let output = Command::new(&self.probe[0]).args(&self.probe[1..]).output();
            Ok(output.context("cannot start curl")?.stdout == b"200")
        })
        .with_context(|| format!("the API server{}", self.member.log_tail()))
    }
}
