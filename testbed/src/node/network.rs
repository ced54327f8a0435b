//! The network namespace of a Pod: an address of the node's range, on a cable to the node.
//!
//! No bridge: the node has one route for each Pod, the Pod one to its node. A Pod with the node's network has
//! no namespace of its own.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, bail};

use crate::namespace::Namespace;

/// The addresses of a node's Pods: 10.78.N.2 to 10.78.N.254, or fd78:0:0:N::2 to fd78:0:0:N::fe. Those of Pods that are gone are given out again.
#[derive(Debug, Clone)]
pub(super) struct Range {
    node: u8,
    v6: bool,
    taken: Arc<Mutex<BTreeSet<u8>>>,
}

/// What a Pod is on.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// Its own address.
    pub(super) address: IpAddr,
    namespace: Option<Namespace>,
    lease: Option<(Range, u8)>,
}

impl Range {
    /// That of the node with this number and address, of the same family.
    pub(super) fn new(node: u8, address: IpAddr) -> Self {
        Self { node, v6: address.is_ipv6(), taken: Arc::default() }
    }

    fn address(&self, number: u8) -> IpAddr {
        match self.v6 {
            true => Ipv6Addr::new(0xfd78, 0, 0, self.node.into(), 0, 0, 0, number.into()).into(),
            false => Ipv4Addr::new(10, 78, self.node, number).into(),
        }
    }

    fn take(&self) -> anyhow::Result<u8> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (2..=254).find(|number| !taken.contains(number));
        let number = free.context("no address is left for another Pod")?;
        taken.insert(number);
        Ok(number)
    }

    fn give_back(&self, number: u8) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}

impl Sandbox {
    /// The node's own network.
    pub(super) fn of_node(address: IpAddr) -> Self {
        Self { address, namespace: None, lease: None }
    }

    /// One of its own.
    pub(super) fn new(range: &Range) -> anyhow::Result<Self> {
        let number = range.take()?;
        let (address, gateway) = (range.address(number), range.address(1));
        let mut sandbox = Self { address, namespace: None, lease: Some((range.clone(), number)) };
        let namespace = Namespace::new("pod")?;
        let cable = format!("pod{number}");
        // One that a Pod before it had may still be about to go.
        let _ = Command::new("ip").args(["link", "del", &cable]).output();
        // Nobody else is on the cable.
        let own = if address.is_ipv6() { " nodad" } else { "" };
        let node = format!(
            "link add {cable} type veth peer name eth0 netns {}\naddress add {gateway} dev {cable}{own}\n\
             link set {cable} up\nroute add {address} dev {cable}\n",
            namespace.path()
        );
        let pod = format!(
            "link set lo up\nlink set eth0 up\naddress add {address} dev eth0{own}\n\
             route add {gateway} dev eth0\nroute add default via {gateway} dev eth0 src {address}\n"
        );
        batch(&[], &node)?;
        batch(&namespace.prefix(), &pod)?;
        sandbox.namespace = Some(namespace);
        Ok(sandbox)
    }

    /// Words before a command that is to run on it.
    pub(super) fn prefix(&self) -> Vec<String> {
        self.namespace.as_ref().map_or_else(Vec::new, |namespace| namespace.prefix().to_vec())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some((range, number)) = &self.lease {
            // The cable has gone already when the namespace has.
            let _ = Command::new("ip").args(["link", "del", &format!("pod{number}")]).output();
            range.give_back(*number);
        }
    }
}

/// Runs lines of `ip`.
fn batch(prefix: &[String], lines: &str) -> anyhow::Result<()> {
    for line in lines.lines() {
        let words = prefix.iter().map(String::as_str).chain(["ip"]).chain(line.split(' '));
        let words: Vec<&str> = words.collect();
        let output = Command::new(words[0]).args(&words[1..]).output().context("no iproute2")?;
        if !output.status.success() {
            bail!("ip {line}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(())
}
