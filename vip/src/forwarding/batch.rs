//! What forwarding is made of in nf_tables, and how it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    Endpoint, Left, Rules, Traffic, Transport,
    group::{self, counter},
    layout::{FIRST, LAYOUTS, Layout, key, octets},
    share::mixed,
    steps::{self, Steps},
};
use crate::nftables::{
    Batch, Data, Element, End, Expression, Hook, Kind, Listed, PORT, PROTOCOL, Set, Value,
};

/// Before destinations are changed by others, as kube-proxy: a connection is given its first one.
const DNAT_PRIORITY: i32 = -105;
/// Before sources are changed by others.
const WAY_BACK_PRIORITY: i32 = 95;
/// Before destinations, and after sources are changed: packets have the client's and the virtual address.
const COUNT_IN_PRIORITY: i32 = -150;
const COUNT_OUT_PRIORITY: i32 = 150;
const REFUSE_PRIORITY: i32 = -5;

const BOTH: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// `IPS_DST_NAT` (nf_conntrack_common.h), in host order.
const DESTINATION_CHANGED: [u8; 4] = (1_u32 << 5).to_ne_bytes();
/// RFC 9293 §3.1: the byte of the flags, the bits of FIN, SYN, RST and ACK in it, and those of a connection's first packet.
const FLAGS: u32 = 13;
const FLAGS_OF_INTEREST: [u8; 1] = [0x17];
const FIRST_PACKET: [u8; 1] = [0x02];
/// `RTN_LOCAL` (rtnetlink.h), in host order.
const LOCAL: [u8; 4] = 2_u32.to_ne_bytes();

/// Source ports of connections that get an address of this host: none of those that Linux gives the host's own
/// (`ip_local_port_range`, from 32768 by default). Nothing has told connection tracking of the process's connections that
/// were open before the table, so it would give one of their ports away.
const PORTS: [[u8; 2]; 2] = [1024_u16.to_be_bytes(), 32_767_u16.to_be_bytes()];

// No name is a word of nft's language, so that nft can read what it lists.
const MASQUERADE: &str = "by-node";
const KEEP_CLIENT: &str = "keep-client";
const REFUSED_CHAIN: &str = "refused";
const MARK: &str = "made-of-";

/// What a table has counted, by group.
pub type Totals = BTreeMap<String, Traffic>;

/// The totals that a list of counters says.
pub(crate) fn counters_of(listed: &[Listed]) -> Totals {
    let mut totals = Totals::new();
    for Listed { name, bytes, packets } in listed {
        let Some((group, which)) = name.rsplit_once('/') else { continue };
        let traffic = totals.entry(group.to_owned()).or_default();
        match which {
            "in" => traffic.bytes_in = *bytes,
            "out" => traffic.bytes_out = *bytes,
            _ => traffic.connections = *packets,
        }
    }
    totals
}

/// Rules, and how a table that is made of them is known.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) rules: Rules,
    /// The rules that the kernel lists of all chains.
    pub(crate) len: usize,
    /// The elements that it lists, by set; without the clients that endpoints have.
    pub(crate) elements: BTreeMap<String, usize>,
    /// The name of a counter that says which rules the table is made of, and how: a process that comes after this one,
    /// and wants the same, leaves the table as it is.
    pub(crate) mark: String,
}

impl Made {
    /// What becomes of rules.
    pub(crate) fn of(rules: &Rules) -> Self {
        let whole = whole(rules, &Left::default());
        let Content(sets) = Content::of(rules);
        let sets = sets.into_iter().map(|(set, elements)| (set.to_owned(), elements.len()));
        let of_groups = rules.groups.iter().flat_map(|(name, group)| group::sizes(name, group));
        Self {
            rules: rules.clone(),
            len: whole.rules(),
            elements: sets.chain(of_groups).collect(),
            mark: format!("{MARK}{:016x}", digest(whole.bytes())),
        }
    }
}

/// A number that follows from bytes, and hardly from others.
fn digest(bytes: &[u8]) -> u64 {
    let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    bytes.chunks(8).fold(0, |digest, bytes| mixed(digest ^ word(bytes)))
}

