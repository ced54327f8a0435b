//! Services that the kernel passes on.

use std::time::Duration;

use gatehouse_vip::forwarding::{Endpoint, Rules, Transport};

use super::*;

const KERNEL: &str = "gatehouse.io/forwarding: kernel";

fn mail(annotations: &str, spec: &str, endpoints: &str) -> String {
    format!("{POOL}{}{endpoints}", load_balancer("mail", annotations, spec))
}

fn group_names(rules: &Rules) -> Vec<&str> {
    rules.groups.keys().map(|name| &**name).collect()
}

#[test]
fn the_kernel_gets_the_ports_of_services_that_ask_for_it_and_no_listener_is_opened() {
    let endpoints =
        endpoint("mail", "10.0.0.1", "node-1") + &endpoint("mail", "10.0.0.2", "node-2");
    let yaml = mail(
        KERNEL,
        ", sessionAffinity: ClientIP, loadBalancerSourceRanges: [10.0.0.0/8]",
        &endpoints,
    );
    let compiled = compiled(&yaml);
    assert_eq!(reasons(&compiled), [""; 0]);
    assert!(!compiled.listeners.iter().any(|plan| plan.vip));
    let rules = &compiled.kernel.rules;
    assert_eq!(group_names(rules), ["service/default/mail/25/tcp/4"]);
    let vip = "192.168.1.200".parse().unwrap();
    assert!(rules.ports.contains_key(&(vip, Transport::Tcp, 25)));
    let group = rules.groups.values().next().unwrap();
    assert_eq!(group.by_client, Some(Duration::from_secs(10_800)));
    assert!(!group.keeps_client && !group.keeps_port);
    let wanted = ["10.0.0.1", "10.0.0.2"].map(|ip| Endpoint {
        ip: ip.parse().unwrap(),
        port: 2525,
        weight: 1,
    });
    assert_eq!(group.endpoints, wanted);
    let range = ["10.0.0.0", "10.255.255.255"].map(|ip| ip.parse().unwrap());
    assert_eq!(group.sources, Some(vec![range.into()]));
    let status = status(&yaml, &node(), "Service default/mail");
    assert_eq!(status["loadBalancer"]["ingress"][0]["ipMode"], "Proxy");
    // Nothing changed: nothing is new.
    let again = compile(&state(&yaml), &node(), Some(&compiled));
    assert!(Arc::ptr_eq(&compiled.kernel, &again.kernel));
}

#[test]
fn with_local_policy_the_kernel_uses_endpoints_of_this_node_and_keeps_clients() {
    let endpoints =
        endpoint("mail", "10.0.0.1", "node-1") + &endpoint("mail", "10.0.0.2", "node-2");
    let compiled = compiled(&mail(KERNEL, ", externalTrafficPolicy: Local", &endpoints));
    let group = compiled.kernel.rules.groups.values().next().unwrap();
    assert!(group.keeps_client && group.endpoints.len() == 1);
}

#[test]
fn source_ranges_that_cannot_be_read_let_nobody_in() {
    let endpoints = endpoint("mail", "10.0.0.1", "node-1");
    let compiled = compiled(&mail(KERNEL, ", loadBalancerSourceRanges: [nonsense]", &endpoints));
    let group = compiled.kernel.rules.groups.values().next().unwrap();
    assert_eq!(group.sources, Some(Vec::new()));
}

#[test]
fn ports_that_lead_to_the_same_endpoints_are_one_group() {
    let endpoints = endpoint("mail", "10.0.0.1", "node-1").replace(
        "ports: [{port: 2525}]",
        "ports: [{name: a, port: 7000}, {name: b, port: 7001}, {name: c, port: 2525}, {name: d, port: 53, protocol: UDP}]",
    );
    let yaml = mail(KERNEL, "", &endpoints).replace(
        "ports: [{port: 25}]",
        "ports: [{name: a, port: 7000}, {name: b, port: 7001}, {name: c, port: 25}, {name: d, port: 53, protocol: UDP}]",
    );
    let compiled = compiled(&yaml);
    assert_eq!(reasons(&compiled), [""; 0], "UDP is passed on as well");
    assert_eq!(
        group_names(&compiled.kernel.rules),
        [
            "service/default/mail/25/tcp/4",
            "service/default/mail/53/udp/4",
            "service/default/mail/7000/tcp/4"
        ]
    );
    assert_eq!(compiled.kernel.rules.ports.len(), 4);
    assert!(compiled.kernel.rules.groups["service/default/mail/7000/tcp/4"].keeps_port);
    let status = status(&yaml, &node(), "Service default/mail");
    assert_eq!(status["loadBalancer"]["ingress"][0]["ports"], Value::Null);
}

