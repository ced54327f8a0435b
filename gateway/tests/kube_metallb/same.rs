//! The same YAML, in a cluster with MetalLB and in one with Gatehouse: who has which address in both.

use std::collections::BTreeMap;

use gatehouse_testbed::{
    cluster::MetalLb,
    lan::Lan,
    process::Process,
    wait::{self, eventually},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::bed::{Bed, NODE, Name, addresses, end};

/// MetalLB goes through pools of equal rank in any order, so there is one only that serves everybody.
const POOLS: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: team}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: gold, labels: {tier: gold}}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: main, namespace: metallb-system}
spec: {addresses: [10.1.0.0/28, 'fd00:1::10-fd00:1::1f']}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: clean, namespace: metallb-system}
spec: {autoAssign: false, avoidBuggyIPs: true, addresses: [10.2.0.254-10.2.1.1]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: manual, namespace: metallb-system}
spec: {autoAssign: false, addresses: [10.3.0.0/30]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: team-second, namespace: metallb-system}
spec: {addresses: [10.4.0.1/32], serviceAllocation: {priority: 20, namespaces: [team]}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: team-first, namespace: metallb-system}
spec: {addresses: [10.5.0.1/32], serviceAllocation: {priority: 10, namespaces: [team]}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: public, namespace: metallb-system}
spec:
  addresses: [10.6.0.0/31]
  serviceAllocation: {serviceSelectors: [{matchLabels: {public: 'yes'}}, {matchExpressions: [{key: open, operator: Exists}]}]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: gold, namespace: metallb-system}
spec:
  addresses: [10.7.0.1/32]
  serviceAllocation:
    priority: 1
    namespaceSelectors: [{matchLabels: {tier: gold}}]
    serviceSelectors: [{matchLabels: {public: 'yes'}}]
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: listed, namespace: metallb-system}
spec: {autoAssign: false, addresses: [10.8.0.20/32, 10.8.0.10-10.8.0.11]}
";

/// A Service that is created, or edited, after those before it have what they get.
struct Case {
    /// `NAME` or `NAMESPACE/NAME`.
    name: &'static str,
    /// Labels, as YAML.
    labels: &'static str,
    annotations: &'static str,
    spec: &'static str,
    /// What both give it; empty: nothing, and an Event says so.
    gets: &'static str,
    /// What MetalLB gives, where that is something else on purpose.
    there: Option<&'static str>,
}

const fn case(
    name: &'static str,
    annotations: &'static str,
    spec: &'static str,
    gets: &'static str,
) -> Case {
    Case { name, labels: "", annotations, spec, gets, there: None }
}

impl Case {
    const fn labels(self, labels: &'static str) -> Self {
        Self { labels, ..self }
    }

    const fn there(self, there: &'static str) -> Self {
        Self { there: Some(there), ..self }
    }

    /// What Gatehouse gives, and what MetalLB does.
    fn expected(&self) -> [&'static str; 2] {
        [self.gets, self.there.unwrap_or(self.gets)]
    }

    fn yaml(&self) -> String {
        let Name { namespace, name } = Name::parse(self.name);
        let Self { labels, annotations, spec, .. } = self;
        let ports = if spec.contains("ports:") { "" } else { "ports: [{port: 80}], " };
        let kind = if spec.contains("type:") { "" } else { "type: LoadBalancer, " };
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}, \
             labels: {{{labels}}}, annotations: {{{annotations}}}}}\n\
             spec: {{{kind}{ports}selector: {{app: x}}, {spec}}}\n"
        )
    }
}

const LOCAL: &str = "externalTrafficPolicy: Local, ports: [{port: 8080}]";
const LOCAL_TOO: &str = "externalTrafficPolicy: Local, ports: [{port: 8081}]";
const SHARED: &str = "metallb.io/allow-shared-ip: key";
const PREFER: &str = "ipFamilyPolicy: PreferDualStack";
const REQUIRE: &str = "ipFamilyPolicy: RequireDualStack";

