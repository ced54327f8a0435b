//! A switch with four hosts, each with one process of this test's program that does what it is told.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use gatehouse_testbed::hosts::{Hosts, run};

/// For anything that should happen at once; generous, as the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The hosts `client` (.1), `old` (.2), `new` (.3) and `third` (.4), each with an `eth0` on one
/// switch, in 10.77.0.0/24 and 2001:db8:77::/64.
pub(crate) struct Lab(Hosts);

pub(crate) const HOSTS: [&str; 4] = ["client", "old", "new", "third"];

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self(Hosts::new("ghr"));
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

    /// Runs a program on a host that has to succeed; its output.
    pub(crate) fn run(&self, host: &str, command: &str) -> String {
        let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
        run(self.0.command(host, program).args(arguments.split(' ')))
    }

    /// Starts this test's program on a host, behind the words of `wrapper`.
    pub(crate) fn start(&self, host: &str, wrapper: &str) -> Process {
        let mut command = self.0.command(host, "env");
        command.args(wrapper.split_whitespace());
        command.arg(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "kernel::nftables::forward_old::tests::host_process",
            "--ignored",
            "--nocapture",
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let mut process = Process { input: child.stdin.take().unwrap(), child, lines };
        process.ask("hello", "ready");
        process
    }
}

/// A running process on a host; killed at the end.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    /// Gives an order and waits for an answer that begins so, and nothing else before it.
    #[track_caller]
    pub(crate) fn ask(&mut self, order: &str, answer: &str) -> String {
        self.say(order);
        self.expect(answer)
    }

    /// Gives an order.
    pub(crate) fn say(&mut self, order: &str) {
        writeln!(self.input, "{order}").unwrap();
    }

    /// Waits for an answer. What the test harness itself prints is passed over.
    #[track_caller]
    pub(crate) fn expect(&self, answer: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let timeout = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(timeout) {
                Ok(line) if line.contains(answer) => return line,
                Ok(line) if line.starts_with("> ") => panic!("{line}; expected: {answer}"),
                Ok(_) => {}
                Err(error) => panic!("{error}; expected: {answer}"),
            }
        }
    }

    /// `kill -9`, and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not so");
        std::thread::sleep(Duration::from_millis(10));
    }
}
