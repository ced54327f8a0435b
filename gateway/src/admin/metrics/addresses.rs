//! Metrics of addresses: who holds them, the group, and how full the pools are.
//!
//! The rows are in the one table of `metrics`; this file knows where their values come from. Those that
//! begin with `metallb_` keep dashboards and alerts of a MetalLB user working.

use std::{collections::BTreeMap, net::IpAddr};

use gatehouse_vip::{BgpStatus, LocalState, MemberState, PoolUsage, SpeakerStatus};

use super::{Exposition, Metric, routers};

/// What the speaker and the allocator know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddressFacts {
    /// The speaker's view.
    pub speaker: SpeakerStatus,
    /// The BGP speaker's view.
    pub bgp: BgpStatus,
    /// The addresses that some router hears of, and the Services on them.
    pub routed: BTreeMap<IpAddr, Vec<String>>,
    /// This node announces no address at all.
    pub excluded: bool,
    /// The Services (namespace/name) on each planned address.
    pub services: BTreeMap<IpAddr, Vec<String>>,
    /// How full the pools are.
    pub pools: Vec<PoolUsage>,
}

impl AddressFacts {
    /// Writes the values of a metric of addresses; false if it is none.
    pub(super) fn values(&self, metric: &Metric, out: &mut Exposition) -> bool {
        let counters = &self.speaker.counters;
        match metric.name {
            "gatehouse_node_excluded" => out.value(metric, &[], u8::from(self.excluded)),
            "gatehouse_vip_owned" => {
                for (vip, status) in self.speaker.vips.iter() {
                    out.value(
                        metric,
                        &[&vip.to_string()],
                        u8::from(status.here == LocalState::Holding),
                    );
                }
            }
            "gatehouse_vip_transitions_total" => out.value(metric, &[], counters.transitions),
            "gatehouse_vip_announcements_total" => out.value(metric, &[], counters.announcements),
            "gatehouse_group_members" => {
                for (state, count) in self.members() {
                    out.value(metric, &[state], count);
                }
            }
            "gatehouse_group_datagrams_total" => {
                out.value(metric, &["sent", ""], counters.sent);
                out.value(metric, &["received", ""], counters.received);
                for (reason, count) in &counters.refused {
                    out.value(metric, &["refused", reason], *count);
                }
            }
            "metallb_speaker_announced" => self.announced(metric, out),
            _ => return routers::values(&self.bgp, metric, out) || self.pools(metric, out),
        }
        true
    }

    /// Other nodes by state; one that is heard on several links counts once, by its best state.
    fn members(&self) -> [(&'static str, usize); 3] {
        let mut best: BTreeMap<&str, MemberState> = BTreeMap::new();
        for member in &self.speaker.members {
            let known = best.entry(&member.node).or_insert(member.state);
            *known = member.state.min(*known);
        }
        MemberState::ALL
            .map(|state| (state.as_str(), best.values().filter(|known| **known == state).count()))
    }

    fn announced(&self, metric: &Metric, out: &mut Exposition) {
        let held =
            self.speaker.vips.iter().filter(|(_, status)| status.here == LocalState::Holding);
        for (vip, _) in held {
            let ip = vip.to_string();
            for service in self.services.get(vip).into_iter().flatten() {
                out.value(metric, &[service, "layer2", &self.speaker.node, &ip], 1);
            }
        }
        for (vip, services) in &self.routed {
            for service in services {
                out.value(metric, &[service, "bgp", &self.speaker.node, &vip.to_string()], 1);
            }
        }
    }

    fn pools(&self, metric: &Metric, out: &mut Exposition) -> bool {
        for row in &self.pools {
            let used = row.assigned_v4.saturating_add(row.assigned_v6);
            let rest = [row.available_v4, row.available_v6, row.quarantined_v4, row.quarantined_v6];
            let all = rest.into_iter().fold(used, u128::saturating_add);
            match metric.name {
                "metallb_allocator_addresses_total" => {
                    out.value(metric, &[&row.pool], all);
                }
                "metallb_allocator_addresses_in_use_total" => {
                    out.value(metric, &[&row.pool], used);
                }
                "gatehouse_pool_addresses" => {
                    for (family, state, count) in [
                        ("ipv4", "assigned", row.assigned_v4),
                        ("ipv4", "available", row.available_v4),
                        ("ipv4", "resting", row.quarantined_v4),
                        ("ipv6", "assigned", row.assigned_v6),
                        ("ipv6", "available", row.available_v6),
                        ("ipv6", "resting", row.quarantined_v6),
                    ] {
                        out.value(metric, &[&row.pool, family, state], count);
                    }
                }
                _ => return false,
            }
        }
        metric.name.starts_with("metallb_allocator_") || metric.name == "gatehouse_pool_addresses"
    }
}
