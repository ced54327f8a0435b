//! A switch with hosts on it, and the programs that run on them.

#![allow(clippy::unwrap_used, reason = "a bed that cannot be made fails its test")]

use std::ops::Deref;

use crate::{
    hosts::Hosts,
    program::{Program, own_test},
    wait,
};

/// Hosts, each with an `eth0` on one switch, in 10.77.0.0/24 and 2001:db8:77::/64: `gateway` (.1),
/// `client` (.2), and others if asked for.
pub struct Lab(Hosts);

impl Lab {
    /// The switch, the gateway and the client.
    #[allow(clippy::new_without_default, reason = "hosts in the kernel are no default")]
    pub fn new() -> Self {
        let lab = Self(Hosts::new());
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
        assert!(!text.contains("failed to execute"), "{command}: {text}");
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
        self.0.mac(host, "eth0")
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
    #[track_caller]
    pub fn until(&self, what: &str, true_now: impl Fn() -> bool) {
        assert!(wait::comes_true(true_now), "not in {:?}: {what}", wait::LIMIT);
    }

    /// Talks TCP from the client to a port of an address where nobody listens: that the connection
    /// is refused, and not timed out, says that the gateway's kernel takes the address for its own.
    pub fn assert_client_reaches(&self, ip: &str) {
        let connect = format!("exec 3<>/dev/tcp/{ip}/9");
        let mut client = self.command("client", "timeout");
        let output = client.args(["60", "bash", "-c", &connect]).output().unwrap();
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
        own_test(&mut command, "speaker_process");
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
