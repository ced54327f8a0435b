//! After a planned move, the new owner of an address forwards connections that began on the old owner to it.
//!
//! When an address has moved to this node, its neighbours send all packets here. The connections that
//! began on the old owner go on there: the old owner keeps the address on `lo`, where no neighbour sees
//! it, and answers the clients directly. While a [`ForwardPath`] stands, the kernel of this
//! node passes TCP segments to the forwarded addresses on to the old owner, on the same link and below
//! its own IP layer, which would reset them. A connection whose first segment comes here meanwhile
//! stays here: the kernel notes each SYN and passes no segment of a noted connection on. A connection that
//! this node still has from an earlier time as the owner stays here too, if this node notes it.
//!
//! The same serves an address that several nodes have at once, because routers spread clients over
//! them, when one of these nodes leaves ([`group::routed`](crate::l2::group)): then this node has
//! connections of its own all the time, so a path begins with noting only ([`ForwardPath::next_hop`]). Segments
//! may come by one link and go by another, and what another node of the group hands in may have to
//! go another way than what a router does ([`ForwardPath::from`]).
//!
//! What may come of it: a SYN for which there is no room goes to the old owner, which can serve it.
//! Fragments (TCP does not send them), other protocols than TCP and IPv6 segments behind extension
//! headers stay here. ICMP errors as well, so that the old owner does not hear of a path MTU that
//! shrinks after the move.
//!
//! Pure: [`Ruleset`] turns the difference between the paths that stand and the wanted ones into
//! messages of nf_tables. `kernel::nftables` sends them for the speaker.

mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::{
    links::Mac,
    nftables::{Batch, Element, Value},
};
use rules::{LAYOUTS, Layout, Names, create_chains, create_hook};

/// Segments that come by a link, and where they go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ForwardPath {
    /// Index and name of the interface by which they come.
    pub(crate) device: (u32, String),
    /// The neighbour that hands them in; `None`: every neighbour that has no path of its own here. A
    /// path of one neighbour counts only beside one of the same address for all.
    pub(crate) from: Option<Mac>,
    /// `None`: they stay here, and connections that begin are noted.
    pub(crate) next_hop: Option<NextHop>,
}

/// The neighbour that segments go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NextHop {
    /// Index of the interface that leads to it.
    pub(crate) link: u32,
    /// Its own address there, of the family of the forwarded addresses.
    pub(crate) via: IpAddr,
}

impl ForwardPath {
    /// To a neighbour on the link by which the segments come.
    pub(crate) fn on(device: (u32, String), via: IpAddr) -> Self {
        let next_hop = Some(NextHop { link: device.0, via });
        Self { device, from: None, next_hop }
    }
}

/// The virtual addresses that each path is for. On one device and from one neighbour an address has
/// one path; of several, the first in order counts.
pub(crate) type ForwardPaths = BTreeMap<ForwardPath, BTreeSet<IpAddr>>;

/// The ends of a TCP connection that this node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// Addresses of two families in one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MixedFamilies {
    vip: IpAddr,
    via: IpAddr,
}

impl fmt::Display for MixedFamilies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vip, via } = self;
        write!(out, "{vip} via {via}: the two need to be of one address family")
    }
}

impl std::error::Error for MixedFamilies {}

/// The rules that stand in the kernel, in one table.
///
/// Per device and generation there is a base chain on the device, which sends segments to forwarded
/// addresses to the `forward` chain of their family (and one more base chain for each new name of the
/// device: since Linux 6.16 they do not follow it, before they do); all that differs between paths is in the
/// elements of its sets, so that adding and removing paths touches nothing else. Chains and sets
/// stay until no path is wanted; then the whole table goes.
///
/// A path that ends leaves notes behind. When the same address is forwarded again in the life of the
/// table, a client may use the port of a noted connection for one that began on the old owner.
/// Therefore the address is then in a new generation, with notes of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// Device indexes and generations with sets and chains.
    chains: BTreeSet<(u32, Generation)>,
    /// The same with the names that devices were known by: the base chains.
    hooks: BTreeSet<(u32, Generation, String)>,
    forwarded: BTreeMap<Target, Standing>,
    /// What differs for segments that a neighbour hands in.
    exceptions: BTreeMap<(Target, Mac), Standing>,
    /// First generation that knows nothing of an address that was forwarded before.
    ended: BTreeMap<Target, Generation>,
}