#[rustfmt::skip]
const CASES: &[Case] = &[
    // What is asked for.
    case("first", "", "", "10.1.0.0"),
    case("asks", "metallb.io/loadBalancerIPs: 10.1.0.5", "", "10.1.0.5"),
    case("asks-old", "metallb.universe.tf/loadBalancerIPs: 10.1.0.6", "", "10.1.0.6"),
    case("field", "", "loadBalancerIP: 10.1.0.4", "10.1.0.4"),
    case("twice", "metallb.io/loadBalancerIPs: 10.1.0.8", "loadBalancerIP: 10.1.0.8", ""),
    case("no-address", "metallb.io/loadBalancerIPs: gateway", "", ""),
    case("two", "metallb.io/loadBalancerIPs: '10.1.0.8,10.1.0.9'", "", ""),
    case("outside", "metallb.io/loadBalancerIPs: 192.0.2.1", "", ""),
    case("taken", "metallb.io/loadBalancerIPs: 10.1.0.5", "", ""),
    // Pools by name.
    case("named", "metallb.io/address-pool: manual", "", "10.3.0.0"),
    case("in-manual", "metallb.io/loadBalancerIPs: 10.3.0.2", "", "10.3.0.2"),
    case("unknown", "metallb.io/address-pool: nowhere", "", ""),
    case("elsewhere", "metallb.io/address-pool: manual, metallb.io/loadBalancerIPs: 10.1.0.9", "", ""),
    case("clean-1", "metallb.io/address-pool: clean", "", "10.2.0.254"),
    case("clean-2", "metallb.io/address-pool: clean", "", "10.2.1.1"),
    case("clean-3", "metallb.io/address-pool: clean", "", ""),
    case("clean-4", "metallb.io/loadBalancerIPs: 10.2.0.255", "", ""),
    case("listed-1", "metallb.io/address-pool: listed", "", "10.8.0.20"),
    case("listed-2", "metallb.io/address-pool: listed", "", "10.8.0.10"),
    // Sharing.
    case("share-1", SHARED, "", "10.1.0.1"),
    case("share-2", SHARED, "ports: [{port: 443}]", "10.1.0.1"),
    case("share-udp", SHARED, "ports: [{port: 80, protocol: UDP}]", "10.1.0.1"),
    case("team/share", SHARED, "ports: [{port: 22}]", "10.5.0.1"),
    case("gold/share", SHARED, "ports: [{port: 25}]", "10.1.0.1"),
    case("share-80", SHARED, "", "10.1.0.2"),
    case("share-local", SHARED, LOCAL, "10.1.0.3"),
    case("share-local-2", SHARED, LOCAL_TOO, "10.1.0.3"),
    case("share-local-3", "metallb.io/allow-shared-ip: key, metallb.io/loadBalancerIPs: 10.1.0.1", LOCAL, ""),
    case("other-key", "metallb.io/allow-shared-ip: other, metallb.io/loadBalancerIPs: 10.1.0.1", LOCAL, ""),
    case("no-key", "metallb.io/loadBalancerIPs: 10.1.0.1", "ports: [{port: 9000}]", ""),
    case("empty-key", "metallb.io/allow-shared-ip: '', metallb.io/loadBalancerIPs: 10.1.0.1", "ports: [{port: 9000}]", ""),
    // Families.
    case("six", "", "ipFamilies: [IPv6]", "fd00:1::10"),
    case("prefers", "", PREFER, "10.1.0.7,fd00:1::11"),
    case("requires", "", REQUIRE, "10.1.0.8,fd00:1::12"),
    case("six-first", "", "ipFamilies: [IPv6, IPv4], ipFamilyPolicy: PreferDualStack", "10.1.0.9,fd00:1::13"),
    case("both-asked", "metallb.io/loadBalancerIPs: '10.1.0.15,fd00:1::1f'", REQUIRE, "10.1.0.15,fd00:1::1f"),
    case("wrong-family", "metallb.io/loadBalancerIPs: 'fd00:1::1e'", "", ""),
    case("share-six", "metallb.io/allow-shared-ip: dual", PREFER, "10.1.0.10,fd00:1::14"),
    case("share-six-2", "metallb.io/allow-shared-ip: dual", "ipFamilyPolicy: PreferDualStack, ports: [{port: 81}]", "10.1.0.10,fd00:1::14"),
    // Who may have what.
    case("team/second", "", "", "10.4.0.1"),
    case("team/third", "", "", "10.1.0.11"),
    case("intruder", "metallb.io/address-pool: team-first", "", ""),
    case("intruder-2", "metallb.io/loadBalancerIPs: 10.4.0.1", "", ""),
    case("public", "", "", "10.6.0.0").labels("public: 'yes'"),
    case("gold/public", "", "", "10.7.0.1").labels("public: 'yes'"),
    case("gold/open", "", "", "10.6.0.1").labels("open: really"),
    case("gold/other", "", "", "10.1.0.12").labels("public: 'no'"),
    case("late-public", "", "", "10.1.0.13").labels("public: 'yes'"),
];