/// The transactions that make the table as wanted, in order; none: it is. `standing`: what transactions of this process
/// have made it; without, whatever table there is is replaced by one that goes on with what is `left` of it.
pub(crate) fn change(standing: Option<&Made>, wanted: &Made, left: &Left) -> Vec<Batch> {
    let Some(standing) = standing else {
        let mut batch = whole(&wanted.rules, left);
        batch.create_counter(&wanted.mark, 0, 0);
        return vec![batch];
    };
    let mut steps = Steps::apart();
    if standing.mark != wanted.mark {
        turn(&mut steps, &standing.rules, &wanted.rules, left);
        steps.turn().delete_counter(&standing.mark);
        steps.turn().create_counter(&wanted.mark, 0, 0);
    }
    steps.batches()
}

/// The transaction that replaces whatever table there is, but for its mark.
fn whole(rules: &Rules, left: &Left) -> Batch {
    let mut steps = Steps::at_once();
    steps.begin().replace_table();
    create(steps.begin());
    turn(&mut steps, &Rules::default(), rules, left);
    steps.batches().pop().unwrap_or_else(steps::batch)
}

/// From rules that stand to others.
fn turn(steps: &mut Steps, before: &Rules, after: &Rules, left: &Left) {
    let (had, has) = (Content::of(before), Content::of(after));
    for (name, group) in &after.groups {
        let known = before.groups.get(name);
        if known != Some(group) {
            group::change(steps, name, (known, Some(group)), left);
        }
    }
    // Deletions first: an element is changed by replacing it.
    for (set, elements) in had.missing_in(&has) {
        steps.turn().delete_elements(set, &elements);
    }
    for (set, elements) in has.missing_in(&had) {
        steps.turn().add_elements(set, &elements);
    }
    let gone = before.groups.iter().filter(|(name, _)| !after.groups.contains_key(*name));
    gone.for_each(|(name, group)| group::change(steps, name, (Some(group), None), left));
}

/// The names of the sets of clients that rules ask for.
pub(crate) fn sets_of_clients(rules: &Rules) -> impl Iterator<Item = String> {
    rules.groups.iter().flat_map(|(name, group)| group::sets_of_clients(name, group))
}

/// Removes the table.
pub(crate) fn removal() -> Batch {
    let mut batch = steps::batch();
    batch.delete_table();
    batch
}