#[test]
fn flows_are_led_to_endpoints_by_their_hash_unless_that_takes_much_of_the_kernel() {
    let by_flow = |first: u16, count: u16| {
        let list = |from: u16| -> Vec<_> {
            let port = |n| format!("{{name: p{n}, port: {}, protocol: UDP}}", from + n);
            (0..count).map(port).collect()
        };
        let endpoints = endpoint("mail", "10.0.0.1", "node-1")
            .replace("{port: 2525}", &list(30_000).join(", "));
        let yaml = mail(KERNEL, "", &endpoints).replace("{port: 25}", &list(first).join(", "));
        let groups = compiled(&yaml).kernel.rules.groups.clone();
        (groups.len(), groups.values().all(|group| group.by_flow))
    };
    assert_eq!(by_flow(20_000, 16), (16, true));
    assert_eq!(by_flow(20_000, 17), (17, false));
    assert_eq!(by_flow(30_000, 1000), (1, true), "endpoints have the same ports");
}

#[test]
fn what_the_kernel_cannot_do_is_said_and_done_by_this_process() {
    let endpoints = endpoint("mail", "10.0.0.1", "node-1");
    for beyond in ["proxy-protocol: v2", "max-connections: \"100\""] {
        let annotations = format!("{KERNEL}, gatehouse.io/{beyond}");
        let both = compiled(&mail(&annotations, "", &endpoints));
        assert!(both.kernel.rules.is_empty() && both.listeners.iter().any(|plan| plan.vip));
        assert_eq!(
            reasons(&both),
            ["KernelCannot Service default/mail metadata.annotations[gatehouse.io/forwarding]"]
        );
    }
    let loopback = compiled(&mail(KERNEL, "", &endpoint("mail", "127.0.0.1", "node-1")));
    assert!(loopback.kernel.rules.groups.values().all(|group| group.endpoints.is_empty()));
    assert_eq!(reasons(&loopback), ["KernelCannot Service default/mail "]);
}

#[test]
fn a_way_to_choose_endpoints_that_the_kernel_does_not_have_is_said_and_the_kernel_forwards() {
    let endpoints = endpoint("mail", "10.0.0.1", "node-1");
    for (algorithm, wanted) in [
        ("leastconn", Some("gateway")),
        ("source", Some("sessionAffinity: ClientIP")),
        ("random", None),
        ("round-robin", None),
    ] {
        let annotations = format!("{KERNEL}, gatehouse.io/load-balance: {algorithm}");
        let compiled = compiled(&mail(&annotations, "", &endpoints));
        assert_eq!(compiled.kernel.rules.groups.len(), 1, "{algorithm}");
        let said = compiled.problems.first();
        assert_eq!(said.map(|problem| problem.reason), wanted.map(|_| "KernelCannot"));
        assert!(said.is_none_or(|said| said.hint.contains(wanted.unwrap_or_default())));
    }
}

#[test]
fn a_word_that_an_api_server_would_refuse_is_told() {
    let endpoints = endpoint("mail", "10.0.0.1", "node-1");
    for (spec, field) in [
        (", externalTrafficPolicy: local", Some("spec.externalTrafficPolicy")),
        (", sessionAffinity: clientIP", Some("spec.sessionAffinity")),
        (", externalTrafficPolicy: Local, sessionAffinity: ClientIP", None),
    ] {
        let told = reasons(&compiled(&mail("", spec, &endpoints)));
        let wanted = field.map(|field| format!("InvalidValue Service default/mail {field}"));
        assert_eq!(told, Vec::from_iter(wanted), "{spec}");
    }
}

#[test]
fn external_addresses_are_served_where_they_are_permitted_and_never_claimed() {
    let spec = ", externalIPs: [203.0.113.7, 198.51.100.1, 192.168.1.200, nonsense]";
    let endpoints = endpoint("mail", "10.0.0.1", "node-1");
    let networks = ["203.0.113.0/24", "192.168.0.0/16"].map(|net| net.parse().unwrap());
    let external_ips: Networks = networks.into_iter().collect();
    let node = NodeContext { external_ips, ..node() };
    for annotations in ["", KERNEL] {
        let yaml = mail(annotations, spec, &endpoints);
        let compiled = compile(&state(&yaml), &node, None);
        let ips: Vec<_> = compiled.l4.keys().map(|at| at.address.ip().to_string()).collect();
        assert_eq!(ips, ["192.168.1.200", "203.0.113.7"]);
        assert_eq!(
            reasons(&compiled),
            [
                "ExternalIpRefused Service default/mail spec.externalIPs[1]",
                "ExternalIpTaken Service default/mail spec.externalIPs[2]",
                "ExternalIpInvalid Service default/mail spec.externalIPs[3]",
            ]
        );
        assert_eq!(compiled.vips.vips.len(), 1, "not claimed");
        assert_eq!(compiled.recorded().values().map(Vec::len).sum::<usize>(), 1, "not recorded");
        // Without the flag there is none.
        let none = super::compiled(&yaml);
        assert_eq!(none.l4.len(), 1);
    }
}

