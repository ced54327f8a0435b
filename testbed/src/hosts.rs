//! Hosts by name on a switch, and the wires between them: what the labs of tests are made of.
//!
//! Each host is a [`Namespace`]. What is missing (privileges, tools) fails the test that needs it.

#![allow(clippy::unwrap_used, reason = "a bed that cannot be made fails its test")]

use std::{cell::RefCell, collections::BTreeMap, process::Command};

use crate::namespace::Namespace;

/// A host that is a bridge, `switch`, and others.
pub struct Hosts(RefCell<BTreeMap<String, Namespace>>);

impl Hosts {
    /// The switch alone.
    #[allow(clippy::new_without_default, reason = "hosts in the kernel are no default")]
    pub fn new() -> Self {
        let hosts = Self(RefCell::default());
        hosts.add("switch", "");
        hosts.ip("switch", "link add br0 type bridge mcast_snooping 0");
        hosts.ip("switch", "link set br0 up");
        hosts
    }

    /// Adds a host that is connected to nothing; `settings` is shell, run in `/proc/sys/net`.
    pub fn add(&self, host: &str, settings: &str) {
        let namespace = Namespace::new(host).unwrap();
        if !settings.is_empty() {
            namespace.run(&["sh", "-c", &format!("cd /proc/sys/net; {settings}")]).unwrap();
        }
        self.0.borrow_mut().insert(host.to_owned(), namespace);
    }

    /// Connects a host to the switch, by an `eth0` that has a link-local address alone.
    pub fn plug_in(&self, host: &str) {
        self.veth(("switch", host), (host, "eth0"));
        self.ip("switch", &format!("link set {host} master br0"));
    }

    /// A wire between two hosts; the interfaces have a link-local address alone.
    pub fn veth(&self, one: (&str, &str), other: (&str, &str)) {
        self.namespace(one.0).cable(one.1, &self.namespace(other.0), other.1).unwrap();
    }

    /// Gives a host an address, with the length of its prefix.
    pub fn address(&self, host: &str, interface: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(host, &format!("addr add {address} dev {interface}{nodad}"));
    }

    /// `ip <arguments>` on a host; its output.
    pub fn ip(&self, host: &str, arguments: &str) -> String {
        let words: Vec<&str> = ["ip"].into_iter().chain(arguments.split_whitespace()).collect();
        self.namespace(host).run(&words).unwrap()
    }

    /// The Ethernet address of an interface.
    pub fn mac(&self, host: &str, interface: &str) -> String {
        let text = self.ip(host, &format!("-o link show dev {interface}"));
        let mac = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        mac.unwrap_or_else(|| panic!("no link/ether in {text}")).to_owned()
    }

    /// The index of an interface.
    pub fn index(&self, host: &str, interface: &str) -> u32 {
        let text = self.ip(host, &format!("-o link show dev {interface}"));
        let index = text.split(':').next().and_then(|index| index.parse().ok());
        index.unwrap_or_else(|| panic!("no index in {text}"))
    }

    /// A program to be run on a host.
    pub fn command(&self, host: &str, program: &str) -> Command {
        self.namespace(host).command(program)
    }

    /// The network namespace of a host.
    pub fn namespace(&self, host: &str) -> Namespace {
        let hosts = self.0.borrow();
        hosts.get(host).unwrap_or_else(|| panic!("no host {host}")).clone()
    }
}

/// Runs a program that has to succeed; its output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error} (needs root, or CAP_SYS_ADMIN)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
