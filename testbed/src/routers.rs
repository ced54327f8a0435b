//! A real BGP router on a host of the lab: FRR, BIRD, GoBGP or ExaBGP, by one configuration.
//!
//! Each kind has a file that writes its configuration and reads its answers; here is what they have
//! in common: processes that are started, held, stopped and always ended.

#![allow(clippy::unwrap_used, reason = "a router that does not start fails its test")]

mod bird;
mod exabgp;
mod frr;
mod gobgp;
pub mod lab;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::{
    hosts::run,
    wait::{comes_true, eventually},
};
use lab::Lab;

/// Which implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// FRR 8.
    Frr,
    /// BIRD 2.
    Bird,
    /// GoBGP 3.
    GoBgp,
    /// ExaBGP 4.
    ExaBgp,
}

/// What a router does, in words that all kinds understand.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its own AS number.
    pub asn: u32,
    /// BGP Identifier.
    pub id: Ipv4Addr,
    /// Prefixes of its own that it announces to all peers.
    pub announce: Vec<String>,
    /// What it announces them with, in ExaBGP's own words; the others announce them plain.
    pub attributes: String,
    /// Its neighbours.
    pub peers: Vec<Peer>,
    /// Whether routes of several peers are used at once, and given to the kernel (FRR, BIRD).
    pub multipath: bool,
}

/// A neighbour of a router.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address, or (FRR) the interface on which it is the one neighbour.
    pub at: String,
    /// 0 for any but the router's own (FRR).
    pub asn: u32,
    /// The router's own address; ExaBGP needs it.
    pub local: Option<IpAddr>,
    /// TCP MD5.
    pub password: Option<String>,
    /// Seconds.
    pub hold: u16,
    /// Hops that it may be away; `None` for on the link.
    pub multi_hop: Option<u8>,
    /// Whether its packets have to have TTL 255 (RFC 5082).
    pub gtsm: bool,
    /// Interval in ms and multiplier (FRR, BIRD).
    pub bfd: Option<(u16, u8)>,
    /// Whether it has to dial.
    pub passive: bool,
    /// Whether routes are to outlive a restart (RFC 4724).
    pub graceful_restart: bool,
    /// Whether IPv4 is a family of the session.
    pub v4: bool,
    /// Whether IPv6 is a family of the session.
    pub v6: bool,
}

/// What a router knows of a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Of all paths; for IPv6 the link-local ones too.
    pub next_hops: BTreeSet<IpAddr>,
    /// LOCAL_PREF; this and the following: of the best path.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// AS_PATH.
    pub as_path: Vec<u32>,
    /// `64500:1`.
    pub communities: BTreeSet<String>,
    /// `64500:1:2`.
    pub large: BTreeSet<String>,
}

/// A router that runs. Ended by `kill -9` when it goes out of scope.
pub struct Router<'a> {
    /// Which implementation.
    pub kind: Kind,
    /// Where its host is.
    pub lab: &'a Lab,
    /// Its host.
    pub host: String,
    /// What it was started with last.
    pub config: Config,
    /// Configuration, sockets and logs.
    pub folder: PathBuf,
    processes: Vec<Child>,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Frr, Self::Bird, Self::GoBgp, Self::ExaBgp];

    /// Whether it can run BFD.
    pub fn has_bfd(self) -> bool {
        matches!(self, Self::Frr | Self::Bird)
    }
}

impl Config {
    /// A router that announces nothing.
    pub fn new(asn: u32, id: [u8; 4], peers: Vec<Peer>) -> Self {
        Self {
            asn,
            id: id.into(),
            announce: Vec::new(),
            attributes: String::new(),
            peers,
            multipath: false,
        }
    }

    /// The same, with prefixes of its own.
    pub fn announcing(mut self, prefixes: &[&str]) -> Self {
        self.announce = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        self
    }

    /// The prefixes of one family.
    pub fn announced(&self, v6: bool) -> impl Iterator<Item = &str> {
        self.announce.iter().map(String::as_str).filter(move |prefix| prefix.contains(':') == v6)
    }
}

impl Peer {
    /// A peer on the link, with a hold time of 9 s, for the family of its address; for both if it
    /// is named by an interface.
    pub fn new(at: &str, asn: u32) -> Self {
        let ip = at.parse::<IpAddr>().ok();
        Self {
            at: at.to_owned(),
            asn,
            local: None,
            password: None,
            hold: 9,
            multi_hop: None,
            gtsm: false,
            bfd: None,
            passive: false,
            graceful_restart: false,
            v4: ip.is_none_or(|ip| ip.is_ipv4()),
            v6: ip.is_none_or(|ip| ip.is_ipv6()),
        }
    }

    /// The router's own address on the session.
    pub fn from(mut self, local: &str) -> Self {
        self.local = Some(local.parse().unwrap());
        self
    }

    /// Whether it is named by an interface.
    pub fn unnumbered(&self) -> bool {
        self.at.parse::<IpAddr>().is_err()
    }
}

impl Lab {
    /// Starts a router on a host and waits until it can be asked.
    pub fn router(&self, kind: Kind, host: &str, config: Config) -> Router<'_> {
        let (folder, host) = (self.folder(host), host.to_owned());
        let mut router = Router { kind, lab: self, host, config, folder, processes: Vec::new() };
        router.start();
        router
    }
}

