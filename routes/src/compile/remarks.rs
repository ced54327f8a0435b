//! What there is to be said of the hosts of a table: rules and demands that older objects stand in the way of.

use std::collections::BTreeMap;

use super::demands;
use crate::{admit::Lost, model::HostPattern, problem::Problem, table::HostRoutes};

/// What there is to be said of the hosts of a table, for the next compile.
#[derive(Debug, Default)]
pub(super) struct KeptHosts {
    /// Of those of which there is something to be said.
    pub(super) remarks: BTreeMap<HostPattern, Remarks>,
    /// Those with rules in the place of others.
    pub(super) replaced: Vec<HostPattern>,
    /// Some claimant asks for an alias, or has done so since all hosts were grouped.
    pub(super) has_aliases: bool,
}

impl KeptHosts {
    /// Rules that asked for a path that an older object has.
    pub(super) fn lost(&self) -> impl Iterator<Item = &Lost> {
        self.remarks.values().flat_map(|remarks| &remarks.lost)
    }
}

/// What there is to be said of a host.
#[derive(Clone, Debug)]
pub(super) struct Remarks {
    pub(super) lost: Box<[Lost]>,
    pub(super) problems: Vec<Problem>,
}

impl Remarks {
    pub(super) fn of(host: &HostRoutes) -> Option<Self> {
        let problems: Vec<_> = demands::problems(host).collect();
        let quiet = problems.is_empty() && host.lost().is_empty();
        (!quiet).then(|| Self { lost: host.lost().into(), problems })
    }
}
