//! Addresses as a user sees them: pools with limits, annotations, quarantine, what a node announces.

use std::collections::BTreeSet;

use gatehouse_vip::{ClaimId, Exclusion};

use super::*;

fn pool(name: &str, annotations: &str, spec: &str) -> String {
    format!(
        "\n---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: {name}, \
         namespace: m, annotations: {{{annotations}}}}}\nspec: {{{spec}}}\n"
    )
}

fn in_namespace(namespace: &str, service: &str) -> String {
    service.replace("metadata: {", &format!("metadata: {{namespace: {namespace}, "))
}

/// The plan's addresses and how much this node is preferred for each.
fn announced(compiled: &Compiled) -> Vec<String> {
    let vips = compiled.vips.vips.iter();
    vips.map(|(ip, vip)| format!("{ip} {}", vip.preference)).collect()
}

#[test]
fn a_pool_for_some_namespaces_is_told_from_the_labels_of_the_namespace_object() {
    let limited = |limits: &str| {
        let spec = format!("addresses: [10.0.0.0/24], serviceAllocation: {{{limits}}}");
        format!("{}{}", pool("p", "", &spec), in_namespace("shop", &load_balancer("a", "", "")))
    };
    let namespace = "\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: \
                     a, kubernetes.io/metadata.name: lie}}\n";
    let by_team = limited("namespaceSelectors: [{matchLabels: {team: a}}]");
    let by_label =
        limited("namespaceSelectors: [{matchLabels: {kubernetes.io/metadata.name: shop}}]");
    for (yaml, expected) in [
        (limited("namespaces: [shop]"), vec!["10.0.0.0"]),
        (limited("namespaces: [other]"), vec![]),
        (by_team.clone(), vec![]),
        (format!("{by_team}{namespace}"), vec!["10.0.0.0"]),
        (by_label.clone(), vec!["10.0.0.0"]),
        (format!("{by_label}{namespace}"), vec!["10.0.0.0"]),
    ] {
        let compiled = compiled(&yaml);
        assert_eq!(ips(&compiled, "shop/a"), expected, "{yaml}");
        let refused = reasons(&compiled).contains(&"PoolRestricted Service shop/a ".to_owned());
        assert_eq!(refused, expected.is_empty());
    }
}

#[test]
fn gateway_services_of_one_sharing_key_and_other_ports_are_served_on_one_address() {
    let gateway = |name: &str, port: u16, protocol: &str, annotation: &str| {
        format!(
            "\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, annotations: \
             {{{annotation}: k}}}}\nspec: {{type: LoadBalancer, ports: [{{name: {protocol}, port: \
             {port}}}]}}\n---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: \
             {{name: {name}}}\nspec: {{controller: gatehouse.io/ingress, parameters: {{kind: \
             Service, scope: Namespace, namespace: default, name: {name}}}}}\n"
        )
    };
    let class = |name: &str| {
        GATEWAY[GATEWAY.find("---\napiVersion: networking.k8s.io/v1\nkind: Ingress\n").unwrap()..]
            .replace("ingressClassName: gatehouse", &format!("ingressClassName: {name}"))
            .replace("{name: web}", &format!("{{name: {name}-web}}"))
    };
    let share = "metallb.io/allow-shared-ip";
    let yaml = [
        POOL,
        &gateway("a", 80, "http", share),
        &gateway("b", 443, "https", share),
        &gateway("c", 80, "http", "metallb.universe.tf/allow-shared-ip"),
        "\n",
        &class("a"),
        &class("b"),
        &class("c"),
    ]
    .concat();
    let compiled = compiled(&yaml);
    let got = ["default/a", "default/b", "default/c"].map(|name| ips(&compiled, name)[0].clone());
    assert_eq!(got, ["192.168.1.200", "192.168.1.200", "192.168.1.201"]);
    let listeners = compiled.listeners.iter().filter(|one| one.vip);
    let listeners: Vec<_> = listeners.map(|one| one.address.to_string()).collect();
    assert_eq!(listeners, ["192.168.1.200:80", "192.168.1.200:443", "192.168.1.201:80"]);
    let shared = &compiled.vips.vips[&"192.168.1.200".parse::<IpAddr>().unwrap()];
    assert_eq!(shared.claims.len(), 2);
    assert_eq!(compiled.pools[0].assigned_v4, 2, "a shared address counts once");
}

