//! Who deals addresses out, who follows, and which Secrets are wanted.

use super::*;

/// A Service whose status says that it has these addresses.
fn holder(name: &str, addresses: &[&str]) -> String {
    let entries: Vec<_> = addresses.iter().map(|ip| format!("{{ip: '{ip}'}}")).collect();
    let status = format!("status: {{loadBalancer: {{ingress: [{}]}}}}\n", entries.join(", "));
    format!("{}{status}", load_balancer(name, "", ""))
}

fn follow(state: &ClusterState, node: &NodeContext, previous: Option<&Compiled>) -> Compiled {
    super::super::compile(state, node, Role::Follow, previous)
}

/// The addresses of `a`, `b` and `c`.
fn all(compiled: &Compiled) -> [Vec<String>; 3] {
    ["default/a", "default/b", "default/c"].map(|service| ips(compiled, service))
}

fn recorded(service: &str, ip: &str) -> NodeContext {
    let recorded = [(ObjectKey::new("default", service), vec![ip.parse().unwrap()])];
    NodeContext { recorded: recorded.into(), ..node() }
}

#[test]
fn who_follows_takes_what_the_status_says_and_lets_the_others_wait_in_silence() {
    let services = |c: &str| {
        let waiting = load_balancer("b", "", ", loadBalancerIP: 192.168.1.201");
        format!("{POOL}{}{waiting}{c}", holder("a", &["192.168.1.205", "fd00:1::11"]))
    };
    // An entry that is no address, and one of no pool: nothing to announce.
    let state = state_of(&services(&holder("c", &["", "10.9.9.9"])), CLUSTER);
    let before = follow(&state, &node(), None);
    let expected = ["192.168.1.205".to_owned(), "fd00:1::11".to_owned()];
    assert_eq!(all(&before), [expected.to_vec(), vec![], vec![]]);
    let told = ["NoEndpoints Service default/a "];
    assert_eq!(reasons(&before), told, "waiting is no problem");
    // The record moves: so does a node that follows it, whatever was before.
    let moved =
        services(&holder("c", &["192.168.1.202"])).replace("192.168.1.205", "192.168.1.206");
    let after = follow(&state_of(&moved, CLUSTER), &node(), Some(&before));
    assert_eq!(ips(&after, "default/a"), ["192.168.1.206", "fd00:1::11"]);
    assert_eq!(ips(&after, "default/c"), ["192.168.1.202"]);
    let gone = state_of(&format!("{POOL}{}", load_balancer("a", "", "")), CLUSTER);
    assert_eq!(ips(&follow(&gone, &node(), Some(&after)), "default/a"), [""; 0]);
}

#[test]
fn the_state_file_is_the_record_of_standalone_services_and_their_status_is_not() {
    let yaml = format!("{POOL}{}{}", holder("a", &["192.168.1.205"]), load_balancer("b", "", ""));
    let node = recorded("b", "192.168.1.207");
    let alone = follow(&state(&yaml), &node, None);
    assert_eq!(all(&alone), [vec![], vec!["192.168.1.207".to_owned()], vec![]]);
    let in_cluster = follow(&state_of(&yaml, CLUSTER), &node, None);
    assert_eq!(all(&in_cluster), [vec!["192.168.1.205".to_owned()], vec![], vec![]]);
}

#[test]
fn in_a_cluster_an_address_counts_when_it_is_recorded_even_for_who_deals_it_out() {
    let yaml = format!("{POOL}{}{}", holder("a", &["192.168.1.205"]), load_balancer("b", "", ""));
    let cluster = state_of(&yaml, CLUSTER);
    let first = compile(&cluster, &node(), None);
    assert_eq!(dealt(&first, "default/a"), ["192.168.1.205"]);
    assert_eq!(dealt(&first, "default/b"), ["192.168.1.200"]);
    assert_eq!(all(&first), [vec!["192.168.1.205".to_owned()], vec![], vec![]]);
    // Nobody gets it while it waits, not even a Service that is served before.
    let asking = load_balancer("c", "", ", loadBalancerIP: 192.168.1.200");
    let more = state_of(&format!("{yaml}{asking}"), CLUSTER);
    let again = compile(&more, &node(), Some(&first));
    assert_eq!(dealt(&again, "default/b"), ["192.168.1.200"]);
    assert_eq!(dealt(&again, "default/c"), [""; 0]);
    let written = yaml.replace(&load_balancer("b", "", ""), &holder("b", &["192.168.1.200"]));
    let written = compile(&state_of(&written, CLUSTER), &node(), Some(&again));
    assert_eq!(ips(&written, "default/b"), ["192.168.1.200"]);
    // A manifest with the status of another cluster gets an address of its own, which counts at once.
    assert_eq!(ips(&compiled(&yaml), "default/a"), ["192.168.1.200"]);
    assert_eq!(
        ips(&compile(&state(&yaml), &recorded("a", "192.168.1.209"), None), "default/a"),
        ["192.168.1.209"]
    );
}

