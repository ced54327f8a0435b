//! Settings under `/proc/sys/net`: those of interfaces, put back when the last speaker that changed them stops, and
//! forwarding.
//!
//! The gateway makes one [`SharedSysctls`] and gives it to both speakers. What a setting held before is noted in a
//! file of the state folder before it is changed: the next process, be it a successor that takes over or the one
//! after a kill, finds the setting changed, and the note says by whom. What was changed without a note is the
//! operator's and stays.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::debug;

/// Name of the file in the state folder: the boot that it is of, then `INTERFACE SETTING VALUE` line by line.
const FILE: &str = "sysctls";

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
/// Another one after every boot, which forgets all settings.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The ARP sysctls of interfaces (ip-sysctl.rst) that the speakers of a process have changed.
///
/// Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct SharedSysctls(Arc<Mutex<Changed>>);

/// A [`SharedSysctls`] as one speaker uses it.
#[derive(Debug)]
pub(crate) struct ArpSysctls(SharedSysctls);

#[derive(Debug, Default)]
struct Changed {
    /// Interface and setting → what it held before.
    before: BTreeMap<(String, String), String>,
    /// Speakers that may need what was changed.
    users: usize,
    /// `None`: no other process is to know.
    file: Option<PathBuf>,
}

impl SharedSysctls {
    /// What is changed is noted in this folder, which must be no other gateway's.
    pub fn noted_in(folder: &Path) -> Self {
        let changed = Changed { file: Some(folder.join(FILE)), ..Changed::default() };
        Self(Arc::new(Mutex::new(changed)))
    }

    /// For one speaker.
    pub(crate) fn user(&self) -> ArpSysctls {
        self.lock().users += 1;
        ArpSysctls(self.clone())
    }

    /// A note is never half made under the lock, so a panic spoils nothing.
    fn lock(&self) -> MutexGuard<'_, Changed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ArpSysctls {
    /// The kernel answers ARP on an interface for the addresses of this interface alone.
    ///
    /// # Errors
    /// What is set otherwise cannot be changed.
    pub(crate) fn apply(&self, interface: &str) -> io::Result<()> {
        let mut changed = self.0.lock();
        changed.read();
        for (setting, least, value) in SETTINGS {
            let path = path(interface, setting);
            let explain = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            let before = fs::read_to_string(&path).map_err(explain)?;
            if before.trim().parse::<u32>().is_ok_and(|before| before >= least) {
                continue;
            }
            let key = (interface.to_owned(), setting.to_owned());
            changed.before.insert(key, before.trim().to_owned());
            changed.write();
            fs::write(&path, value.to_string()).map_err(explain)?;
        }
        Ok(())
    }

    /// This speaker needs nothing any more. The last one puts everything back: what this process has changed and what
    /// others before it have. An interface that is gone needs nothing, and what holds another value is the operator's.
    pub(crate) fn restore(self) {
        let mut changed = self.0.lock();
        changed.users = changed.users.saturating_sub(1);
        if changed.users > 0 {
            return;
        }
        changed.read();
        for ((interface, setting), before) in std::mem::take(&mut changed.before) {
            let path = path(&interface, &setting);
            let set = SETTINGS.iter().find(|(name, ..)| *name == setting);
            let now = fs::read_to_string(&path).ok();
            let now = now.and_then(|now| now.trim().parse().ok());
            if set.is_some_and(|(.., value)| now == Some(*value)) {
                let _ = fs::write(path, before);
            }
        }
        changed.write();
    }
}

impl Changed {
    /// Learns what other processes have noted since this boot.
    fn read(&mut self) {
        let Some(text) = self.file.as_ref().and_then(|file| fs::read_to_string(file).ok()) else {
            return;
        };
        let mut lines = text.lines();
        if lines.next() != Some(&*boot()) {
            return;
        }
        for line in lines {
            let mut words = line.split(' ');
            if let (Some(interface), Some(setting), Some(before), None) =
                (words.next(), words.next(), words.next(), words.next())
                // A name leads to an interface, and nowhere else.
                && !interface.contains('/')
                && !matches!(interface, "" | "." | "..")
                && SETTINGS.iter().any(|(name, ..)| *name == setting)
                && before.parse::<u32>().is_ok()
            {
                let key = (interface.to_owned(), setting.to_owned());
                self.before.entry(key).or_insert_with(|| before.to_owned());
            }
        }
    }

    /// Notes what was changed. Without a note, only another process would take a changed value for the operator's.
    fn write(&self) {
        let Some(file) = &self.file else { return };
        let noted = if self.before.is_empty() {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        } else {
            let mut text = boot() + "\n";
            for ((interface, setting), before) in &self.before {
                text.push_str(&format!("{interface} {setting} {before}\n"));
            }
            replace(file, &text)
        };
        if let Err(error) = noted {
            debug!(file = %file.display(), %error, "what settings held before is not noted");
        }
    }
}

/// A reader finds the old text or the new one.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    file.parent().map(fs::create_dir_all).transpose()?;
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, file)
}

fn path(interface: &str, setting: &str) -> PathBuf {
    folder().join(interface).join(setting)
}

fn folder() -> &'static Path {
    let [mounted, own] = FOLDERS.map(Path::new);
    if mounted.is_dir() { mounted } else { own }
}

fn boot() -> String {
    fs::read_to_string(BOOT).unwrap_or_default().trim().to_owned()
}

/// Has this host pass packets of others on, by IPv4. Left as it is afterwards: others may rely on it by then.
///
/// # Errors
/// It is off and may not be written, as in most containers.
pub(crate) fn forward_ipv4() -> io::Result<()> {
    let path = folder().join("all/forwarding");
    if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    fs::write(&path, "1")
}

/// Whether this host passes packets of others on, by IPv6. It is not changed here: a host that does so no longer listens
/// to routers (`accept_ra`), and may lose its own way out.
pub(crate) fn forwards_ipv6() -> bool {
    let value = fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding");
    value.is_ok_and(|value| value.trim() != "0")
}
