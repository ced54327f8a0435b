//! Address pools: which addresses may be given away, and to which claims without a request.
//!
//! The compile step of the gateway parses every `IPAddressPool` with [`Pool::parse`], has [`part`](crate::part)
//! part those that overlap, and hands them to [`allocate`](crate::allocate). A pool knows nothing of the claims
//! that hold its addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    api::{IpAddressPoolSpec, ServiceAllocation},
    pool::ranges::{AddressSet, Family, Ranges, number},
    problem::Problem,
};

mod admission;
pub(crate) mod ranges;

use admission::Admission;
pub use admission::Tenant;
pub(crate) use admission::{any_matches, selector_faults};

/// Ranges that no host may be reached by, or that name a host by another family's address.
const NOT_UNICAST: [&str; 7] =
    ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/128", "::1/128", "::ffff:0:0/96", "ff00::/8"];

/// The first of the 128 interface identifiers that RFC 2526 §2 reserves in subnets of 64 bits for anycast.
const RESERVED_ANYCAST: u64 = 0xfdff_ffff_ffff_ff80;

/// An `IPAddressPool`, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    name: Arc<str>,
    labels: BTreeMap<String, String>,
    addresses: AddressSet,
    /// The same as ranges in the order of `spec.addresses`, which share nothing.
    listed: Vec<(Family, u128, u128)>,
    auto_assign: bool,
    avoid_buggy: bool,
    /// The lowest address of each IPv6 block: that of the routers, if a link has the same prefix.
    routers: BTreeSet<u128>,
    rank: (bool, i64),
    admission: Admission,
    draining: bool,
    refusals: Vec<Problem>,
}

/// Where an address stands in the list of its pool: what comes first is given first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Index in [`Pool::listed`].
    pub(crate) entry: usize,
    pub(crate) ip: IpAddr,
}

impl Place {
    /// Not after any other.
    pub(crate) const FIRST: Self = Self { entry: 0, ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
}

impl Pool {
    /// Reads a spec. `Err` holds at least one severe refusal: no address in it can be used.
    ///
    /// `Ok` may have [`refusals`](Self::refusals) as well: one bad entry does not take the addresses
    /// of the good ones from the services that have them.
    pub fn parse(
        name: &str,
        labels: &BTreeMap<String, String>,
        spec: &IpAddressPoolSpec,
    ) -> Result<Self, Vec<Problem>> {
        let mut refusals = Vec::new();
        let (addresses, listed) = parse_addresses(&spec.addresses, &mut refusals);
        if addresses.of(Family::V4).is_empty() && addresses.of(Family::V6).is_empty() {
            if refusals.is_empty() {
                refusals.push(Problem::refused(
                    "NoAddresses",
                    "spec.addresses",
                    "the pool has no addresses",
                    "list CIDR blocks or ranges, such as 192.168.1.200-192.168.1.250",
                ));
            }
            return Err(refusals);
        }
        let limits = spec.service_allocation.as_ref();
        let routers = spec.addresses.iter().filter_map(|entry| routers_of(entry)).collect();
        let admission = limits.map(|limits| Admission::parse(limits, &mut refusals));
        Ok(Self {
            name: name.into(),
            labels: labels.clone(),
            addresses,
            listed,
            auto_assign: spec.auto_assign.unwrap_or(true),
            avoid_buggy: spec.avoid_buggy_ips,
            routers,
            rank: rank(limits),
            admission: admission.unwrap_or_default(),
            draining: false,
            refusals,
        })
    }

    /// The same pool, draining or not (`gatehouse.io/drain: "true"` on the object; default false): a
    /// draining pool leaves what it gave where it is, and gives nothing new, asked for or not.
    pub fn drained(self, draining: bool) -> Self {
        Self { draining, ..self }
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// `metadata.labels`, for the selectors of advertisements.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// `spec.autoAssign`, default true: whether a claim that names no pool gets addresses from here.
    pub fn auto_assign(&self) -> bool {
        self.auto_assign
    }

    /// Sorts pools in the order in which they are tried: those with a `serviceAllocation` by its priority (0 last),
    /// then the others; equal ranks keep the order of age.
    pub fn rank(&self) -> (bool, i64) {
        self.rank
    }

    /// What of the spec is not done as asked, though the pool as such is usable.
    pub fn refusals(&self) -> &[Problem] {
        &self.refusals
    }

    /// Whether the pool gives nothing new.
    pub fn draining(&self) -> bool {
        self.draining
    }

    /// Whether `spec.serviceAllocation` lets a claim of this tenant have addresses of the pool, and if
    /// not, why.
    pub fn admits(&self, tenant: &Tenant) -> Result<(), String> {
        self.admission.check(tenant)
    }

    /// Whether an address belongs to the pool and may be used.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.addresses.contains(ip) && !self.leaves_out(ip)
    }