#[test]
fn a_record_of_another_hand_counts_more_than_what_was_dealt() {
    let yaml = format!("{POOL}{}{}", holder("a", &["192.168.1.205"]), load_balancer("b", "", ""));
    let first = compile(&state_of(&yaml, CLUSTER), &node(), None);
    let other = yaml.replace("192.168.1.205", "192.168.1.206");
    let again = compile(&state_of(&other, CLUSTER), &node(), Some(&first));
    assert_eq!(ips(&again, "default/a"), ["192.168.1.206"]);
    // The address that `b` waits for, on `a`: `b` gets another one.
    let taken = yaml.replace("192.168.1.205", "192.168.1.200");
    let again = compile(&state_of(&taken, CLUSTER), &node(), Some(&first));
    assert_eq!(dealt(&again, "default/a"), ["192.168.1.200"]);
    assert_ne!(dealt(&again, "default/b"), ["192.168.1.200"]);
    // The same for one that is served later.
    let asking = load_balancer("a", "", "");
    let first = compile(&state_of(&format!("{POOL}{asking}"), CLUSTER), &node(), None);
    assert_eq!(dealt(&first, "default/a"), ["192.168.1.200"]);
    let taken = state_of(&format!("{POOL}{asking}{}", holder("b", &["192.168.1.200"])), CLUSTER);
    let again = compile(&taken, &node(), Some(&first));
    assert_eq!(dealt(&again, "default/a"), ["192.168.1.201"]);
    assert_eq!(dealt(&again, "default/b"), ["192.168.1.200"]);
    // A record that is gone is written again.
    let gone = format!("{POOL}{}", load_balancer("a", "", ""));
    let before = compile(&state_of(&yaml, CLUSTER), &node(), None);
    let again = compile(&state_of(&gone, CLUSTER), &node(), Some(&before));
    assert_eq!(dealt(&again, "default/a"), ["192.168.1.205"]);
}

#[test]
fn who_takes_over_the_dealing_out_begins_with_what_it_followed() {
    let before_yaml =
        format!("{POOL}{}{}", holder("a", &["192.168.1.205"]), load_balancer("b", "", ""));
    let state = state_of(&before_yaml, CLUSTER);
    let followed = follow(&state, &node(), None);
    let leader = compile(&state, &node(), Some(&followed));
    assert_eq!(dealt(&leader, "default/a"), ["192.168.1.205"]);
    assert_eq!(dealt(&leader, "default/b"), ["192.168.1.200"]);
}

#[test]
fn without_a_pool_services_without_a_class_are_somebody_elses() {
    let classed = load_balancer("b", "", ", loadBalancerClass: gatehouse.io/vip");
    let yaml = format!("{}{classed}", load_balancer("a", "", ""));
    let compiled = compile(&state_of(&yaml, CLUSTER), &node(), None);
    assert_eq!(reasons(&compiled), ["NoPool Service default/b "]);
    // Manifests have nobody else.
    let own = reasons(&compile(&state(&yaml), &node(), None));
    assert_eq!(own.iter().filter(|reason| reason.starts_with("NoPool")).count(), 2, "{own:?}");
    // With a class of our own, the others are another controller's whatever pools there are.
    let node = NodeContext { load_balancer_class: Some("example.com/x".to_owned()), ..node() };
    let mine = load_balancer("c", "", ", loadBalancerClass: example.com/x");
    let compiled = compile(&state_of(&format!("{POOL}{yaml}{mine}"), CLUSTER), &node, None);
    assert_eq!(dealt(&compiled, "default/a"), [""; 0]);
    assert_eq!(dealt(&compiled, "default/b"), [""; 0]);
    assert_eq!(dealt(&compiled, "default/c"), ["192.168.1.200"]);
}

