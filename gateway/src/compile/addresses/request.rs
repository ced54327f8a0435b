//! What a `LoadBalancer` Service asks for, read from its spec and MetalLB's annotations.
//!
//! [`addresses`](super) makes a claim of it, and turns refusals of that claim back into problems of the
//! fields that hold the wish. A request that makes no sense counts as none.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use gatehouse_routes::{
    annotations::{
        Annotation,
        metallb::{self, ADDRESS_POOL, ALLOW_SHARED_IP, LOAD_BALANCER_IPS},
    },
    objects::{ObjectKey, ObjectRef},
    problem::{Problem, Severity},
};
use gatehouse_vip::{
    Claim, Families, Family, Pool, Problem as VipProblem, Sharing, Tenant, TrafficPolicy,
};
use k8s_openapi::api::core::v1::Service;

use super::claim_id;

/// What a Service asks for, and where it says so.
#[derive(Debug)]
pub(super) struct Request {
    addresses: Vec<IpAddr>,
    /// Field that holds the addresses.
    field: String,
    pool: Option<String>,
    pool_field: String,
    sharing_field: String,
    sharing_key: Option<String>,
}

impl Request {
    /// Reads the request. The flag says whether a broken one has been read as none; `holding`: the
    /// Service has an address that it keeps in that case.
    pub(super) fn read(
        key: &ObjectKey,
        service: &Service,
        holding: bool,
        problems: &mut Vec<Problem>,
    ) -> (Self, bool) {
        let object = ObjectRef::new("Service", key.clone());
        let annotated = annotation(service, &LOAD_BALANCER_IPS);
        let in_spec = service
            .spec
            .as_ref()
            .and_then(|spec| spec.load_balancer_ip.as_deref())
            .filter(|text| !text.is_empty())
            .map(|text| ("spec.loadBalancerIP".to_owned(), text));
        let mut is_broken = false;
        let mut broken = |field: &str, message: String, hint: &str| {
            let mut problem =
                Problem::error(&object, "InvalidAddressRequest", field, message, hint);
            if holding {
                problem.severity = Severity::Warning;
                problem.message += "; the Service keeps the address it has";
            }
            problems.push(problem);
            is_broken = true;
        };
        if let (Some((field, _)), Some(_)) = (&annotated, &in_spec) {
            let message =
                "spec.loadBalancerIP and the annotation both ask for addresses".to_owned();
            broken(field, message, "keep the annotation, spec.loadBalancerIP is deprecated");
        }
        let (mut addresses, mut twice): (Vec<IpAddr>, Vec<_>) = (Vec::new(), Vec::new());
        let (field, text) = annotated.or(in_spec).unwrap_or_default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.parse() {
                Ok(ip) if addresses.contains(&ip) => twice.push((field.clone(), ip.to_string())),
                Ok(ip) => addresses.push(ip),
                Err(_) => broken(
                    &field,
                    format!("\"{part}\" is not an IP address"),
                    "write one address of each family, separated by a comma",
                ),
            }
        }
        if is_broken {
            addresses.clear();
        }
        let families = families(service);
        twice.extend(families.iter().enumerate().filter_map(|(index, family)| {
            let repeated = families[..index].contains(family);
            repeated.then(|| (format!("spec.ipFamilies[{index}]"), family.clone()))
        }));
        problems.extend(twice.into_iter().map(|(field, what)| {
            let message = format!("{what} is listed twice");
            Problem::warning(&object, "Duplicate", field, message, "list it once")
        }));
        let (pool_field, pool) = annotation(service, &ADDRESS_POOL)
            .map_or_else(Default::default, |(field, name)| (field, Some(name.to_owned())));
        let (sharing_field, sharing_key) = annotation(service, &ALLOW_SHARED_IP)
            .map_or_else(Default::default, |(field, key)| (field, Some(key.to_owned())));
        (Self { addresses, field, pool, pool_field, sharing_field, sharing_key }, is_broken)
    }

    /// The claim of the Service. `namespace_labels` are those of its namespace.
    pub(super) fn claim(
        &self,
        service: &Service,
        pools: &[Pool],
        namespace_labels: Arc<BTreeMap<String, String>>,
        recorded: Vec<IpAddr>,
    ) -> Claim {
        let key = crate::source::key_of(&service.metadata);
        Claim {
            id: claim_id(&key),
            tenant: Tenant {
                namespace: Arc::clone(&key.namespace),
                namespace_labels,
                labels: service.metadata.labels.clone().unwrap_or_default(),
            },
            families: self.families(service, pools),
            requested: self.addresses.clone(),
            pool: self.pool.clone(),
            sharing: self.sharing_key.clone().map(|key| sharing(key, service)),
            recorded,
        }
    }

    /// The families that the Service names; else those of the addresses it asks for; else IPv4, unless
    /// there are only IPv6 pools. (In a cluster the API server fills the fields in.)
    fn families(&self, service: &Service, pools: &[Pool]) -> Families {
        let spec = service.spec.as_ref();
        let mut named = families(service).to_vec();
        named.dedup();
        let policy = spec.and_then(|spec| spec.ip_family_policy.as_deref());
        let first = match (named.first().map(String::as_str), self.addresses.first()) {
            (Some("IPv6"), _) => Family::V6,
            (Some(_), _) => Family::V4,
            (None, Some(ip)) => Family::of(*ip),
            (None, None) => default_family(pools, self.pool.as_deref()),
        };
        let both_requested = self.addresses.iter().any(|ip| Family::of(*ip) != first);
        match policy {
            Some("PreferDualStack") => Families::PreferDual { first },
            Some("RequireDualStack") => Families::RequireDual { first },
            Some(_) => single(first),
            None if named.len() > 1 => Families::RequireDual { first },
            None if named.is_empty() && both_requested => Families::RequireDual { first },
            None => single(first),
        }
    }

    /// A refusal in terms of the Service's fields.
    pub(super) fn problem(&self, key: &ObjectKey, mut refusal: VipProblem) -> Problem {
        match refusal.field.as_str() {
            "requested" => refusal.field.clone_from(&self.field),
            "pool" => refusal.field.clone_from(&self.pool_field),
            "sharing" => refusal.field.clone_from(&self.sharing_field),
            "families" => refusal.field = "spec.ipFamilies".to_owned(),
            _ => {}
        }
        refusal.about(ObjectRef::new("Service", key.clone()))
    }
}