#[test]
fn annotations_of_the_old_prefix_work_and_are_told() {
    let old = "metallb.universe.tf/address-pool: pool, metallb.universe.tf/allow-shared-ip: k";
    let both = "metallb.universe.tf/address-pool: none, metallb.io/address-pool: pool";
    for (annotations, told) in
        [(old, vec!["address-pool", "allow-shared-ip"]), (both, vec!["address-pool"])]
    {
        let compiled = compiled(&format!("{POOL}{}", load_balancer("a", annotations, "")));
        assert_eq!(ips(&compiled, "default/a"), ["192.168.1.200"]);
        let expected: Vec<_> = told
            .iter()
            .map(|name| {
                format!(
                    "DeprecatedAnnotation Service default/a \
                     metadata.annotations[metallb.universe.tf/{name}]"
                )
            })
            .collect();
        let found = reasons(&compiled);
        let found: Vec<_> = found.iter().filter(|one| one.starts_with("Deprecated")).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn both_families_may_come_from_two_pools_and_the_second_may_come_later() {
    let four = pool("four", "", "addresses: [10.0.0.0/24]");
    let six = pool("six", "", "addresses: ['2001:db8::/64']");
    let service = load_balancer("a", "", ", ipFamilyPolicy: PreferDualStack");
    let before = compiled(&format!("{four}{service}"));
    assert_eq!(ips(&before, "default/a"), ["10.0.0.0"]);
    let after = compile(&state(&format!("{four}{six}{service}")), &node(), Some(&before));
    assert_eq!(ips(&after, "default/a"), ["10.0.0.0", "2001:db8::1"]);
    let assigned = &after.addresses[&ObjectKey::new("default", "a")];
    assert_eq!(assigned.pools, ["four", "six"]);
}

#[test]
fn services_keep_their_addresses_when_an_edit_has_pools_overlap() {
    let service = |name: &str, pool: &str| {
        load_balancer(name, &format!("metallb.io/address-pool: {pool}"), "")
    };
    let services = service("a", "older") + &service("b", "newer");
    let pools = |older: &str, newer: &str| {
        let of = |name: &str, addresses: &str| {
            pool(name, "", &format!("addresses: [{addresses}], autoAssign: false"))
        };
        of("older", older) + &of("newer", newer)
    };
    let good = pools("10.0.0.0/28", "10.0.0.16/28");
    let before = compiled(&format!("{good}{services}"));
    let recorded = before.addresses.iter().map(|(key, it)| (key.clone(), it.ips.clone()));
    let node = NodeContext { recorded: recorded.collect(), ..node() };
    for bad in [pools("10.0.0.0/27", "10.0.0.16/28"), pools("10.0.0.0/28", "10.0.0.0/27")] {
        let more = service("c", "newer");
        let after = compile(&state(&format!("{bad}{services}{more}")), &node, Some(&before));
        assert_eq!(ips(&after, "default/a"), ["10.0.0.0"]);
        assert_eq!(ips(&after, "default/b"), ["10.0.0.16"]);
        let b = &after.addresses[&ObjectKey::new("default", "b")];
        assert_eq!(b.pools, ["newer"], "it is announced as before");
        assert_eq!(ips(&after, "default/c"), [""; 0]);
        let found = reasons(&after);
        for wanted in ["PoolOverlap IPAddressPool m/newer ", "PoolDraining Service default/c "] {
            assert!(found.iter().any(|found| found.starts_with(wanted)), "{found:?}");
        }
    }
}

#[test]
fn a_draining_pool_gives_nothing_new_and_any_other_value_is_told() {
    let with = |value: &str| {
        let drain = format!("gatehouse.io/drain: '{value}'");
        let pool = pool("p", &drain, "addresses: [10.0.0.0/24]");
        let node = NodeContext {
            recorded: [(ObjectKey::new("default", "a"), vec!["10.0.0.7".parse().unwrap()])].into(),
            ..node()
        };
        let services = [load_balancer("a", "", ""), load_balancer("b", "", "")].concat();
        compile(&state(&format!("{pool}{services}")), &node, None)
    };
    let draining = with("true");
    assert_eq!(ips(&draining, "default/a"), ["10.0.0.7"]);
    assert_eq!(ips(&draining, "default/b"), [""; 0]);
    assert!(reasons(&draining).contains(&"PoolDraining Service default/b ".to_owned()));
    assert_eq!(ips(&with("false"), "default/b"), ["10.0.0.0"]);
    let odd = with("yes");
    assert_eq!(ips(&odd, "default/b"), ["10.0.0.0"]);
    let expected = "InvalidAnnotation IPAddressPool m/p metadata.annotations[gatehouse.io/drain]";
    assert!(reasons(&odd).contains(&expected.to_owned()));
}

#[test]
fn an_address_that_a_deleted_service_held_rests_before_another_one_gets_it() {
    let small = pool("p", "", "addresses: [10.0.0.1-10.0.0.1]");
    let with = |service: &str| state(&format!("{small}{}", load_balancer(service, "", "")));
    let before = compile(&with("a"), &node(), None);
    // Deleted and replaced in one save; the same if the process was away meanwhile.
    let restarted = NodeContext { recorded: before.recorded(), ..node() };
    for (node, previous) in [(node(), Some(&before)), (restarted, None)] {
        let swapped = compile(&with("b"), &node, previous);
        assert_eq!(ips(&swapped, "default/b"), [""; 0]);
        let told = swapped.problems.iter().find(|one| one.reason == "PoolExhausted").unwrap();
        assert!(told.message.ends_with("(0 used, 1 rest)"), "{}", told.message);
        let rests = BTreeSet::from([ClaimId("default/a".into())]);
        assert_eq!(swapped.quarantined, [("10.0.0.1".parse().unwrap(), rests)].into());
        assert_eq!(swapped.pools[0].quarantined_v4, 1);

        let quarantined = NodeContext { quarantined: swapped.quarantined.clone(), ..self::node() };
        let later = compile(&with("b"), &quarantined, Some(&swapped));
        assert_eq!(ips(&later, "default/b"), [""; 0], "it rests on");
        let back = compile(&with("a"), &quarantined, Some(&swapped));
        assert_eq!(ips(&back, "default/a"), ["10.0.0.1"], "its former holder has it at once");
        let over = compile(&with("b"), &self::node(), Some(&later));
        assert_eq!(ips(&over, "default/b"), ["10.0.0.1"]);
    }
}

#[test]
fn pools_tell_how_full_they_are_as_far_as_the_field_can_count() {
    let wide = pool("wide", "", "addresses: [10.0.0.0/30, '2001:db8::/32']");
    let yaml = format!("{wide}{}", load_balancer("a", "", ", ipFamilyPolicy: RequireDualStack"));
    assert_eq!(
        status(&yaml, &node(), "IPAddressPool m/wide"),
        serde_json::json!({
            "assignedIPv4": 1, "assignedIPv6": 1, "availableIPv4": 3, "availableIPv6": i64::MAX,
        })
    );
    assert_eq!(compiled(&yaml).pools[0].available_v6, (1 << 96) - 1);
}

fn node_object(labels: &str, condition: &str) -> String {
    format!(
        "\n---\napiVersion: v1\nkind: Node\nmetadata: {{name: node-1, labels: {{{labels}}}}}\n\
         status: {{conditions: [{{type: NetworkUnavailable, status: '{condition}'}}]}}\n"
    )
}

#[test]
fn a_node_that_is_excluded_announces_nothing_and_the_result_says_why() {
    let label = "node.kubernetes.io/exclude-from-external-load-balancers: ''";
    for (node, expected) in [
        (node_object("a: b", "False"), None),
        (node_object(label, "False"), Some(Exclusion::Label)),
        (node_object("a: b", "True"), Some(Exclusion::NetworkUnavailable)),
    ] {
        let compiled = compiled(&format!("{POOL}{GATEWAY}{node}"));
        assert_eq!(compiled.excluded, expected);
        assert_eq!(compiled.vips.vips.is_empty(), expected.is_some());
        assert_eq!(ips(&compiled, "gatehouse/gateway"), ["192.168.1.200"], "but it is allocated");
    }
}

#[test]
fn weights_of_the_advertisements_say_how_much_a_node_is_preferred() {
    let advertisement = "\n---\napiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: \
                         {name: near, namespace: metallb-system}\nspec: {preferredNodeSelectors: \
                         [{weight: 30, preference: {matchLabels: {rack: a}}}, {weight: 900, \
                         preference: {}}]}\n";
    let yaml = format!("{POOL}{advertisement}{GATEWAY}{}", node_object("rack: a", "False"));
    let compiled = compiled(&yaml);
    assert_eq!(announced(&compiled), ["192.168.1.200 30"]);
    let expected =
        "InvalidWeight L2Advertisement metallb-system/near spec.preferredNodeSelectors[1].weight";
    assert!(reasons(&compiled).contains(&expected.to_owned()));
}

#[test]
fn in_a_cluster_other_services_are_announced_where_their_endpoints_allow_it() {
    let slice = |on: &str, conditions: &str| {
        format!(
            "\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a-{on}, \
             labels: {{kubernetes.io/service-name: a}}}}\naddressType: IPv4\nendpoints: \
             [{{addresses: [10.1.0.1], nodeName: {on}, conditions: {{{conditions}}}}}]\nports: \
             [{{port: 25}}]\n"
        )
    };
    let cluster = Source { trust: SourceTrust::default(), ..SOURCE };
    let (here, there) = (slice("node-1", ""), slice("node-2", ""));
    let (ending, gone) =
        (slice("node-1", "ready: false, serving: true"), slice("node-1", "ready: false"));
    // policy, endpoints, whether this node announces the Service, what is told
    for (policy, slices, expected, told) in [
        ("Cluster", "", false, Some("NoEndpoints")),
        ("Cluster", &*here, true, None),
        ("Cluster", &*there, true, None),
        ("Cluster", &*ending, true, None),
        ("Cluster", &*gone, false, Some("NoEndpoints")),
        ("Local", &*here, true, None),
        ("Local", &*there, false, Some("NoLocalEndpoint")),
        ("Local", &*format!("{there}{here}"), true, None),
        ("Local", &*format!("{there}{gone}"), false, Some("NoLocalEndpoint")),
    ] {
        let service = load_balancer("a", "", &format!(", externalTrafficPolicy: {policy}"));
        let service =
            format!("{service}status: {{loadBalancer: {{ingress: [{{ip: 192.168.1.200}}]}}}}\n");
        let compiled =
            compile(&state_of(&format!("{POOL}{service}{slices}"), cluster), &node(), None);
        assert_eq!(!compiled.vips.vips.is_empty(), expected, "{policy} {slices}");
        let found: Vec<_> = compiled.problems.iter().map(|one| one.reason).collect();
        assert_eq!(found, told.into_iter().collect::<Vec<_>>(), "{policy} {slices}");
    }
}

#[test]
fn a_gateway_has_a_local_endpoint_on_every_node() {
    let gateway = GATEWAY
        .replace("  ports: [{name: http", "  externalTrafficPolicy: Local\n  ports: [{name: http");
    let compiled = compiled(&format!("{POOL}{gateway}"));
    assert_eq!(announced(&compiled), ["192.168.1.200 0"]);
}

/// A Service of type LoadBalancer that is older the smaller the number is.
fn aged(name: &str, annotations: &str, day: u8) -> String {
    let service = load_balancer(name, annotations, "");
    let created = format!("metadata: {{creationTimestamp: \"2024-01-{day:02}T00:00:00Z\", ");
    service.replace("metadata: {", &created)
}

#[test]
fn when_a_pool_is_renumbered_whoever_had_an_address_goes_before_whoever_waits() {
    let named = "metallb.io/address-pool: p";
    let asking = "metallb.io/loadBalancerIPs: 10.0.0.2";
    for annotations in ["", named, asking] {
        let services = [aged("waiting", annotations, 1), aged("working", "", 2)].concat();
        let with = |addresses: &str| {
            state(&format!("{}{services}", pool("p", "", &format!("addresses: [{addresses}]"))))
        };
        let held = NodeContext {
            recorded: [(ObjectKey::new("default", "working"), vec!["10.0.0.1".parse().unwrap()])]
                .into(),
            ..node()
        };
        let before = compile(&with("10.0.0.1/32"), &held, None);
        assert_eq!(ips(&before, "default/working"), ["10.0.0.1"]);
        assert_eq!(ips(&before, "default/waiting"), [""; 0]);
        // In the running process, and over a restart.
        for (node, previous) in [(node(), Some(&before)), (held, None)] {
            let after = compile(&with("10.0.0.2/32"), &node, previous);
            assert_eq!(ips(&after, "default/working"), ["10.0.0.2"], "{annotations}");
            assert_eq!(ips(&after, "default/waiting"), [""; 0], "{annotations}");
        }
    }
}

#[test]
fn a_service_that_is_renamed_and_asks_for_its_address_has_it_at_once() {
    let pool = pool("p", "", "addresses: [10.0.0.0/24]");
    for asking in
        ["metallb.io/loadBalancerIPs: 10.0.0.7", "metallb.universe.tf/loadBalancerIPs: 10.0.0.7"]
    {
        let with = |name: &str| state(&format!("{pool}{}", load_balancer(name, asking, "")));
        let before = compile(&with("old"), &node(), None);
        let renamed = compile(&with("new"), &node(), Some(&before));
        assert_eq!(ips(&renamed, "default/new"), ["10.0.0.7"], "within one save");
        let gone = compile(&state(&pool), &node(), Some(&before));
        let rests = NodeContext { quarantined: gone.quarantined.clone(), ..node() };
        let later = compile(&with("new"), &rests, Some(&gone));
        assert_eq!(ips(&later, "default/new"), ["10.0.0.7"], "in the next one");
        assert!(later.quarantined.is_empty());
    }
}

#[test]
fn an_address_that_a_host_outside_uses_is_replaced_unless_it_was_asked_for() {
    let pool = pool("p", "", "addresses: ['fd09::/120', 10.0.0.0/29]");
    let six = ", ipFamilies: [IPv6]";
    for (annotations, rest, before, after) in [
        ("", six, "fd09::1", "fd09::2"),
        ("", "", "10.0.0.0", "10.0.0.1"),
        ("metallb.io/loadBalancerIPs: 'fd09::1'", six, "fd09::1", "fd09::1"),
        ("metallb.io/loadBalancerIPs: 'fd09::'", six, "fd09::", "fd09::"),
    ] {
        let state = state(&format!("{pool}{}", load_balancer("a", annotations, rest)));
        let first = compile(&state, &node(), None);
        assert_eq!(ips(&first, "default/a"), [before]);
        let occupied = NodeContext { occupied: [before.parse().unwrap()].into(), ..node() };
        let second = compile(&state, &occupied, Some(&first));
        assert_eq!(ips(&second, "default/a"), [after], "{annotations}");
        let third = compile(&state, &occupied, Some(&second));
        assert_eq!(ips(&third, "default/a"), [after], "it stays");
    }
}

#[test]
fn a_refused_share_says_why_on_the_annotation_that_asks_for_it() {
    let shared = |name: &str, port: u16, spec: &str| {
        let service = load_balancer(name, "metallb.io/allow-shared-ip: k", spec);
        service.replace("port: 25", &format!("port: {port}"))
    };
    let one = pool("one", "", "addresses: [10.0.0.1/32]");
    let dns = ", externalTrafficPolicy: Local, selector: {app: dns}";
    for (port, spec, why) in [
        (80, ", externalTrafficPolicy: Cluster", "externalTrafficPolicy is Local"),
        (80, ", externalTrafficPolicy: Local, selector: {app: web}", "another selector"),
        (53, dns, "on TCP port 53 too"),
    ] {
        let yaml = format!("{one}{}{}", shared("a", 53, dns), shared("b", port, spec));
        let compiled = compiled(&yaml);
        assert_eq!(ips(&compiled, "default/b"), [""; 0]);
        let told = compiled.problems.iter().find(|one| one.reason == "ShareRefused").unwrap();
        assert_eq!(told.field, "metadata.annotations[metallb.io/allow-shared-ip]");
        assert!(
            told.message.contains("10.0.0.1 is in use by default/a") && told.message.contains(why)
        );
        assert!(told.is_error() && !told.hint.is_empty());
    }
}

#[test]
fn an_excluded_node_is_a_problem_of_the_node_once_there_are_addresses() {
    let label = "node.kubernetes.io/exclude-from-external-load-balancers: ''";
    let excluded = |yaml: &str, node: &NodeContext| {
        let compiled = compile(&state(yaml), node, None);
        let told = compiled.problems.into_iter().filter(|one| one.reason == "NodeExcluded");
        told.map(|one| (one.object.to_string(), one.is_error())).collect::<Vec<_>>()
    };
    let this = node_object(label, "False");
    let told = |name: &str| vec![(format!("Node {name}"), false)];
    let with = |node: &str| format!("{POOL}{GATEWAY}{node}");
    assert_eq!(excluded(&with(&this), &node()), told("node-1"));
    assert_eq!(excluded(&with(&node_object("a: b", "True")), &node()), told("node-1"));
    assert_eq!(excluded(&with(&node_object("a: b", "False")), &node()), []);
    // `check` runs anywhere, so it tells of every node that manifests list.
    let elsewhere = NodeContext { node: "laptop".to_owned(), ..node() };
    assert_eq!(excluded(&with(&this), &elsewhere), told("node-1"));
    let ignoring = NodeContext { ignore_exclude_label: true, ..node() };
    assert_eq!(excluded(&with(&this), &ignoring), []);
    assert_eq!(excluded(&this, &node()), [], "nothing is announced anyway");
}

#[test]
fn what_a_service_lists_twice_counts_once_and_is_said() {
    let pool = pool("p", "", "addresses: [10.0.0.0/24, 'fd09::/64']");
    for (annotations, rest, expected, field) in [
        (
            "metallb.io/loadBalancerIPs: '10.0.0.5, 10.0.0.5'",
            "",
            vec!["10.0.0.5"],
            "metadata.annotations[metallb.io/loadBalancerIPs]",
        ),
        ("", ", ipFamilies: [IPv4, IPv4]", vec!["10.0.0.0"], "spec.ipFamilies[1]"),
        ("", ", ipFamilies: [IPv6, IPv6]", vec!["fd09::1"], "spec.ipFamilies[1]"),
    ] {
        let compiled = compiled(&format!("{pool}{}", load_balancer("a", annotations, rest)));
        assert_eq!(ips(&compiled, "default/a"), expected);
        let told = format!("Duplicate Service default/a {field}");
        assert!(reasons(&compiled).contains(&told), "{:?}", reasons(&compiled));
    }
}

/// A BGPPeer with a Secret, and how its password is written there.
fn with_secret(kind: &str, data: &str) -> String {
    format!(
        "\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: key, namespace: m}}\ntype: {kind}\n{data}\n\
         ---\napiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {{name: r, namespace: m}}\nspec: \
         {{myASN: 65002, peerASN: 65001, peerAddress: 10.0.0.1, passwordSecret: {{name: key}}}}\n"
    )
}

#[test]
fn white_space_around_a_password_in_a_secret_is_left_out_and_said() {
    let basic = "kubernetes.io/basic-auth";
    for (data, told) in [
        ("data: {password: aHVudGVyMg==}", false),
        ("data: {password: aHVudGVyMgo=}", true),
        ("data: {password: IGh1bnRlcjINCg==}", true),
        ("stringData: {password: \"hunter2\\n\"}", true),
    ] {
        let compiled = compiled(&with_secret(basic, data));
        let peer = &compiled.bgp.peers["r"];
        assert!(peer.password.as_ref().is_some_and(|secret| secret.0 == b"hunter2"), "{data}");
        let expected = "PasswordTrimmed BGPPeer m/r spec.passwordSecret".to_owned();
        assert_eq!(reasons(&compiled).contains(&expected), told, "{data}");
        assert!(!compiled.problems.iter().any(Problem::is_error));
    }
}

#[test]
fn a_wrong_secret_or_profile_is_one_error_with_the_remedy_and_no_session() {
    let basic = "kubernetes.io/basic-auth";
    let good = "data: {password: aHVudGVyMg==}";
    let elsewhere =
        with_secret(basic, good).replace("name: key, namespace: m", "name: key, namespace: other");
    let profile = with_secret(basic, good)
        .replace("spec: {myASN", "spec: {bfdProfile: fast, myASN")
        + "\n---\napiVersion: metallb.io/v1beta1\nkind: BFDProfile\nmetadata: {name: fast, namespace: m}\n\
           spec: {transmitInterval: 5}\n";
    for (yaml, remedy) in [
        (with_secret("Opaque", good), "type: kubernetes.io/basic-auth"),
        (with_secret(basic, "data: {pass: aHVudGVyMg==}"), "the Secret has: pass"),
        (with_secret(basic, "data: {password: Cg==}"), "write one"),
        (elsewhere, "passwordSecret.namespace: other"),
        (profile, "10 to 60000"),
    ] {
        let compiled = compiled(&yaml);
        assert!(compiled.bgp.peers.is_empty(), "{yaml}");
        let errors: Vec<_> = compiled.problems.iter().filter(|one| one.is_error()).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        let text = format!("{} {}", errors[0].message, errors[0].hint);
        assert!(text.contains(remedy), "{text}");
    }
}