type Generation = u32;
/// Device index and virtual address.
type Target = (u32, IpAddr);
/// The next hop, unless segments stay here.
type Standing = (Option<NextHop>, Generation);
/// The content of sets by their names: keys, and the data of maps.
type Content = BTreeMap<String, BTreeMap<Vec<u8>, Value>>;

/// What is wanted, by device and address.
#[derive(Default)]
struct Targets<'a> {
    next_hops: BTreeMap<Target, Option<NextHop>>,
    exceptions: BTreeMap<(Target, Mac), Option<NextHop>>,
    /// Of the devices.
    names: BTreeMap<u32, &'a str>,
}

impl Ruleset {
    /// What has to happen to the table so that it does what is `wanted`, and the rules after that;
    /// nothing if it does already.
    pub(crate) fn change(
        &self,
        table: &str,
        wanted: &ForwardPaths,
    ) -> Result<Option<(Batch, Self)>, MixedFamilies> {
        let targets = targets(wanted)?;
        let mut batch = Batch::new(table);
        if targets.next_hops.is_empty() {
            if self.chains.is_empty() {
                return Ok(None);
            }
            batch.delete_table();
            return Ok(Some((batch, Self::default())));
        }
        let next = self.after(&targets);
        if next == *self {
            return Ok(None);
        }
        if self.chains.is_empty() {
            batch.create_table();
        }
        let generations = |rules: &Self| -> BTreeSet<Generation> {
            rules.chains.iter().map(|(_, generation)| *generation).collect()
        };
        for generation in generations(&next).difference(&generations(self)) {
            LAYOUTS.iter().for_each(|layout| layout.create_notes(&mut batch, *generation));
        }
        for &(device, generation) in next.chains.difference(&self.chains) {
            create_chains(&mut batch, device, generation);
        }
        for (device, generation, name) in next.hooks.difference(&self.hooks) {
            create_hook(&mut batch, *device, *generation, name);
        }
        self.move_elements(&next, &mut batch);
        Ok(Some((batch, next)))
    }

    /// Notes connections to forwarded addresses that began before the path and are this node's own:
    /// the address comes back to it while it still has some. Nothing if there are none.
    pub(crate) fn keep(&self, table: &str, connections: &[Connection]) -> Option<Batch> {
        let mut generations: BTreeMap<IpAddr, BTreeSet<Generation>> = BTreeMap::new();
        for ((_, vip), (_, generation)) in &self.forwarded {
            generations.entry(*vip).or_default().insert(*generation);
        }
        let mut notes: BTreeMap<String, Vec<Element>> = BTreeMap::new();
        for Connection { local, remote } in connections {
            for generation in generations.get(&local.ip()).into_iter().flatten() {
                let mut key = Vec::with_capacity(40);
                for end in [remote, local] {
                    key.extend(octets(end.ip()));
                    key.extend(end.port().to_be_bytes());
                    key.extend([0, 0]); // fields of a concatenation are padded to 4 bytes
                }
                let set = Layout::of(local.ip()).notes(*generation);
                notes.entry(set).or_default().push((key, Value::None));
            }
        }
        let mut batch = Batch::new(table);
        notes.iter().for_each(|(set, keys)| batch.add_elements(set, keys));
        (!notes.is_empty()).then_some(batch)
    }

    /// Whether the address is forwarded, on any device.
    pub(crate) fn forwards(&self, vip: IpAddr) -> bool {
        self.forwarded.keys().any(|(_, target)| *target == vip)
    }

