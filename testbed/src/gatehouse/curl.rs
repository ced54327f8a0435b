//! curl as a client of a gateway, for what clients of TLS do that none of ours does.

#![allow(clippy::unwrap_used, reason = "a client that cannot be started fails its test")]

use std::{fs, net::SocketAddr};

use tempfile::TempDir;

use crate::{gatehouse::tls::Pair, guard};

/// curl, and the files that it is given.
pub struct Curl {
    folder: TempDir,
    gateway: SocketAddr,
}

/// What curl says of an answer.
#[derive(Debug)]
pub struct Answered {
    /// Status; 0: there was none.
    pub status: u16,
    /// `Location`, where there is one.
    pub location: String,
}

impl Curl {
    /// For the TLS listener of a gateway.
    pub fn of(gateway: SocketAddr) -> Self {
        Self { folder: guard::folder("curl-").unwrap(), gateway }
    }

    /// Asks for a URL, whose host is the gateway whatever its name, showing a certificate; `more`: other arguments.
    ///
    /// # Panics
    /// If curl is not there.
    pub fn ask(&self, shows: Option<&Pair>, more: &[&str], url: &str) -> Answered {
        let mut curl = guard::command("curl");
        curl.args(["--silent", "--insecure", "--noproxy", "*", "--max-time", "30"])
            .args(["--connect-to", &format!("::{}", self.gateway), "--output", "/dev/null"])
            .args(["--write-out", "%{http_code} %header{location}"]);
        if let Some(pair) = shows {
            for (flag, text) in [("--cert", &pair.certificate), ("--key", &pair.key)] {
                let path = self.folder.path().join(flag);
                fs::write(&path, text).unwrap();
                curl.arg(flag).arg(path);
            }
        }
        let output = curl.args(more).arg(url).output().expect("curl is installed (.ci/setup)");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (status, location) = said.split_once(' ').unwrap_or_else(|| panic!("{output:?}"));
        Answered { status: status.parse().unwrap(), location: location.to_owned() }
    }
}