#[test]
fn of_two_services_with_one_external_address_and_port_the_first_has_it() {
    let external = ", externalIPs: [203.0.113.7]";
    let external_ips = [("203.0.113.7").parse::<gatehouse_routes::networks::Network>().unwrap()];
    let node = NodeContext { external_ips: external_ips.into_iter().collect(), ..node() };
    let yaml = format!(
        "{POOL}{}{}{}{}",
        load_balancer("a", "", external),
        load_balancer("b", KERNEL, external),
        endpoint("a", "10.0.0.1", "node-1"),
        endpoint("b", "10.0.0.2", "node-1")
    );
    let compiled = compile(&state(&yaml), &node, None);
    let at = L4Address::tcp("203.0.113.7:25".parse().unwrap());
    assert_eq!(&*compiled.l4[&at].service.name, "a");
    assert_eq!(reasons(&compiled), ["ExternalIpTaken Service default/b spec.externalIPs[0]"]);
}

#[test]
fn endpoints_that_are_checked_are_watched_and_terminating_ones_keep_what_they_have() {
    let endpoints = endpoint("mail", "10.0.0.1", "node-1")
        + &endpoint("mail", "10.0.0.2", "node-2").replace(
            "nodeName: node-2",
            "nodeName: node-2, conditions: {ready: false, serving: true, terminating: true}",
        );
    let plain = compiled(&mail(KERNEL, "", &endpoints));
    assert!(plain.kernel.watched.is_empty());
    let checked = format!("{KERNEL}, gatehouse.io/health-check: tcp");
    let yaml = mail(&checked, "", &endpoints);
    let first = compiled(&yaml);
    let [watched] = &*first.kernel.watched["service/default/mail/25/tcp/4"] else {
        panic!("{:?}", first.kernel)
    };
    let group = &first.kernel.rules.groups["service/default/mail/25/tcp/4"];
    assert_eq!(group.endpoints, [watched.endpoint]);
    assert_eq!(
        group.draining.iter().map(|one| one.ip.to_string()).collect::<Vec<_>>(),
        ["10.0.0.2"]
    );
    let again = compile(&state(&yaml), &node(), Some(&first));
    assert!(Arc::ptr_eq(&first.kernel, &again.kernel));

    // Each port has checks of its own, though endpoints have the client's port.
    let ports = "ports: [{name: a, port: 7000}, {name: b, port: 7001}]";
    let own = |annotations: &str| {
        let endpoints =
            endpoint("mail", "10.0.0.1", "node-1").replace("ports: [{port: 2525}]", ports);
        compiled(&mail(annotations, "", &endpoints).replace("ports: [{port: 25}]", ports))
    };
    assert_eq!(own(KERNEL).kernel.rules.groups.len(), 1);
    assert_eq!(own(&checked).kernel.rules.groups.len(), 2);
}

#[test]
fn checks_take_a_tcp_port() {
    let yaml = mail(
        &format!("{KERNEL}, gatehouse.io/health-check: tcp"),
        "",
        &endpoint("mail", "10.0.0.1", "node-1").replace("port: 2525", "port: 2525, protocol: UDP"),
    );
    let compiled =
        compiled(&yaml.replace("ports: [{port: 25}]", "ports: [{port: 25, protocol: UDP}]"));
    assert_eq!(
        reasons(&compiled),
        ["CheckImpossible Service default/mail metadata.annotations[gatehouse.io/health-check]"]
    );
}

#[test]
fn who_has_which_endpoint_outlives_a_new_configuration() {
    let endpoints = endpoint("mail", "10.0.0.1", "node-1");
    let spec = |seconds| {
        format!(
            ", sessionAffinity: ClientIP, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}"
        )
    };
    let first = compiled(&mail("", &spec(60), &endpoints));
    let affinity = |compiled: &Compiled| compiled.l4.values().next().unwrap().by_client.clone();
    let pins = affinity(&first).unwrap().pins;
    let (client, at) = ([192, 0, 2, 1].into(), "10.0.0.1:2525".parse().unwrap());
    pins.keep(client, at, 0, Duration::from_secs(60));
    let next = compile(&state(&mail("", &spec(90), &endpoints)), &node(), Some(&first));
    let affinity = affinity(&next).unwrap();
    assert_eq!((affinity.time.as_secs(), affinity.pins.get(client, 1)), (90, Some(at)));
}

