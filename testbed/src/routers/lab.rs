//! A switch with hosts on it that forward, further links, and servers.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::hosts::Hosts;
pub use crate::hosts::run;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// For anything that should happen soon; generous, as the machine may be busy and routers back off.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// Hosts, each with an `eth0` on one switch, in 10.79.0.0/24, 2001:db8:79::/64 and fe80::/64.
pub struct Lab {
    hosts: Hosts,
    folder: tempfile::TempDir,
}

/// Answers each TCP connection with the name of its host; ends with it.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lab {
    /// A switch and these hosts, with the last number of their addresses.
    pub fn new(hosts: &[(&str, u8)]) -> Self {
        let all = Hosts::new("ghb");
        let folder = tempfile::Builder::new().prefix(all.prefix()).tempdir().unwrap();
        let lab = Self { hosts: all, folder };
        for (host, number) in hosts {
            lab.host(host);
            lab.plug_in(host);
            lab.address(host, "eth0", &format!("10.79.0.{number}/24"));
            lab.address(host, "eth0", &format!("2001:db8:79::{number}/64"));
            lab.address(host, "eth0", &format!("fe80::{number}/64"));
        }
        lab
    }

    /// Adds a host that is connected to nothing, forwards, and spreads connections over equal routes.
    pub fn host(&self, host: &str) {
        self.hosts.add(
            host,
            "echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding; \
             echo 1 > ipv4/fib_multipath_hash_policy; echo 1 > ipv6/fib_multipath_hash_policy",
        );
    }

    /// One of the kernel's counters on a host, such as `TcpExtTCPMD5Failure`.
    pub fn counter(&self, host: &str, name: &str) -> u64 {
        let text = run(self.command(host, "nstat").args(["-asz", name]));
        let number = text.split_whitespace().skip_while(|word| *word != name).nth(1);
        number.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// A folder of a host's own that any user may write to; removed with the lab.
    pub fn folder(&self, host: &str) -> PathBuf {
        let folder = self.folder.path().join(host);
        std::fs::create_dir_all(&folder).unwrap();
        for path in [self.folder.path(), &folder] {
            run(Command::new("chmod").arg("777").arg(path));
        }
        folder
    }

    /// Serves on a host, at an address that it has.
    pub fn serve(&self, host: &str, at: &str) -> Server {
        let (answer, stop) = (host.to_owned(), Arc::new(AtomicBool::new(false)));
        let (at, netns, ended): (SocketAddr, _, _) =
            (at.parse().unwrap(), self.netns(host), stop.clone());
        let (bound, ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            enter(&netns);
            let listener = TcpListener::bind(at).unwrap();
            listener.set_nonblocking(true).unwrap();
            bound.send(()).unwrap();
            while !ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client that is gone is not this test's concern.
                    Ok((mut client, _)) => drop(client.write_all(answer.as_bytes())),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        ready.recv().unwrap();
        Server { stop, thread: Some(thread) }
    }

    /// What a server answers to a host; `None` if it does not within the limit.
    pub fn ask(&self, host: &str, at: &str, limit: Duration) -> Option<String> {
        let (at, netns): (SocketAddr, _) = (at.parse().unwrap(), self.netns(host));
        let asked = std::thread::spawn(move || {
            enter(&netns);
            let mut server = TcpStream::connect_timeout(&at, limit).ok()?;
            server.set_read_timeout(Some(limit)).unwrap();
            let mut answer = String::new();
            server.read_to_string(&mut answer).ok()?;
            Some(answer)
        });
        asked.join().unwrap().filter(|answer| !answer.is_empty())
    }
}

/// A lab is its hosts, and more.
impl Deref for Lab {
    type Target = Hosts;

    fn deref(&self) -> &Hosts {
        &self.hosts
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed.
            let _ = thread.join();
        }
    }
}

/// Waits until something is so; panics with what it was instead.
pub fn eventually(what: &str, mut is: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(instead) = is() {
        assert!(Instant::now() < deadline, "it did not come: {what}; instead: {instead}");
        std::thread::sleep(LOOK);
    }
}

/// Moves the calling thread to a host.
pub fn enter(netns: &Path) {
    let file = File::open(netns).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}
