use gatehouse_routes::objects::SourceTrust;

use super::*;
use crate::source::{Change, Event, Kind, Source, SourceId, manifest::Manifest};

mod addresses;
mod deals;
mod kernel;
mod protected;
mod role;
mod trust;

/// A source that may do everything.
const SOURCE: Source = Source {
    id: SourceId("test"),
    trust: SourceTrust { loopback_endpoints: true, standalone: true },
    kinds: Kind::ALL,
    by_name: &[],
    whole_batches: false,
};

/// A source behind which there is a cluster.
const CLUSTER: Source = Source {
    id: SourceId("cluster"),
    trust: SourceTrust { loopback_endpoints: false, standalone: false },
    kinds: Kind::ALL,
    by_name: &[],
    whole_batches: false,
};

fn state(yaml: &str) -> ClusterState {
    state_of(yaml, SOURCE)
}

fn state_of(yaml: &str, source: Source) -> ClusterState {
    let mut state = ClusterState::new([source]);
    tell(&mut state, yaml, source);
    state
}

/// Has a source tell everything of a manifest.
fn tell(state: &mut ClusterState, yaml: &str, source: Source) {
    let manifest = Manifest::of(yaml);
    let changes = manifest.objects().zip(0u64..);
    let changes = changes.map(|(placed, order)| Change::Apply(placed.object.clone(), order));
    state.apply(Event::Batch(source.id, changes.collect()));
    for &kind in source.kinds {
        state.apply(Event::Synced(source.id, kind));
    }
}

fn node() -> NodeContext {
    NodeContext {
        node: "node-1".to_owned(),
        http: vec!["127.0.0.1:8080".parse().unwrap()],
        ..NodeContext::default()
    }
}

/// Compiles in the role of a node that has its own manifests.
fn compile(state: &ClusterState, node: &NodeContext, previous: Option<&Compiled>) -> Compiled {
    super::compile(state, node, Role::Allocate, previous)
}

fn compiled(yaml: &str) -> Compiled {
    compile(&state(yaml), &node(), None)
}

/// `reason Kind namespace/name field` of each problem.
fn reasons(compiled: &Compiled) -> Vec<String> {
    let problems = compiled.problems.iter();
    problems.map(|one| format!("{} {} {}", one.reason, one.object, one.field)).collect()
}

fn ips(compiled: &Compiled, service: &str) -> Vec<String> {
    let (namespace, name) = service.split_once('/').unwrap();
    let assigned = compiled.addresses.get(&ObjectKey::new(namespace, name));
    assigned.map_or_else(Vec::new, |one| one.ips.iter().map(ToString::to_string).collect())
}

/// What the Service is to have, recorded or not.
fn dealt(compiled: &Compiled, service: &str) -> Vec<String> {
    let (namespace, name) = service.split_once('/').unwrap();
    let dealt = compiled.dealt.get(&ObjectKey::new(namespace, name));
    let ips = dealt.map_or(&[][..], |dealt| &dealt.assigned.ips);
    ips.iter().map(ToString::to_string).collect()
}

/// The status of an object among these manifests.
fn status(yaml: &str, node: &NodeContext, object: &str) -> Value {
    let state = state(yaml);
    let mut found = statuses(&state, node, &compile(&state, node, None)).into_iter();
    let found = found.find(|status| status.object.to_string() == object);
    found.unwrap_or_else(|| panic!("no status of {object}")).status
}

const POOL: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.168.1.200-192.168.1.210, 'fd00:1::10-fd00:1::20']}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all, namespace: metallb-system}
";

const GATEWAY: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: gatehouse}
spec:
  type: LoadBalancer
  ports: [{name: http, port: 80}, {name: https, port: 443}, {name: x, port: 22}]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: gatehouse}
spec:
  controller: gatehouse.io/ingress
  parameters: {kind: Service, scope: Namespace, namespace: gatehouse, name: gateway}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: gatehouse
  rules:
  - host: example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
";

/// A Service of type LoadBalancer with more metadata and spec.
fn load_balancer(name: &str, annotations: &str, spec: &str) -> String {
    format!(
        "\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, annotations: \
         {{{annotations}}}}}\nspec: {{type: LoadBalancer, ports: [{{port: 25}}]{spec}}}\n"
    )
}

