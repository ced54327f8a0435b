//! The schemas and the types say the same.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_routes::openshift::RouteSpec;
use gatehouse_vip::{
    api::{IpAddressPoolSpec, L2AdvertisementSpec},
    bgp::spec::{BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, CommunitySpec},
};
use serde::Deserialize;
use serde_json::Value;

use super::{FILES, Group, fields::read_by, yaml};
use crate::source::Kind;

#[derive(Debug, Deserialize)]
struct Crd {
    metadata: Metadata,
    spec: CrdSpec,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
struct CrdSpec {
    group: String,
    names: Names,
    versions: Vec<Version>,
}

#[derive(Debug, Deserialize)]
struct Names {
    kind: String,
    #[serde(rename = "listKind")]
    list_kind: String,
    plural: String,
    singular: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    name: String,
    storage: bool,
    schema: Schemas,
    #[serde(default)]
    subresources: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Schemas {
    #[serde(rename = "openAPIV3Schema")]
    open_api_v3_schema: Schema,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Schema {
    #[serde(default)]
    properties: BTreeMap<String, Self>,
    items: Option<Box<Self>>,
    additional_properties: Option<Box<Self>>,
}

impl Schema {
    /// Paths of all values below, spelled as [`read_by`] does.
    fn fields(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.collect("", &mut found);
        found
    }

    fn collect(&self, path: &str, found: &mut BTreeSet<String>) {
        let items = self.items.iter().map(|schema| ("[]", &**schema));
        let any = self.additional_properties.iter().map(|schema| ("*", &**schema));
        let named = self.properties.iter().map(|(name, schema)| (name.as_str(), schema));
        let below: Vec<_> = items.chain(any).chain(named).collect();
        if below.is_empty() {
            found.insert(path.to_owned());
        }
        for (step, schema) in below {
            let dot = if path.is_empty() || step == "[]" { "" } else { "." };
            schema.collect(&format!("{path}{dot}{step}"), found);
        }
    }
}

fn crds() -> Vec<Crd> {
    yaml(None)
        .split("---\n")
        .filter(|text| text.contains("kind: CustomResourceDefinition"))
        .map(|text| serde_saphyr::from_str(text).unwrap())
        .collect()
}

/// The fields of `spec` that the program reads; none: it only writes the object's status.
fn read(kind: &str) -> Option<BTreeSet<String>> {
    Some(match kind {
        "BFDProfile" => read_by::<BfdProfileSpec>(),
        "BGPAdvertisement" => read_by::<BgpAdvertisementSpec>(),
        "BGPPeer" => read_by::<BgpPeerSpec>(),
        "Community" => read_by::<CommunitySpec>(),
        "IPAddressPool" => read_by::<IpAddressPoolSpec>(),
        "L2Advertisement" => read_by::<L2AdvertisementSpec>(),
        "Route" => read_by::<RouteSpec>(),
        "ServiceBGPStatus" | "ServiceL2Status" => return None,
        other => panic!("what reads {other}?"),
    })
}

/// The API server prunes what a schema does not know, and a field that nothing reads would promise something.
#[test]
fn the_schemas_hold_exactly_the_fields_that_the_program_reads() {
    for crd in crds() {
        let kind = &crd.spec.names.kind;
        for version in &crd.spec.versions {
            let schema = version.schema.open_api_v3_schema.properties["spec"].fields();
            match read(kind) {
                Some(fields) if version.storage => assert_eq!(schema, fields, "{kind}"),
                // Nothing converts between versions, so an older one holds nothing that is unknown to the new one.
                Some(fields) => assert!(schema.is_subset(&fields), "{kind} {}", version.name),
                None => assert_eq!(schema, BTreeSet::from([String::new()]), "{kind}"),
            }
        }
    }
}

#[test]
fn every_custom_kind_of_the_program_has_a_definition_in_each_version_that_is_read() {
    let defined: BTreeSet<_> = crds()
        .iter()
        .flat_map(|crd| {
            let CrdSpec { group, names, versions } = &crd.spec;
            let of =
                move |version: &Version| (names.kind.clone(), format!("{group}/{}", version.name));
            versions.iter().map(of).collect::<Vec<_>>()
        })
        .collect();
    let custom = |version: &&&str| version.contains("metallb.io") || version.contains("openshift");
    for kind in Kind::ALL {
        for version in kind.api_versions().iter().filter(custom) {
            let wanted = (kind.name().to_owned(), (*version).to_owned());
            assert!(defined.contains(&wanted), "{wanted:?}");
        }
    }
}

#[test]
fn names_agree_one_version_is_stored_and_status_is_written_apart() {
    let crds = crds();
    assert_eq!(crds.len(), 9);
    for Crd { metadata, spec } in crds {
        let Names { kind, list_kind, plural, singular } = &spec.names;
        assert_eq!(metadata.name, format!("{plural}.{}", spec.group));
        assert_eq!((list_kind, singular), (&format!("{kind}List"), &kind.to_lowercase()));
        assert_eq!(spec.versions.iter().filter(|version| version.storage).count(), 1, "{kind}");
        assert!(spec.versions.iter().all(|version| version.subresources.contains_key("status")));
    }
}

#[test]
fn a_group_is_printed_alone() {
    let (all, metallb, route) = (yaml(None), yaml(Some(Group::Metallb)), yaml(Some(Group::Route)));
    assert_eq!(format!("{metallb}{route}"), all);
    assert!(!metallb.contains("openshift") && !route.contains("metallb.io"));
    assert!(route.contains("kind: ValidatingAdmissionPolicy"));
}

#[test]
fn no_file_of_the_chart_is_forgotten() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/gatehouse/crds");
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(FILES.iter().any(|(group, known)| *group == Group::Metallb && *known == text));
    }
}
