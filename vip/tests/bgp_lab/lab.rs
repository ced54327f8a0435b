//! A switch with hosts on it, and further links, all of network namespaces.
//!
//! Everything is named `ghb-<pid>-…` and removed when the lab goes out of scope, also by a panic.
//! What is missing (root, tools) fails the test that needs it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// For anything that should happen soon; generous, as the machine may be busy and routers back off.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(50);

static LABS: AtomicUsize = AtomicUsize::new(0);

/// Hosts, each with an `eth0` on one switch, in 10.79.0.0/24, 2001:db8:79::/64 and fe80::/64.
pub(crate) struct Lab {
    prefix: String,
    hosts: RefCell<Vec<String>>,
    folder: tempfile::TempDir,
}

/// Answers each TCP connection with the name of its host; ends with it.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lab {
    /// A switch and these hosts, with the last number of their addresses.
    pub(crate) fn new(hosts: &[(&str, u8)]) -> Self {
        let count = LABS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("ghb-{}-{count}", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap();
        let lab = Self { prefix, hosts: RefCell::default(), folder };
        lab.host("switch");
        lab.ip("switch", "link add br0 type bridge mcast_snooping 0");
        lab.ip("switch", "link set br0 up");
        for (host, number) in hosts {
            lab.host(host);
            lab.veth(("switch", host), (host, "eth0"));
            lab.ip("switch", &format!("link set {host} master br0"));
            lab.address(host, "eth0", &format!("10.79.0.{number}/24"));
            lab.address(host, "eth0", &format!("2001:db8:79::{number}/64"));
            lab.address(host, "eth0", &format!("fe80::{number}/64"));
        }
        lab
    }

    /// Adds a host that is connected to nothing.
    pub(crate) fn host(&self, host: &str) {
        self.hosts.borrow_mut().push(host.to_owned());
        run(Command::new("ip").args(["netns", "add", &self.name(host)]));
        // Addresses work at once; hosts forward, and spread connections over equal routes.
        let settings = "cd /proc/sys/net; echo 0 > ipv6/conf/default/accept_dad; \
            echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding; \
            echo 1 > ipv4/fib_multipath_hash_policy; echo 1 > ipv6/fib_multipath_hash_policy";
        run(self.command(host, "sh").args(["-c", settings]));
        self.ip(host, "link set lo up");
    }

    /// A wire between two hosts; the interfaces have a link-local address alone.
    pub(crate) fn veth(&self, one: (&str, &str), other: (&str, &str)) {
        let peer = self.name(other.0);
        self.ip(one.0, &format!("link add {} type veth peer name {} netns {peer}", one.1, other.1));
        self.ip(one.0, &format!("link set {} up", one.1));
        self.ip(other.0, &format!("link set {} up", other.1));
    }

    /// Gives a host an address, with the length of its prefix.
    pub(crate) fn address(&self, host: &str, interface: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(host, &format!("addr add {address} dev {interface}{nodad}"));
    }

    /// `ip -n <host> <arguments>`; its output.
    pub(crate) fn ip(&self, host: &str, arguments: &str) -> String {
        let name = self.name(host);
        run(Command::new("ip").args(["-n", &name]).args(arguments.split_whitespace()))
    }

    /// A program to be run on a host.
    pub(crate) fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host), program]);
        command
    }

    /// One of the kernel's counters on a host, such as `TcpExtTCPMD5Failure`.
    pub(crate) fn counter(&self, host: &str, name: &str) -> u64 {
        let text = run(self.command(host, "nstat").args(["-asz", name]));
        let number = text.split_whitespace().skip_while(|word| *word != name).nth(1);
        number.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// A folder of a host's own that any user may write to; removed with the lab.
    pub(crate) fn folder(&self, host: &str) -> PathBuf {
        let folder = self.folder.path().join(host);
        std::fs::create_dir_all(&folder).unwrap();
        for path in [self.folder.path(), &folder] {
            run(Command::new("chmod").arg("777").arg(path));
        }
        folder
    }

    /// Serves on a host, at an address that it has.
    pub(crate) fn serve(&self, host: &str, at: &str) -> Server {
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
    pub(crate) fn ask(&self, host: &str, at: &str, limit: Duration) -> Option<String> {
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

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// The network namespace of a host, for [`enter`].
    pub(crate) fn netns(&self, host: &str) -> PathBuf {
        Path::new("/run/netns").join(self.name(host))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in self.hosts.borrow().iter() {
            // May not exist if the lab could not be made; then there is nothing to remove.
            let _ = Command::new("ip").args(["netns", "del", &self.name(host)]).output();
        }
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
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(instead) = is() {
        assert!(Instant::now() < deadline, "it did not come: {what}; instead: {instead}");
        std::thread::sleep(LOOK);
    }
}

/// Runs a program that has to succeed; its output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error} (needs root, or CAP_SYS_ADMIN)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Moves the calling thread to a host.
pub(crate) fn enter(netns: &Path) {
    let file = File::open(netns).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}
