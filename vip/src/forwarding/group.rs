//! What a group is made of: its chain, its counters, the maps that its chain looks into and, where clients keep their
//! endpoints, who has which.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    Endpoint, Group, Left, Traffic, Transport,
    layout::{FIRST, Layout, octets},
    share::{Shares, shares},
    steps::Steps,
};
use crate::nftables::{
    Data, Dynamic, Element, End, Expression, INTEGER, Kind, Register, Rule, Set, Type, Value,
    description::{LeadsTo, of_numbers},
};

/// The same on every node, so that every node chooses the same endpoint for a client or a flow.
const SEED: u32 = 0x6761_7465;

/// Clients that each endpoint of a group remembers at most; those beyond get the endpoint of their hash.
const CLIENTS: u32 = 65_536;
/// Between two looks for clients that are to be forgotten, in milliseconds.
const FORGETTING: u32 = 60_000;

/// The second register of 16 bytes.
const SECOND: Register = 2;

/// The three counters of a group.
pub(super) const COUNTERS: [&str; 3] = ["in", "out", "new"];

pub(super) fn counter(group: &str, which: &str) -> String {
    format!("{group}/{which}")
}

/// The chain of an endpoint that clients keep, and the set of the clients that it has.
fn endpoint_name(group: &str, endpoint: &Endpoint) -> String {
    let ip = endpoint.ip.to_string().replace(':', ".");
    format!("{group}/{ip}/{}", endpoint.port)
}

/// The endpoints that clients keep, if they do.
fn kept(group: &Group) -> Vec<Endpoint> {
    if group.by_client.is_some() { group.usable() } else { Vec::new() }
}

/// The names of the sets of a group's clients.
pub(super) fn sets_of_clients(name: &str, group: &Group) -> Vec<String> {
    kept(group).iter().map(|endpoint| endpoint_name(name, endpoint)).collect()
}

/// A set or map.
struct Content {
    key: Type,
    data: Option<Data<'static>>,
    kind: Kind,
    described: Vec<u8>,
    /// None where packets add them.
    elements: Vec<Element>,
}

impl Content {
    /// A map from the numbers that are dealt out.
    fn of_numbers(below: u32, data: Data<'static>, to: LeadsTo, elements: Vec<Element>) -> Self {
        let described = of_numbers(below, to);
        Self { key: INTEGER, data: Some(data), kind: Kind::Ranges, described, elements }
    }

    /// A set of addresses.
    fn of_addresses(layout: &Layout, kind: Kind, elements: Vec<Element>) -> Self {
        Self { key: layout.address, data: None, kind, described: Vec::new(), elements }
    }
}

/// Chains and sets of a group, by name.
#[derive(Default)]
struct Parts {
    chains: BTreeMap<String, Vec<Rule>>,
    sets: BTreeMap<String, Content>,
}

/// Makes a group as wanted that stands otherwise; a new one goes on with what is `left` of another table.
pub(super) fn change(
    steps: &mut Steps,
    name: &str,
    (standing, wanted): (Option<&Group>, Option<&Group>),
    left: &Left,
) {
    let parts = |group: Option<&Group>| group.map(|group| parts(name, group)).unwrap_or_default();
    let (had, has) = (parts(standing), parts(wanted));
    if standing.is_none() {
        create_counters(steps, name, left.totals.get(name).copied().unwrap_or_default());
    }
    create(steps, &had, &has, left);
    turn(steps, &had, &has);
    delete(steps, name, &had, &has);
    if wanted.is_none() {
        for which in COUNTERS {
            steps.end().delete_counter(&counter(name, which));
        }
    }
}

/// How many elements each set of a group has, but for those that packets add.
pub(super) fn sizes(name: &str, group: &Group) -> impl Iterator<Item = (String, usize)> {
    let sets = parts(name, group).sets.into_iter();
    sets.filter(|(_, set)| set.kind == Kind::Ranges).map(|(set, it)| (set, it.elements.len()))
}

