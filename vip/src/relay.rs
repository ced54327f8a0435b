//! Relays: after a planned move, connections that began on the old owner are passed on to it.
//!
//! A virtual address has moved from another node to this one, so the neighbours send it here; but
//! the connections that began there go on there: the old owner keeps the address where no neighbour
//! sees it (on `lo`) and answers the clients directly. While a [`Relay`] stands, the kernel of this
//! node passes TCP segments to the relayed addresses on to the old owner, on the same link and below
//! its own IP layer, which would reset them. Connections whose first segment came here meanwhile
//! stay here: the kernel notes each SYN, and what has been noted is not passed on. So do those that
//! this node still has from an earlier time as the owner, if it notes them itself.
//!
//! What may come of it: a SYN for which there is no room goes to the old owner, who can serve it.
//! Fragments (TCP does not send them), other protocols than TCP and IPv6 segments behind extension
//! headers stay here. ICMP errors as well, so that the old owner does not hear of a path MTU that
//! shrinks after the move.
//!
//! Pure: [`Ruleset`] turns the difference between the relays that stand and those wanted into
//! messages of nf_tables. `io::nft` sends them for the speaker.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::nftables::{Batch, Dynamic, Element, Expression, IPV4, IPV6, PORT, Register, Set, Type};

/// Connections that one set of notes holds. As each takes about 100 bytes of the kernel's memory,
/// this is what a flood of SYNs can cost, for a minute.
const NOTES: u32 = 1 << 20;
/// Life of the note of a connection after its SYN, in milliseconds: until the client's next segment
/// comes, or its next SYN, as no answer came.
const SYN_TIMEOUT: u64 = 60_000;
/// Life of a note after any later segment, in milliseconds: a connection that is silent for longer
/// while the relay stands is lost.
const NOTE_TIMEOUT: u64 = 3_600_000;
/// Between two sweeps for notes that have expired, in milliseconds.
const SWEEP_INTERVAL: u32 = 10_000;

/// Where the segments go: to a neighbour on a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Relay {
    /// Index and name of the interface by which the segments come, and go again.
    pub(crate) device: (u32, String),
    /// The old owner's own address on that link, of the family of the relayed addresses.
    pub(crate) via: IpAddr,
}

/// The virtual addresses that each relay is for. On one device an address has one relay; of several,
/// the first in order counts.
pub(crate) type Relays = BTreeMap<Relay, BTreeSet<IpAddr>>;

/// The ends of a TCP connection that this node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// Addresses of two families in one relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MixedFamilies {
    vip: IpAddr,
    via: IpAddr,
}

impl fmt::Display for MixedFamilies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vip, via } = self;
        write!(out, "relay of {vip} via {via}: the two need to be of one address family")
    }
}

impl std::error::Error for MixedFamilies {}

/// The rules that stand in the kernel, in one table.
///
/// Per device and generation there is a base chain on the device, which sends segments to relayed
/// addresses to the `relay` chain of their family (and one more base chain for each new name of the
/// device: since Linux 6.16 they do not follow it, before they do); all that differs between relays is in the
/// elements of its sets, so that adding and removing relays touches nothing else. What once stands
/// is left until no relay is wanted; then the whole table goes.
///
/// A relay that ends leaves notes behind. When the same address is relayed again in the life of the
/// table, a client may use the port of a noted connection for one that began on the old owner.
/// Therefore the address is then in a new generation, with notes of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// Device indexes and generations with sets and chains.
    chains: BTreeSet<(u32, Generation)>,
    /// The same with the names that devices were known by: the base chains.
    hooks: BTreeSet<(u32, Generation, String)>,
    relayed: BTreeMap<Target, (IpAddr, Generation)>,
    /// First generation that knows nothing of an address that was relayed before.
    ended: BTreeMap<Target, Generation>,
}

type Generation = u32;
/// Device index and virtual address.
type Target = (u32, IpAddr);