    /// Whether `spec.avoidBuggyIPs` takes this address out of the pool.
    pub(crate) fn leaves_out(&self, ip: IpAddr) -> bool {
        self.avoid_buggy && is_buggy(ip)
    }

    /// The ranges of its addresses in the order in which they are given, with the addresses that `avoidBuggyIPs`
    /// leaves out. They share nothing.
    pub(crate) fn listed(&self) -> &[(Family, u128, u128)] {
        &self.listed
    }

    /// The first address of a family in the order of `spec.addresses`, not before `from`, that is not in `blocked`
    /// and may be given to a claim that did not ask for it: no anycast address of IPv6.
    ///
    /// Costs one look-up for each whole blocked range, buggy or anycast address, that it passes; a caller
    /// that asks often passes its last answer as `from`.
    pub(crate) fn first_free(
        &self,
        blocked: &AddressSet,
        family: Family,
        from: Place,
    ) -> Option<Place> {
        let blocked = blocked.of(family);
        let listed = self.listed.iter().enumerate().skip(from.entry);
        let mut ranges = listed.filter(|(_, (of, _, _))| *of == family);
        ranges.find_map(|(entry, &(_, first, last))| {
            let mut candidate = first;
            if entry == from.entry {
                candidate = first.max(number(from.ip));
            }
            while candidate <= last {
                if let Some((_, end)) = blocked.holding(candidate) {
                    candidate = end.checked_add(1)?;
                } else if self.leaves_out(family.address(candidate)) {
                    candidate += 1;
                } else if family == Family::V6
                    && let Some(end) = self.anycast_until(candidate)
                {
                    candidate = end.checked_add(1)?;
                } else {
                    return Some(Place { entry, ip: family.address(candidate) });
                }
            }
            None
        })
    }

    /// The last of the anycast addresses that an IPv6 address is the first of, or among; `None`: it is none.
    fn anycast_until(&self, number: u128) -> Option<u128> {
        let interface = number as u64;
        if interface == 0 || self.routers.contains(&number) {
            return Some(number);
        }
        (RESERVED_ANYCAST..=RESERVED_ANYCAST | 0x7f).contains(&interface).then_some(number | 0x7f)
    }

    /// How many addresses of a family the pool has; exact, also for IPv6.
    pub fn size(&self, family: Family) -> u128 {
        let buggy = self.avoid_buggy && family == Family::V4;
        let count = |(first, last): (u128, u128)| {
            // Every IPv4 number up to `last` that ends in .0 or .255, less those before `first`.
            let buggy_below = |end: u128| end.div_ceil(256) + end / 256;
            let excluded = if buggy { buggy_below(last + 1) - buggy_below(first) } else { 0 };
            (last - first).saturating_add(1) - excluded
        };
        self.addresses.of(family).iter().map(count).fold(0, u128::saturating_add)
    }

    /// The first range that is in both pools.
    pub(crate) fn shares(&self, other: &Self) -> Option<String> {
        [Family::V4, Family::V6].into_iter().find_map(|family| {
            let others = other.addresses.of(family);
            let mut own = self.addresses.of(family).iter();
            let (first, last) = own.find_map(|(first, last)| others.shared(first, last))?;
            Some(range_text(family, first, last))
        })
    }