#[test]
fn server_names_lead_to_services_of_the_namespace_and_take_a_process() {
    let names = "gatehouse.io/tls-server-names: \"A.Test.=web, *.b.test=web:443, nonsense, a.test=c, =d, x.test=Y\"";
    let web = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\n\
               spec: {ports: [{name: a, port: 25}, {name: b, port: 443}]}\n";
    let yaml = mail(&format!("{KERNEL}, {names}"), "", &endpoint("mail", "10.0.0.1", "node-1"));
    let compiled = compiled(&format!("{yaml}{web}"));
    let port = compiled.l4.values().next().unwrap();
    assert_eq!(port.forwarding, Forwarding::Gateway, "the kernel reads no ClientHello");
    let all = port.names.as_ref().unwrap();
    let to =
        |name: &str| all.find(name).map(|named| named.forward.spec.backends[0].key.to_string());
    assert_eq!(to("a.test").as_deref(), Some("default/web:25"));
    assert_eq!(to("x.b.test").as_deref(), Some("default/web:443"));
    assert!(to("x.y.b.test").is_none() && to("b.test").is_none());
    let field = "Service default/mail metadata.annotations";
    let told = reasons(&compiled).into_iter().filter(|one| !one.starts_with("NoEndpoints"));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            format!("KernelCannot {field}[gatehouse.io/forwarding]"),
            format!("InvalidAnnotation {field}[gatehouse.io/tls-server-names]"),
            format!("InvalidAnnotation {field}[gatehouse.io/tls-server-names]"),
            format!("InvalidAnnotation {field}[gatehouse.io/tls-server-names]"),
            format!("InvalidAnnotation {field}[gatehouse.io/tls-server-names]"),
        ]
    );
}

#[test]
fn the_address_of_server_names_is_announced_while_any_of_their_services_has_an_endpoint() {
    let names =
        "gatehouse.io/forwarding: gateway, gatehouse.io/tls-server-names: 'a.test=a, b.test=b'";
    let to = |name: &str, spec: &str| {
        format!(
            "\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 25}}]{spec}}}\n"
        )
    };
    let outside = to("b", ", type: ExternalName, externalName: db.example.com");
    let (own, a) = (endpoint("mail", "10.0.0.1", "node-2"), endpoint("a", "10.0.0.2", "node-1"));
    let far = endpoint("a", "10.0.0.3", "node-2");
    let local = ", externalTrafficPolicy: Local";
    for (spec, others, announced) in [
        ("", "", false),
        ("", &*own, true),
        ("", &*a, true),
        ("", &*outside, true),
        (local, &*a, true),
        (local, &*far, false),
        (local, &*outside, false),
        (local, &*format!("{own}{a}"), true),
    ] {
        let service = load_balancer("mail", names, spec);
        let recorded = "status: {loadBalancer: {ingress: [{ip: 192.168.1.200}]}}\n";
        let yaml = format!("{POOL}{service}{recorded}{}{others}", to("a", ""));
        for source in [SOURCE, Source { trust: SourceTrust::default(), ..SOURCE }] {
            let compiled = compile(&state_of(&yaml, source), &node(), None);
            assert_eq!(ips(&compiled, "default/mail"), ["192.168.1.200"]);
            assert_eq!(!compiled.vips.vips.is_empty(), announced, "{spec} {others} {source:?}");
        }
    }
}

#[test]
fn what_becomes_of_clients_that_nobody_is_there_for_depends_on_the_address_and_on_who_passes_it_on()
{
    let ports =
        "ports: [{name: a, port: 25}, {name: b, port: 26}, {name: c, port: 27, protocol: UDP}]";
    let one = endpoint("mail", "10.0.0.1", "node-1")
        .replace("ports: [{port: 2525}]", "ports: [{name: a, port: 2525}]");
    let hidden = "no address is announced for it";
    for (annotations, endpoints, announced, expected) in [
        ("", "", false, &[hidden, hidden, hidden][..]),
        (KERNEL, "", false, &[hidden, hidden, hidden]),
        ("", &*one, true, &["connections are reset", "datagrams are not answered"]),
        (KERNEL, &*one, true, &["connections are refused", "datagrams are refused"]),
        (
            "gatehouse.io/tls-server-names: a.test=gone",
            &*one,
            true,
            &[
                "connections of its names are reset",
                "connections are reset",
                "datagrams are not answered",
            ],
        ),
    ] {
        let yaml = mail(annotations, "", endpoints).replacen("ports: [{port: 25}]", ports, 1);
        let compiled = compiled(&yaml);
        assert_eq!(!compiled.vips.vips.is_empty(), announced, "{annotations}");
        let told = compiled.problems.iter().filter_map(|one| one.message.rsplit_once("; "));
        let told: Vec<_> = told.map(|(_, so)| so).collect();
        assert_eq!(told, expected, "{annotations}: {:?}", compiled.problems);
    }
}
