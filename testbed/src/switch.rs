//! A switch with hosts on it, and the programs that run on them.

#![allow(clippy::unwrap_used, reason = "a bed that cannot be made fails its test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Deref;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::hosts::{Hosts, run};

/// For anything that should happen at once, or when a lifetime in the kernel ends; generous, as the machine
/// may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hosts, each with an `eth0` on one switch, in 10.77.0.0/24 and 2001:db8:77::/64: `gateway` (.1),
/// `client` (.2), and others if asked for.
pub struct Lab(Hosts);

impl Lab {
    /// The switch, the gateway and the client.
    #[allow(clippy::new_without_default, reason = "hosts in the kernel are no default")]
    pub fn new() -> Self {
        let lab = Self(Hosts::new("gh"));
        lab.host("gateway", 1);
        lab.host("client", 2);
        lab
    }

    /// Adds a host to the switch, with address `.number`.
    pub fn host(&self, host: &str, number: u8) {
        self.add(host, "");
        self.plug_in(host);
        self.address(host, "eth0", &format!("10.77.0.{number}/24"));
        self.address(host, "eth0", &format!("2001:db8:77::{number}/64"));
    }

    /// Runs a program on a host; whether it succeeded, and what it said.
    pub fn try_run(&self, host: &str, command: &str) -> (bool, String) {
        let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
        let output = self
            .command(host, program)
            .args(arguments.split_whitespace())
            .output()
            .unwrap_or_else(|error| panic!("{command}: {error}; is iproute2 installed?"));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!text.contains("exec of"), "{command}: {text}");
        (output.status.success(), text)
    }

    /// Runs a program on a host that has to succeed.
    pub fn run(&self, host: &str, command: &str) -> String {
        let (success, text) = self.try_run(host, command);
        assert!(success, "{command} on {host}: {text}");
        text
    }

    /// The Ethernet address of a host's `eth0`.
    pub fn mac(&self, host: &str) -> String {
        let text = self.ip(host, "-o link show eth0");
        let mac = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        mac.unwrap_or_else(|| panic!("no link/ether in {text}")).to_owned()
    }

    /// Whether the gateway has an address, as `ip address` writes it (`10.77.0.200/32`).
    pub fn gateway_has(&self, address: &str) -> bool {
        self.has("gateway", address)
    }

    /// Whether a host has an address on any interface, as `ip address` writes it.
    pub fn has(&self, host: &str, address: &str) -> bool {
        self.ip(host, "-o addr show").split_whitespace().any(|word| word == address)
    }

    /// Waits until something has come true.
    pub fn until(&self, what: &str, true_now: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !true_now() {
            assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Talks TCP from the client to a port of an address where nobody listens: that the connection
    /// is refused, and not timed out, says that the gateway's kernel takes the address for its own.
    pub fn assert_client_reaches(&self, ip: &str) {
        let connect = format!("exec 3<>/dev/tcp/{ip}/9");
        let mut client = self.command("client", "timeout");
        let output = client.args(["5", "bash", "-c", &connect]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("Connection refused"), "{ip}: {:?} {text}", output.status);
    }

    /// Starts tcpdump on the client's `eth0` and waits until it listens.
    pub fn capture(&self, filter: &str) -> Program {
        let mut command = self.command("client", "tcpdump");
        command.args(["-l", "-n", "-e", "-v", "--immediate-mode", "-i", "eth0", filter]);
        let capture = Program::start(command);
        capture.expect(|line| line.contains("listening on"));
        capture
    }

    /// Starts a shell on a host, which obeys the lines that it is told.
    pub fn shell(&self, host: &str) -> Program {
        Program::start(self.command(host, "bash"))
    }

    /// Starts a speaker on the gateway, behind the words of `wrapper`.
    pub fn speaker(&self, wrapper: &str) -> Program {
        self.speaker_on("gateway", wrapper, &[])
    }

    /// Starts a speaker on a host, as a member of a group.
    pub fn member(&self, host: &str, key: &str, more: &[(&str, &str)]) -> Program {
        let variables = [&[("GH_NODE", host), ("GH_KEY", key)], more].concat();
        self.speaker_on(host, "", &variables)
    }

    fn speaker_on(&self, host: &str, wrapper: &str, variables: &[(&str, &str)]) -> Program {
        let mut command = self.command(host, "env");
        command.args(wrapper.split_whitespace());
        command.envs(variables.iter().copied());
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "speaker_process", "--ignored", "--nocapture"]);
        let speaker = Program::start(command);
        speaker.expect(|line| line.contains("speaker ready"));
        speaker
    }
}

/// A lab is its hosts, and more.
impl Deref for Lab {
    type Target = Hosts;

    fn deref(&self) -> &Hosts {
        &self.0
    }
}

/// A running program whose lines (output and errors) can be waited for; killed at the end.
pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Program {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.for_each(|line| drop(sender.send(line)));
            });
        }
        let input = child.stdin.take();
        Self { child, input, lines }
    }

    /// Writes a line to its input.
    pub fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for a line; panics with everything that came instead.
    pub fn expect(&self, mut wanted: impl FnMut(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("it did not come; seen: {seen:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended; seen: {seen:#?}"),
            }
        }
    }

    /// All lines until nothing has come for a while.
    pub fn rest(&self, quiet: Duration) -> Vec<String> {
        std::iter::from_fn(|| self.lines.recv_timeout(quiet).ok()).collect()
    }

    /// `STOP` or `CONT`, which the process cannot help.
    pub fn signal(&self, signal: &str) {
        run(Command::new("kill").args([format!("-{signal}"), self.child.id().to_string()]));
    }

    /// Processor time that it has used so far, all threads, in milliseconds: its own, the kernel's.
    pub fn processor_time(&self) -> [u64; 2] {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let words: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        [words[11], words[12]].map(|ticks| ticks.parse::<u64>().unwrap() * 10)
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its input and waits for it to end by itself.
    pub fn finish(&mut self) {
        drop(self.input.take());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}: {:#?}", self.rest(Duration::ZERO));
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it did not end");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
