//! A switch with hosts on it that forward, further links, and servers.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::Deref,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    guard,
    hosts::{Hosts, run},
};

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
        let folder = guard::folder("gatehouse-routers-").unwrap();
        let lab = Self { hosts: Hosts::new(), folder };
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
        let (at, namespace, ended): (SocketAddr, _, _) =
            (at.parse().unwrap(), self.namespace(host), stop.clone());
        let (bound, ready) = channel();
        let thread = thread::spawn(move || {
            namespace.move_in().unwrap();
            let listener = TcpListener::bind(at).unwrap();
            listener.set_nonblocking(true).unwrap();
            bound.send(()).unwrap();
            while !ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client that is gone is not this test's concern.
                    Ok((mut client, _)) => drop(client.write_all(answer.as_bytes())),
                    Err(_) => thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        ready.recv().unwrap();
        Server { stop, thread: Some(thread) }
    }

    /// What a server answers to a host; `None` if it does not within the limit.
    pub fn ask(&self, host: &str, at: &str, limit: Duration) -> Option<String> {
        let at: SocketAddr = at.parse().unwrap();
        let asked = self.namespace(host).enter(|| {
            let mut server = TcpStream::connect_timeout(&at, limit).ok()?;
            server.set_read_timeout(Some(limit)).unwrap();
            let mut answer = String::new();
            server.read_to_string(&mut answer).ok()?;
            Some(answer)
        });
        asked.unwrap().filter(|answer| !answer.is_empty())
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
