//! What is not done as asked, why, and what to do about it.
//!
//! The object is left open: the caller knows whether a claim is a Service. `field` is a path in the spec for
//! pools, peers and advertisements (`spec.addresses[1]`), or the name of a field of [`Claim`](crate::Claim)
//! (`requested`, `pool`, `families`) that the caller translates.

use std::collections::BTreeMap;

pub use gatehouse_problem::Problem;
pub(crate) use gatehouse_problem::Severity;

/// A warning for each entry of a list that an earlier one says already.
pub(crate) fn duplicates<T: Ord>(field: &str, list: &[T]) -> Vec<Problem> {
    let mut first = BTreeMap::new();
    let repeated = list.iter().enumerate().filter_map(|(index, entry)| {
        let earlier = *first.entry(entry).or_insert(index);
        (earlier != index).then(|| {
            Problem::noted(
                "Duplicate",
                format!("{field}[{index}]"),
                format!("it says the same as {field}[{earlier}]"),
                "remove one of the two",
            )
        })
    });
    repeated.collect()
}
