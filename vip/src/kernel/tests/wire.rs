//! Two network namespaces and a wire between them, for the tests of sockets.
//!
//! A socket stays in the namespace that its thread was in when it was opened, so one thread can have
//! both ends. Everything is named `ghw-<pid>-…` and removed at the end, also by a panic. What is
//! missing (root, `ip`) fails the test that needs it.

use std::{
    cell::RefCell,
    fs::File,
    os::fd::AsFd,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static WIRES: AtomicUsize = AtomicUsize::new(0);

/// The hosts `a` (.1) and `b` (.2 to .4), each with `eth0`, in 10.78.0.0/24, 2001:db8:78::/64 and
/// fe80::/64.
pub(crate) struct Wire {
    prefix: String,
    entered: RefCell<String>,
}

/// Runs a test on a thread of its own, which may change its namespace.
pub(crate) fn on_a_wire(test: impl FnOnce(Wire) + Send) {
    let ended = std::thread::scope(|scope| scope.spawn(|| test(Wire::new())).join());
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

impl Wire {
    fn new() -> Self {
        let count = WIRES.fetch_add(1, Ordering::Relaxed);
        let wire = Self {
            prefix: format!("ghw-{}-{count}", std::process::id()),
            entered: RefCell::default(),
        };
        let [a, b] = ["a", "b"].map(|host| wire.name(host));
        for name in [&a, &b] {
            run(&["ip", "netns", "add", name]);
            let no_dad = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad";
            run(&["ip", "netns", "exec", name, "sh", "-c", no_dad]);
        }
        run(&[
            "ip", "-n", &a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
            &b,
        ]);
        for (host, numbers) in [("a", 1..=1), ("b", 2..=4)] {
            wire.ip(host, "link set lo up");
            wire.ip(host, "link set eth0 up");
            for number in numbers {
                wire.ip(host, &format!("addr add 10.78.0.{number}/24 dev eth0"));
                wire.ip(host, &format!("addr add 2001:db8:78::{number}/64 dev eth0 nodad"));
                wire.ip(host, &format!("addr add fe80::{number}/64 dev eth0 nodad"));
            }
        }
        wire
    }

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// Sockets that this thread opens from now on are on this host.
    pub(crate) fn enter(&self, host: &str) {
        let file = File::open(format!("/run/netns/{}", self.name(host))).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        host.clone_into(&mut self.entered.borrow_mut());
    }

    /// Reads a file of `/proc/net` on a host.
    fn read(&self, host: &str, file: &str) -> String {
        let back = self.entered.borrow().clone();
        self.enter(host);
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
        if !back.is_empty() {
            self.enter(&back);
        }
        text
    }

    /// `ip -n <host> <arguments>`.
    pub(crate) fn ip(&self, host: &str, arguments: &str) {
        let name = self.name(host);
        let command: Vec<_> = ["ip", "-n", &name].into_iter().chain(arguments.split(' ')).collect();
        run(&command);
    }

    /// A second wire, `eth1`, with the same link-local addresses (.1, .2) at its ends and no others.
    pub(crate) fn second(&self) {
        let b = self.name("b");
        self.ip("a", &format!("link add eth1 type veth peer name eth1 netns {b}"));
        for (host, number) in [("a", 1), ("b", 2)] {
            self.ip(host, "link set eth1 up");
            self.ip(host, &format!("addr add fe80::{number}/64 dev eth1 nodad"));
        }
    }

    /// Index of `eth0`, as in the scope of a link-local address.
    pub(crate) fn scope(&self, host: &str) -> u32 {
        self.scope_of(host, "eth0")
    }

    /// Index of an interface.
    pub(crate) fn scope_of(&self, host: &str, interface: &str) -> u32 {
        let text = self.read(host, "dev_mcast");
        let interface = format!(" {interface} ");
        let line = text.lines().find(|line| line.contains(&interface)).unwrap_or_default();
        line.split_whitespace().next().and_then(|index| index.parse().ok()).unwrap()
    }

    /// One of the kernel's counters on a host, such as `TCPMD5Failure`.
    pub(crate) fn counter(&self, host: &str, name: &str) -> u64 {
        let text = self.read(host, "netstat");
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let mut pairs = names.split(' ').zip(values.split(' '));
            if let Some((_, value)) = pairs.find(|(known, _)| *known == name) {
                return value.parse().unwrap();
            }
        }
        panic!("no counter {name} in {text}");
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for host in ["a", "b"] {
            // May not exist if the wire could not be made; then there is nothing to remove.
            let _ = Command::new("ip").args(["netns", "del", &self.name(host)]).output();
        }
    }
}

fn run(command: &[&str]) {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; is iproute2 installed?"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error} (needs root, or CAP_SYS_ADMIN)");
}