    /// These rules with other paths.
    fn after(&self, targets: &Targets<'_>) -> Self {
        let mut next = self.clone();
        for (target, (_, generation)) in &self.forwarded {
            if !targets.next_hops.contains_key(target) {
                next.forwarded.remove(target);
                next.ended.insert(*target, generation + 1);
            }
        }
        for (target, next_hop) in &targets.next_hops {
            let fresh = self.ended.get(target).copied().unwrap_or_default();
            let generation = self.forwarded.get(target).map_or(fresh, |(_, standing)| *standing);
            next.forwarded.insert(*target, (*next_hop, generation));
            next.chains.insert((target.0, generation));
            let name = targets.names.get(&target.0).copied().unwrap_or_default();
            next.hooks.insert((target.0, generation, name.to_owned()));
        }
        let exceptions = targets.exceptions.iter().filter_map(|(at, next_hop)| {
            let (_, generation) = next.forwarded.get(&at.0)?;
            Some((*at, (*next_hop, *generation)))
        });
        next.exceptions = exceptions.collect();
        next
    }

    fn move_elements(&self, next: &Self, batch: &mut Batch) {
        let (before, after) = (self.content(), next.content());
        // Deletions first: an element is changed by replacing it.
        for (set, elements) in missing(&before, &after) {
            batch.delete_elements(&set, &elements);
        }
        for (set, elements) in missing(&after, &before) {
            batch.add_elements(&set, &elements);
        }
    }

    fn content(&self) -> Content {
        let mut content = Content::new();
        let mut put = |set, key: Vec<u8>, data| {
            content.entry(set).or_default().insert(key, data);
        };
        for ((device, vip), (next_hop, generation)) in &self.forwarded {
            let names = Names::new(Layout::of(*vip), *device, *generation);
            put(names.moved, octets(*vip), Value::None);
            if let Some(NextHop { link, via }) = next_hop {
                put(names.out, octets(*vip), Value::Data(link.to_ne_bytes().to_vec()));
                put(names.via, octets(*vip), Value::Data(octets(*via)));
            }
        }
        for (((device, vip), mac), (next_hop, generation)) in &self.exceptions {
            let names = Names::new(Layout::of(*vip), *device, *generation);
            let key = [octets(*vip), mac.to_vec(), vec![0, 0]].concat();
            match next_hop {
                Some(NextHop { link, via }) => {
                    put(names.next_out, key.clone(), Value::Data(link.to_ne_bytes().to_vec()));
                    put(names.next_via, key, Value::Data(octets(*via)));
                }
                None => put(names.stay, key, Value::None),
            }
        }
        content
    }
}

/// Takes what is wanted apart.
fn targets(wanted: &ForwardPaths) -> Result<Targets<'_>, MixedFamilies> {
    let mut targets = Targets::default();
    for (ForwardPath { device: (index, name), from, next_hop }, vips) in wanted {
        targets.names.insert(*index, name.as_str());
        for vip in vips {
            if let Some(NextHop { via, .. }) = next_hop
                && vip.is_ipv4() != via.is_ipv4()
            {
                return Err(MixedFamilies { vip: *vip, via: *via });
            }
            let target = (*index, *vip);
            match from {
                Some(mac) => targets.exceptions.entry((target, *mac)).or_insert(*next_hop),
                None => targets.next_hops.entry(target).or_insert(*next_hop),
            };
        }
    }
    Ok(targets)
}

/// The elements, by set, that are in `these` and not, or differently, in `those`.
fn missing(these: &Content, those: &Content) -> BTreeMap<String, Vec<Element>> {
    let missing = these.iter().map(|(set, elements)| {
        let others = those.get(set);
        let differs = |key, data| others.and_then(|others| others.get(key)) != Some(data);
        let elements = elements.iter().filter(|(key, data)| differs(*key, *data));
        (set.clone(), elements.map(|(key, data)| (key.clone(), data.clone())).collect())
    });
    missing.filter(|(_, elements): &(_, Vec<_>)| !elements.is_empty()).collect()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests;
