//! The custom resource definitions, as the command `crds` prints them and the Helm chart installs them.
//!
//! One source: the YAML files in the chart. Tests prove that the schemas hold exactly the fields that the
//! program reads. This file knows only which there are and who needs them.

#[cfg(test)]
mod fields;
#[cfg(test)]
mod tests;

/// Definitions that are wanted or left out together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// Pools, advertisements, routers: `metallb.io`. A cluster that had MetalLB has them.
    Metallb,
    /// `route.openshift.io` Route, and the admission policies that say who may choose its host. OpenShift
    /// has both built in.
    Route,
}

macro_rules! chart {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/gatehouse/", $name))
    };
}

/// Every file and its group, in the order in which they are printed.
const FILES: &[(Group, &str)] = &[
    (Group::Metallb, chart!("crds/ipaddresspools.yaml")),
    (Group::Metallb, chart!("crds/l2advertisements.yaml")),
    (Group::Metallb, chart!("crds/bgppeers.yaml")),
    (Group::Metallb, chart!("crds/bgpadvertisements.yaml")),
    (Group::Metallb, chart!("crds/bfdprofiles.yaml")),
    (Group::Metallb, chart!("crds/communities.yaml")),
    (Group::Metallb, chart!("crds/servicel2statuses.yaml")),
    (Group::Metallb, chart!("crds/servicebgpstatuses.yaml")),
    (Group::Route, chart!("files/routes.yaml")),
    (Group::Route, chart!("files/route-admission.yaml")),
];

/// The definitions as YAML documents; all, or those of one group.
pub fn yaml(only: Option<Group>) -> String {
    FILES
        .iter()
        .filter(|(group, _)| only.is_none_or(|only| only == *group))
        .map(|(_, text)| format!("---\n{}\n", text.trim_end()))
        .collect()
}
