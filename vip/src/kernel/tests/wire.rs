//! Two hosts and a wire between them, for the tests of sockets.
//!
//! A socket stays in the namespace that its thread was in when it was opened, so one thread can have
//! both ends. What is missing (root, `ip`) fails the test that needs it.

use std::cell::RefCell;

use gatehouse_testbed::namespace::Namespace;

/// The hosts `a` (.1) and `b` (.2 to .4), each with `eth0`, in 10.78.0.0/24, 2001:db8:78::/64 and
/// fe80::/64.
pub(crate) struct Wire {
    hosts: [Namespace; 2],
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
        let hosts = ["a", "b"].map(|host| Namespace::new(host).unwrap());
        hosts[0].cable("eth0", &hosts[1], "eth0").unwrap();
        let wire = Self { hosts, entered: RefCell::default() };
        for (host, numbers) in [("a", 1..=1), ("b", 2..=4)] {
            for number in numbers {
                wire.ip(host, &format!("addr add 10.78.0.{number}/24 dev eth0"));
                wire.ip(host, &format!("addr add 2001:db8:78::{number}/64 dev eth0 nodad"));
                wire.ip(host, &format!("addr add fe80::{number}/64 dev eth0 nodad"));
            }
        }
        wire
    }

    fn host(&self, name: &str) -> &Namespace {
        self.hosts.iter().find(|host| host.name() == name).unwrap()
    }

    /// Sockets that this thread opens from now on are on this host.
    pub(crate) fn enter(&self, host: &str) {
        self.host(host).move_in().unwrap();
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

    /// `ip <arguments>` on a host.
    pub(crate) fn ip(&self, host: &str, arguments: &str) {
        let words: Vec<_> = ["ip"].into_iter().chain(arguments.split(' ')).collect();
        self.host(host).run(&words).unwrap();
    }

    /// A second wire, `eth1`, with the same link-local addresses (.1, .2) at its ends and no others.
    pub(crate) fn second(&self) {
        self.hosts[0].cable("eth1", &self.hosts[1], "eth1").unwrap();
        for (host, number) in [("a", 1), ("b", 2)] {
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