#[test]
fn a_gateway_service_gets_an_address_listeners_a_vip_and_a_status() {
    let yaml = format!("{POOL}{GATEWAY}");
    let compiled = compiled(&yaml);
    assert_eq!(ips(&compiled, "gatehouse/gateway"), ["192.168.1.200"]);
    let listeners: Vec<_> = compiled
        .listeners
        .iter()
        .map(|one| format!("{} {:?} {} {:?}", one.address, one.protocol, one.vip, one.scope))
        .collect();
    assert_eq!(listeners[0], "127.0.0.1:8080 Http false Plain");
    assert!(listeners[1].starts_with("192.168.1.200:80 Http true Gateway"), "{listeners:?}");
    assert!(listeners[2].starts_with("192.168.1.200:443 Https true Gateway"), "{listeners:?}");
    assert_eq!(listeners.len(), 3);
    assert!(compiled.vips.vips.contains_key(&"192.168.1.200".parse::<IpAddr>().unwrap()));
    let ports = serde_json::json!([
        { "port": 80, "protocol": "TCP" },
        { "port": 443, "protocol": "TCP" },
        { "port": 22, "protocol": "TCP", "error": "gatehouse.io/PortNotServed" },
    ]);
    let entry = serde_json::json!({"ip": "192.168.1.200", "ipMode": "Proxy", "ports": ports});
    assert_eq!(
        status(&yaml, &node(), "Service gatehouse/gateway"),
        serde_json::json!({"loadBalancer": {"ingress": [entry]}})
    );
    assert_eq!(
        status(&yaml, &node(), "Ingress default/web"),
        serde_json::json!({"loadBalancer": {"ingress": [{"ip": "192.168.1.200"}]}})
    );
    assert_eq!(
        reasons(&compiled),
        [
            "NoEndpoints Ingress default/web spec.rules[0].http.paths[0].backend.service",
            "PortNotServed Service gatehouse/gateway spec.ports[2]",
        ]
    );
}

#[test]
fn what_a_gateway_speaks_on_a_port_is_told_by_app_protocol_name_or_number() {
    let served = |port: &str| {
        let service = GATEWAY.replace(
            "[{name: http, port: 80}, {name: https, port: 443}, {name: x, port: 22}]",
            port,
        );
        let compiled = compiled(&format!("{POOL}{service}"));
        let vips = compiled.listeners.iter().filter(|one| one.vip);
        vips.map(|one| format!("{} {:?}", one.address.port(), one.protocol)).collect::<Vec<_>>()
    };
    assert_eq!(served("[{port: 80}]"), ["80 Http"]);
    assert_eq!(served("[{port: 443, name: web}]"), ["443 Https"]);
    assert_eq!(served("[{port: 8080, name: http}]"), ["8080 Http"]);
    assert_eq!(served("[{port: 80, name: http, appProtocol: https}]"), ["80 Https"]);
    assert_eq!(served("[{port: 80, appProtocol: kubernetes.io/h2c}]"), [""; 0]);
    assert_eq!(served("[{port: 443, protocol: UDP}]"), [""; 0]);
    assert_eq!(served("[]"), [""; 0]);
}

#[test]
fn a_gateway_that_cannot_be_served_is_a_problem_of_the_class_that_names_it() {
    for (service, reason) in [
        ("", "GatewayNotFound"),
        (
            "kind: Service\nmetadata: {name: gateway, namespace: gatehouse}\n",
            "GatewayNotLoadBalancer",
        ),
        (
            "kind: Service\nmetadata: {name: gateway, namespace: gatehouse}\nspec: {type: LoadBalancer, loadBalancerClass: other}\n",
            "GatewayOfOtherClass",
        ),
    ] {
        let class = &GATEWAY[GATEWAY.find("---\napiVersion: networking").unwrap()..];
        let version = if service.is_empty() { "" } else { "\n---\napiVersion: v1\n" };
        let compiled = compiled(&format!("{POOL}{version}{service}\n{class}"));
        assert_eq!(
            reasons(&compiled),
            [
                "NoEndpoints Ingress default/web spec.rules[0].http.paths[0].backend.service"
                    .to_owned(),
                format!("{reason} IngressClass gatehouse spec.parameters"),
            ]
        );
        assert_eq!(compiled.listeners.len(), 1, "plain addresses keep working");
        assert_eq!(compiled.routes.tables[0].routes.hosts().count(), 1);
    }
    let node = NodeContext {
        options: Options { default_gateway: Some(ObjectKey::new("a", "b")), ..Options::default() },
        ..node()
    };
    let compiled = compile(&ClusterState::default(), &node, None);
    assert_eq!(reasons(&compiled), ["GatewayNotFound Service a/b "]);
}