/// `spec.ipFamilies`.
fn families(service: &Service) -> &[String] {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default()
}

/// True with `spec.externalTrafficPolicy: Local`.
pub(super) fn is_local(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.external_traffic_policy.as_deref()) == Some("Local")
}

fn sharing(key: String, service: &Service) -> Sharing {
    let spec = service.spec.as_ref();
    let policy = if is_local(service) {
        TrafficPolicy::Local(spec.and_then(|spec| spec.selector.clone()).unwrap_or_default())
    } else {
        TrafficPolicy::Cluster
    };
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default().iter();
    let ports: BTreeSet<(String, u16)> = ports
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((protocol, u16::try_from(port.port).ok()?))
        })
        .collect();
    Sharing { key, policy, ports }
}

/// The field and the value of an annotation of MetalLB that is there and not empty.
fn annotation<'s>(service: &'s Service, row: &Annotation) -> Option<(String, &'s str)> {
    let found = metallb::FAMILY.find(row, &service.metadata)?;
    Some((found.field(), found.value))
}

fn default_family(pools: &[Pool], named: Option<&str>) -> Family {
    let mut candidates = pools.iter().filter(|pool| named.is_none_or(|name| name == pool.name()));
    let only_v6 =
        candidates.clone().next().is_some() && candidates.all(|pool| pool.size(Family::V4) == 0);
    if only_v6 { Family::V6 } else { Family::V4 }
}

fn single(family: Family) -> Families {
    match family {
        Family::V4 => Families::V4,
        Family::V6 => Families::V6,
    }
}
