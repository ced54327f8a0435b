//! Which claims a pool serves: `spec.serviceAllocation` against the facts of one claim.
//!
//! [`Pool`](super::Pool) calls this. It fails closed: a selector that matches nothing, or makes no
//! sense, admits no claim. Names and labels are opaque here; what they belong to is the caller's business.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    api::{LabelSelector, ServiceAllocation},
    problem::{Problem, duplicates},
};

/// What pools may ask about the service behind a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// Namespace of the service.
    pub namespace: Arc<str>,
    /// Labels of that namespace, one map for all of its services.
    pub namespace_labels: Arc<BTreeMap<String, String>>,
    /// Labels of the service itself.
    pub labels: BTreeMap<String, String>,
}

/// The limits of one pool; the default admits every claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Admission {
    namespaces: Vec<String>,
    namespace_selectors: Vec<LabelSelector>,
    service_selectors: Vec<LabelSelector>,
}

impl Admission {
    /// Reads the limits, and names selectors that cannot match anything.
    pub(super) fn parse(spec: &ServiceAllocation, refusals: &mut Vec<Problem>) -> Self {
        refusals.extend(duplicates("spec.serviceAllocation.namespaces", &spec.namespaces));
        for (field, selectors) in [
            ("namespaceSelectors", &spec.namespace_selectors),
            ("serviceSelectors", &spec.service_selectors),
        ] {
            let field = format!("spec.serviceAllocation.{field}");
            refusals.extend(selector_faults(&field, selectors));
        }
        Self {
            namespaces: spec.namespaces.clone(),
            namespace_selectors: spec.namespace_selectors.clone(),
            service_selectors: spec.service_selectors.clone(),
        }
    }

    /// Why a claim gets nothing from the pool; `Ok` if it may.
    pub(super) fn check(&self, tenant: &Tenant) -> Result<(), String> {
        let open = self.namespaces.is_empty() && self.namespace_selectors.is_empty();
        let named = self.namespaces.iter().any(|name| **name == *tenant.namespace);
        if !(open || named || any_matches(&self.namespace_selectors, &tenant.namespace_labels)) {
            return Err(format!("not for namespace {}", tenant.namespace));
        }
        if !self.service_selectors.is_empty()
            && !any_matches(&self.service_selectors, &tenant.labels)
        {
            return Err("none of its serviceSelectors matches the labels of the service".to_owned());
        }
        Ok(())
    }
}

/// A refusal for each selector that makes no sense, and so matches nothing, and a warning for what the list
/// says twice.
pub(crate) fn selector_faults(field: &str, selectors: &[LabelSelector]) -> Vec<Problem> {
    let mut twice = duplicates(field, selectors);
    for (index, selector) in selectors.iter().enumerate() {
        let field = format!("{field}[{index}].matchExpressions");
        twice.extend(duplicates(&field, &selector.match_expressions));
        for (index, expression) in selector.match_expressions.iter().enumerate() {
            twice.extend(duplicates(&format!("{field}[{index}].values"), &expression.values));
        }
    }
    let faults = selectors.iter().enumerate().filter_map(|(index, selector)| {
        let fault = selector.fault()?;
        Some(Problem::refused(
            "InvalidSelector",
            format!("{field}[{index}]"),
            format!("{fault}, so the selector matches nothing"),
            "use In, NotIn (both with values), Exists or DoesNotExist (both without)",
        ))
    });
    faults.chain(twice).collect()
}

/// Whether any of the selectors matches the labels; none of none does.
pub(crate) fn any_matches(selectors: &[LabelSelector], labels: &BTreeMap<String, String>) -> bool {
    selectors.iter().any(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn selector(key: &str, value: &str) -> LabelSelector {
        LabelSelector { match_labels: labels(&[(key, value)]), ..LabelSelector::default() }
    }

    /// A service with label `app: web` in namespace `shop`, which has label `team: a`.
    fn checked(spec: &ServiceAllocation) -> Result<(), String> {
        let tenant = Tenant {
            namespace: "shop".into(),
            namespace_labels: labels(&[("team", "a")]).into(),
            labels: labels(&[("app", "web")]),
        };
        Admission::parse(spec, &mut Vec::new()).check(&tenant)
    }

    #[test]
    fn namespaces_add_up_and_service_selectors_narrow_that_down() {
        let foreign = Err("not for namespace shop".to_owned());
        let other =
            Err("none of its serviceSelectors matches the labels of the service".to_owned());
        // namespaces, namespace selectors, service selectors
        type Case<'c> = (&'c [&'c str], &'c [(&'c str, &'c str)], &'c [(&'c str, &'c str)]);
        let cases: &[(Case<'_>, Result<(), String>)] = &[
            ((&[], &[], &[]), Ok(())),
            ((&["shop"], &[], &[]), Ok(())),
            ((&["other", "shop"], &[], &[]), Ok(())),
            ((&["other"], &[], &[]), foreign.clone()),
            ((&[], &[("team", "a")], &[]), Ok(())),
            ((&[], &[("team", "b"), ("team", "a")], &[]), Ok(())),
            ((&[], &[("team", "b")], &[]), foreign.clone()),
            ((&["other"], &[("team", "a")], &[]), Ok(())),
            ((&["shop"], &[("team", "b")], &[]), Ok(())),
            ((&[], &[], &[("app", "web")]), Ok(())),
            ((&[], &[], &[("app", "mail"), ("app", "web")]), Ok(())),
            ((&[], &[], &[("app", "mail")]), other.clone()),
            ((&["shop"], &[], &[("app", "mail")]), other),
            ((&["other"], &[], &[("app", "web")]), foreign),
        ];
        for ((namespaces, namespace_selectors, service_selectors), expected) in cases {
            let selectors = |of: &[(&str, &str)]| {
                of.iter().map(|(key, value)| selector(key, value)).collect::<Vec<_>>()
            };
            let spec = ServiceAllocation {
                priority: 0,
                namespaces: namespaces.iter().map(ToString::to_string).collect(),
                namespace_selectors: selectors(namespace_selectors),
                service_selectors: selectors(service_selectors),
            };
            assert_eq!(&checked(&spec), expected, "{spec:?}");
        }
    }

    #[test]
    fn a_selector_that_makes_no_sense_closes_the_pool_and_is_named() {
        let broken: LabelSelector = serde_saphyr::from_str(
            "matchExpressions: [{key: team, operator: Equals, values: [a]}]\n",
        )
        .unwrap();
        let spec =
            ServiceAllocation { namespace_selectors: vec![broken], ..ServiceAllocation::default() };
        assert!(checked(&spec).is_err());
        let mut refusals = Vec::new();
        Admission::parse(&spec, &mut refusals);
        assert_eq!(refusals[0].reason, "InvalidSelector");
        assert_eq!(refusals[0].field, "spec.serviceAllocation.namespaceSelectors[0]");
    }
}
