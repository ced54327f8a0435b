//! Hosts on a link: each is a network namespace, the link is a bridge in a namespace of its own.
//!
//! Owns the addresses, cables and cuts; what a host is and what runs on it is [`Namespace`]'s. Needs
//! nftables beside what that needs.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Deref,
    sync::{Mutex, PoisonError},
};

use anyhow::bail;

use crate::namespace::Namespace;

/// Prefix length of the hosts' IPv4 addresses, 10.77.0.N: room for 1 000 virtual addresses on the link.
const PREFIX4: u8 = 16;

/// Which of a host's two addresses others know it by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Family {
    /// [`Host::v4`].
    #[default]
    V4,
    /// [`Host::v6`].
    V6,
}

/// A host: one cable (`eth0`), one IPv4 and one IPv6 address, a MAC address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host {
    namespace: Namespace,
    number: u8,
}

impl Host {
    /// Its own IPv4 address, 10.77.0.N.
    pub fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Its own IPv6 address, `fd77::N`.
    pub fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    /// Its own address of a family.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4().into(),
            Family::V6 => self.v6().into(),
        }
    }

    /// Its number on the link, from 1 on.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Takes its IPv4 address away.
    pub fn forget_v4(&self) -> anyhow::Result<()> {
        self.run(&["ip", "-4", "address", "flush", "dev", "eth0"]).map(drop)
    }

    /// The MAC address of its `eth0`, in lower case.
    pub fn mac(&self) -> String {
        format!("02:77:00:00:00:{:02x}", self.number)
    }
}

/// A host is its namespace, on a link.
impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
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
        let switch = Namespace::new("switch")?;
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
        let port = port(host.number);
        self.switch.feed(&["ip", "-batch", "-"], &format!("link set {port} {state}\n"))
    }

    /// From now on nothing that `from` sends arrives at `to`; the other way stays open.
    pub fn cut_one_way(&self, from: &Host, to: &Host) -> anyhow::Result<()> {
        let [one, other] = [from, to].map(|host| port(host.number));
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
    let host = Host { namespace: Namespace::new(name)?, number };
    let (port, mac, inside) = (port(number), host.mac(), host.path());
    let cable = format!(
        "link add {port} type veth peer name eth0 address {mac} netns {inside}\n\
         link set {port} master br0 up\n"
    );
    switch.feed(&["ip", "-batch", "-"], &cable)?;
    let addresses = format!(
        "address add {}/{PREFIX4} brd + dev eth0\naddress add {}/64 dev eth0\nlink set eth0 up\n",
        host.v4(),
        host.v6()
    );
    host.feed(&["ip", "-batch", "-"], &addresses)?;
    Ok(host)
}

#[cfg(test)]
mod tests;