/// What is edited then, and what it has when that is settled.
#[rustfmt::skip]
const EDITS: &[Case] = &[
    case("named", "metallb.io/loadBalancerIPs: 10.3.0.3", "", "10.3.0.3"),
    case("share-2", SHARED, "externalTrafficPolicy: Local, ports: [{port: 443}]", "10.1.0.3"),
    case("in-manual", "", "type: ClusterIP", ""),
];

/// Where they differ on purpose: docs/compat.md says why.
#[rustfmt::skip]
const DIFFERENCES: &[Case] = &[
    case("one-of-two", "metallb.io/loadBalancerIPs: 10.3.0.1", REQUIRE, "10.3.0.1,fd00:1::15").there(""),
    case("two-pools", "metallb.io/loadBalancerIPs: '10.8.0.11,fd00:1::1e'", REQUIRE, "10.8.0.11,fd00:1::1e").there(""),
    case("split/prefers", "", PREFER, "10.1.0.14,fd00:1::16").there("10.10.0.1"),
    case("anycast", "metallb.io/address-pool: anycast", "ipFamilies: [IPv6]", "fd00:2::1").there("fd00:2::"),
];

/// Its pool came with one that overlaps an older one: MetalLB goes on with what it knew before.
const OVERLAPPED: Case =
    case("overlapped", "metallb.io/address-pool: later", "", "10.11.0.1").there("");

/// Pools of [`DIFFERENCES`].
const MORE_POOLS: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: split}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: split-4, namespace: metallb-system}
spec: {addresses: [10.10.0.1/32], serviceAllocation: {namespaces: [split]}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: split-6, namespace: metallb-system}
spec: {addresses: ['fd00:10::1/128'], serviceAllocation: {namespaces: [split]}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: anycast, namespace: metallb-system}
spec: {autoAssign: false, addresses: ['fd00:2::/124']}
";

/// Everybody may have addresses of it, before those of pools without limits.
const ONLY_PRIORITY: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: only-priority, namespace: metallb-system}
spec: {addresses: [10.9.0.1/32], serviceAllocation: {priority: 30}}
";

/// The first one overlaps an older one.
const OVERLAPPING: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: overlaps, namespace: metallb-system}
spec: {autoAssign: false, addresses: [10.1.0.0/24]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: later, namespace: metallb-system}
spec: {autoAssign: false, addresses: [10.11.0.1/32]}
";

/// Both clusters.
struct Pair {
    here: Bed,
    there: Bed,
    gatehouse: Option<Process>,
    metallb: MetalLb,
    folder: TempDir,
    _lan: Lan,
}

impl Pair {
    fn start() -> Self {
        let (lan, [here, there]) = Lan::new(["here", "there"]).unwrap();
        let folder = TempDir::new().unwrap();
        let (here, there) = (Bed::new(&here), Bed::new(&there));
        for bed in [&here, &there] {
            bed.apply(POOLS);
        }
        let gatehouse = Some(here.gatehouse(folder.path(), &[]));
        let metallb = there.cluster.start_metallb(NODE, None).unwrap();
        Self { here, there, gatehouse, metallb, folder, _lan: lan }
    }

