//! The `metallb.io/v1beta1` specs that this crate understands, as plain serde structs.
//!
//! They read YAML written for MetalLB unchanged (field names and meaning:
//! `api/v1beta1/{ipaddresspool,l2advertisement}_types.go` of metallb/metallb). Unknown fields are
//! ignored, as the API server would prune them. This file decides nothing: meaning lives in
//! [`Pool::parse`](crate::Pool::parse) and [`plan`](crate::plan()).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `IPAddressPool.spec`: addresses that may be given to services.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpAddressPoolSpec {
    /// CIDR blocks (`192.0.2.0/24`, host bits ignored) or inclusive ranges
    /// (`192.0.2.10-192.0.2.20`), of either family.
    pub addresses: Vec<String>,
    /// Whether services that ask for nothing in particular get addresses from here. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<bool>,
    /// Leaves out IPv4 addresses that end in .0 or .255. Default false.
    #[serde(rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,
    /// Limits the pool to some services, and says when it is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,
}

/// `IPAddressPool.spec.serviceAllocation`: which claims may use the pool, and how eagerly.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAllocation {
    /// Lower is tried first; 0 is last. Default 0.
    pub priority: i64,
    /// Namespaces that may use the pool; united with `namespace_selectors`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Labels of namespaces that may use the pool; any one has to match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,
    /// Labels of services that may use the pool; any one has to match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,
}

/// `L2Advertisement.spec`: which pools are announced by ARP and NDP, from where.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct L2AdvertisementSpec {
    /// Pools by name. Without names and selectors: all pools.
    #[serde(rename = "ipAddressPools", skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pools: Vec<String>,
    /// Pools by label; any one has to match.
    #[serde(rename = "ipAddressPoolSelectors", skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that may announce; any one has to match. Default: all nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,
    /// Interfaces to announce on, by exact name. Default: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// Services to announce, by label; any one has to match. Default: all services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,
    /// Nodes that rather should announce than others, as far as they may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferred_node_selectors: Vec<PreferredNodeSelector>,
}

/// One of `L2Advertisement.spec.preferredNodeSelectors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PreferredNodeSelector {
    /// 1 to 100; the weights of all selectors of all advertisements that match a node add up.
    pub weight: i64,
    /// Labels of the nodes that are preferred.
    pub preference: LabelSelector,
}

/// `metav1.LabelSelector`: all labels and all expressions have to match; empty matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that have to be there with exactly this value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelExpression>,
}

/// `metav1.LabelSelectorRequirement`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelExpression {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`; anything else matches nothing.
    pub operator: String,
    /// The values for `In` and `NotIn`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

impl LabelSelector {
    /// Whether labels satisfy the selector. A selector that makes no sense matches nothing.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|expression| expression.matches(labels))
    }

    /// Why the selector can match nothing; `None` for a selector that makes sense.
    pub fn fault(&self) -> Option<String> {
        self.match_expressions.iter().find_map(LabelExpression::fault)
    }
}