/// An endpoint of the Service, on this node or another.
fn endpoint(service: &str, address: &str, node: &str) -> String {
    format!(
        "\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-{node}, labels: \
         {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{{port: 2525}}]\n\
         endpoints: [{{addresses: [{address}], nodeName: {node}}}]\n"
    )
}

#[test]
fn without_a_cluster_connections_to_other_load_balancer_services_are_passed_on() {
    let more = ", sessionAffinity: ClientIP, externalTrafficPolicy: Local";
    let [here, there] =
        [endpoint("mail", "10.0.0.1", "node-1"), endpoint("mail", "10.0.0.2", "node-2")];
    let yaml = format!("{POOL}{}{here}{there}", load_balancer("mail", "", more));
    let compiled = compiled(&yaml);
    assert_eq!(ips(&compiled, "default/mail"), ["192.168.1.200"]);
    assert_eq!(reasons(&compiled), [""; 0]);
    assert_eq!(
        status(&yaml, &node(), "Service default/mail"),
        serde_json::json!({"loadBalancer": {"ingress": [{"ip": "192.168.1.200", "ipMode": "Proxy"}]}})
    );
    let address = "192.168.1.200:25".parse().unwrap();
    let plan = compiled.listeners.last().unwrap();
    assert_eq!((plan.address, plan.protocol, plan.vip), (address, Protocol::Tcp, true));
    let port = &compiled.l4[&L4Address::tcp(address)];
    assert!(port.by_client.is_some() && port.sources.is_none());
    assert_eq!(port.here.as_deref(), Some(&["10.0.0.1".parse().unwrap()][..]));
    let backend = compiled.routes.backends.get(port.forward.spec.backends[0].slot).unwrap();
    let endpoints = backend.endpoints.endpoints.iter().map(|one| one.address.to_string());
    assert_eq!(endpoints.collect::<Vec<_>>(), ["10.0.0.1:2525", "10.0.0.2:2525"]);
    assert!(compiled.forwarded.is_empty(), "the address waits for its listener");
    assert_eq!(compiled.vips.vips.len(), 1);
    // Nothing changed: nothing is new.
    let again = compile(&state(&yaml), &node(), Some(&compiled));
    assert!(Arc::ptr_eq(&compiled.l4, &again.l4));
}

#[test]
fn in_a_cluster_only_services_that_ask_for_it_are_passed_on() {
    let source = Source { trust: SourceTrust::default(), ..SOURCE };
    let class = ", loadBalancerClass: gatehouse.io/vip";
    for (annotations, passed_on, wrong) in [
        ("", false, &[][..]),
        ("gatehouse.io/forwarding: gateway", true, &[]),
        ("gatehouse.io/forwarding: kernel", true, &[]),
        ("gatehouse.io/forwarding: envoy", false, &["InvalidAnnotation"]),
    ] {
        let service = load_balancer("mail", annotations, class);
        let yaml = format!("{POOL}{service}{}", endpoint("mail", "10.0.0.1", "node-1"));
        let compiled = compile(&state_of(&yaml, source), &node(), None);
        assert_eq!(!compiled.passed_on.is_empty(), passed_on, "{annotations}");
        let reasons: Vec<_> = compiled.problems.iter().map(|problem| problem.reason).collect();
        assert_eq!(reasons, wrong, "{annotations}");
    }
}

