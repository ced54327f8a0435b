//! Metrics of Services that are passed on.

use super::{Exposition, Metric};
use crate::admin::l4::L4Row;

/// The values of a metric of theirs; false if it is another one.
pub(super) fn values(rows: &[L4Row], metric: &Metric, out: &mut Exposition) -> bool {
    for row in rows {
        let (service, protocol) = (&*row.service, &*row.protocol);
        match metric.name {
            "gatehouse_l4_open" => out.value(metric, &[service, protocol], row.open),
            "gatehouse_l4_total" => {
                for (result, count) in [
                    ("forwarded", row.forwarded),
                    ("failed", row.failed),
                    ("denied", row.denied),
                    ("evicted", row.evicted),
                    ("full", row.full),
                ] {
                    out.value(metric, &[service, protocol, result], count);
                }
            }
            "gatehouse_l4_bytes_total" => {
                out.value(metric, &[service, protocol, "in"], row.bytes_in);
                out.value(metric, &[service, protocol, "out"], row.bytes_out);
            }
            _ => return false,
        }
    }
    matches!(metric.name, "gatehouse_l4_open" | "gatehouse_l4_total" | "gatehouse_l4_bytes_total")
}