#[test]
fn a_node_with_the_exclude_label_announces_if_it_is_told_to() {
    let excluded = "
---
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {node.kubernetes.io/exclude-from-external-load-balancers: ''}}
";
    let state = state(&format!("{POOL}{GATEWAY}{excluded}"));
    assert!(compile(&state, &node(), None).excluded.is_some());
    let node = NodeContext { ignore_exclude_label: true, ..node() };
    let compiled = compile(&state, &node, None);
    assert_eq!((compiled.excluded, compiled.vips.vips.len()), (None, 1));
}

#[test]
fn addresses_that_the_cluster_forwards_wait_for_no_listener() {
    let slice = "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
endpoints: [{addresses: [10.1.1.1], nodeName: node-1}]
";
    let yaml = format!("{POOL}{GATEWAY}{}{slice}", holder("a", &["192.168.1.205"]));
    let compiled = compile(&state_of(&yaml, CLUSTER), &node(), None);
    let vip = "192.168.1.205".parse().unwrap();
    assert_eq!(compiled.forwarded, [vip].into());
    assert!(compiled.vips.vips.contains_key(&vip));
}

/// An Ingress with a certificate, of this class.
fn ingress(name: &str, class: &str, secret: &str) -> String {
    format!(
        "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}}}
spec:
  ingressClassName: {class}
  tls: [{{hosts: [{name}.example.com], secretName: {secret}}}]
  rules:
  - host: {name}.example.com
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}
"
    )
}

const PEER: &str = "
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1, passwordSecret: {name: tor}}
";

#[test]
fn the_secrets_that_objects_of_ours_refer_to_are_wanted_in_order_whether_or_not_they_exist() {
    let wanted = |compiled: &Compiled| -> Vec<String> {
        compiled.wanted_secrets.iter().map(ToString::to_string).collect()
    };
    let secret = "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: nobodys}\n";
    let two =
        format!("{}{}", ingress("b", "gatehouse", "beta"), ingress("a", "gatehouse", "alpha"));
    let yaml = format!("{GATEWAY}{two}{}{secret}", ingress("c", "other", "not-ours"));
    let certs = compiled(&yaml);
    assert_eq!(wanted(&certs), ["default/alpha", "default/beta"]);
    let both = state(&format!("{yaml}{PEER}"));
    let with_peer = compile(&both, &node(), Some(&certs));
    assert_eq!(wanted(&with_peer), ["default/alpha", "default/beta", "metallb-system/tor"]);
    let same = compile(&both, &node(), Some(&with_peer));
    assert!(Arc::ptr_eq(&same.wanted_secrets, &with_peer.wanted_secrets));
    assert_eq!(wanted(&compiled(GATEWAY)), [""; 0]);
}

#[test]
fn what_another_controller_gave_to_a_service_of_another_class_is_not_given_again() {
    let foreign = ", loadBalancerClass: other.example/balancer}\nstatus: {loadBalancer: {ingress: \
                   [{ip: 192.168.1.200}]}";
    let yaml = format!("{POOL}{}{}", load_balancer("a", "", foreign), load_balancer("b", "", ""));
    let first = compile(&state_of(&yaml, CLUSTER), &node(), None);
    assert_eq!(dealt(&first, "default/b"), ["192.168.1.201"]);
    assert!(dealt(&first, "default/a").is_empty());
    // What is recorded here stays, whatever another one records later.
    let ours = "}\nstatus: {loadBalancer: {ingress: [{ip: 192.168.1.200}]}";
    let yaml = format!("{POOL}{}{}", load_balancer("a", "", foreign), load_balancer("b", "", ours));
    let second = compile(&state_of(&yaml, CLUSTER), &node(), None);
    assert_eq!(ips(&second, "default/b"), ["192.168.1.200"]);
    // Without a cluster there is no other controller.
    let alone = compiled(&yaml);
    assert_eq!(ips(&alone, "default/b"), ["192.168.1.200"]);
}
