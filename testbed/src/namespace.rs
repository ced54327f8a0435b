//! A network namespace without a name in the system: what every host of the bed is made of.
//!
//! It lives as long as this process holds its descriptor or something runs in it, so that nothing is left
//! behind however a run ends ([`guard`]). Needs root, iproute2 and util-linux. Never touches
//! the namespace that it is started in.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read as _, Write as _},
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    panic,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::guard;

/// Run in a new namespace. Duplicate address detection would keep addresses tentative for a second.
const SETTINGS: &str = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad && \
                        ip link set lo up && exec cat";

/// A network namespace, held open. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    name: String,
}

impl Namespace {
    /// A new one with a loopback interface alone; `name` is for messages. A short-lived process makes it:
    /// this one's own threads stay where they are.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let mut maker = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", SETTINGS])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start unshare (util-linux)")?;
        let opened = open(&mut maker);
        drop(maker.stdin.take());
        maker.wait()?;
        let file =
            opened.context("cannot make a network namespace (it takes root and iproute2)")?;
        Ok(Self(Arc::new(Inner { file, name: name.to_owned() })))
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A path that other processes may open as well, as long as this one lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.file.as_raw_fd())
    }

    /// Words before a command that is to run here: `nsenter --net=PATH --`. They end in executing it, so
    /// the child's process id is the command's.
    pub fn prefix(&self) -> [String; 3] {
        ["nsenter".to_owned(), format!("--net={}", self.path()), "--".to_owned()]
    }

    /// A command that runs here and is killed with the thread that starts it, and in any case with this
    /// process.
    pub fn command(&self, program: &str) -> Command {
        let mut command = guard::command("nsenter");
        command.args(&self.prefix()[1..]).arg(program);
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

    /// As [`Namespace::output`]; an error when the command fails.
    pub fn run(&self, words: &[&str]) -> anyhow::Result<String> {
        let (good, text) = self.output(words)?;
        if !good {
            bail!("{} on {}: {text}", words.join(" "), self.0.name);
        }
        Ok(text)
    }

    /// Feeds `text` to a program here; an error with its words when it fails.
    pub fn feed(&self, program: &[&str], text: &str) -> anyhow::Result<()> {
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

    /// Calls `job` on a thread of its own that is here: sockets that it opens are this host's. Processes
    /// that it starts may end with that thread.
    pub fn enter<T: Send>(&self, job: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let inside = thread::scope(|scope| {
            let thread = scope.spawn(|| self.move_in().map(|()| job()));
            thread.join()
        });
        inside.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Moves the calling thread here for good.
    pub fn move_in(&self) -> anyhow::Result<()> {
        move_into_link_name_space(self.0.file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter the network namespace of {}", self.0.name))
    }

    /// Lays a cable to another namespace, an interface with a name at each end, and sets both up.
    pub fn cable(&self, here: &str, other: &Self, there: &str) -> anyhow::Result<()> {
        let cable = format!(
            "link add {here} type veth peer name {there} netns {}\nlink set {here} up\n",
            other.path()
        );
        self.feed(&["ip", "-batch", "-"], &cable)?;
        other.feed(&["ip", "-batch", "-"], &format!("link set {there} up\n"))
    }

    /// The addresses on one of its interfaces.
    pub fn addresses(&self, interface: &str) -> anyhow::Result<BTreeSet<IpAddr>> {
        let text = self.run(&["ip", "-o", "address", "show", "dev", interface])?;
        Ok(text.lines().filter_map(address_of).collect())
    }

    /// MAC addresses that claim `address` when this host asks the link at its `eth0`, each once: whoever
    /// answers, not only the first. Asks three times.
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

fn open(maker: &mut Child) -> anyhow::Result<File> {
    let (Some(ask), Some(answer)) = (&mut maker.stdin, &mut maker.stdout) else {
        bail!("no pipe to unshare");
    };
    // What comes back has passed through `cat`, which runs when the namespace is there.
    ask.write_all(b"?")?;
    answer.read_exact(&mut [0])?;
    Ok(File::open(format!("/proc/{}/ns/net", maker.id()))?)
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