impl Ruleset {
    /// What has to happen to the table so that it does what is `wanted`, and the rules after that;
    /// nothing if it does already.
    pub(crate) fn change(
        &self,
        table: &str,
        wanted: &Relays,
    ) -> Result<Option<(Batch, Self)>, MixedFamilies> {
        let (targets, names) = targets(wanted)?;
        let mut batch = Batch::new(table);
        if targets.is_empty() {
            if self.chains.is_empty() {
                return Ok(None);
            }
            batch.delete_table();
            return Ok(Some((batch, Self::default())));
        }
        let next = self.after(&targets, &names);
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

    /// Notes connections to relayed addresses that began before the relay and are this node's own:
    /// the address comes back to it while it still has some. Nothing if there are none.
    pub(crate) fn keep(&self, table: &str, connections: &[Connection]) -> Option<Batch> {
        let mut generations: BTreeMap<IpAddr, BTreeSet<Generation>> = BTreeMap::new();
        for ((_, vip), (_, generation)) in &self.relayed {
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
                notes.entry(set).or_default().push((key, None));
            }
        }
        let mut batch = Batch::new(table);
        notes.iter().for_each(|(set, keys)| batch.add_elements(set, keys));
        (!notes.is_empty()).then_some(batch)
    }

    /// Whether the address is relayed, on any device.
    pub(crate) fn relays(&self, vip: IpAddr) -> bool {
        self.relayed.keys().any(|(_, relayed)| *relayed == vip)
    }

    /// These rules with other relays.
    fn after(&self, targets: &BTreeMap<Target, IpAddr>, names: &BTreeMap<u32, &str>) -> Self {
        let mut next = self.clone();
        for (target, (_, generation)) in &self.relayed {
            if !targets.contains_key(target) {
                next.relayed.remove(target);
                next.ended.insert(*target, generation + 1);
            }
        }
        for (target, via) in targets {
            let fresh = self.ended.get(target).copied().unwrap_or_default();
            let generation = self.relayed.get(target).map_or(fresh, |(_, standing)| *standing);
            next.relayed.insert(*target, (*via, generation));
            next.chains.insert((target.0, generation));
            let name = names.get(&target.0).copied().unwrap_or_default();
            next.hooks.insert((target.0, generation, name.to_owned()));
        }
        next
    }

    fn move_elements(&self, next: &Self, batch: &mut Batch) {
        // Deletions first: an element is changed by replacing it.
        let gone = elements(&self.relayed, &next.relayed);
        gone.iter().for_each(|(set, elements)| batch.delete_elements(set, elements));
        let new = elements(&next.relayed, &self.relayed);
        new.iter().for_each(|(set, elements)| batch.add_elements(set, elements));
    }
}

