//! What clients saw, as a page.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command};

use anyhow::Context as _;

use super::{
    client::Seen,
    fault::Fault,
    peers::{Kind, Patience},
};

/// What the clients of each proxy saw of each fault.
pub(super) struct Report {
    kinds: Vec<Kind>,
    patience: Patience,
    versions: Vec<String>,
    seen: BTreeMap<(Fault, Kind), Seen>,
}

impl Report {
    pub(super) fn new(kinds: &[Kind], patience: Patience, gatehouse: &Path, tools: &Path) -> Self {
        let version = |kind: &Kind| {
            let program = kind.program(gatehouse, tools).ok()?;
            let flag = if *kind == Kind::Haproxy { "-v" } else { "--version" };
            let output = Command::new(program).arg(flag).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let line = text.lines().next()?;
            Some(match kind {
                // `…/envoy  version: HASH/1.40.0/Clean/RELEASE/BoringSSL`
                Kind::Envoy => format!("Envoy {}", line.split('/').rev().nth(3)?),
                Kind::Haproxy => line.split(' ').take(3).collect::<Vec<_>>().join(" "),
                Kind::Gatehouse => line.to_owned(),
            })
        };
        Self {
            kinds: kinds.to_vec(),
            patience,
            versions: kinds.iter().filter_map(version).collect(),
            seen: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, fault: Fault, kind: Kind, seen: Seen) {
        self.seen.insert((fault, kind), seen);
    }

    /// What gatehouse let its clients notice and may not.
    pub(super) fn broken_bounds(&self) -> Vec<String> {
        let ours = self.seen.iter().filter(|((_, kind), _)| *kind == Kind::Gatehouse);
        ours.filter_map(|((fault, _), seen)| fault.breach(seen)).collect()
    }

    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        let file = folder.join("chaos.md");
        fs::write(&file, self.markdown())
            .with_context(|| format!("cannot write {}", file.display()))
    }

    pub(super) fn markdown(&self) -> String {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut text = format!(
            "# Backends that fail, side by side\n\n\
             {}, Linux {}. Ten backends that take 20 ms for an answer; three of them fail while the clients of all \
             proxies ask at the same time and at the same pace, over kept connections, for what may be repeated \
             (GET). Each proxy checks `/healthz` every 500 ms, gives an answer {} s and tries up to three other \
             backends. A check notices those that are killed, hang, refuse or flap; the others it finds well.\n\n\
             **failed**: no answer, a cut one, or another status than 200. **p99**: of the good answers, in ms. No \
             proxy may give a client an answer that is another's.\n\n| fault |",
            self.versions.join(", "),
            kernel.trim(),
            self.patience.seconds()
        );
        // Writing to a String cannot fail.
        for kind in &self.kinds {
            let _ = write!(text, " {0} failed | {0} p99 |", kind.name());
        }
        text += " gatehouse may |\n|---|";
        text += &"--:|--:|".repeat(self.kinds.len());
        text += "--:|\n";
        let mut faults: Vec<Fault> = self.seen.keys().map(|(fault, _)| *fault).collect();
        faults.dedup();
        for fault in faults {
            let _ = write!(text, "| {} |", fault.title());
            for kind in &self.kinds {
                let Some(seen) = self.seen.get(&(fault, *kind)) else { continue };
                let p99 = seen.percentile(99).as_secs_f64() * 1e3;
                let wrong =
                    if seen.wrong > 0 { format!(" ({} wrong)", seen.wrong) } else { String::new() };
                let _ = write!(text, " {} of {}{wrong} | {p99:.0} |", seen.failed(), seen.all());
            }
            let _ = writeln!(text, " {} % |", fault.may_fail());
        }
        text + "\nMade by `make chaos`.\n"
    }
}
