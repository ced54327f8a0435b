//! The rules of forwarding: what a segment meets on its way in, and where its fields are.
//!
//! [`super::Ruleset`] makes a batch of them for each device and generation, and moves elements of
//! their sets; what differs between paths is in the elements alone.

use std::{net::IpAddr, slice};

use super::Generation;
use crate::nftables::{
    Batch, DEVICE, Data, Dynamic, ETHERNET, Expression, IPV4, IPV6, Kind, PORT, Register, Set, Type,
};

/// Connections that one set of notes holds. As each takes about 100 bytes of the kernel's memory,
/// this is what a flood of SYNs can cost, for a minute.
const NOTES: u32 = 1 << 20;
/// Life of the note of a connection after its SYN, in milliseconds: until the client's next segment
/// comes, or its next SYN, as no answer came.
const SYN_TIMEOUT: u64 = 60_000;
/// Life of a note after any later segment, in milliseconds: a connection that is silent for longer
/// while the path stands is lost.
const NOTE_TIMEOUT: u64 = 3_600_000;
/// Between two sweeps for notes that have expired, in milliseconds.
const SWEEP_INTERVAL: u32 = 10_000;

/// Sets and chains of one family on one device in one generation, as `nft list ruleset` shows them.
pub(super) struct Names {
    /// Set of the forwarded addresses.
    pub(super) moved: String,
    /// Maps from them to the devices that they go by, and to the neighbours there.
    pub(super) out: String,
    pub(super) via: String,
    /// The same for what a neighbour hands in: maps from forwarded address and Ethernet address.
    pub(super) next_out: String,
    pub(super) next_via: String,
    /// Set of those of which it stays here.
    pub(super) stay: String,
    /// Chain that notes or passes on.
    forward: String,
    /// Set of the connections that stay here.
    mine: String,
}

impl Names {
    pub(super) fn new(layout: &Layout, device: u32, generation: Generation) -> Self {
        let name = |what: &str| format!("{what}{}-{device}.{generation}", layout.version);
        Self {
            moved: name("moved"),
            out: name("out"),
            via: name("via"),
            next_out: name("nextout"),
            next_via: name("nextvia"),
            stay: name("stay"),
            forward: name("forward"),
            mine: layout.notes(generation),
        }
    }
}

/// Where things are in a packet of a family, and in the registers.
pub(super) struct Layout {
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
    /// The register after an address in register 1.
    after_address: Register,
    /// `NFPROTO_*`.
    family: i32,
}

/// IPv4 (RFC 791 §3.1) and IPv6 (RFC 8200 §3).
pub(super) const LAYOUTS: [Layout; 2] = [
    Layout {
        version: 4,
        address: IPV4,
        protocol: [0x08, 0x00],
        next_header: 9,
        addresses: 12,
        key: [1, 9, 10, 11],
        after_address: 9,
        family: 2,
    },
    Layout {
        version: 6,
        address: IPV6,
        protocol: [0x86, 0xdd],
        next_header: 6,
        addresses: 8,
        key: [1, 2, 13, 17],
        after_address: 12,
        family: 10,
    },
];

const TCP: [u8; 1] = [libc::IPPROTO_TCP as u8];
const HOST: [u8; 1] = [libc::PACKET_HOST];
/// RFC 9293 §3.1: the byte of the flags, and the bits of SYN and ACK in it.
const FLAGS: u32 = 13;
const SYN: [u8; 1] = [0x02];
const SYN_AND_ACK: [u8; 1] = [0x12];
/// Offset of the sender in an Ethernet header.
const ETHERNET_SOURCE: u32 = 6;
/// Flag "more fragments" and the offset of a fragment: neither in a whole packet.
const FRAGMENT: [u8; 2] = [0x3f, 0xff];