impl Router<'_> {
    /// Starts it (again) with its configuration.
    pub fn start(&mut self) {
        match self.kind {
            Kind::Frr => frr::start(self),
            Kind::Bird => bird::start(self),
            Kind::GoBgp => gobgp::start(self),
            Kind::ExaBgp => exabgp::start(self),
        }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(&mut self) {
        self.signal("TERM");
        for process in &mut self.processes {
            let ended = comes_true(|| process.try_wait().unwrap().is_some());
            assert!(ended, "{:?} does not end", self.kind);
        }
        self.processes.clear();
    }

    /// `kill -9`: no goodbye, but the kernel closes its connections.
    pub fn kill(&mut self) {
        for process in &mut self.processes {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        self.processes.clear();
    }

    /// Stops it and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Makes it fall silent with its connections open, as if the machine hung.
    pub fn hold(&self) {
        self.signal("STOP");
    }

    /// Ends [`hold`](Self::hold).
    pub fn release(&self) {
        self.signal("CONT");
    }

    /// Whether the session with a peer (as named in the configuration) is Established.
    pub fn established(&self, peer: &str) -> bool {
        match self.kind {
            Kind::Frr => frr::established(self, peer),
            Kind::Bird => bird::established(self, peer),
            Kind::GoBgp => gobgp::established(self, peer),
            Kind::ExaBgp => exabgp::established(self, peer),
        }
    }

    /// Whether the BFD session with a peer is up.
    pub fn bfd_up(&self, peer: &str) -> bool {
        match self.kind {
            Kind::Frr => frr::bfd_up(self, peer),
            Kind::Bird => bird::bfd_up(self, peer),
            Kind::GoBgp | Kind::ExaBgp => panic!("{:?} has no BFD", self.kind),
        }
    }

    /// What it knows of a prefix.
    pub fn route(&self, prefix: &str) -> Option<Route> {
        match self.kind {
            Kind::Frr => frr::route(self, prefix),
            Kind::Bird => bird::route(self, prefix),
            Kind::GoBgp => gobgp::route(self, prefix),
            Kind::ExaBgp => exabgp::route(self, prefix),
        }
    }

    /// Makes it ask a peer for all routes again (RFC 2918; FRR, BIRD).
    pub fn refresh(&self, peer: &str) {
        match self.kind {
            Kind::Frr => frr::refresh(self, peer),
            Kind::Bird => bird::refresh(self, peer),
            Kind::GoBgp | Kind::ExaBgp => panic!("{:?} keeps what it has heard", self.kind),
        }
    }

    /// How often a peer has asked it for all routes again (FRR).
    pub fn refreshes(&self, peer: &str) -> u64 {
        match self.kind {
            Kind::Frr => frr::refreshes(self, peer),
            kind => panic!("{kind:?} does not count refreshes"),
        }
    }

    /// Waits until the session with a peer is Established, or no longer is.
    pub fn wait_established(&self, peer: &str, wanted: bool) {
        let what = format!("{:?} on {}: established {wanted} with {peer}", self.kind, self.host);
        eventually(&what, || match self.established(peer) == wanted {
            true => Ok(()),
            false => Err(self.log()),
        });
    }

    /// Waits until the BFD session with a peer is up, or no longer is.
    pub fn wait_bfd(&self, peer: &str, wanted: bool) {
        let what = format!("{:?} on {}: BFD up {wanted} with {peer}", self.kind, self.host);
        eventually(&what, || match self.bfd_up(peer) == wanted {
            true => Ok(()),
            false => Err(self.log()),
        });
    }

    /// Waits until what it knows of a prefix is as wanted.
    pub fn wait_route(&self, prefix: &str, wanted: impl Fn(Option<&Route>) -> bool) {
        eventually(&format!("{prefix} by {:?} on {}", self.kind, self.host), || {
            let route = self.route(prefix);
            if wanted(route.as_ref()) { Ok(()) } else { Err(format!("{route:?}\n{}", self.log())) }
        });
    }

    /// The end of what it has written to its logs, and (FRR) what it thinks of routes.
    pub fn log(&self) -> String {
        let logs = fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        let logs = logs.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
        let end = |path: PathBuf| {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            let lines: Vec<_> = text.lines().collect();
            format!(
                "{}:\n{}\n",
                path.display(),
                lines[lines.len().saturating_sub(120)..].join("\n")
            )
        };
        let logs: String = logs.map(end).collect();
        match self.kind {
            Kind::Frr => logs + &frr::state(self),
            _ => logs,
        }
    }

    /// Starts one of its processes; what it writes goes to `<name>.out.log`.
    pub fn spawn(&mut self, name: &str, command: &mut Command) {
        let output = File::create(self.folder.join(format!("{name}.out.log"))).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        self.processes.push(process);
    }

    /// Waits until it can be asked; panics if one of its processes has ended.
    pub fn wait_ready(&mut self, is: impl Fn(&Self) -> bool) {
        let is_ready = comes_true(|| {
            let ended = self.processes.iter_mut().find_map(|process| process.try_wait().unwrap());
            if let Some(status) = ended {
                panic!("{:?} has ended, {status}; is it installed? {}", self.kind, self.log());
            }
            is(self)
        });
        assert!(is_ready, "{:?} does not answer: {}", self.kind, self.log());
    }

    /// Writes a file into its folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn signal(&self, signal: &str) {
        let processes = self.processes.iter().map(|process| process.id().to_string());
        run(Command::new("kill").arg(format!("-{signal}")).args(processes));
    }
}

impl Drop for Router<'_> {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Ended already if it had failed, which the test has told.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A community that some routers show by its name (RFC 8326).
pub fn community(text: &str) -> String {
    match text {
        "graceful-shutdown" | "gracefulShutdown" => "65535:0".to_owned(),
        _ => text.to_owned(),
    }
}