    fn beds(&self) -> [&Bed; 2] {
        [&self.here, &self.there]
    }

    fn apply(&self, yaml: &str) {
        self.beds().iter().for_each(|bed| bed.apply(yaml));
    }

    fn delete(&self, service: &str) {
        for bed in self.beds() {
            bed.kubectl(&["delete", "service", service]);
        }
    }

    /// Creates the Services one after the other; each has to get, or not to get, what its row says.
    fn create(&self, cases: &[Case]) {
        let mut wrong = Vec::new();
        for case in cases {
            let (yaml, name) = (case.yaml(), Name::parse(case.name));
            for (bed, expected) in self.beds().into_iter().zip(case.expected()) {
                bed.apply(&yaml);
                let has = || addresses(&bed.service(&name));
                // What a controller refuses before it has seen a namespace, it may give a moment later.
                let settled = wait::comes_true(|| match expected {
                    "" => has().is_empty() && bed.is_refused(&name),
                    expected => has() == expected,
                });
                if !settled {
                    wrong.push(format!("{}: {:?}, not {expected:?}", case.name, has()));
                }
            }
        }
        self.metallb.check().unwrap();
        assert_eq!(wrong, [""; 0]);
    }

    /// Waits until a Service has what its row says.
    fn comes_to_have(&self, case: &Case) {
        let name = Name::parse(case.name);
        for (bed, expected) in self.beds().into_iter().zip(case.expected()) {
            eventually(case.name, || match addresses(&bed.service(&name)) {
                right if right == expected => Ok(()),
                other => Err(format!("{other}, not {expected}")),
            });
        }
    }

    /// All Services and what they have.
    fn all(&self) -> [BTreeMap<String, String>; 2] {
        self.beds().map(|bed| {
            let of = |service: &Value| {
                let metadata = &service["metadata"];
                (format!("{}/{}", metadata["namespace"], metadata["name"]), addresses(service))
            };
            bed.all("services").iter().map(of).collect()
        })
    }
}

#[test]
fn the_same_services_get_the_same_addresses_from_both() {
    let mut pair = Pair::start();
    pair.create(CASES);
    for case in EDITS {
        pair.apply(&case.yaml());
        pair.comes_to_have(case);
    }
    let [here, there] = pair.all();
    assert_eq!(here, there);

    // Restarts change nothing.
    end(pair.gatehouse.take().unwrap());
    pair.metallb.stop();
    pair.gatehouse = Some(pair.here.gatehouse(pair.folder.path(), &[]));
    pair.metallb.start().unwrap();
    pair.create(&[case("restarted", "metallb.io/loadBalancerIPs: 10.3.0.1", "", "10.3.0.1")]);
    let mut restarted = pair.all();
    for (after, before) in restarted.iter_mut().zip([here, there]) {
        after.remove("\"default\"/\"restarted\"");
        assert_eq!(*after, before);
    }
    pair.delete("restarted");

    pair.apply(MORE_POOLS);
    pair.create(DIFFERENCES);
    pair.apply(ONLY_PRIORITY);
    pair.create(&[case("only-priority", "", "", "10.9.0.1")]);
    pair.apply(OVERLAPPING);
    pair.create(&[OVERLAPPED]);

    // What was let go is given to whoever waits for it: there at once, here when it has rested.
    pair.delete("clean-1");
    pair.comes_to_have(&case("clean-3", "", "", "10.2.0.254"));
    // A wish that cannot be met costs the address there.
    let public = case("public", "metallb.io/loadBalancerIPs: 192.0.2.9", "", "10.6.0.0");
    let public = public.labels("public: 'yes'").there("");
    pair.apply(&public.yaml());
    let told =
        || pair.here.is_refused(&Name::parse("public")).then_some(()).ok_or_else(String::new);
    eventually("it is told", told);
    pair.comes_to_have(&public);
    end(pair.gatehouse.take().unwrap());
}
