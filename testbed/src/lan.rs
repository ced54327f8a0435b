//! Hosts on a link: each is a network namespace, the link is a bridge in a namespace of its own.
//!
//! Owns the namespaces, cables and cuts; what runs on a host is started through [`Host::command`] or
//! [`Host::enter`]. The namespaces have no names: each lives as long as this process holds its descriptor
//! or something runs in it, so that nothing is left behind however a run ends. Needs root, iproute2,
//! nftables and util-linux. Never touches the namespace that it is started in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, AsRawFd as _},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Prefix length of the hosts' IPv4 addresses, 10.77.0.N: room for 1 000 virtual addresses on the link.
const PREFIX4: u8 = 16;

/// A network namespace, held open.
#[derive(Debug)]
pub(crate) struct Namespace(File);

impl Namespace {
    /// A new one. A short-lived process makes it: this one's own threads stay where they are.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut maker = Command::new("unshare")
            .args(["--net", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start unshare (util-linux)")?;
        let opened = Self::of(&mut maker);
        drop(maker.stdin.take());
        maker.wait()?;
        opened.context("cannot make a network namespace (it takes root)")
    }

    fn of(maker: &mut Child) -> anyhow::Result<Self> {
        let (Some(ask), Some(answer)) = (&mut maker.stdin, &mut maker.stdout) else {
            bail!("no pipe to unshare");
        };
        // What comes back has passed through `cat`, which runs when the namespace is there.
        ask.write_all(b"?")?;
        answer.read_exact(&mut [0])?;
        Ok(Self(File::open(format!("/proc/{}/ns/net", maker.id()))?))
    }

    /// A path that other processes may open as well, as long as this one lives.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Words before a command that is to run inside.
    pub(crate) fn prefix(&self) -> [String; 3] {
        ["nsenter".to_owned(), format!("--net={}", self.path()), "--".to_owned()]
    }

    fn command(&self, program: &str) -> Command {
        let [enter, path, end] = self.prefix();
        let mut command = Command::new(enter);
        command.args([path, end, program.to_owned()]);
        command
    }

    /// Feeds `text` to a program inside; an error with its words when it fails.
    fn feed(&self, program: &[&str], text: &str) -> anyhow::Result<()> {
        let mut child = self
            .command(program[0])
            .args(&program[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program[0]))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let words = [output.stdout, output.stderr].concat();
            bail!("{} on\n{text}\n{}", program.join(" "), String::from_utf8_lossy(&words));
        }
        Ok(())
    }
}

/// A host: one cable (`eth0`), one IPv4 and one IPv6 address, a MAC address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    namespace: Namespace,
    name: String,
    number: u8,
}

