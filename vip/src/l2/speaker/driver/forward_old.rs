//! Has the kernel forward connections that began on another node, as the group decides.
//!
//! Part of the driver. [`Group`](crate::l2::group::Group) decides what is forwarded, for addresses of this
//! node's links through `vips`; this file says by which interfaces segments come, and has the kernel forward
//! them without losing connections of this node's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use tracing::debug;

use super::Driver;
use crate::{
    event::SpeakerEvent,
    l2::forward_old::{ForwardPath, ForwardPaths},
    links::LinkFacts,
    problem::Problem,
};

/// Connections that are noted between two looks at the heartbeats.
const AT_ONCE: usize = 2000;
/// By then the kernel lists every connection whose first segment it took just before it noted any.
const SETTLED: Duration = Duration::from_millis(2);

impl<E: Fn(SpeakerEvent)> Driver<E> {
    /// Connections that began on another node go on to it: before the address comes here, or before
    /// routers lead it here. Where that fails, it comes all the same, and those connections break.
    pub(super) fn forward_old(&mut self, now: Instant) {
        let news = self.group.forwardings();
        if let Some(forwardings) = &news {
            self.forwardings_changed |= self.forwardings != forwardings.all;
            self.forwardings.clone_from(&forwardings.all);
        }
        let forwardings_changed = std::mem::take(&mut self.forwardings_changed);
        if forwardings_changed {
            self.routed_paths = self.routed_paths();
        }
        // Which node serves an address is known to the group, from which one an address came to `vips`.
        let revision = self.group.revision();
        if self.paths_as_of.replace(revision) != Some(revision) || forwardings_changed {
            self.follow_paths();
        }
        if let Some(forwardings) = news {
            self.group.forwardings_stand(&forwardings, now);
        }
        for (vip, elsewhere) in self.group.departures(now) {
            debug!(%vip, elsewhere, "may be withdrawn from routers");
            (self.events)(SpeakerEvent::Forwarded { vip, elsewhere });
        }
    }

    /// Makes the paths those that are wanted now.
    fn follow_paths(&mut self) {
        let mut wanted = self.vips.forward_paths(|ip| self.group.old_owner_serves(ip));
        add(&mut wanted, &self.routed_paths);
        if wanted == self.forward_paths {
            return;
        }
        let outcome = self.change_paths(&wanted);
        debug!(?wanted, ?outcome, "forward paths");
        if let Err(error) = outcome
            && !std::mem::replace(&mut self.forward_refused, true)
            && let Some(&vip) = wanted.values().flatten().next()
        {
            (self.events)(SpeakerEvent::Refused { vip, refusal: forward_refusal(vip, &error) });
        }
        self.forward_paths = wanted;
    }

    /// Where heartbeats go out: on the links of the addresses, and wherever the other nodes may be
    /// neighbours if routers lead here.
    pub(super) fn meeting_links(&self) -> BTreeMap<u32, LinkFacts> {
        let mut links = self.links_in_use.clone();
        if !self.routed.addresses.is_empty() {
            let is_vip = |ip: IpAddr| {
                self.plan.vips.contains_key(&ip) || self.routed.addresses.contains_key(&ip)
            };
            let facts = |index| Some((index, self.link_watch.links.facts(index, is_vip)?));
            for (index, facts) in
                self.link_watch.links.meeting_places().into_iter().filter_map(facts)
            {
                links.entry(index).or_insert(facts);
            }
        }
        links
    }

    /// Brings the kernel from the paths that stand to those wanted.
    fn change_paths(&mut self, wanted: &ForwardPaths) -> io::Result<()> {
        let own: BTreeSet<_> = self.group.routes().chain(self.publisher.draining()).collect();
        let mut begin = begun(&self.forward_paths, wanted);
        begin.retain(|(_, vip)| own.contains(vip));
        if begin.is_empty() {
            return self.nft.apply(wanted);
        }
        // This node has connections of its own on these: passed on is nothing until they are noted,
        // and new ones are noted from the moment before they are listed.
        self.nft.apply(&noting(wanted, &begin))?;
        std::thread::sleep(SETTLED);
        let connections = self.nft.connections(&begin.iter().map(|(_, vip)| *vip).collect())?;
        for some in connections.chunks(AT_ONCE) {
            self.nft.keep(some)?;
            self.keep_in_touch();
        }
        self.nft.apply(wanted)
    }

