//! What is shown of the API server that the objects come from.

use super::{Exposition, Metric};
use crate::source::kube::health::Facts;

/// The values of a metric of the source; false if it is another one.
pub(super) fn values(facts: Option<&Facts>, metric: &Metric, out: &mut Exposition) -> bool {
    match metric.name {
        "gatehouse_source_stale_seconds" => {
            let age =
                |facts: &Facts| facts.stale.as_ref().map_or(0.0, |stale| stale.age.as_secs_f64());
            facts.iter().for_each(|facts| out.value(metric, &[], age(facts)));
        }
        "gatehouse_source_objects" => {
            for (kind, count) in facts.iter().flat_map(|facts| &facts.objects) {
                out.value(metric, &[kind], *count);
            }
        }
        "gatehouse_source_kind_missing" => {
            for kind in facts.iter().flat_map(|facts| &facts.missing) {
                out.value(metric, &[kind], 1);
            }
        }
        "gatehouse_api_requests_total" => {
            for ((verb, code), count) in facts.iter().flat_map(|facts| &facts.requests) {
                out.value(metric, &[verb, &code.to_string()], *count);
            }
        }
        _ => return false,
    }
    true
}