impl Host {
    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its own IPv4 address, 10.77.0.N.
    pub fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.0.number)
    }

    /// Its own IPv6 address, `fd77::N`.
    pub fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.0.number.into())
    }

    /// The MAC address of its `eth0`, in lower case.
    pub fn mac(&self) -> String {
        mac(self.0.number)
    }

    /// Words before a command that is to run here: `nsenter --net=PATH --`. They end in executing it, so
    /// the child's process id is the command's.
    pub fn prefix(&self) -> [String; 3] {
        self.0.namespace.prefix()
    }

    /// A command that runs here and is killed with the thread that starts it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.0.namespace.command("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]);
        command
    }

    /// Runs a command here to its end; returns whether it succeeded, and its output.
    pub fn output(&self, words: &[&str]) -> anyhow::Result<(bool, String)> {
        let [program, arguments @ ..] = words else { bail!("no command for {}", self.0.name) };
        let output = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {words:?}"))?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    /// As [`Host::output`]; an error when the command fails.
    pub fn run(&self, words: &[&str]) -> anyhow::Result<String> {
        let (good, text) = self.output(words)?;
        if !good {
            bail!("{} on {}: {text}", words.join(" "), self.0.name);
        }
        Ok(text)
    }

    /// Calls `job` on a thread of its own that is here: sockets that it opens are this host's. Processes
    /// that it starts may end with that thread.
    pub fn enter<T: Send>(&self, job: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let inside = thread::scope(|scope| {
            let thread = scope.spawn(|| self.move_in().map(|()| job()));
            thread.join()
        });
        match inside {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Moves the calling thread here for good.
    pub fn move_in(&self) -> anyhow::Result<()> {
        let namespace = self.0.namespace.0.as_fd();
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter the network namespace of {}", self.0.name))
    }

    /// The addresses on one of its interfaces.
    pub fn addresses(&self, interface: &str) -> anyhow::Result<BTreeSet<IpAddr>> {
        let text = self.run(&["ip", "-o", "address", "show", "dev", interface])?;
        Ok(text.lines().filter_map(address_of).collect())
    }

    /// MAC addresses that claim `address` when this host asks the link, each once: whoever answers, not
    /// only the first. Asks three times.
    pub fn who_has(&self, address: IpAddr) -> anyhow::Result<BTreeSet<String>> {
        let text = address.to_string();
        // Both fail when nobody answers.
        let (_, text) = match address {
            IpAddr::V4(_) => {
                self.output(&["arping", "-c", "3", "-W", "0.2", "-I", "eth0", &text])?
            }
            IpAddr::V6(_) => self.output(&["ndisc6", "-m", "-r", "3", &text, "eth0"])?,
        };
        Ok(text.split_whitespace().filter_map(mac_in).collect())
    }
}

/// The address in a line of `ip -o address`: `2: eth0    inet 10.77.0.1/16 brd …`.
fn address_of(line: &str) -> Option<IpAddr> {
    let mut words = line.split_whitespace().skip_while(|word| !word.starts_with("inet"));
    let address = words.nth(1)?;
    address.split('/').next()?.parse().ok()
}

/// A word that is a MAC address, in lower case and without punctuation around it.
fn mac_in(word: &str) -> Option<String> {
    let word = word.trim_matches(|c: char| !c.is_ascii_hexdigit());
    let parts: Vec<&str> = word.split(':').collect();
    let hex = |part: &&str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    (parts.len() == 6 && parts.iter().all(hex)).then(|| word.to_ascii_lowercase())
}

fn mac(number: u8) -> String {
    format!("02:77:00:00:00:{number:02x}")
}

fn port(number: u8) -> String {
    format!("p{number}")
}

/// The link and the cuts in it.
#[derive(Debug)]
pub struct Lan {
    switch: Namespace,
    /// nftables rules by the name of the cut.
    cuts: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Lan {
    /// A link with hosts of these names, numbered from 1, all connected.
    pub fn new<const N: usize>(names: [&str; N]) -> anyhow::Result<(Self, [Host; N])> {
        let switch = Namespace::new()?;
        // Without a querier, snooping would only make multicast depend on who joined when.
        let bridge = "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
                      link set br0 up\n";
        switch.feed(&["ip", "-batch", "-"], bridge)?;
        let mut hosts = Vec::with_capacity(N);
        for (name, number) in names.iter().zip(1..) {
            hosts.push(connect(&switch, name, number)?);
        }
        let Ok(hosts) = hosts.try_into() else { bail!("more than 255 hosts") };
        Ok((Self { switch, cuts: Mutex::default() }, hosts))
    }

    /// Pulls the host's cable: it loses its carrier.
    pub fn unplug(&self, host: &Host) -> anyhow::Result<()> {
        self.port(host, "down")
    }

    /// Puts the host's cable back.
    pub fn plug(&self, host: &Host) -> anyhow::Result<()> {
        self.port(host, "up")
    }

    fn port(&self, host: &Host, state: &str) -> anyhow::Result<()> {
        let port = port(host.0.number);
        self.switch.feed(&["ip", "-batch", "-"], &format!("link set {port} {state}\n"))
    }

    /// From now on nothing that `from` sends arrives at `to`; the other way stays open.
    pub fn cut_one_way(&self, from: &Host, to: &Host) -> anyhow::Result<()> {
        let [one, other] = [from, to].map(|host| port(host.0.number));
        let rule = format!("iifname {one} oifname {other} drop");
        self.set_cut(&format!("{one}-{other}"), vec![rule])
    }

    /// From now on no frame passes between any of `some` and any of `others`.
    pub fn partition(&self, some: &[&Host], others: &[&Host]) -> anyhow::Result<()> {
        for one in some {
            for other in others {
                self.cut_one_way(one, other)?;
                self.cut_one_way(other, one)?;
            }
        }
        Ok(())
    }

    /// From now on no UDP multicast to this port passes; neighbour discovery goes on.
    pub fn drop_multicast(&self, udp_port: u16) -> anyhow::Result<()> {
        let rules = ["ip daddr 224.0.0.0/4", "ip6 daddr ff00::/8"]
            .map(|to| format!("{to} udp dport {udp_port} drop"));
        self.set_cut("multicast", rules.to_vec())
    }

    /// Takes away all cuts. Cables that are unplugged stay so.
    pub fn heal(&self) -> anyhow::Result<()> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.apply()
    }

    fn set_cut(&self, name: &str, rules: Vec<String>) -> anyhow::Result<()> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), rules);
        self.apply()
    }

    /// Makes the switch's rules those of `cuts`, at once.
    fn apply(&self) -> anyhow::Result<()> {
        let mut text = "add table bridge cuts\nflush table bridge cuts\n\
                        add chain bridge cuts passing { type filter hook forward priority 0; }\n"
            .to_owned();
        for rule in self.cuts.lock().unwrap_or_else(PoisonError::into_inner).values().flatten() {
            text += &format!("add rule bridge cuts passing {rule}\n");
        }
        self.switch.feed(&["nft", "-f", "-"], &text)
    }
}

/// A new host on a port of the switch.
fn connect(switch: &Namespace, name: &str, number: u8) -> anyhow::Result<Host> {
    let namespace = Namespace::new()?;
    let (port, mac, inside) = (port(number), mac(number), namespace.path());
    let cable = format!(
        "link add {port} type veth peer name eth0 address {mac} netns {inside}\n\
         link set {port} master br0 up\n"
    );
    switch.feed(&["ip", "-batch", "-"], &cable)?;
    // Duplicate address detection would keep fd77::N tentative for the first second.
    namespace.feed(&["sysctl", "-q", "-p", "-"], "net.ipv6.conf.eth0.accept_dad=0\n")?;
    let host = Host(Arc::new(Inner { namespace, name: name.to_owned(), number }));
    let addresses = format!(
        "link set lo up\naddress add {}/{PREFIX4} brd + dev eth0\n\
         address add {}/64 dev eth0\nlink set eth0 up\n",
        host.v4(),
        host.v6()
    );
    host.0.namespace.feed(&["ip", "-batch", "-"], &addresses)?;
    Ok(host)
}

#[cfg(test)]
mod tests;
