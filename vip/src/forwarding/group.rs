//! What a group is made of: its chain, its counters and, where clients keep their endpoints, who has which.

use std::net::IpAddr;

use super::{
    Endpoint, Group, Left, Traffic,
    layout::{FIRST, Layout, octets},
    share::{Shares, shares},
};
use crate::nftables::{
    Batch, Data, Dynamic, Element, End, Expression, INTEGER, PORT, Register, Set, Value,
};

/// The same on every node, so that every node chooses the same endpoint for a client.
const SEED: u32 = 0x6761_7465;

/// Clients that each endpoint of a group remembers at most; those beyond get the endpoint of their hash.
const CLIENTS: u32 = 65_536;
/// Between two looks for clients that are to be forgotten, in milliseconds.
const FORGETTING: u32 = 60_000;

/// The second register of 16 bytes.
const SECOND: Register = 2;
/// The register that says where to go on.
const VERDICT: Register = libc::NFT_REG_VERDICT as Register;

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

/// Makes a group as wanted that stands otherwise, or not at all; a new one goes on with what is `left` of another table.
pub(super) fn put(
    batch: &mut Batch,
    name: &str,
    (standing, wanted): (Option<&Group>, &Group),
    left: &Left,
) {
    match standing {
        None => create(batch, name, left.totals.get(name).copied().unwrap_or_default()),
        Some(_) => batch.clear_chain(name),
    }
    let same = |one: &Endpoint, other: &Endpoint| (one.ip, one.port) == (other.ip, other.port);
    let (had, has) = (standing.map(kept).unwrap_or_default(), kept(wanted));
    for gone in had.iter().filter(|one| !has.iter().any(|other| same(one, other))) {
        remove_kept(batch, name, gone);
    }
    for endpoint in &has {
        let own = endpoint_name(name, endpoint);
        if had.iter().any(|other| same(endpoint, other)) {
            // The clients that it has stay.
            batch.clear_chain(&own);
        } else {
            let (address, timeout) = (Layout::of(wanted.v6).address, lifetime(wanted));
            let dynamic = Some(Dynamic { size: CLIENTS, timeout, gc_interval: FORGETTING });
            batch.create_set(&Set { name: &own, key: &[address], data: None, dynamic });
            batch.create_chain(&own);
            if let Some(clients) = left.clients.get(&own) {
                let client = |(key, left): &(Vec<u8>, u64)| {
                    (key.clone(), Value::Expires((*left).clamp(1, timeout)))
                };
                let clients: Vec<_> = clients.iter().take(CLIENTS as usize).map(client).collect();
                batch.add_elements(&own, &clients);
            }
        }
        fill_kept(batch, &own, wanted, endpoint);
    }
    fill(batch, name, wanted, &has);
}

/// Removes a group that nothing leads to.
pub(super) fn remove(batch: &mut Batch, name: &str, group: &Group) {
    batch.delete_chain(name);
    kept(group).iter().for_each(|endpoint| remove_kept(batch, name, endpoint));
    for which in COUNTERS {
        batch.delete_counter(&counter(name, which));
    }
}

fn remove_kept(batch: &mut Batch, group: &str, endpoint: &Endpoint) {
    let own = endpoint_name(group, endpoint);
    batch.delete_chain(&own);
    batch.delete_set(&own);
}

/// The rules of the chain of an endpoint: it has the client now, if there is room to remember that, and gets the
/// connection.
fn fill_kept(batch: &mut Batch, own: &str, group: &Group, endpoint: &Endpoint) {
    let layout = Layout::of(group.v6);
    let mut rule = layout.is_family().to_vec();
    rule.push(layout.address(End::Source));
    rule.push(Expression::Update { set: own, key: FIRST, timeout: Some(lifetime(group)) });
    batch.append_rule(own, &rule);
    let (protocol, ip) = ([group.transport.number()], octets(endpoint.ip));
    let port = endpoint.port.to_be_bytes();
    let mut rule = begin(layout, &protocol).to_vec();
    rule.push(Expression::Immediate { value: &ip, to: FIRST });
    if !group.keeps_port {
        rule.push(Expression::Immediate { value: &port, to: layout.after_address });
    }
    rule.push(change_destination(layout, group));
    batch.append_rule(own, &rule);
}

