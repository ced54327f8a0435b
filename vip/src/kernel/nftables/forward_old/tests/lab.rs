//! A switch with four hosts, each with one process of this test's program that does what it is told.

use gatehouse_testbed::{
    hosts::{Hosts, run},
    program::{Program, own_test},
    wait,
};

/// The hosts `client` (.1), `old` (.2), `new` (.3) and `third` (.4), each with an `eth0` on one
/// switch, in 10.77.0.0/24 and 2001:db8:77::/64.
pub(crate) struct Lab(Hosts);

pub(crate) const HOSTS: [&str; 4] = ["client", "old", "new", "third"];

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self(Hosts::new());
        for (host, number) in HOSTS.into_iter().zip(1..) {
            // Only addresses of the asked interface are answered for, and no neighbour is asked in the
            // name of another interface's address.
            lab.0.add(
                host,
                "echo 1 > ipv4/conf/all/arp_ignore; echo 2 > ipv4/conf/all/arp_announce",
            );
            lab.0.plug_in(host);
            lab.0.address(host, "eth0", &format!("10.77.0.{number}/24"));
            lab.0.address(host, "eth0", &format!("2001:db8:77::{number}/64"));
        }
        lab
    }

    /// `ip -n <host> <arguments>`; its output.
    pub(crate) fn ip(&self, host: &str, arguments: &str) -> String {
        self.0.ip(host, arguments)
    }

    /// The Ethernet address of a host's `eth0`.
    pub(crate) fn mac(&self, host: &str) -> String {
        self.0.mac(host, "eth0")
    }

    /// The index of a host's `eth0`.
    pub(crate) fn index(&self, host: &str) -> u32 {
        self.0.index(host, "eth0")
    }

    /// Runs a program on a host that has to succeed; its output.
    pub(crate) fn run(&self, host: &str, command: &str) -> String {
        let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
        run(self.0.command(host, program).args(arguments.split(' ')))
    }

    /// Starts this test's program on a host, behind the words of `wrapper`.
    pub(crate) fn start(&self, host: &str, wrapper: &str) -> Process {
        let mut command = self.0.command(host, "env");
        command.args(wrapper.split_whitespace());
        own_test(&mut command, "kernel::nftables::forward_old::tests::host_process");
        let mut process = Process(Program::start(command));
        process.ask("hello", "ready");
        process
    }
}

/// A running process on a host; killed at the end.
pub(crate) struct Process(Program);

impl Process {
    /// Gives an order and waits for an answer that begins so, and nothing else before it.
    #[track_caller]
    pub(crate) fn ask(&mut self, order: &str, answer: &str) -> String {
        self.say(order);
        self.expect(answer)
    }

    /// Gives an order.
    pub(crate) fn say(&mut self, order: &str) {
        self.0.say(order);
    }

    /// Waits for an answer. What the test harness itself prints is passed over.
    #[track_caller]
    pub(crate) fn expect(&self, answer: &str) -> String {
        self.0.expect_that(answer, |line| {
            let is = line.contains(answer);
            assert!(is || !line.starts_with("> "), "{line}; expected: {answer}");
            is
        })
    }

    /// `kill -9`, and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.0.kill();
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    assert!(wait::comes_true(is_so), "{what}: not so");
}