impl Layout {
    pub(super) fn of(ip: IpAddr) -> &'static Self {
        &LAYOUTS[usize::from(ip.is_ipv6())]
    }

    pub(super) fn notes(&self, generation: Generation) -> String {
        format!("mine{}-{generation}", self.version)
    }

    pub(super) fn create_notes(&self, batch: &mut Batch, generation: Generation) {
        batch.create_set(&Set {
            name: &self.notes(generation),
            key: &[self.address, PORT, self.address, PORT],
            data: None,
            kind: Kind::Dynamic(Dynamic {
                size: NOTES,
                timeout: NOTE_TIMEOUT,
                gc_interval: SWEEP_INTERVAL,
            }),
            described: &[],
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
    /// interface sees others) and that go to a forwarded address.
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
        rule.push(Expression::Goto { chain: &names.forward });
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

    /// Loads a forwarded address and the neighbour that hands the segment in.
    fn handed_in(&self) -> [Expression<'static>; 2] {
        let (base, offset) = (libc::NFT_PAYLOAD_LL_HEADER, ETHERNET_SOURCE);
        let sender = Expression::Payload { base, offset, len: 6, to: self.after_address };
        [self.destination(1), sender]
    }

    /// What a neighbour hands in may go another way than the rest.
    fn pass_next<'a>(&'a self, names: &'a Names) -> Vec<Expression<'a>> {
        self.forward(&self.handed_in(), &names.next_out, &names.next_via)
    }

    /// Or stay.
    fn pass_last<'a>(&'a self, names: &'a Names) -> Vec<Expression<'a>> {
        let mut rule = self.is_family().to_vec();
        rule.extend(self.handed_in());
        rule.push(Expression::Lookup { set: &names.stay, key: 1, to: None });
        rule.push(Expression::Accept);
        rule
    }

    /// Everything else goes to the neighbour.
    fn pass<'a>(&'a self, names: &'a Names) -> Vec<Expression<'a>> {
        self.forward(&[self.destination(1)], &names.out, &names.via)
    }

    /// The maps have a device and a neighbour for the key, or both have none.
    fn forward<'a>(
        &'a self,
        key: &[Expression<'static>],
        out: &'a str,
        via: &'a str,
    ) -> Vec<Expression<'a>> {
        // Registers 1 to 4 are 16 bytes each; a key may take two of them.
        const DEVICE: Register = 3;
        const NEIGHBOUR: Register = 4;
        let mut rule = self.is_family().to_vec();
        for (map, to) in [(out, DEVICE), (via, NEIGHBOUR)] {
            rule.extend(key.iter().cloned());
            rule.push(Expression::Lookup { set: map, key: 1, to: Some(to) });
        }
        let (device, neighbour) = (DEVICE, NEIGHBOUR);
        rule.push(Expression::Forward { device, neighbour, family: self.family });
        rule
    }
}

pub(super) fn create_chains(batch: &mut Batch, device: u32, generation: Generation) {
    for layout in &LAYOUTS {
        let names = Names::new(layout, device, generation);
        let (vip, handed_in) = ([layout.address], [layout.address, ETHERNET]);
        let moved =
            Set { name: &names.moved, key: &vip, data: None, kind: Kind::Single, described: &[] };
        let stay = Set { name: &names.stay, key: &handed_in, ..moved.clone() };
        batch.create_set(&moved);
        batch.create_set(&Set {
            name: &names.out,
            data: Some(Data::Fields(&[DEVICE])),
            ..moved.clone()
        });
        batch.create_set(&Set {
            name: &names.via,
            data: Some(Data::Fields(slice::from_ref(&layout.address))),
            ..moved
        });
        batch.create_set(&Set {
            name: &names.next_out,
            data: Some(Data::Fields(&[DEVICE])),
            ..stay.clone()
        });
        let next_via = Set {
            name: &names.next_via,
            data: Some(Data::Fields(slice::from_ref(&layout.address))),
            ..stay.clone()
        };
        batch.create_set(&next_via);
        batch.create_set(&stay);
        batch.create_chain(&names.forward);
        let rules = [
            layout.note(&names),
            layout.keep(&names),
            layout.pass_next(&names),
            layout.pass_last(&names),
            layout.pass(&names),
        ];
        rules.iter().for_each(|rule| batch.append_rule(&names.forward, rule));
    }
}

pub(super) fn create_hook(batch: &mut Batch, device: u32, generation: Generation, name: &str) {
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
