//! What turns into something else and back: the families of a Service, an IngressClass, a Secret; and a namespace that
//! ends. Traffic, addresses and statuses of one gateway follow each turn.

use std::{collections::BTreeSet, net::IpAddr, thread, time::Duration};

use gatehouse_testbed::{
    gatehouse::{
        gateway::{Gateway, Plan},
        manifests, tls,
    },
    wait::{comes_true, eventually},
};
use serde_json::Value;

use crate::bed::{Bed, Load, answers, ingress, service, shows};

/// Services may have addresses of both families.
const BOTH_FAMILIES: &str = "--service-cluster-ip-range=10.96.0.0/16,fd96::/112";

/// The one IPv6 address.
const V6: &str = "fd77::1:1";

/// Of IPv6 there is one address, so that who gets it shows whether it is free.
const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: edge}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: edge}
spec: {addresses: [10.77.1.1-10.77.1.9, 'fd77::1:1/128']}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: pool, namespace: edge}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: theirs}
spec: {controller: example.com/other}
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: edge}
spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{name: http, port: 80}]}
";

const CLASS: &str = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: edge, annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}}
spec: {controller: gatehouse.io/ingress}
";

#[test]
fn what_turns_into_something_else_and_back_is_followed() {
    let bed = Bed::with(
        gatehouse_testbed::cluster::Cluster::builder().controllers(true).api_flag(BOTH_FAMILIES),
    );
    bed.cluster.apply(&gatehouse::crds::yaml(None)).unwrap();
    bed.kubectl("wait --for condition=established crd --all --timeout=60s");
    let ready = comes_true(|| bed.cluster.apply(&format!("{OBJECTS}---{CLASS}")).is_ok());
    assert!(ready, "the kinds are known");
    let lease = ["--lease-namespace", "edge", "--lease-duration", "4", "--renew-deadline", "3"];
    let gateway = Plan::default().kubeconfig(bed.cluster.kubeconfig());
    let gateway = gateway.args(&lease).args(&["--retry-period", "0.5"]);
    let gateway = gateway.args(&["--gateway-service", "edge/gateway"]).start();
    let address = the_first_address(&bed, &gateway);
    a_second_family(&bed, &gateway, &address);
    classes_that_go_and_come_back(&bed, &gateway, &address);
    secrets_that_turn(&bed, &gateway);
    a_namespace_that_ends(&bed, &gateway, &address);
}

/// Objects by the words of a `kubectl get`.
fn get(bed: &Bed, words: &str) -> Value {
    serde_json::from_str(&bed.kubectl(&format!("get -o json {words}"))).unwrap()
}

fn addresses_of(object: &Value) -> Vec<String> {
    let entries = object["status"]["loadBalancer"]["ingress"].as_array();
    let ips = entries.into_iter().flatten().filter_map(|entry| entry["ip"].as_str());
    ips.map(str::to_owned).collect()
}

fn addresses(bed: &Bed, words: &str) -> Vec<String> {
    addresses_of(&get(bed, words))
}

/// Waits until the status of an object shows these addresses and no others.
#[track_caller]
fn has(bed: &Bed, words: &str, expected: &[&str]) {
    eventually(words, || match addresses(bed, words) {
        right if right == expected => Ok(()),
        other => Err(format!("{other:?} instead of {expected:?}")),
    });
}

/// What the node answers for, as itself says.
fn held(gateway: &Gateway) -> BTreeSet<String> {
    let page: Value = serde_json::from_str(&gateway.page("/status")).unwrap_or_default();
    let vips = page["vips"].as_array().cloned().unwrap_or_default();
    let held = vips.into_iter().filter(|vip| vip["here"] == "holding");
    held.map(|vip| vip["address"].as_str().unwrap().to_owned()).collect()
}

/// Waits until somebody, or nobody, answers for an address on the link.
#[track_caller]
fn is_announced(bed: &Bed, gateway: &Gateway, ip: &str, expected: bool) {
    let address: IpAddr = ip.parse().unwrap();
    let right = comes_true(|| {
        held(gateway).contains(ip) == expected
            && bed.client.who_has(address).unwrap().is_empty() != expected
    });
    assert!(right, "{ip} is announced: {}; held: {:?}", !expected, held(gateway));
}

