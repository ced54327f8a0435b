//! Metrics of limits that the nodes of a group share.

use super::{Exposition, Metric};
use crate::shares::SharesStatus;

/// Writes the values of a metric of shared limits; false if it is none. Without such limits there are none.
pub(super) fn values(shares: Option<&SharesStatus>, metric: &Metric, out: &mut Exposition) -> bool {
    if !metric.name.starts_with("gatehouse_shared_limit_") {
        return false;
    }
    let Some(shares) = shares else { return true };
    let counters = &shares.counters;
    match metric.name {
        "gatehouse_shared_limit_nodes" => {
            out.value(metric, &["heard"], shares.nodes.len());
            out.value(metric, &["missing"], shares.missing.len());
        }
        "gatehouse_shared_limit_clients" => {
            out.value(metric, &["watched"], shares.watched);
            out.value(metric, &["shared"], shares.shared);
        }
        "gatehouse_shared_limit_part" => out.value(metric, &[], shares.percent),
        "gatehouse_shared_limit_reports_total" => {
            out.value(metric, &["sent"], counters.told);
            out.value(metric, &["received"], counters.heard);
        }
        "gatehouse_shared_limit_dropped_total" => {
            out.value(metric, &["unread"], counters.unread);
            out.value(metric, &["unwatched"], counters.unwatched);
        }
        _ => return false,
    }
    true
}
