//! Metrics of what the kernel passes on. The rows are in the one table of `metrics`.

use std::collections::BTreeMap;

use super::{Exposition, Metric};
use crate::l4::kernel::KernelFact;

/// Writes the values of a metric of kernel forwarding; false if it is none.
pub(super) fn values(facts: &[KernelFact], metric: &Metric, out: &mut Exposition) -> bool {
    let value: fn(&KernelFact) -> u64 = match metric.name {
        "gatehouse_kernel_endpoints" => |fact| fact.endpoints as u64,
        "gatehouse_kernel_connections_total" => |fact| fact.connections,
        "gatehouse_kernel_received_bytes_total" => |fact| fact.bytes_in,
        "gatehouse_kernel_sent_bytes_total" => |fact| fact.bytes_out,
        _ => return false,
    };
    // A Service may have several groups of ports.
    let mut sums: BTreeMap<[&str; 3], u64> = BTreeMap::new();
    for fact in facts {
        *sums.entry([&fact.service, &fact.protocol, &fact.family]).or_default() += value(fact);
    }
    for (labels, sum) in sums {
        out.value(metric, &labels, sum);
    }
    true
}
