//! What must hold whatever others send: one function for each thing that reads octets from outside.
//!
//! The fuzz targets of `vip/fuzz` call these with octets of the fuzzer's choice, and `cargo test` with
//! the seeds kept there. A function returns if everything holds, and panics if not. Not part of the
//! crate that is shipped: it is there for tests and under `--cfg fuzzing` only.

mod bfd;
mod bgp;
mod bgp_session;
mod group;
mod router;

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use crate::{
    api::IpAddressPoolSpec,
    l2::{arp, claim::ClaimKind, ndp, neighbour},
    pool::{
        Place, Pool,
        ranges::{AddressSet, Family},
    },
};

/// Framing, and every message of a BGP connection: an octet of flags, the size of the pieces that it
/// comes in, and the stream.
pub fn bgp_message(data: &[u8], _: Instant) {
    bgp::stream(data);
}

/// The body of an OPEN message.
pub fn bgp_open(data: &[u8], _: Instant) {
    bgp::open(data);
}

/// An octet of terms, and the body of an UPDATE message.
pub fn bgp_update(data: &[u8], _: Instant) {
    bgp::update(data);
}

/// A BGP session: an octet of settings, and a script of events.
pub fn bgp_session(data: &[u8], now: Instant) {
    bgp_session::session(data, now);
}

/// What users write into fields of `metallb.io` objects about BGP.
pub fn bgp_text(data: &[u8], _: Instant) {
    bgp::text(data);
}

/// A BFD session: settings, and a script of packets and times.
pub fn bfd(data: &[u8], now: Instant) {
    bfd::session(data, now);
}

/// A heartbeat but for its seal.
pub fn heartbeat(data: &[u8], _: Instant) {
    group::heartbeat(data);
}

/// A group: a script of heartbeats, changes on the node and times.
pub fn group(data: &[u8], now: Instant) {
    group::group(data, now);
}

/// A link with an unnumbered router: a script of router advertisements, solicitations and times.
pub fn router(data: &[u8], now: Instant) {
    router::link(data, now);
}

/// The fuzzer's octets, read from the front. What is missing reads as zero.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn octet(&mut self) -> u8 {
        let [octet] = self.octets();
        octet
    }

    pub(crate) fn octets<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.take(N);
        let mut octets = [0; N];
        octets[..taken.len()].copy_from_slice(taken);
        octets
    }

    /// As many octets as the first one says; 255: all that are left.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        match self.octet() {
            u8::MAX => self.rest(),
            length => self.take(length.into()),
        }
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// A frame of the link. The sender that a frame names could have claimed the address with a frame of ours.
pub fn neighbour(data: &[u8], _: Instant) {
    let Some(claim) = neighbour::heard(7, data) else { return };
    assert_eq!(claim.index, 7);
    assert_eq!(claim.mac[0] & 1, 0, "{claim:?}: no host has a group address");
    let said = match (claim.ip, claim.kind) {
        (IpAddr::V4(ip), ClaimKind::Probe) => vec![arp::probe(claim.mac, ip)],
        (IpAddr::V4(ip), ClaimKind::Claim) => arp::gratuitous(claim.mac, ip).to_vec(),
        (IpAddr::V6(ip), ClaimKind::Probe) => vec![ndp::probe(claim.mac, ip)],
        (IpAddr::V6(ip), ClaimKind::Claim) => vec![ndp::unsolicited(claim.mac, ip)],
    };
    for frame in said {
        assert_eq!(neighbour::heard(7, &frame), Some(claim), "{frame:02x?}");
    }
}

/// `spec.addresses` of an IPAddressPool, an entry a line, after an octet for the other settings.
pub fn pool(data: &[u8], _: Instant) {
    let mut input = Input::new(data);
    let flags = input.octet();
    let Ok(text) = str::from_utf8(input.rest()) else { return };
    let spec = IpAddressPoolSpec {
        addresses: text.lines().take(64).map(str::to_owned).collect(),
        avoid_buggy_ips: flags & 1 != 0,
        ..IpAddressPoolSpec::default()
    };
    let pool = match Pool::parse("fuzzed", &BTreeMap::new(), &spec) {
        Ok(pool) => pool,
        Err(refusals) => {
            assert!(refusals.iter().any(|refusal| refusal.is_error()), "refused without a reason");
            return;
        }
    };
    for family in [Family::V4, Family::V6] {
        let size = pool.size(family);
        let first = pool.first_free(&AddressSet::default(), family, Place::FIRST);
        // Anycast addresses of IPv6 count, and are given on request alone.
        let all = family == Family::V4;
        let right = first.is_some() == (size > 0) || (!all && first.is_none());
        assert!(right, "{family}: {size} addresses, the first is {first:?}");
        let inside = |ip: &IpAddr| pool.contains(*ip) && !ip.is_multicast() && !ip.is_unspecified();
        assert!(first.map(|first| first.ip).as_ref().is_none_or(inside));
        if size <= 600 {
            let taken = taken_one_by_one(&pool, family);
            assert!(taken == size || (!all && taken < size), "{family}: {taken} of {size}");
        }
    }
}

/// How many addresses a pool gives, one after the other, never one of them twice.
fn taken_one_by_one(pool: &Pool, family: Family) -> u128 {
    let mut taken = AddressSet::default();
    let mut count = 0;
    while let Some(Place { ip, .. }) = pool.first_free(&taken, family, Place::FIRST) {
        assert!(pool.contains(ip) && !taken.contains(ip) && Family::of(ip) == family, "{ip}");
        taken.insert(ip);
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    type Target = fn(&[u8], Instant);

    /// Every target by its name.
    const TARGETS: [(&str, Target); 11] = [
        ("bgp_message", bgp_message),
        ("bgp_open", bgp_open),
        ("bgp_update", bgp_update),
        ("bgp_session", bgp_session),
        ("bgp_text", bgp_text),
        ("bfd", bfd),
        ("heartbeat", heartbeat),
        ("group", group),
        ("neighbour", neighbour),
        ("pool", pool),
        ("router", router),
    ];

    #[test]
    #[allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]
    fn every_seed_of_the_fuzz_targets_holds() {
        let now = Instant::now();
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        for (name, target) in TARGETS {
            let target_file = fuzz.join("fuzz_targets").join(name).with_extension("rs");
            assert!(target_file.is_file(), "{} is missing", target_file.display());
            let mut seeds = 0;
            for seed in std::fs::read_dir(fuzz.join("seeds").join(name)).unwrap() {
                let path = seed.unwrap().path();
                eprintln!("{}", path.display());
                target(&std::fs::read(&path).unwrap(), now);
                seeds += 1;
            }
            assert!(seeds > 0, "{name} has no seeds");
        }
    }
}