/// The elements of all sets.
#[derive(Default)]
struct Content(BTreeMap<&'static str, BTreeMap<Vec<u8>, Value>>);

impl Content {
    fn of(rules: &Rules) -> Self {
        let mut content = Self::default();
        for ((ip, transport, port), name) in &rules.ports {
            let layout = Layout::of(ip.is_ipv6());
            let key = key(*ip, *transport, *port);
            let group = rules.groups.get(name).filter(|group| {
                group.v6 == ip.is_ipv6()
                    && group.transport == *transport
                    && !group.usable().is_empty()
            });
            let Some(group) = group else {
                content.put(layout.refused, key, Value::None);
                continue;
            };
            let way_back = if group.keeps_client { KEEP_CLIENT } else { MASQUERADE };
            content.put(layout.services, key.clone(), Value::Goto(name.to_string()));
            content.put(layout.way_back, key.clone(), Value::Goto(way_back.to_owned()));
            content.put(layout.count_in, key.clone(), Value::Counter(counter(name, "in")));
            content.put(layout.count_out, key, Value::Counter(counter(name, "out")));
        }
        for group in rules.groups.values().filter(|group| group.keeps_client) {
            for endpoint in group.serving() {
                content.put(Layout::of(group.v6).here, octets(endpoint.ip), Value::None);
            }
        }
        content
    }

    fn put(&mut self, set: &'static str, key: Vec<u8>, value: Value) {
        self.0.entry(set).or_default().insert(key, value);
    }

    /// The elements, by set, that are here and not, or differently, in the other.
    fn missing_in(&self, other: &Self) -> Vec<(&'static str, Vec<Element>)> {
        let missing = self.0.iter().map(|(set, elements)| {
            let others = other.0.get(set);
            let differs = |(key, value): &(&Vec<u8>, &Value)| {
                others.and_then(|others| others.get(*key)) != Some(*value)
            };
            let elements = elements.iter().filter(differs);
            (*set, elements.map(|(key, value)| (key.clone(), value.clone())).collect())
        });
        missing.filter(|(_, elements): &(_, Vec<_>)| !elements.is_empty()).collect()
    }
}

/// All that does not depend on what is forwarded.
fn create(batch: &mut Batch) {
    for layout in &LAYOUTS {
        let key = &[layout.address, PROTOCOL, PORT];
        let sets = [
            (layout.services, Some(Data::Verdict)),
            (layout.refused, None),
            (layout.way_back, Some(Data::Verdict)),
            (layout.count_in, Some(Data::Counter)),
            (layout.count_out, Some(Data::Counter)),
        ];
        for (name, data) in sets {
            batch.create_set(&Set { name, key, data, kind: Kind::Single, described: &[] });
        }
        batch.create_set(&Set {
            name: layout.here,
            key: &[layout.address],
            data: None,
            kind: Kind::Single,
            described: &[],
        });
    }
    create_dnat(batch);
    create_way_back(batch);
    create_refuse(batch);
    create_counting(batch);
}

fn create_dnat(batch: &mut Batch) {
    for (name, hook) in [("to-endpoint", Hook::Prerouting), ("to-endpoint-local", Hook::Output)] {
        batch.create_base_chain(name, "nat", hook, DNAT_PRIORITY);
        batch.append_rule(
            name,
            &[
                Expression::AddressKind { of: End::Destination, to: FIRST },
                Expression::Differs { register: FIRST, value: &LOCAL },
                Expression::Return,
            ],
        );
        // The kernel begins to watch connections with the first table that asks for it, and takes up those which are open:
        // the process's own, where it has passed on the Service up to now.
        batch.append_rule(
            name,
            &[
                Expression::Meta { key: libc::NFT_META_L4PROTO, to: FIRST },
                Expression::Equal { register: FIRST, value: &[libc::IPPROTO_TCP as u8] },
                Expression::Payload {
                    base: libc::NFT_PAYLOAD_TRANSPORT_HEADER,
                    offset: FLAGS,
                    len: 1,
                    to: FIRST,
                },
                Expression::Mask { mask: &FLAGS_OF_INTEREST, register: FIRST },
                Expression::Differs { register: FIRST, value: &FIRST_PACKET },
                Expression::Return,
            ],
        );
        for layout in &LAYOUTS {
            let mut rule = layout.is_family().to_vec();
            rule.extend(layout.key(End::Destination));
            rule.push(Expression::Dispatch { map: layout.services, key: FIRST });
            batch.append_rule(name, &rule);
        }
    }
}

fn create_way_back(batch: &mut Batch) {
    batch.create_chain(MASQUERADE);
    masquerade(batch, MASQUERADE, &[]);
    batch.create_chain(KEEP_CLIENT);
    // This host itself, whose address the kernel has chosen for another destination.
    let by_itself = [
        Expression::AddressKind { of: End::Source, to: FIRST },
        Expression::Equal { register: FIRST, value: &LOCAL },
    ];
    masquerade(batch, KEEP_CLIENT, &by_itself);
    // A neighbour of the endpoint, or the endpoint itself: it would answer directly.
    for layout in &LAYOUTS {
        let mut rule = layout.is_family().to_vec();
        rule.push(layout.address(End::Source));
        rule.push(Expression::Lookup { set: layout.here, key: FIRST, to: None });
        masquerade(batch, KEEP_CLIENT, &rule);
    }
    batch.create_base_chain("way-back", "nat", Hook::Postrouting, WAY_BACK_PRIORITY);
    for (layout, transport) in LAYOUTS.iter().flat_map(|layout| BOTH.map(|it| (layout, it))) {
        let protocol = [transport.number()];
        let mut rule = layout.is_family().to_vec();
        rule.extend([
            // Nft cannot read that a port is one if it has not read of what.
            Expression::Meta { key: libc::NFT_META_L4PROTO, to: FIRST },
            Expression::Equal { register: FIRST, value: &protocol },
            Expression::Connection { key: libc::NFT_CT_STATUS, to: FIRST },
            Expression::Mask { mask: &DESTINATION_CHANGED, register: FIRST },
            Expression::Differs { register: FIRST, value: &[0; 4] },
        ]);
        rule.extend(layout.original_key());
        rule.push(Expression::Dispatch { map: layout.way_back, key: FIRST });
        batch.append_rule("way-back", &rule);
    }
}

/// Gives what matches an address of this host.
fn masquerade(batch: &mut Batch, chain: &str, matches: &[Expression<'_>]) {
    let [first, last] = &PORTS;
    for transport in BOTH {
        let protocol = [transport.number()];
        let mut rule = matches.to_vec();
        rule.extend([
            // Nft cannot read that a port is one if it has not read of what.
            Expression::Meta { key: libc::NFT_META_L4PROTO, to: FIRST },
            Expression::Equal { register: FIRST, value: &protocol },
            Expression::Immediate { value: first, to: FIRST },
            Expression::Immediate { value: last, to: FIRST + 1 },
            Expression::Masquerade { first: FIRST, last: FIRST + 1 },
        ]);
        batch.append_rule(chain, &rule);
    }
}

fn create_refuse(batch: &mut Batch) {
    batch.create_chain(REFUSED_CHAIN);
    batch.append_rule(
        REFUSED_CHAIN,
        &[
            Expression::Meta { key: libc::NFT_META_L4PROTO, to: FIRST },
            Expression::Equal { register: FIRST, value: &[libc::IPPROTO_TCP as u8] },
            Expression::Reject { reset: true },
        ],
    );
    batch.append_rule(REFUSED_CHAIN, &[Expression::Reject { reset: false }]);
    batch.create_base_chain("refuse", "filter", Hook::Input, REFUSE_PRIORITY);
    for layout in &LAYOUTS {
        let mut rule = layout.is_family().to_vec();
        rule.extend(layout.key(End::Destination));
        rule.push(Expression::Lookup { set: layout.refused, key: FIRST, to: None });
        rule.push(Expression::Goto { chain: REFUSED_CHAIN });
        batch.append_rule("refuse", &rule);
    }
}

fn create_counting(batch: &mut Batch) {
    let ways = [
        ("count-in", Hook::Prerouting, End::Destination),
        ("count-in-local", Hook::Output, End::Destination),
        ("count-out", Hook::Postrouting, End::Source),
        ("count-out-local", Hook::Input, End::Source),
    ];
    for (name, hook, end) in ways {
        let inwards = end == End::Destination;
        let priority = if inwards { COUNT_IN_PRIORITY } else { COUNT_OUT_PRIORITY };
        batch.create_base_chain(name, "filter", hook, priority);
        for layout in &LAYOUTS {
            let map = if inwards { layout.count_in } else { layout.count_out };
            let mut rule = layout.is_family().to_vec();
            rule.extend(layout.key(end));
            rule.push(Expression::CountBy { map, key: FIRST });
            batch.append_rule(name, &rule);
        }
    }
}

/// Which flows of UDP an address and port may have.
pub(crate) struct Datagrams<'r> {
    /// The endpoints that serve there.
    pub(crate) endpoints: BTreeSet<(IpAddr, u16)>,
    /// The clients that may come in; `None`: everybody.
    sources: Option<&'r [(IpAddr, IpAddr)]>,
}

impl Datagrams<'_> {
    /// Whether a flow of this client, which this endpoint answers, may go on.
    pub(crate) fn allow(&self, client: IpAddr, answered_by: (IpAddr, u16)) -> bool {
        let lets_in = self.sources.is_none_or(|sources| {
            let after = sources.partition_point(|(first, _)| *first <= client);
            sources[..after].last().is_some_and(|(_, last)| client <= *last)
        });
        lets_in && self.endpoints.contains(&answered_by)
    }
}

/// The UDP ports of rules with what each may have now.
pub(crate) fn datagrams(rules: &Rules) -> BTreeMap<(IpAddr, u16), Datagrams<'_>> {
    let ports = rules.ports.iter().filter(|((_, transport, _), _)| *transport == Transport::Udp);
    let endpoints = |((ip, _, port), name): (&(IpAddr, Transport, u16), &Arc<str>)| {
        let group = rules.groups.get(name);
        let endpoints = group.into_iter().flat_map(|group| {
            let port =
                move |endpoint: &Endpoint| if group.keeps_port { *port } else { endpoint.port };
            group.serving().into_iter().map(move |endpoint| (endpoint.ip, port(&endpoint)))
        });
        let sources = group.and_then(|group| group.sources.as_deref());
        ((*ip, *port), Datagrams { endpoints: endpoints.collect(), sources })
    };
    ports.map(endpoints).collect()
}