/// Each address with its way, and the names of the devices.
#[expect(clippy::type_complexity, reason = "two maps, taken apart at once")]
fn targets(
    wanted: &Relays,
) -> Result<(BTreeMap<Target, IpAddr>, BTreeMap<u32, &str>), MixedFamilies> {
    let (mut targets, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (Relay { device: (index, name), via }, vips) in wanted {
        names.insert(*index, name.as_str());
        for vip in vips {
            if vip.is_ipv4() != via.is_ipv4() {
                return Err(MixedFamilies { vip: *vip, via: *via });
            }
            targets.entry((*index, *vip)).or_insert(*via);
        }
    }
    Ok((targets, names))
}

/// The elements, by set, that `these` relays have and `those` have not.
fn elements(
    these: &BTreeMap<Target, (IpAddr, Generation)>,
    those: &BTreeMap<Target, (IpAddr, Generation)>,
) -> BTreeMap<String, Vec<Element>> {
    let mut sets: BTreeMap<String, Vec<Element>> = BTreeMap::new();
    for (target @ (device, vip), (via, generation)) in these {
        let other = those.get(target);
        if other == Some(&(*via, *generation)) {
            continue;
        }
        let names = Names::new(Layout::of(*vip), *device, *generation);
        sets.entry(names.via).or_default().push((octets(*vip), Some(octets(*via))));
        // An address that only goes another way is moved all the same.
        if other.is_none() {
            sets.entry(names.moved).or_default().push((octets(*vip), None));
        }
    }
    sets
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Sets and chains of one family on one device in one generation, as `nft list ruleset` shows them.
struct Names {
    /// Set of the relayed addresses.
    moved: String,
    /// Map from them to the neighbours.
    via: String,
    /// Chain that notes or passes on.
    relay: String,
    /// Set of the connections that stay here.
    mine: String,
}

impl Names {
    fn new(layout: &Layout, device: u32, generation: Generation) -> Self {
        let name = |what: &str| format!("{what}{}-{device}.{generation}", layout.version);
        let mine = layout.notes(generation);
        Self { moved: name("moved"), via: name("via"), relay: name("relay"), mine }
    }
}

/// Where things are in a packet of a family, and in the registers.
struct Layout {
    version: u8,
    address: Type,
    /// Ethertype.
    protocol: [u8; 2],
    /// Offset of the number of the next protocol in the IP header.
    next_header: u32,
    /// Offset of the source address, which the destination address follows.
    addresses: u32,
    /// Registers of a connection's key: source, its port, destination, its port; one after another.
    key: [Register; 4],
    /// `NFPROTO_*`.
    family: i32,
}

/// IPv4 (RFC 791 §3.1) and IPv6 (RFC 8200 §3).
const LAYOUTS: [Layout; 2] = [
    Layout {
        version: 4,
        address: IPV4,
        protocol: [0x08, 0x00],
        next_header: 9,
        addresses: 12,
        key: [1, 9, 10, 11],
        family: 2,
    },
    Layout {
        version: 6,
        address: IPV6,
        protocol: [0x86, 0xdd],
        next_header: 6,
        addresses: 8,
        key: [1, 2, 13, 17],
        family: 10,
    },
];

const TCP: [u8; 1] = [libc::IPPROTO_TCP as u8];
const HOST: [u8; 1] = [libc::PACKET_HOST];
/// RFC 9293 §3.1: the byte of the flags, and the bits of SYN and ACK in it.
const FLAGS: u32 = 13;
const SYN: [u8; 1] = [0x02];
const SYN_AND_ACK: [u8; 1] = [0x12];
/// Flag "more fragments" and the offset of a fragment: neither in a whole packet.
const FRAGMENT: [u8; 2] = [0x3f, 0xff];

impl Layout {
    fn of(ip: IpAddr) -> &'static Self {
        &LAYOUTS[usize::from(ip.is_ipv6())]
    }

    fn notes(&self, generation: Generation) -> String {
        format!("mine{}-{generation}", self.version)
    }

    fn create_notes(&self, batch: &mut Batch, generation: Generation) {
        batch.create_set(&Set {
            name: &self.notes(generation),
            key: &[self.address, PORT, self.address, PORT],
            data: None,
            dynamic: Some(Dynamic {
                size: NOTES,
                timeout: NOTE_TIMEOUT,
                gc_interval: SWEEP_INTERVAL,
            }),
        });
    }

    fn source(&self, to: Register) -> Expression<'static> {
        network(self.addresses, self.address.len, to)
    }

    fn destination(&self, to: Register) -> Expression<'static> {
        network(self.addresses + self.address.len, self.address.len, to)
    }

    /// That this is a packet of the family, which the other steps rely on.
    fn is_family(&self) -> [Expression<'_>; 2] {
        let protocol = Expression::Meta { key: libc::NFT_META_PROTOCOL, to: 1 };
        [protocol, Expression::Equal { register: 1, value: &self.protocol }]
    }

    /// Loads what tells a connection from others.
    fn connection(&self) -> [Expression<'static>; 4] {
        let [source, source_port, destination, destination_port] = self.key;
        [
            self.source(source),
            transport(0, 2, source_port),
            self.destination(destination),
            transport(2, 2, destination_port),
        ]
    }

    /// The rule of the base chain: whole TCP segments that the link gave to this node (a promiscuous
    /// interface sees others) and that go to a relayed address.
    fn pick<'a>(&'a self, names: &'a Names) -> Vec<Expression<'a>> {
        let mut rule = vec![
            Expression::Meta { key: libc::NFT_META_PKTTYPE, to: 1 },
            Expression::Equal { register: 1, value: &HOST },
        ];
        rule.extend(self.is_family());
        rule.push(network(self.next_header, 1, 1));
        rule.push(Expression::Equal { register: 1, value: &TCP });
        if self.version == 4 {
            rule.push(network(6, 2, 1));
            rule.push(Expression::Mask { mask: &FRAGMENT, register: 1 });
            rule.push(Expression::Equal { register: 1, value: &[0, 0] });
        }
        rule.push(self.destination(1));
        rule.push(Expression::Lookup { set: &names.moved, key: 1, to: None });
        rule.push(Expression::Goto { chain: &names.relay });
        rule
    }

    /// A connection that begins is noted, and stays.
    fn note<'a>(&'a self, names: &'a Names) -> Vec<Expression<'a>> {
        let mut rule = is_tcp().to_vec();
        rule.push(transport(FLAGS, 1, 1));
        rule.push(Expression::Mask { mask: &SYN_AND_ACK, register: 1 });
        rule.push(Expression::Equal { register: 1, value: &SYN });
        rule.extend(self.is_family());
        rule.extend(self.connection());
        rule.push(Expression::Update { set: &names.mine, key: 1, timeout: Some(SYN_TIMEOUT) });
        rule.push(Expression::Accept);
        rule
    }

    /// A connection that has been noted stays.
    fn keep<'a>(&'a self, names: &'a Names) -> Vec<Expression<'a>> {
        let mut rule = self.is_family().to_vec();
        rule.extend(is_tcp());
        rule.extend(self.connection());
        rule.push(Expression::Lookup { set: &names.mine, key: 1, to: None });
        // Loaded again, because this is how nft would write the rule, and can read it.
        rule.extend(self.connection());
        rule.push(Expression::Update { set: &names.mine, key: 1, timeout: None });
        rule.push(Expression::Accept);
        rule
    }

    /// Everything else goes to the neighbour.
    fn pass<'a>(&'a self, names: &'a Names, device: &'a [u8; 4]) -> Vec<Expression<'a>> {
        let mut rule = self.is_family().to_vec();
        rule.push(Expression::Immediate { value: device, to: 1 });
        rule.push(self.destination(2));
        rule.push(Expression::Lookup { set: &names.via, key: 2, to: Some(2) });
        rule.push(Expression::Forward { device: 1, neighbour: 2, family: self.family });
        rule
    }
}