    /// Lets go of what is in `others`, except for these addresses of its own.
    pub(crate) fn keep(&mut self, others: &AddressSet, own: &[IpAddr]) {
        let listed = self.listed.iter().flat_map(|&(family, first, last)| {
            let left = others.of(family).lacking(first, last);
            left.map(move |(first, last)| (family, first, last))
        });
        let own = own.iter().map(|ip| (Family::of(*ip), number(*ip), number(*ip)));
        self.listed = listed.chain(own).collect();
        self.addresses = AddressSet::default();
        for &(family, first, last) in &self.listed {
            self.addresses.of_mut(family).insert(first, last);
        }
    }
}

fn range_text(family: Family, first: u128, last: u128) -> String {
    let start = family.address(first);
    if first == last { start.to_string() } else { format!("{start}-{}", family.address(last)) }
}

fn parse_addresses(
    entries: &[String],
    refusals: &mut Vec<Problem>,
) -> (AddressSet, Vec<(Family, u128, u128)>) {
    let (mut addresses, mut listed) = (AddressSet::default(), Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        let field = || format!("spec.addresses[{index}]");
        match parse_entry(entry) {
            Err((message, hint)) => {
                refusals.push(Problem::refused("InvalidAddresses", field(), message, hint));
            }
            Ok((family, first, last)) => {
                let known = addresses.of_mut(family);
                if let Some((from, to)) = known.shared(first, last) {
                    let shared = range_text(family, from, to);
                    refusals.push(Problem::noted(
                        "DuplicateAddresses",
                        field(),
                        format!("\"{entry}\" repeats {shared} of an earlier entry"),
                        "list every address once",
                    ));
                }
                listed.extend(known.lacking(first, last).map(|(from, to)| (family, from, to)));
                known.insert(first, last);
            }
        }
    }
    (addresses, listed)
}

/// One entry of `spec.addresses` as an inclusive range, or message and hint.
fn parse_entry(entry: &str) -> Result<(Family, u128, u128), (String, String)> {
    let text = entry.trim();
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => parse_range(entry, first.trim(), last.trim())?,
        None => parse_cidr(entry, text)?,
    };
    let (family, low, high) = (Family::of(first), number(first), number(last));
    for forbidden in NOT_UNICAST.iter().filter_map(|net| net.parse::<IpNet>().ok()) {
        let mut range = Ranges::default();
        if Family::of(forbidden.network()) == family {
            range.insert(number(forbidden.network()), number(forbidden.broadcast()));
        }
        if let Some((bad, _)) = range.shared(low, high) {
            let bad = family.address(bad);
            return Err((
                format!("\"{entry}\" holds {bad}, of {forbidden}, which is not for hosts"),
                "list unicast addresses only".to_owned(),
            ));
        }
    }
    Ok((family, low, high))
}

fn parse_range(entry: &str, first: &str, last: &str) -> Result<(IpAddr, IpAddr), (String, String)> {
    let end = |which: &str, text: &str| {
        text.parse::<IpAddr>().map_err(|_| {
            let message = format!("the {which} of \"{entry}\", \"{text}\", is not an IP address");
            let hint = "write both ends in full, such as 192.168.1.200-192.168.1.250";
            (message, hint.to_owned())
        })
    };
    let (start, stop) = (end("start", first)?, end("end", last)?);
    if start.is_ipv4() != stop.is_ipv4() {
        let message = format!("\"{entry}\" starts in one address family and ends in the other");
        return Err((message, "write one entry for each family".to_owned()));
    }
    if start > stop {
        let message = format!("\"{entry}\" ends before it starts");
        return Err((message, format!("write {last}-{first}")));
    }
    Ok((start, stop))
}

fn parse_cidr(entry: &str, text: &str) -> Result<(IpAddr, IpAddr), (String, String)> {
    let block: IpNet = text.parse().map_err(|_| {
        let hint = match text.parse::<IpAddr>() {
            Ok(ip) => format!("write {}", IpNet::from(ip)),
            Err(_) => "write 192.168.1.0/24, or 192.168.1.200-192.168.1.250".to_owned(),
        };
        (format!("\"{entry}\" is neither a CIDR block nor a range"), hint)
    })?;
    Ok((block.network(), block.broadcast()))
}

/// The Subnet-Router anycast address (RFC 4291 §2.6.1) of a link that has the prefix of an entry. On links
/// between two routers there is none (RFC 6164), nor in a block of one address.
fn routers_of(entry: &str) -> Option<u128> {
    match entry.trim().parse().ok()? {
        IpNet::V6(block) if block.prefix_len() < 127 => Some(block.network().into()),
        _ => None,
    }
}

fn rank(allocation: Option<&ServiceAllocation>) -> (bool, i64) {
    match allocation {
        Some(allocation) if allocation.priority != 0 => (false, allocation.priority),
        Some(_) => (false, i64::MAX),
        None => (true, 0),
    }
}

/// Old stacks take x.x.x.0 and x.x.x.255 for network and broadcast addresses of a /24.
fn is_buggy(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if matches!(ip.octets()[3], 0 | 255))
}

#[cfg(test)]
mod tests;