impl LabelExpression {
    fn fault(&self) -> Option<String> {
        let Self { key, operator, values } = self;
        match (operator.as_str(), values.is_empty()) {
            _ if key.is_empty() => {
                Some(format!("an expression with operator \"{operator}\" has no key"))
            }
            ("", _) => Some(format!("the expression of \"{key}\" has no operator")),
            ("In" | "NotIn", false) | ("Exists" | "DoesNotExist", true) => None,
            ("In" | "NotIn", true) => Some(format!("{operator} of \"{key}\" has no values")),
            ("Exists" | "DoesNotExist", false) => {
                Some(format!("{operator} of \"{key}\" has values"))
            }
            _ => Some(format!("\"{operator}\" of \"{key}\" is not an operator")),
        }
    }

    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        if self.fault().is_some() {
            return false;
        }
        let value = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => value.is_some_and(|value| self.values.contains(value)),
            // As in Kubernetes, a label that is not there is not in the list either.
            "NotIn" => value.is_none_or(|value| !self.values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn specs_written_for_metallb_are_read_with_all_their_fields() {
        let pool: IpAddressPoolSpec = serde_saphyr::from_str(
            "addresses: [192.168.10.0/24, fc00:f853:0ccd:e799::/124]
autoAssign: false
avoidBuggyIPs: true
serviceAllocation:
  priority: 50
  namespaces: [a, b]
  namespaceSelectors: [{matchLabels: {foo: bar}}]
  serviceSelectors: [{matchExpressions: [{key: app, operator: In, values: [bar]}]}]
",
        )
        .unwrap();
        let allocation = pool.service_allocation.as_ref().unwrap();
        assert_eq!((pool.auto_assign, pool.avoid_buggy_ips), (Some(false), true));
        assert_eq!((allocation.priority, allocation.namespaces.len()), (50, 2));
        assert_eq!(allocation.namespace_selectors[0].match_labels, labels(&[("foo", "bar")]));
        assert_eq!(allocation.service_selectors[0].match_expressions[0].values, ["bar"]);

        let advertisement: L2AdvertisementSpec = serde_saphyr::from_str(
            "ipAddressPools: [first-pool]
ipAddressPoolSelectors: [{matchLabels: {zone: a}}]
nodeSelectors: [{matchLabels: {kubernetes.io/hostname: n1}}]
interfaces: [eth3]
serviceSelectors: [{}]
preferredNodeSelectors: [{weight: 30, preference: {matchLabels: {rack: a}}}]
",
        )
        .unwrap();
        assert_eq!(advertisement.ip_address_pools, ["first-pool"]);
        assert_eq!(advertisement.ip_address_pool_selectors.len(), 1);
        assert_eq!(advertisement.node_selectors.len(), 1);
        assert_eq!(advertisement.interfaces, ["eth3"]);
        assert_eq!(advertisement.service_selectors, [LabelSelector::default()]);
        let preferred = &advertisement.preferred_node_selectors[0];
        assert_eq!(preferred.weight, 30);
        assert_eq!(preferred.preference.match_labels, labels(&[("rack", "a")]));
    }

    #[test]
    fn expressions_mean_what_kubernetes_says_and_nonsense_matches_nothing() {
        // operator, values separated by blanks, value of the label if it is there, whether it matches
        let cases = [
            ("In", "a b", Some("b"), true),
            ("In", "a b", Some("c"), false),
            ("In", "a", None, false),
            ("NotIn", "a", Some("b"), true),
            ("NotIn", "a", Some("a"), false),
            ("NotIn", "a", None, true),
            ("Exists", "", Some("x"), true),
            ("Exists", "", None, false),
            ("DoesNotExist", "", None, true),
            ("DoesNotExist", "", Some("a"), false),
            ("NotIn", "", None, false),
            ("DoesNotExist", "a", None, false),
            ("exists", "", Some("a"), false),
        ];
        for (operator, values, label, expected) in cases {
            let on: Vec<_> = label.map(|value| ("zone", value)).into_iter().collect();
            let selector = LabelSelector {
                match_expressions: vec![LabelExpression {
                    key: "zone".into(),
                    operator: operator.to_owned(),
                    values: values.split_whitespace().map(str::to_owned).collect(),
                }],
                ..LabelSelector::default()
            };
            assert_eq!(selector.matches(&labels(&on)), expected, "{operator} {values} {on:?}");
        }
        let keyless = |operator: &str, values: &[&str]| LabelSelector {
            match_expressions: vec![LabelExpression {
                key: String::new(),
                operator: operator.to_owned(),
                values: values.iter().map(ToString::to_string).collect(),
            }],
            ..LabelSelector::default()
        };
        // Without a key, NotIn and DoesNotExist would match everything.
        for selector in [
            keyless("NotIn", &["blue"]),
            keyless("In", &["blue"]),
            keyless("DoesNotExist", &[]),
            keyless("", &[]),
        ] {
            assert!(selector.fault().unwrap().contains("no key"));
            assert!(!selector.matches(&labels(&[])) && !selector.matches(&labels(&[("a", "b")])));
        }
        assert!(LabelSelector::default().matches(&labels(&[])));
    }
}