fn create_chains(batch: &mut Batch, device: u32, generation: Generation) {
    let number = device.to_ne_bytes();
    for layout in &LAYOUTS {
        let names = Names::new(layout, device, generation);
        let key = [layout.address];
        let moved = Set { name: &names.moved, key: &key, data: None, dynamic: None };
        batch.create_set(&moved);
        batch.create_set(&Set { name: &names.via, data: Some(layout.address), ..moved });
        batch.create_chain(&names.relay);
        batch.append_rule(&names.relay, &layout.note(&names));
        batch.append_rule(&names.relay, &layout.keep(&names));
        batch.append_rule(&names.relay, &layout.pass(&names, &number));
    }
}

fn create_hook(batch: &mut Batch, device: u32, generation: Generation, name: &str) {
    let ingress = format!("in-{device}.{generation}-{name}");
    batch.create_ingress_chain(&ingress, name);
    for layout in &LAYOUTS {
        batch.append_rule(&ingress, &layout.pick(&Names::new(layout, device, generation)));
    }
}

fn is_tcp() -> [Expression<'static>; 2] {
    let protocol = Expression::Meta { key: libc::NFT_META_L4PROTO, to: 1 };
    [protocol, Expression::Equal { register: 1, value: &TCP }]
}

fn network(offset: u32, len: u32, to: Register) -> Expression<'static> {
    Expression::Payload { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset, len, to }
}

fn transport(offset: u32, len: u32, to: Register) -> Expression<'static> {
    Expression::Payload { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset, len, to }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
