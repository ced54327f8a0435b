//! Hosts made of network namespaces, and the wires between them: what every lab of these tests is made of.
//!
//! Everything is named `<kind>-<pid>-<count>-…` and removed when it goes out of scope, also by a panic.
//! What is missing (privileges, tools) fails the test that needs it.

#![allow(clippy::unwrap_used, reason = "a bed that cannot be made fails its test")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A host that is a bridge, and others.
pub struct Hosts {
    prefix: String,
    names: RefCell<Vec<String>>,
}

impl Hosts {
    /// The switch alone. `kind`: of the lab, a few letters.
    pub fn new(kind: &str) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{kind}-{}-{count}", std::process::id());
        let hosts = Self { prefix, names: RefCell::default() };
        hosts.add("switch", "");
        hosts.ip("switch", "link add br0 type bridge mcast_snooping 0");
        hosts.ip("switch", "link set br0 up");
        hosts
    }

    /// Adds a host that is connected to nothing; `settings` is shell, run in `/proc/sys/net`.
    pub fn add(&self, host: &str, settings: &str) {
        self.names.borrow_mut().push(host.to_owned());
        run(Command::new("ip").args(["netns", "add", &self.name(host)]));
        // No duplicate address detection: addresses work at once.
        let settings =
            format!("cd /proc/sys/net; echo 0 > ipv6/conf/default/accept_dad; {settings}");
        run(self.command(host, "sh").args(["-c", &settings]));
        self.ip(host, "link set lo up");
    }

    /// Connects a host to the switch, by an `eth0` that has a link-local address alone.
    pub fn plug_in(&self, host: &str) {
        self.veth(("switch", host), (host, "eth0"));
        self.ip("switch", &format!("link set {host} master br0"));
    }

    /// A wire between two hosts; the interfaces have a link-local address alone.
    pub fn veth(&self, one: (&str, &str), other: (&str, &str)) {
        let peer = self.name(other.0);
        self.ip(one.0, &format!("link add {} type veth peer name {} netns {peer}", one.1, other.1));
        self.ip(one.0, &format!("link set {} up", one.1));
        self.ip(other.0, &format!("link set {} up", other.1));
    }

    /// Gives a host an address, with the length of its prefix.
    pub fn address(&self, host: &str, interface: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(host, &format!("addr add {address} dev {interface}{nodad}"));
    }

    /// `ip -n <host> <arguments>`; its output.
    pub fn ip(&self, host: &str, arguments: &str) -> String {
        let name = self.name(host);
        run(Command::new("ip").args(["-n", &name]).args(arguments.split_whitespace()))
    }

    /// A program to be run on a host.
    pub fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host), program]);
        command
    }

    /// The network namespace of a host.
    pub fn netns(&self, host: &str) -> PathBuf {
        Path::new("/run/netns").join(self.name(host))
    }

    /// What the names of these hosts begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in self.names.borrow().iter() {
            // May not exist if the lab could not be made; then there is nothing to remove.
            let _ = Command::new("ip").args(["netns", "del", &self.name(host)]).output();
        }
    }
}

/// Runs a program that has to succeed; its output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error} (needs root, or CAP_SYS_ADMIN)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