fn create(batch: &mut Batch, name: &str, total: Traffic) {
    for which in COUNTERS {
        let (bytes, packets) = match which {
            "in" => (total.bytes_in, 0),
            "out" => (total.bytes_out, 0),
            _ => (0, total.connections),
        };
        batch.create_counter(&counter(name, which), bytes, packets);
    }
    batch.create_chain(name);
}

/// The rules of a group's chain.
fn fill(batch: &mut Batch, name: &str, group: &Group, kept: &[Endpoint]) {
    let layout = Layout::of(group.v6);
    if let Some(sources) = &group.sources {
        let elements = ranges(sources, group.v6);
        if elements.is_empty() {
            return batch.append_rule(name, &[Expression::Drop]);
        }
        let ranges = batch.create_ranges(layout.address, None, &elements);
        let mut rule = layout.is_family().to_vec();
        rule.push(layout.address(End::Source));
        rule.push(Expression::Within { ranges, key: FIRST, to: None, inverted: true });
        rule.push(Expression::Drop);
        batch.append_rule(name, &rule);
    }
    let Some(shares) = shares(group) else { return };
    let new = counter(name, "new");
    batch.append_rule(name, &[Expression::Count { counter: &new }]);
    for endpoint in kept {
        let own = endpoint_name(name, endpoint);
        let mut rule = layout.is_family().to_vec();
        rule.extend([
            layout.address(End::Source),
            Expression::Lookup { set: &own, key: FIRST, to: None },
            Expression::Goto { chain: &own },
        ]);
        batch.append_rule(name, &rule);
    }
    if group.by_client.is_some() {
        choose_by_client(batch, name, group, &shares);
    } else {
        choose_by_weight(batch, name, group, &shares);
    }
}

/// The hash of a client's address leads to the chain of an endpoint.
fn choose_by_client(batch: &mut Batch, name: &str, group: &Group, shares: &Shares) {
    let layout = Layout::of(group.v6);
    let chain = |(_, endpoint): &(u32, Endpoint)| Value::Goto(endpoint_name(name, endpoint));
    let ranges = batch.create_ranges(INTEGER, Some(Data::Verdict), &dealt(shares, chain));
    let (len, below) = (layout.address.len, shares.below);
    let (base, offset) = (libc::NFT_PAYLOAD_NETWORK_HEADER, layout.source);
    let mut rule = layout.is_family().to_vec();
    rule.extend([
        Expression::Payload { base, offset, len, to: SECOND },
        Expression::Hash { from: SECOND, len, below, seed: SEED, to: FIRST },
        Expression::NetworkOrder { register: FIRST },
        Expression::Within { ranges, key: FIRST, to: Some(VERDICT), inverted: false },
    ]);
    batch.append_rule(name, &rule);
}

/// A random number leads to an endpoint.
fn choose_by_weight(batch: &mut Batch, name: &str, group: &Group, shares: &Shares) {
    let layout = Layout::of(group.v6);
    let destination = |(_, endpoint): &(u32, Endpoint)| {
        let mut data = octets(endpoint.ip);
        if !group.keeps_port {
            data.extend(endpoint.port.to_be_bytes());
            data.extend([0; 2]);
        }
        Value::Data(data)
    };
    let fields = &[layout.address, PORT][..if group.keeps_port { 1 } else { 2 }];
    let data = Some(Data::Fields(fields));
    let ranges = batch.create_ranges(INTEGER, data, &dealt(shares, destination));
    let protocol = [group.transport.number()];
    let mut rule = begin(layout, &protocol).to_vec();
    rule.extend([
        Expression::Random { below: shares.below, to: FIRST },
        Expression::NetworkOrder { register: FIRST },
        Expression::Within { ranges, key: FIRST, to: Some(FIRST), inverted: false },
        change_destination(layout, group),
    ]);
    batch.append_rule(name, &rule);
}

/// The ranges of numbers, each with what it leads to.
fn dealt(shares: &Shares, to: impl Fn(&(u32, Endpoint)) -> Value) -> Vec<Element> {
    let ranges = shares.ranges.iter().map(|range| (range.0.to_be_bytes().to_vec(), to(range)));
    let end = (shares.below.to_be_bytes().to_vec(), Value::End);
    ranges.chain([end]).collect()
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