fn create_counters(steps: &mut Steps, name: &str, total: Traffic) {
    for which in COUNTERS {
        let (bytes, packets) = match which {
            "in" => (total.bytes_in, 0),
            "out" => (total.bytes_out, 0),
            _ => (0, total.connections),
        };
        steps.begin().create_counter(&counter(name, which), bytes, packets);
    }
}

/// What is new: first all names, as chains and maps name each other.
fn create(steps: &mut Steps, had: &Parts, has: &Parts, left: &Left) {
    let batch = steps.begin();
    let chains = || has.chains.iter().filter(|(name, _)| !had.chains.contains_key(*name));
    let sets = || has.sets.iter().filter(|(name, _)| !had.sets.contains_key(*name));
    chains().for_each(|(name, _)| batch.create_chain(name));
    for (name, set) in sets() {
        let Content { key, data, kind, described, .. } = set;
        batch.create_set(&Set { name, key: &[*key], data: *data, kind: *kind, described });
    }
    for (name, set) in sets() {
        batch.add_elements(name, &set.elements);
        if let (Kind::Dynamic(dynamic), Some(clients)) = (set.kind, left.clients.get(name)) {
            let client = |(key, left): &(Vec<u8>, u64)| {
                (key.clone(), Value::Expires((*left).clamp(1, dynamic.timeout)))
            };
            let clients: Vec<_> = clients.iter().take(CLIENTS as usize).map(client).collect();
            batch.add_elements(name, &clients);
        }
    }
    for (name, rules) in chains() {
        rules.iter().for_each(|rule| batch.append(name, rule));
    }
}

/// What stays and is otherwise.
fn turn(steps: &mut Steps, had: &Parts, has: &Parts) {
    for (name, set) in &has.sets {
        if had.sets.get(name).is_some_and(|had| had.elements != set.elements) {
            steps.turn().clear_set(name);
            steps.turn().add_elements(name, &set.elements);
        }
    }
    for (name, rules) in &has.chains {
        if had.chains.get(name).is_some_and(|had| had != rules) {
            steps.turn().clear_chain(name);
            rules.iter().for_each(|rule| steps.turn().append(name, rule));
        }
    }
}

/// What is over. The group's chain leads to maps, these to the chains of endpoints, and these to the sets of clients.
fn delete(steps: &mut Steps, group: &str, had: &Parts, has: &Parts) {
    let batch = steps.end();
    let mut chains: Vec<_> =
        had.chains.keys().filter(|name| !has.chains.contains_key(*name)).collect();
    let (maps, clients): (Vec<_>, Vec<_>) = had
        .sets
        .iter()
        .filter(|(name, _)| !has.sets.contains_key(*name))
        .partition(|(_, set)| set.kind == Kind::Ranges);
    if let Some(own) = chains.iter().position(|name| *name == group) {
        batch.delete_chain(chains.remove(own));
    }
    maps.iter().for_each(|(name, _)| batch.delete_set(name));
    chains.iter().for_each(|name| batch.delete_chain(name));
    clients.iter().for_each(|(name, _)| batch.delete_set(name));
}

/// What a group is made of.
fn parts(name: &str, group: &Group) -> Parts {
    let mut parts = Parts::default();
    let layout = Layout::of(group.v6);
    let kept = kept(group);
    for endpoint in &kept {
        let own = endpoint_name(name, endpoint);
        let dynamic = Dynamic { size: CLIENTS, timeout: lifetime(group), gc_interval: FORGETTING };
        let set = Content::of_addresses(layout, Kind::Dynamic(dynamic), Vec::new());
        parts.chains.insert(own.clone(), rules_of_kept(&own, group, endpoint));
        parts.sets.insert(own, set);
    }
    let rules = rules(name, group, &kept, &mut parts.sets);
    parts.chains.insert(name.to_owned(), rules);
    parts
}

