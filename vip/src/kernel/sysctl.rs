//! Settings of interfaces under `/proc/sys/net`, put back when the speaker stops.
//!
//! The driver owns one [`ArpSysctls`]. A process that is killed leaves its settings behind; the next one
//! finds them and keeps them as they are.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The ARP sysctls of interfaces (ip-sysctl.rst) that this process has changed, with the values before.
#[derive(Debug, Default)]
pub(crate) struct ArpSysctls {
    /// File → what it held before.
    before: BTreeMap<PathBuf, String>,
}

/// Setting, the least value that will do, the value that is set otherwise.
const SETTINGS: [(&str, u32, u32); 2] = [
    // Answer only for addresses of the interface that was asked on; 2 and 3 are stricter still.
    ("arp_ignore", 1, 1),
    // Never ask in the name of an address of another interface.
    ("arp_announce", 2, 2),
];

/// Where the settings of interfaces are. In a container `/proc/sys` is read-only; the Helm chart mounts this
/// part of the host's beside it.
const FOLDERS: [&str; 2] = ["/host/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv4/conf"];

fn folder() -> &'static Path {
    let [mounted, own] = FOLDERS.map(Path::new);
    if mounted.is_dir() { mounted } else { own }
}

impl ArpSysctls {
    /// The kernel answers ARP on an interface for the addresses of this interface alone.
    pub(crate) fn apply(&mut self, interface: &str) -> io::Result<()> {
        for (setting, least, value) in SETTINGS {
            let path = folder().join(interface).join(setting);
            let explain = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            let before = fs::read_to_string(&path).map_err(explain)?;
            if before.trim().parse::<u32>().is_ok_and(|before| before >= least) {
                continue;
            }
            fs::write(&path, value.to_string()).map_err(explain)?;
            self.before.entry(path).or_insert(before);
        }
        Ok(())
    }

    /// Puts everything back. An interface that is gone needs nothing.
    pub(crate) fn restore(&mut self) {
        for (path, before) in std::mem::take(&mut self.before) {
            let _ = fs::write(path, before.trim());
        }
    }
}