/// How many addresses of each family the pool has given.
fn given(bed: &Bed) -> (u64, u64) {
    let status = get(bed, "ipaddresspools.metallb.io pool --namespace edge")["status"].clone();
    let count = |name: &str| status[name].as_u64().unwrap_or_default();
    (count("assignedIPv4"), count("assignedIPv6"))
}

fn families(bed: &Bed, name: &str, policy: &str) {
    let patch = format!("--type=merge --patch {{\"spec\":{{\"ipFamilyPolicy\":\"{policy}\"}}}}");
    bed.kubectl(&format!("--namespace edge patch service {name} {patch}"));
}

fn the_first_address(bed: &Bed, gateway: &Gateway) -> String {
    let words = "service gateway --namespace edge";
    let address = eventually("the gateway has an address", || {
        addresses(bed, words).pop().ok_or_else(|| gateway.page("/status"))
    });
    is_announced(bed, gateway, &address, true);
    address
}

/// One that this process serves, and one that kube-proxy does.
fn a_second_family(bed: &Bed, gateway: &Gateway, address: &str) {
    bed.namespace("families", &bed.one);
    bed.apply("families", &ingress("web", "families.test", ""));
    answers(gateway, "families.test", "one");
    let port = format!("{address}:80").parse().unwrap();
    let load = Load::start(port, "families.test");
    let mail = service(&bed.one).replace("name: app", "name: mail");
    let mail = mail.replace("spec:\n", "spec:\n  type: LoadBalancer\n");
    bed.apply("edge", &mail.replace("service-name: app", "service-name: mail"));
    for name in ["gateway", "mail"] {
        let words = format!("service {name} --namespace edge");
        let first = eventually("it has an address", || {
            addresses(bed, &words).pop().ok_or_else(String::new)
        });
        is_announced(bed, gateway, &first, true);
        let becomes = |expected: &[&str]| {
            eventually(&format!("{name} has {expected:?}"), || {
                let object = get(bed, &words);
                let has = addresses_of(&object);
                assert_eq!(has.first(), Some(&first), "the first one never changes");
                let said = object["status"]["conditions"].to_string();
                let done = has == expected && !said.contains("AddressPending");
                if done { Ok(()) } else { Err(format!("{has:?} {said}")) }
            });
        };
        for policy in ["PreferDualStack", "RequireDualStack"] {
            families(bed, name, policy);
            becomes(&[&first, V6]);
            is_announced(bed, gateway, V6, true);
            is_announced(bed, gateway, &first, true);
            if name == "gateway" {
                let port = format!("[{V6}]:80").parse().unwrap();
                let reached = comes_true(|| crate::bed::answer(port, "families.test") == "one");
                assert!(reached, "by its second address");
            }
            eventually("the pool counts it", || match given(bed) {
                (_, 1) => Ok(()),
                other => Err(format!("{other:?}")),
            });
            families(bed, name, "SingleStack");
            becomes(&[&first]);
            is_announced(bed, gateway, V6, false);
            is_announced(bed, gateway, &first, true);
            eventually("the pool counts it no more", || match given(bed) {
                (_, 0) => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
    }
    load.end();
    bed.kubectl("--namespace edge delete service mail");
}

fn classes_that_go_and_come_back(bed: &Bed, gateway: &Gateway, address: &str) {
    bed.namespace("turning", &bed.one);
    let named = ingress("named", "named.test", "");
    let named = named.replace("spec:\n", "spec:\n  ingressClassName: edge\n");
    bed.apply("turning", &named);
    // The API server gives those that come later the default class by name.
    let default = "ingressclass edge ingressclass.kubernetes.io/is-default-class";
    bed.kubectl(&format!("annotate {default}-"));
    bed.apply("turning", &ingress("unnamed", "unnamed.test", ""));
    bed.kubectl(&format!("annotate {default}=true"));
    let follow = |name: &str, served: bool| {
        let host = format!("{name}.test");
        answers(gateway, &host, if served { "one" } else { "404" });
        let shown: &[&str] = if served { &[address] } else { &[] };
        has(bed, &format!("ingress {name} --namespace turning"), shown);
    };
    let both = |served: bool| ["named", "unnamed"].iter().for_each(|name| follow(name, served));
    both(true);
    for _ in 0..2 {
        bed.kubectl("delete ingressclass edge");
        both(false);
        bed.apply("turning", CLASS);
        both(true);
    }
    // Its controller cannot be changed but by making it anew.
    bed.kubectl("delete ingressclass edge");
    bed.apply("turning", &CLASS.replace("gatehouse.io/ingress", "example.com/other"));
    both(false);
    // The other controller says where they are now.
    let other = "--subresource=status --type=merge --field-manager=other --patch \
                 {\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"192.0.2.1\"}]}}}";
    bed.kubectl(&format!("--namespace turning patch ingress named {other}"));
    thread::sleep(Duration::from_secs(2));
    has(bed, "ingress named --namespace turning", &["192.0.2.1"]);
    bed.kubectl("delete ingressclass edge");
    bed.apply("turning", CLASS);
    both(true);
    // It is not the default any more, and then it is again.
    bed.kubectl(&format!("annotate {default}-"));
    follow("unnamed", false);
    follow("named", true);
    bed.kubectl(&format!("annotate {default}=true"));
    both(true);
    bed.kubectl(&format!("annotate --overwrite {default}=false"));
    follow("unnamed", false);
    bed.kubectl(&format!("annotate --overwrite {default}=true"));
    both(true);
}

fn secrets_that_turn(bed: &Bed, gateway: &Gateway) {
    let shown = || tls::Tls::connect(gateway.https, "pair.test", &[]).map(|tls| tls.peer());
    let becomes = |what: &str, is_so: &dyn Fn(&[u8]) -> bool| {
        let right = comes_true(|| shown().is_ok_and(|leaf| is_so(&leaf)));
        assert!(right, "{what}: {}", gateway.page("/snapshot"));
    };
    let good = || {
        let is_good = || {
            let page: Value = serde_json::from_str(&gateway.page("/status")).unwrap();
            let problems = page["problems"].as_array().cloned().unwrap_or_default();
            !problems.iter().any(|it| it["object"] == "Ingress pairs/web")
        };
        assert!(comes_true(is_good), "{}", gateway.page("/snapshot"));
    };
    let events = |text: &str| {
        eventually("an Event names it", || {
            let events = get(bed, "events --namespace pairs");
            let items = events["items"].as_array().cloned().unwrap_or_default();
            let says = |event: &Value| {
                event["involvedObject"]["name"] == "web"
                    && event["message"].as_str().is_some_and(|it| it.contains(text))
            };
            if items.iter().any(says) { Ok(()) } else { Err(events.to_string()) }
        });
    };
    let pairs = [(); 3].map(|()| tls::certificate(&["pair.test"]));
    bed.namespace("pairs", &bed.one);
    bed.apply("pairs", &manifests::secret("pair", &pairs[0]));
    bed.apply("pairs", &ingress("web", "pair.test", "{hosts: [pair.test], secretName: pair}"));
    becomes("the first", &|leaf| leaf == pairs[0].der);
    good();
    // Of another type, without a pair.
    bed.kubectl("--namespace pairs delete secret pair");
    shows(gateway, "/snapshot", "SecretNotFound");
    becomes("the default certificate", &|leaf| leaf != pairs[0].der);
    bed.kubectl("--namespace pairs create secret generic pair --from-literal=other=x");
    shows(gateway, "/snapshot", "certificate of secret pairs/pair for pair.test: ");
    becomes("the default certificate", &|leaf| leaf != pairs[0].der);
    answers(gateway, "pair.test", "308");
    events("certificate of secret pairs/pair for pair.test: ");
    bed.kubectl("--namespace pairs delete secret pair");
    bed.apply("pairs", &manifests::secret("pair", &pairs[1]));
    becomes("the second", &|leaf| leaf == pairs[1].der);
    good();
    // Of another type, with a pair that then loses its key.
    bed.kubectl("--namespace pairs delete secret pair");
    let opaque = manifests::secret("pair", &pairs[2]).replace("kubernetes.io/tls", "Opaque");
    bed.apply("pairs", &opaque);
    becomes("the third", &|leaf| leaf == pairs[2].der);
    good();
    for _ in 0..2 {
        let patch = "--type=json --patch [{\"op\":\"remove\",\"path\":\"/data/tls.key\"}]";
        bed.kubectl(&format!("--namespace pairs patch secret pair {patch}"));
        shows(gateway, "/snapshot", "the previous certificate is used");
        assert_eq!(shown().unwrap(), pairs[2].der);
        events("the previous certificate is used");
        bed.apply("pairs", &opaque);
        good();
        assert_eq!(shown().unwrap(), pairs[2].der);
    }
}

/// Some of its objects are held by finalizers, so that it ends for a long time.
fn a_namespace_that_ends(bed: &Bed, gateway: &Gateway, address: &str) {
    const HOLD: &str =
        "--type=merge --patch {\"metadata\":{\"finalizers\":[\"test.example/wait\"]}}";
    const LET_GO: &str = "--type=merge --patch {\"metadata\":{\"finalizers\":null}}";
    let balancer = |name: &str, ip: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default, \
             annotations: {{metallb.io/loadBalancerIPs: {ip}}}}}\n\
             spec: {{type: LoadBalancer, ports: [{{port: 25}}]}}\n"
        )
    };
    bed.namespace("ending", &bed.one);
    bed.apply("ending", &ingress("web", "ending.test", ""));
    bed.apply("ending", &ingress("held", "held.test", ""));
    bed.kubectl(&format!("--namespace ending patch ingress held {HOLD}"));
    bed.apply("ending", &balancer("goes", "10.77.1.8"));
    bed.apply("ending", &balancer("stays", "10.77.1.9"));
    bed.kubectl(&format!("--namespace ending patch service stays {HOLD}"));
    has(bed, "service goes --namespace ending", &["10.77.1.8"]);
    has(bed, "service stays --namespace ending", &["10.77.1.9"]);
    has(bed, "ingress held --namespace ending", &[address]);
    answers(gateway, "ending.test", "one");
    // Of two that were made in one second none is the older one.
    thread::sleep(Duration::from_millis(1100));
    bed.namespace("heir", &bed.two);
    for (name, host) in [("web", "ending.test"), ("held", "held.test"), ("marker", "heir.test")] {
        bed.apply("heir", &ingress(name, host, ""));
    }
    answers(gateway, "heir.test", "two");
    for host in ["ending.test", "held.test"] {
        answers(gateway, host, "one");
    }
    bed.apply("heir", &balancer("goes", "10.77.1.8"));
    bed.apply("heir", &balancer("stays", "10.77.1.9"));
    let before = given(bed);

    bed.kubectl("delete namespace ending --wait=false");
    for host in ["ending.test", "held.test"] {
        answers(gateway, host, "two");
    }
    for name in ["web", "held"] {
        has(bed, &format!("ingress {name} --namespace heir"), &[address]);
    }
    // One Service is gone, and its address is free after a rest; the other one is not.
    has(bed, "service goes --namespace heir", &["10.77.1.8"]);
    has(bed, "service stays --namespace ending", &["10.77.1.9"]);
    has(bed, "service stays --namespace heir", &[]);
    assert_eq!(given(bed), before);
    // Nothing is tried in vain again and again.
    let requests = || {
        let page = gateway.page("/metrics");
        let of = |line: &&str| line.starts_with("gatehouse_api_requests_total{verb=\"");
        let all = page.lines().filter(of).filter(|line| !line.contains("verb=\"watch\""));
        let writes = all.filter(|line| line.contains("patch") || line.contains("create"));
        writes.map(str::to_owned).collect::<Vec<_>>()
    };
    let rests = |_| {
        let written = requests();
        thread::sleep(Duration::from_secs(5));
        requests() == written
    };
    // What follows from the change, such as what is left in the pool, may be written a moment later.
    assert!((0..4).any(rests), "{:?}", requests());
    bed.kubectl(&format!("--namespace ending patch service stays {LET_GO}"));
    has(bed, "service stays --namespace heir", &["10.77.1.9"]);
    bed.kubectl(&format!("--namespace ending patch ingress held {LET_GO}"));
    bed.kubectl("wait --for=delete namespace/ending --timeout=60s");
    let output = gateway.output();
    let refused: Vec<_> = output.lines().filter(|line| line.contains("ending/")).collect();
    println!("{}", refused.join("\n"));
    assert!(!output.contains("because it is being terminated"), "{output}");
}