    /// What is passed on of routed addresses, whichever way routers lead it here.
    fn routed_paths(&self) -> ForwardPaths {
        let mut paths = ForwardPaths::new();
        let named =
            self.routed.interfaces.iter().filter_map(|name| self.link_watch.links.named(name));
        let named = named.filter(|link| link.up && link.mac.is_some()).map(|link| link.index);
        let places: BTreeSet<_> =
            self.link_watch.links.meeting_places().into_iter().chain(named).collect();
        for link in places.into_iter().filter_map(|index| self.link_watch.links.link(index)) {
            let device = (link.index, link.name.clone());
            let path = |from, next_hop| ForwardPath { device: device.clone(), from, next_hop };
            for forwarding in &self.forwardings {
                let all = path(None, Some(forwarding.to));
                paths.entry(all).or_default().insert(forwarding.vip);
                for (mac, next_hop) in &forwarding.from_members {
                    let path = path(Some(*mac), *next_hop);
                    paths.entry(path).or_default().insert(forwarding.vip);
                }
            }
        }
        paths
    }
}

/// Adds paths of addresses that have none yet on the same device.
fn add(paths: &mut ForwardPaths, others: &ForwardPaths) {
    let standing: BTreeSet<_> = places(paths).collect();
    for (path, vips) in others {
        let free = vips.iter().filter(|vip| !standing.contains(&(path.device.0, **vip)));
        let free: BTreeSet<_> = free.copied().collect();
        if !free.is_empty() {
            paths.entry(path.clone()).or_default().extend(free);
        }
    }
}

/// The devices and addresses for which a path begins.
fn begun(before: &ForwardPaths, after: &ForwardPaths) -> BTreeSet<(u32, IpAddr)> {
    let standing: BTreeSet<_> = places(before).collect();
    places(after).filter(|place| !standing.contains(place)).collect()
}

/// Devices and addresses.
fn places(paths: &ForwardPaths) -> impl Iterator<Item = (u32, IpAddr)> {
    paths.iter().flat_map(|(path, vips)| vips.iter().map(|vip| (path.device.0, *vip)))
}

/// These paths, but that connections are noted only where a path begins.
fn noting(paths: &ForwardPaths, beginning: &BTreeSet<(u32, IpAddr)>) -> ForwardPaths {
    let mut staged = ForwardPaths::new();
    for (path, vips) in paths {
        let (begin, go_on): (BTreeSet<_>, BTreeSet<_>) =
            vips.iter().copied().partition(|vip| beginning.contains(&(path.device.0, *vip)));
        if !go_on.is_empty() {
            staged.entry(path.clone()).or_default().extend(go_on);
        }
        if !begin.is_empty() && path.from.is_none() {
            let noting = ForwardPath { next_hop: None, ..path.clone() };
            staged.entry(noting).or_default().extend(begin);
        }
    }
    staged
}

fn forward_refusal(vip: IpAddr, error: &io::Error) -> Problem {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "give the process CAP_NET_ADMIN",
        _ => "a kernel with nf_tables (netdev family, fwd) keeps them: nf_tables, nft_fwd_netdev",
    };
    let what = format!("connections that are open on {vip} break when it moves here: {error}");
    Problem::noted("RelayFailed", "", what, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn path(device: u32, via: &str, vips: &[&str]) -> (ForwardPath, BTreeSet<IpAddr>) {
        let path = ForwardPath::on((device, format!("eth{device}")), ip(via));
        (path, vips.iter().map(|vip| ip(vip)).collect())
    }

    #[test]
    fn an_address_with_connections_of_its_own_is_noted_before_it_is_passed_on() {
        let before = ForwardPaths::from([path(2, "10.0.0.2", &["10.0.0.8"])]);
        let after = ForwardPaths::from([
            path(2, "10.0.0.2", &["10.0.0.8", "10.0.0.9"]),
            path(3, "10.1.0.2", &["10.0.0.8"]),
        ]);
        let mut begin = begun(&before, &after);
        assert_eq!(begin, [(2, ip("10.0.0.9")), (3, ip("10.0.0.8"))].into());
        begin.remove(&(3, ip("10.0.0.8")));
        let staged = noting(&after, &begin);
        let note = ForwardPath { next_hop: None, ..path(2, "10.0.0.2", &[]).0 };
        let expected = ForwardPaths::from([
            path(2, "10.0.0.2", &["10.0.0.8"]),
            (note, [ip("10.0.0.9")].into()),
            path(3, "10.1.0.2", &["10.0.0.8"]),
        ]);
        assert_eq!(staged, expected);
    }

    #[test]
    fn on_its_link_the_former_holder_of_an_address_comes_first() {
        let mut paths = ForwardPaths::from([path(2, "10.0.0.2", &["10.0.0.8"])]);
        let routed =
            [path(2, "10.0.0.3", &["10.0.0.8", "10.0.0.9"]), path(3, "10.0.0.3", &["10.0.0.8"])];
        add(&mut paths, &ForwardPaths::from(routed));
        let expected = ForwardPaths::from([
            path(2, "10.0.0.2", &["10.0.0.8"]),
            path(2, "10.0.0.3", &["10.0.0.9"]),
            path(3, "10.0.0.3", &["10.0.0.8"]),
        ]);
        assert_eq!(paths, expected);
    }
}