#[test]
fn tcp_and_udp_ports_of_one_service_are_passed_on() {
    let yaml =
        format!("{POOL}{}{}", load_balancer("dns", "", ""), endpoint("dns", "10.0.0.1", "node-1"));
    let yaml = yaml
        .replace("ports: [{port: 25}]", "ports: [{name: a, port: 53, protocol: UDP}, {port: 25}]");
    let yaml = yaml.replace(
        "ports: [{port: 2525}]",
        "ports: [{name: a, port: 5353, protocol: UDP}, {port: 2525}]",
    );
    let compiled = compiled(&yaml);
    let planned: Vec<_> = compiled
        .l4
        .iter()
        .map(|(at, port)| {
            let backend = compiled.routes.backends.get(port.forward.spec.backends[0].slot).unwrap();
            let endpoints = backend.endpoints.all().map(|one| one.address.to_string());
            (
                at.transport.name(),
                at.address.port(),
                port.forwarding.name(),
                endpoints.collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        planned,
        [
            ("TCP", 25, "gateway", vec!["10.0.0.1:2525".to_owned()]),
            ("UDP", 53, "gateway", vec!["10.0.0.1:5353".to_owned()]),
        ]
    );
    assert_eq!(reasons(&compiled), [""; 0]);
    let listeners = compiled.listeners.iter().filter(|one| one.vip);
    let listeners: Vec<_> = listeners.map(|one| (one.address.port(), one.protocol)).collect();
    assert_eq!(listeners, [(25, Protocol::Tcp), (53, Protocol::Udp)]);
    // What is counted goes on.
    let again =
        compile(&state(&yaml.replace("{port: 25}]", "{port: 26}]")), &node(), Some(&compiled));
    let stats = |compiled: &Compiled| {
        let mut ports = compiled.l4.values();
        [ports.next().unwrap(), ports.next().unwrap()].map(|port| Arc::clone(&port.stats.0))
    };
    let (before, after) = (stats(&compiled), stats(&again));
    assert!(
        before.iter().zip(&after).all(|(a, b)| Arc::ptr_eq(a, b))
            && !Arc::ptr_eq(&before[0], &before[1])
    );
}

#[test]
fn ports_that_cannot_be_passed_on_are_named_and_the_others_passed_on() {
    for (annotations, protocol, passed) in [
        ("", "SCTP", false),
        ("gatehouse.io/proxy-protocol: v1", "UDP", false),
        ("gatehouse.io/proxy-protocol: v2", "UDP", true),
    ] {
        let yaml = format!(
            "{POOL}{}{}",
            load_balancer("dns", annotations, ""),
            endpoint("dns", "10.0.0.1", "node-1")
        );
        let ports = format!("ports: [{{name: a, port: 53, protocol: {protocol}}}, {{port: 25}}]");
        let yaml = yaml.replace("ports: [{port: 25}]", &ports);
        let compiled = compiled(&yaml);
        assert_eq!(compiled.l4.len(), 1 + usize::from(passed), "{protocol}");
        let status = status(&yaml, &node(), "Service default/dns");
        let error = &status["loadBalancer"]["ingress"][0]["ports"][0]["error"];
        if passed {
            assert!(error.is_null());
            continue;
        }
        let reasons = reasons(&compiled);
        assert!(
            reasons.contains(&"PortNotServed Service default/dns spec.ports[0]".to_owned()),
            "{reasons:?}"
        );
        assert_eq!(error, "gatehouse.io/PortNotServed");
    }
}

#[test]
fn services_ask_for_addresses_in_every_known_spelling() {
    for (annotations, spec, expected) in [
        ("", ", loadBalancerIP: 192.168.1.205", vec!["192.168.1.205"]),
        ("metallb.io/loadBalancerIPs: 192.168.1.206", "", vec!["192.168.1.206"]),
        ("metallb.universe.tf/loadBalancerIPs: 192.168.1.207", "", vec!["192.168.1.207"]),
        (
            "metallb.io/loadBalancerIPs: 'fd00:1::11, 192.168.1.208'",
            "",
            vec!["fd00:1::11", "192.168.1.208"],
        ),
        ("metallb.io/address-pool: pool", "", vec!["192.168.1.200"]),
        ("metallb.universe.tf/address-pool: pool", "", vec!["192.168.1.200"]),
        ("", ", ipFamilies: [IPv6]", vec!["fd00:1::10"]),
        ("", ", ipFamilyPolicy: PreferDualStack", vec!["192.168.1.200", "fd00:1::10"]),
        (
            "",
            ", ipFamilies: [IPv6, IPv4], ipFamilyPolicy: RequireDualStack",
            vec!["fd00:1::10", "192.168.1.200"],
        ),
        ("", ", ipFamilies: [IPv6, IPv4], ipFamilyPolicy: SingleStack", vec!["fd00:1::10"]),
        ("", ", loadBalancerClass: gatehouse.io/vip", vec!["192.168.1.200"]),
        ("", ", loadBalancerClass: other", vec![]),
    ] {
        let compiled = compiled(&format!("{POOL}{}", load_balancer("a", annotations, spec)));
        assert_eq!(ips(&compiled, "default/a"), expected, "{annotations} {spec}");
    }
}

#[test]
fn a_request_that_makes_no_sense_is_refused_in_the_field_that_holds_it() {
    for (annotations, spec, field) in [
        ("", ", loadBalancerIP: 192.168.1", "spec.loadBalancerIP"),
        ("metallb.io/loadBalancerIPs: 'x'", "", "metadata.annotations[metallb.io/loadBalancerIPs]"),
        (
            "metallb.io/loadBalancerIPs: 192.168.1.201",
            ", loadBalancerIP: 192.168.1.202",
            "metadata.annotations[metallb.io/loadBalancerIPs]",
        ),
    ] {
        let compiled = compiled(&format!("{POOL}{}", load_balancer("a", annotations, spec)));
        let expected = format!("InvalidAddressRequest Service default/a {field}");
        assert_eq!(reasons(&compiled)[0], expected);
        assert_eq!(ips(&compiled, "default/a"), [""; 0]);
        assert_eq!(compiled.problems[0].severity, gatehouse_routes::problem::Severity::Error);
    }
    for (annotations, spec, expected) in [
        (
            "",
            ", loadBalancerIP: 10.0.0.1",
            "AddressNotInPool Service default/a spec.loadBalancerIP",
        ),
        (
            "metallb.io/address-pool: none",
            "",
            "PoolNotFound Service default/a metadata.annotations[metallb.io/address-pool]",
        ),
    ] {
        let compiled = compiled(&format!("{POOL}{}", load_balancer("a", annotations, spec)));
        assert_eq!(reasons(&compiled)[0], expected);
    }
}

#[test]
fn a_typo_in_a_request_keeps_the_address_that_works() {
    let node = NodeContext {
        recorded: [(ObjectKey::new("default", "a"), vec!["192.168.1.209".parse().unwrap()])].into(),
        ..node()
    };
    for spec in [", loadBalancerIP: 192.168.1", ", loadBalancerIP: 10.0.0.1"] {
        let state = state(&format!("{POOL}{}", load_balancer("a", "", spec)));
        let compiled = compile(&state, &node, None);
        assert_eq!(ips(&compiled, "default/a"), ["192.168.1.209"], "{spec}");
        let warnings = compiled.problems.iter().filter(|one| one.field == "spec.loadBalancerIP");
        let severities: Vec<_> = warnings.map(|one| one.severity).collect();
        assert_eq!(severities, [gatehouse_routes::problem::Severity::Warning], "{spec}");
    }
}

#[test]
fn addresses_stay_with_who_has_them() {
    let two = format!("{POOL}{}{}", load_balancer("b", "", ""), load_balancer("c", "", ""));
    let before = compiled(&two);
    assert_eq!(ips(&before, "default/c"), ["192.168.1.201"]);
    // A new service in front, and the first one gone: nobody moves.
    let state =
        state(&format!("{POOL}{}{}", load_balancer("a", "", ""), load_balancer("c", "", "")));
    let after = compile(&state, &node(), Some(&before));
    assert_eq!(ips(&after, "default/c"), ["192.168.1.201"]);
    assert_eq!(ips(&after, "default/a"), ["192.168.1.202"], "what b held rests");
    // The same over a restart, by the state file.
    let restarted = compile(&state, &NodeContext { recorded: after.recorded(), ..node() }, None);
    assert_eq!(restarted.addresses, after.addresses);
}

#[test]
fn without_an_ipv4_pool_a_service_gets_an_ipv6_address() {
    let pool = POOL.replace("192.168.1.200-192.168.1.210, ", "");
    let compiled = compiled(&format!("{pool}{}", load_balancer("a", "", "")));
    assert_eq!(ips(&compiled, "default/a"), ["fd00:1::10"]);
}

#[test]
fn a_broken_pool_is_a_problem_of_that_pool_alone() {
    let pool = |name: &str, namespace: &str, addresses: &str| {
        format!(
            "\n---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: {name}, \
             namespace: {namespace}}}\nspec: {{addresses: [{addresses}]}}\n"
        )
    };
    let compiled = compiled(&format!(
        "{POOL}{}{}{}{}",
        pool("typo", "m", "10.0.0.0/40"),
        pool("overlap", "m", "192.168.1.205/32"),
        pool("pool", "z", "10.1.0.0/24"),
        load_balancer("a", "", ""),
    ));
    let found = reasons(&compiled);
    assert!(
        found.contains(&"PoolOverlap IPAddressPool m/overlap spec.addresses".to_owned()),
        "{found:?}"
    );
    assert!(
        found.contains(&"DuplicatePool IPAddressPool z/pool metadata.name".to_owned()),
        "{found:?}"
    );
    assert!(
        found.contains(&"InvalidAddresses IPAddressPool m/typo spec.addresses[0]".to_owned()),
        "{found:?}"
    );
    assert_eq!(ips(&compiled, "default/a"), ["192.168.1.200"]);
}

#[test]
fn plain_addresses_are_told_where_somebody_else_can_reach_them() {
    let yaml = GATEWAY.replace("gatehouse.io/ingress", "gatehouse.io/ingress\n  x: y");
    let yaml = yaml.replace("  x: y\n  parameters: {kind: Service, scope: Namespace, namespace: gatehouse, name: gateway}\n", "");
    let told = |http: &str| {
        let node = NodeContext { http: vec![http.parse().unwrap()], ..node() };
        status(&yaml, &node, "Ingress default/web")["loadBalancer"]["ingress"][0]["ip"].clone()
    };
    assert_eq!(told("10.1.1.1:80"), "10.1.1.1");
    assert_eq!(told("0.0.0.0:80"), Value::Null);
    assert_eq!(told("127.0.0.1:80"), Value::Null);
}

#[test]
fn the_status_of_a_route_says_whether_it_is_admitted() {
    let route = "apiVersion: route.openshift.io/v1\nkind: Route\nmetadata: {name: r}\nspec: {host: \
                 r.example.com, to: {kind: Service, name: web}}\n";
    assert_eq!(
        status(route, &node(), "Route default/r"),
        serde_json::json!({"ingress": [{
            "host": "r.example.com", "routerName": "gatehouse", "wildcardPolicy": "None",
            "conditions": [{"type": "Admitted", "status": "True"}],
        }]})
    );
    let refused = status(&route.replace("host: r.example.com, ", ""), &node(), "Route default/r");
    let condition = &refused["ingress"][0]["conditions"][0];
    assert_eq!(condition["status"], "False");
    assert!(condition["reason"].is_string() && condition["message"].is_string(), "{condition}");
}

#[test]
fn what_did_not_change_keeps_its_pointer() {
    let state = state(&format!("{POOL}{GATEWAY}"));
    let before = compile(&state, &node(), None);
    let after = compile(&state, &node(), Some(&before));
    assert!(Arc::ptr_eq(&before.listeners, &after.listeners));
    assert!(Arc::ptr_eq(&before.vips, &after.vips));
    let later = compile(&state, &node(), Some(&after));
    assert!(Arc::ptr_eq(&after.deal, &later.deal), "the first one knew of none before it");
    assert!(Arc::ptr_eq(&before.certs[0].1, &after.certs[0].1));
    assert_eq!(before.problems, after.problems);
}

#[test]
fn a_status_that_is_written_leaves_no_former_version_of_its_object_behind() {
    let yaml = |kind: &str, spec: &str, status: &str| {
        format!(
            "kind: {kind}\nmetadata: {{name: a, namespace: d}}\nspec: {spec}\nstatus: {status}\n"
        )
    };
    let ingress = "{defaultBackend: {service: {name: s, port: {number: 80}}}}";
    let route = "{host: r.test, to: {kind: Service, name: s}}";
    let all = |status: [&str; 2]| {
        let ingress = yaml("Ingress", ingress, status[0]);
        let ingress = format!("apiVersion: networking.k8s.io/v1\n{ingress}");
        format!(
            "{ingress}---\napiVersion: route.openshift.io/v1\n{}",
            yaml("Route", route, status[1])
        )
    };
    let source = Source { trust: SourceTrust::default(), ..SOURCE };
    let mut state = state_of(&all(["{}", "{}"]), source);
    let first = compile(&state, &node(), None);
    let key = ObjectKey::new("d", "a");
    let before = Arc::downgrade(&state.objects.ingresses[&key].object);
    let route_before = Arc::downgrade(&state.objects.routes[&key].object);
    let written = "{loadBalancer: {ingress: [{ip: 192.0.2.1}]}}";
    tell(&mut state, &all([written, "{ingress: [{host: r.test, routerName: x}]}"]), source);
    assert!(state.objects.ingresses[&key].object.status.is_some());
    assert!(before.upgrade().is_none() && route_before.upgrade().is_none());
    let second = compile(&state, &node(), Some(&first));
    assert!(Arc::ptr_eq(&first.routes.tables[0].routes, &second.routes.tables[0].routes));
}

#[test]
fn problems_of_the_sources_are_problems_of_the_result() {
    let mut state = ClusterState::new([SOURCE]);
    let file = ObjectRef::new("File", ObjectKey::new("", "/a.yaml"));
    let problem = Problem::error(&file, "ManifestUnreadable", "", "x", "");
    state.apply(Event::Problems(SOURCE.id, vec![problem.clone()]));
    assert_eq!(compile(&state, &node(), None).problems, [problem]);
}
