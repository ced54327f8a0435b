//! A switch with three hosts, made of network namespaces, each with one process of this test's
//! program that does what it is told. Everything is named `ghr-<pid>-…` and removed at the end, also
//! by a panic. What is missing (privileges, tools) fails the test that needs it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// For anything that should happen at once; generous, as the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

static LABS: AtomicUsize = AtomicUsize::new(0);

/// The hosts `client` (.1), `old` (.2), `new` (.3) and `third` (.4), each with an `eth0` on one
/// switch, in 10.77.0.0/24 and 2001:db8:77::/64.
pub(crate) struct Lab {
    prefix: String,
}

pub(crate) const HOSTS: [&str; 4] = ["client", "old", "new", "third"];

impl Lab {
    pub(crate) fn new() -> Self {
        let count = LABS.fetch_add(1, Ordering::Relaxed);
        let lab = Self { prefix: format!("ghr-{}-{count}", std::process::id()) };
        let switch = lab.name("switch");
        run(&["ip", "netns", "add", &switch]);
        run(&["ip", "-n", &switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]);
        run(&["ip", "-n", &switch, "link", "set", "br0", "up"]);
        for (host, number) in HOSTS.into_iter().zip(1..) {
            let name = lab.name(host);
            run(&["ip", "netns", "add", &name]);
            // Addresses work at once; only those of the asked interface are answered for, and no
            // neighbour is asked in the name of another interface's address.
            let settings = "cd /proc/sys/net; echo 0 > ipv6/conf/default/accept_dad; \
                echo 1 > ipv4/conf/all/arp_ignore; echo 2 > ipv4/conf/all/arp_announce";
            run(&["ip", "netns", "exec", &name, "sh", "-c", settings]);
            let mut link = vec!["ip", "-n", &switch, "link", "add", host, "type", "veth"];
            link.extend(["peer", "name", "eth0", "netns", &name]);
            run(&link);
            run(&["ip", "-n", &switch, "link", "set", host, "master", "br0", "up"]);
            lab.ip(host, "link set lo up");
            lab.ip(host, "link set eth0 up");
            lab.ip(host, &format!("addr add 10.77.0.{number}/24 dev eth0"));
            lab.ip(host, &format!("addr add 2001:db8:77::{number}/64 dev eth0 nodad"));
        }
        lab
    }

    /// `ip -n <host> <arguments>`; its output.
    pub(crate) fn ip(&self, host: &str, arguments: &str) -> String {
        let name = self.name(host);
        run(&[&["ip", "-n", &name], &arguments.split(' ').collect::<Vec<_>>()[..]].concat())
    }

    /// Runs a program on a host that has to succeed; its output.
    pub(crate) fn run(&self, host: &str, command: &str) -> String {
        let name = self.name(host);
        let words: Vec<_> = command.split(' ').collect();
        run(&[&["ip", "netns", "exec", &name], &words[..]].concat())
    }

    /// Starts this test's program on a host, behind the words of `wrapper`.
    pub(crate) fn start(&self, host: &str, wrapper: &str) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host)]).args(wrapper.split_whitespace());
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "io::nft::tests::host_process", "--ignored", "--nocapture"]);
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

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in HOSTS.into_iter().chain(["switch"]) {
            // May not exist if the lab could not be made; then there is nothing to remove.
            let _ = Command::new("ip").args(["netns", "del", &self.name(host)]).output();
        }
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
        let deadline = Instant::now() + PATIENCE;
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(patience) {
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
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not so");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn run(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error} (needs root, or CAP_SYS_ADMIN)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