/// The rules of a group's chain, and the maps that they look into.
fn rules(
    name: &str,
    group: &Group,
    kept: &[Endpoint],
    sets: &mut BTreeMap<String, Content>,
) -> Vec<Rule> {
    let layout = Layout::of(group.v6);
    let mut rules = Vec::new();
    if let Some(sources) = &group.sources {
        let elements = ranges(sources, group.v6);
        if elements.is_empty() {
            return vec![Rule::of(&[Expression::Drop])];
        }
        let set = format!("{name}/sources{}", layout.version);
        let mut rule = layout.is_family().to_vec();
        rule.push(layout.address(End::Source));
        rule.push(Expression::Missing { set: &set, key: FIRST });
        rule.push(Expression::Drop);
        rules.push(Rule::of(&rule));
        sets.insert(set, Content::of_addresses(layout, Kind::Ranges, elements));
    }
    let new = counter(name, "new");
    rules.push(Rule::of(&[Expression::Count { counter: &new }]));
    for endpoint in kept {
        let own = endpoint_name(name, endpoint);
        let mut rule = layout.is_family().to_vec();
        rule.extend([
            layout.address(End::Source),
            Expression::Lookup { set: &own, key: FIRST, to: None },
            Expression::Goto { chain: &own },
        ]);
        rules.push(Rule::of(&rule));
    }
    let choose = if group.by_client.is_some() { choose_by_client } else { choose_endpoint };
    let (map, content, rule) = choose(name, group, &shares(group));
    sets.insert(map, content);
    rules.push(rule);
    rules
}

/// The hash of a client's address leads to the chain of an endpoint.
fn choose_by_client(name: &str, group: &Group, shares: &Shares) -> (String, Content, Rule) {
    let layout = Layout::of(group.v6);
    let map = format!("{name}/hashes{}", layout.version);
    let elements = dealt(shares, |endpoint| Value::Goto(endpoint_name(name, endpoint)));
    let (len, below) = (layout.address.len, shares.below);
    let (base, offset) = (libc::NFT_PAYLOAD_NETWORK_HEADER, layout.source);
    let mut rule = layout.is_family().to_vec();
    rule.extend([
        Expression::Payload { base, offset, len, to: SECOND },
        Expression::Hash { from: SECOND, len, below, seed: SEED, to: FIRST },
        Expression::NetworkOrder { register: FIRST },
        Expression::Dispatch { map: &map, key: FIRST },
    ]);
    let rule = Rule::of(&rule);
    (map, Content::of_numbers(below, Data::Verdict, LeadsTo::Verdict, elements), rule)
}

/// A number leads to an endpoint: a random one, or that of a flow of datagrams.
fn choose_endpoint(name: &str, group: &Group, shares: &Shares) -> (String, Content, Rule) {
    let layout = Layout::of(group.v6);
    // A map of other numbers is another one: a packet on its way may still look into the one that its rule names.
    let by = if group.is_by_flow() { "flow-" } else { "" };
    let (what, fields, to) = match (group.keeps_port, group.v6) {
        (true, v6) => ("hosts", &layout.endpoint[..1], LeadsTo::Address { v6 }),
        (false, v6) => {
            let tcp = group.transport == Transport::Tcp;
            ("endpoints", layout.endpoint, LeadsTo::AddressAndPort { v6, tcp })
        }
    };
    let map = format!("{name}/{by}{what}{}", layout.version);
    let elements = dealt(shares, |endpoint| {
        let mut data = octets(endpoint.ip);
        if !group.keeps_port {
            data.extend(endpoint.port.to_be_bytes());
            data.extend([0; 2]);
        }
        Value::Data(data)
    });
    let protocol = [group.transport.number()];
    let mut rule = begin(layout, &protocol).to_vec();
    match group.is_by_flow() {
        false => rule.push(Expression::Random { below: shares.below, to: FIRST }),
        true => rule.extend(hash_of_flow(layout, shares.below)),
    }
    rule.extend([
        Expression::NetworkOrder { register: FIRST },
        Expression::Lookup { set: &map, key: FIRST, to: Some(FIRST) },
        change_destination(layout, group),
    ]);
    let rule = Rule::of(&rule);
    (map, Content::of_numbers(shares.below, Data::Fields(fields), to, elements), rule)
}

/// Loads the hash of both addresses and ports of a flow.
fn hash_of_flow(layout: &Layout, below: u32) -> [Expression<'static>; 5] {
    let (base, len) = (libc::NFT_PAYLOAD_NETWORK_HEADER, layout.address.len);
    // One after the other, each from a multiple of 4 bytes on, as nft has it.
    let [destination, source_port, destination_port] = layout.after_source;
    let port = |offset, to| {
        let base = libc::NFT_PAYLOAD_TRANSPORT_HEADER;
        Expression::Payload { base, offset, len: 2, to }
    };
    [
        Expression::Payload { base, offset: layout.source, len, to: SECOND },
        Expression::Payload { base, offset: layout.source + len, len, to: destination },
        port(0, source_port),
        port(2, destination_port),
        Expression::Hash { from: SECOND, len: 2 * len + 8, below, seed: SEED, to: FIRST },
    ]
}

/// The rules of the chain of an endpoint: it has the client now, if there is room to remember that, and gets the
/// connection.
fn rules_of_kept(own: &str, group: &Group, endpoint: &Endpoint) -> Vec<Rule> {
    let layout = Layout::of(group.v6);
    let mut remember = layout.is_family().to_vec();
    remember.push(layout.address(End::Source));
    remember.push(Expression::Update { set: own, key: FIRST, timeout: Some(lifetime(group)) });
    let (protocol, ip) = ([group.transport.number()], octets(endpoint.ip));
    let port = endpoint.port.to_be_bytes();
    let mut send = begin(layout, &protocol).to_vec();
    send.push(Expression::Immediate { value: &ip, to: FIRST });
    if !group.keeps_port {
        send.push(Expression::Immediate { value: &port, to: layout.after_address });
    }
    send.push(change_destination(layout, group));
    vec![Rule::of(&remember), Rule::of(&send)]
}

/// The ranges of numbers, each with what it leads to.
fn dealt(shares: &Shares, to: impl Fn(&Endpoint) -> Value) -> Vec<Element> {
    let key = |number: u32| number.to_be_bytes().to_vec();
    let range = |(from, end, endpoint)| [(key(from), to(endpoint)), (key(end), Value::End)];
    shares.ranges().flat_map(range).collect()
}

/// Goes on with packets of the family and protocol.
fn begin<'p>(layout: &Layout, protocol: &'p [u8]) -> [Expression<'p>; 4] {
    let [family, is_family] = layout.is_family();
    [
        family,
        is_family,
        Expression::Meta { key: libc::NFT_META_L4PROTO, to: FIRST },
        Expression::Equal { register: FIRST, value: protocol },
    ]
}

/// The destination is in the first register.
fn change_destination(layout: &Layout, group: &Group) -> Expression<'static> {
    let port = (!group.keeps_port).then_some(layout.after_address);
    Expression::DestinationNat { family: layout.family, address: FIRST, port }
}

/// For how long a client is remembered, in milliseconds.
fn lifetime(group: &Group) -> u64 {
    group.by_client.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).max(1)
}

/// Ranges of a family.
fn ranges(sources: &[(IpAddr, IpAddr)], v6: bool) -> Vec<Element> {
    let mut elements: Vec<Element> = Vec::new();
    for (first, last) in sources.iter().filter(|(first, _)| first.is_ipv6() == v6) {
        elements.push((octets(*first), Value::None));
        let end = match last {
            IpAddr::V4(last) => last.to_bits().checked_add(1).map(|end| end.to_be_bytes().to_vec()),
            IpAddr::V6(last) => last.to_bits().checked_add(1).map(|end| end.to_be_bytes().to_vec()),
        };
        // The range that holds the last address of all has no end.
        elements.extend(end.map(|end| (end, Value::End)));
    }
    elements
}
