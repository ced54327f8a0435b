use super::*;
use crate::{
    model::BackendProtocol,
    objects::SourceTrust,
    testing::objects,
    transport::{Alpn, BackendTls},
};

const SERVICE: &str = "
kind: Service
metadata: {name: web, namespace: d}
spec:
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: admin, port: 81, targetPort: adm}
  - {name: dns, port: 53, protocol: UDP}
";
const SLICES: &str = "
kind: EndpointSlice
metadata: {name: web-1, namespace: d, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: admin, port: 9000}, {name: dns, port: 53, protocol: UDP}]
endpoints:
- {addresses: [10.0.0.2], conditions: {ready: true}}
- {addresses: [10.0.0.1]}
- {addresses: [10.0.0.3], conditions: {ready: false}}
---
kind: EndpointSlice
metadata: {name: web-2, namespace: d, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8081}]
endpoints:
- {addresses: ['fd00::1']}
- {addresses: ['fd00::1']}
---
kind: EndpointSlice
metadata: {name: web-3, namespace: other, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.9.9.9]}]
";

fn key(port: BackendPort) -> BackendKey {
    let protocol = BackendProtocol::Declared;
    BackendKey { service: ObjectKey::new("d", "web"), port, protocol, whole: false }
}

fn resolve(yaml: &str, port: BackendPort, loopback: bool) -> Resolved {
    resolve_beside(yaml, port, loopback, &[])
}

/// As [`resolve`], where gateways listen on these.
fn resolve_beside(yaml: &str, port: BackendPort, loopback: bool, own: &[&str]) -> Resolved {
    let own = own.iter().map(|address| address.parse().unwrap()).collect();
    let services = [("d", "web")].into_iter().collect();
    let mut objects = objects(yaml);
    let trust = SourceTrust { loopback_endpoints: loopback, ..SourceTrust::default() };
    objects.services.values_mut().for_each(|stored| stored.trust = trust);
    objects.endpoint_slices.values_mut().for_each(|stored| stored.trust = trust);
    Resolver::new(&objects, &own, &services).resolve(&key(port), None)
}

fn addresses(resolved: &Resolved) -> Vec<String> {
    resolved.backend.endpoints.endpoints.iter().map(|e| e.address.to_string()).collect()
}

#[test]
fn ports_are_found_as_each_object_names_them() {
    let yaml = format!("{SERVICE}---{SLICES}");
    let http = ["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::1]:8081"].as_slice();
    let admin = ["10.0.0.1:9000", "10.0.0.2:9000"].as_slice();
    let all =
        ["10.0.0.1:8080", "10.0.0.1:9000", "10.0.0.2:8080", "10.0.0.2:9000", "[fd00::1]:8081"];
    for (port, expected, gap) in [
        (BackendPort::Number(80), http, None),
        (BackendPort::Name("http".into()), http, None),
        (BackendPort::Name("admin".into()), admin, None),
        (BackendPort::Number(8080), &[], Some(Gap::Port)),
        (BackendPort::Number(53), &[], Some(Gap::Port)),
        (BackendPort::Name("none".into()), &[], Some(Gap::Port)),
        (BackendPort::Target("9000".into()), admin, None),
        (BackendPort::Target("admin".into()), admin, None),
        (BackendPort::Target("80".into()), &[], Some(Gap::Port)),
        (BackendPort::Target("09000".into()), &[], Some(Gap::Port)),
        (BackendPort::All, &all, None),
    ] {
        let resolved = resolve(&yaml, port.clone(), false);
        assert_eq!(addresses(&resolved), expected, "{port:?}");
        assert_eq!(resolved.gap, gap, "{port:?}");
        assert!(resolved.problems.is_empty());
    }
}

#[test]
fn a_port_that_has_a_new_name_keeps_its_endpoints_until_their_slices_have_it_too() {
    let service = SERVICE.replace("name: http", "name: web");
    let half = SLICES.replacen("name: http", "name: web", 1);
    let all = ["10.0.0.1:8080", "10.0.0.2:8080"].as_slice();
    for (service, slices, port, expected) in [
        (&*service, SLICES, BackendPort::Number(80), all),
        (&*service, SLICES, BackendPort::Name("web".into()), all),
        // The first slice has the new name already; of the other one the old name leads elsewhere.
        (&*service, &*half, BackendPort::Number(80), all),
        // What a name leads to is for the slices to say.
        (&*SERVICE.replace("name: admin", "name: ops"), SLICES, BackendPort::Number(81), &[]),
    ] {
        let resolved = resolve(&format!("{service}---{slices}"), port.clone(), false);
        assert_eq!(addresses(&resolved), expected, "{port:?}");
        assert_eq!(resolved.gap, None);
    }
    // Who writes both by hand is told that they do not fit.
    let mut objects = objects(&format!("{service}---{SLICES}"));
    let trust = SourceTrust { standalone: true, ..SourceTrust::default() };
    objects.services.values_mut().for_each(|stored| stored.trust = trust);
    let services = [("d", "web")].into_iter().collect();
    let own = BTreeSet::new();
    let resolved =
        Resolver::new(&objects, &own, &services).resolve(&key(BackendPort::Number(80)), None);
    assert!(addresses(&resolved).is_empty() && matches!(resolved.gap, Some(Gap::Endpoints(_))));
}

#[test]
fn a_gateway_is_no_endpoint_of_its_own_whoever_says_so() {
    let yaml = format!("{SERVICE}---{SLICES}");
    let own = ["10.0.0.2:8080", "10.0.0.1:80", "[fd00::1]:443"];
    let http = || BackendPort::Number(80);
    let resolved = resolve_beside(&yaml, http(), false, &own);
    assert_eq!(addresses(&resolved), ["10.0.0.1:8080", "[fd00::1]:8081"]);
    let [problem] = resolved.problems.as_slice() else { panic!("{:?}", resolved.problems) };
    assert!(
        problem.message.contains("\"10.0.0.2\" is an address of a gateway itself"),
        "{problem}"
    );
    assert_eq!(problem.field, "endpoints[0].addresses[0]");
    assert_eq!(addresses(&resolve_beside(&yaml, http(), true, &own)).len(), 2);
}

#[test]
fn what_still_serves_gets_the_traffic_only_where_nothing_is_ready() {
    let leaving = "ready: false, serving: true, terminating: true";
    let ready = "ready: true, serving: true, terminating: false";
    for (conditions, expected) in [
        ([leaving, leaving], ["10.0.0.0:80", "10.0.0.1:80"].as_slice()),
        ([leaving, ready], &["10.0.0.1:80"]),
        ([leaving, "serving: true"], &["10.0.0.1:80"]),
        ([leaving, "ready: false, serving: false, terminating: true"], &["10.0.0.0:80"]),
        ([leaving, "ready: false, terminating: true"], &["10.0.0.0:80"]),
        (["ready: false", "ready: false, serving: true, terminating: false"], &[]),
    ] {
        // Each in a slice of its own: what counts is the Service.
        let slice = |(n, conditions): (usize, &&str)| {
            format!(
                "---\nkind: EndpointSlice\nmetadata: {{name: s{n}, namespace: d, labels: \
                 {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nports: [{{name: http, port: 80}}]\n\
                 endpoints: [{{addresses: [10.0.0.{n}], conditions: {{{conditions}}}}}]\n"
            )
        };
        let slices: String = conditions.iter().enumerate().map(slice).collect();
        let resolved = resolve(&format!("{SERVICE}{slices}"), BackendPort::Number(80), false);
        assert_eq!(addresses(&resolved), expected, "{conditions:?}");
    }
}

#[test]
fn a_single_port_needs_no_name() {
    let yaml = "
kind: Service
metadata: {name: web, namespace: d}
spec: {clusterIP: None, ports: [{port: 80}]}
---
kind: EndpointSlice
metadata: {name: w, namespace: d, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: '', port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
";
    assert_eq!(addresses(&resolve(yaml, BackendPort::Number(80), false)), ["10.0.0.1:8080"]);
}

/// The Service above with an `appProtocol` on its first port, or the same on the EndpointSlices.
fn speaking(of_service: &str, of_slices: &str) -> String {
    let service = SERVICE.replace("port: 80,", &format!("port: 80{of_service},"));
    let slices =
        SLICES.replace("{name: http, port: 808", &format!("{{name: http{of_slices}, port: 808"));
    format!("{service}---{slices}")
}

/// Each endpoint's port and what is spoken there.
fn spoken_to(resolved: &Resolved) -> Vec<(u16, Speaks)> {
    let endpoints = resolved.backend.endpoints.endpoints.iter();
    endpoints.map(|endpoint| (endpoint.address.port(), endpoint.speaks)).collect()
}

#[test]
fn a_port_is_spoken_to_as_its_app_protocol_says() {
    let (tls, tls2) = (Speaks::Tls(Alpn::Http1), Speaks::Tls(Alpn::Http2));
    for (name, speaks) in [
        ("https", tls),
        ("HTTPS", tls),
        ("kubernetes.io/wss", tls),
        ("tls", tls),
        ("grpcs", tls2),
        ("h2", tls2),
        ("h2c", Speaks::Http2),
        ("kubernetes.io/h2c", Speaks::Http2),
        ("GRPC", Speaks::Http2),
        ("http", Speaks::Http1),
        ("kubernetes.io/ws", Speaks::Http1),
        ("mysql", Speaks::Http1),
        ("example.com/own", Speaks::Http1),
    ] {
        let said = format!(", appProtocol: {name}");
        for yaml in [speaking(&said, ""), speaking("", &said)] {
            let resolved = resolve(&yaml, BackendPort::Number(80), false);
            let wanted = [8080, 8080, 8081].map(|port| (port, speaks));
            assert_eq!((spoken_to(&resolved), resolved.gap), (wanted.to_vec(), None), "{yaml}");
            // The admin port says nothing.
            let all = spoken_to(&resolve(&yaml, BackendPort::All, false));
            let admin = all.iter().filter(|(port, _)| *port == 9000);
            assert!(all.contains(&(8080, speaks)), "{yaml}");
            assert!(admin.into_iter().all(|(_, speaks)| *speaks == Speaks::Http1), "{yaml}");
        }
    }
    let external = "kind: Service\nmetadata: {name: web, namespace: d}\nspec: {type: ExternalName, \
                    externalName: a.com, ports: [{port: 443, appProtocol: https}]}";
    let resolved = resolve(external, BackendPort::Number(443), false);
    assert_eq!(resolved.backend.endpoints.external.as_ref().unwrap().speaks, tls);
}

#[test]
fn what_a_port_begins_to_speak_changes_its_endpoints() {
    let yaml = format!("{SERVICE}---{SLICES}");
    let before = resolve(&yaml, BackendPort::Number(80), false);
    let objects = objects(&speaking("", ", appProtocol: https"));
    let (own, services) = (BTreeSet::new(), [("d", "web")].into_iter().collect());
    let resolver = Resolver::new(&objects, &own, &services);
    let after = resolver.resolve(&key(BackendPort::Number(80)), Some(&before));
    assert!(spoken_to(&after).iter().all(|(_, speaks)| *speaks == Speaks::Tls(Alpn::Http1)));
    let stats = |resolved: &Resolved| Arc::clone(&resolved.backend.endpoints.endpoints[0].stats);
    assert!(Arc::ptr_eq(&stats(&before), &stats(&after)), "the counters go on");
}

#[test]
fn a_service_that_is_missing_is_a_gap_and_one_without_endpoints_is_none() {
    assert_eq!(resolve(SLICES, BackendPort::All, false).gap, Some(Gap::Service));
    let empty = resolve(SERVICE, BackendPort::Number(80), false);
    assert_eq!(empty.gap, None);
    assert!(empty.backend.endpoints.is_empty());
    assert_eq!(resolve(SERVICE, BackendPort::Target("9".into()), false).gap, None);
}

#[test]
fn external_names_are_resolved_at_run_time() {
    let service = |spec: &str| {
        format!(
            "kind: Service\nmetadata: {{name: web, namespace: d}}\nspec: {{type: ExternalName, {spec}}}"
        )
    };
    for (spec, port, expected) in [
        ("externalName: Example.com.", BackendPort::Number(8080), Some("example.com:8080")),
        (
            "externalName: a.com, ports: [{port: 80, targetPort: 81}]",
            BackendPort::Number(80),
            Some("a.com:81"),
        ),
        (
            "externalName: a.com, ports: [{name: x, port: 80}]",
            BackendPort::Name("x".into()),
            Some("a.com:80"),
        ),
        ("externalName: a.com, ports: [{port: 80}]", BackendPort::Number(90), None),
        ("externalName: a.com", BackendPort::Name("x".into()), None),
        ("externalName: a.com", BackendPort::All, Some("a.com:80")),
        ("externalName: 192.168.1.10", BackendPort::Number(8123), Some("192.168.1.10:8123")),
        ("externalName: 127.0.0.1", BackendPort::Number(80), None),
        ("externalName: 169.254.169.254", BackendPort::Number(80), None),
        ("externalName: '::ffff:127.0.0.1'", BackendPort::Number(80), None),
        ("externalName: '[fd00::1]'", BackendPort::Number(80), None),
        ("externalName: localhost", BackendPort::Number(80), None),
        ("externalName: 'a b'", BackendPort::Number(80), None),
    ] {
        let resolved = resolve(&service(spec), port, false);
        let external = resolved.backend.endpoints.external.as_ref();
        let given = external.map(|name| format!("{}:{}", name.host, name.port));
        assert_eq!(given.as_deref(), expected, "{spec}");
        assert_eq!(expected.is_none(), resolved.gap.is_some() || !resolved.problems.is_empty());
    }
}

#[test]
fn addresses_of_the_node_and_of_metadata_services_are_never_dialled() {
    for refused in [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "255.255.255.255",
        "168.63.129.16",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "::127.0.0.1",
    ] {
        assert!(refusal(refused.parse().unwrap()).is_some(), "{refused}");
    }
    for taken in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1"]
    {
        assert_eq!(refusal(taken.parse().unwrap()), None, "{taken}");
    }
}

#[test]
fn refused_addresses_are_named_and_the_others_still_serve() {
    let slice = |kind: &str, address: &str| {
        format!(
            "{SERVICE}---\nkind: EndpointSlice\nmetadata: {{name: s, namespace: d, labels: {{kubernetes.io/service-name: web}}}}\n\
             addressType: {kind}\nports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: ['{address}']}}, {{addresses: [10.0.0.1]}}]"
        )
    };
    let number = BackendPort::Number(80);
    let refused = resolve(&slice("IPv4", "169.254.169.254"), number.clone(), false);
    assert_eq!(addresses(&refused), ["10.0.0.1:8080"]);
    assert_eq!(refused.problems[0].reason, "AddressRefused");
    assert_eq!(refused.problems[0].field, "endpoints[0].addresses[0]");
    let names = resolve(&slice("FQDN", "a.com"), number.clone(), false);
    assert_eq!((addresses(&names).len(), names.problems.len()), (0, 1));
    assert_eq!(resolve(&slice("IPv4", "127.0.0.1"), number.clone(), false).problems.len(), 1);
    let allowed = resolve(&slice("IPv4", "127.0.0.1"), number, true);
    assert_eq!(addresses(&allowed), ["10.0.0.1:8080", "127.0.0.1:8080"]);
    assert!(allowed.problems.is_empty());
}

#[test]
fn what_changed_is_found_by_the_service_it_belongs_to() {
    let before = objects(&format!("{SERVICE}---{SLICES}"));
    let inputs = Inputs::of(&before, None);
    let changed = |after: &Objects| -> Vec<String> {
        let changed = inputs.changed(after);
        let mut names: Vec<_> = changed.iter().map(|(ns, name)| format!("{ns}/{name}")).collect();
        names.sort();
        names
    };
    assert!(changed(&before).is_empty());
    let mut after = before.clone();
    after.endpoint_slices.remove(&ObjectKey::new("other", "web-3"));
    assert_eq!(changed(&after), ["other/web"]);
    let mut after = before.clone();
    after.services.remove(&ObjectKey::new("d", "web"));
    assert_eq!(changed(&after), ["d/web"]);
    let mut after = before.clone();
    let moved = SLICES.replace("service-name: web}", "service-name: blog}");
    after.endpoint_slices = objects(&moved).endpoint_slices;
    assert_eq!(changed(&after), ["d/blog", "d/web", "other/blog", "other/web"]);
    let mut after = before;
    after.services.extend(objects(&SERVICE.replace("name: web", "name: a")).services);
    assert_eq!(changed(&after), ["d/a"]);
}

#[test]
fn a_rule_is_believed_before_the_port() {
    let tls = Arc::new(BackendTls::default());
    for (protocol, speaks) in [
        (BackendProtocol::ClearText, Speaks::Http1),
        (BackendProtocol::Http2, Speaks::Http2),
        (BackendProtocol::Tls(Alpn::Either, tls), Speaks::Tls(Alpn::Either)),
    ] {
        for name in ["https", "h2c", "grpc", "kubernetes.io/wss", "http"] {
            let said = format!(", appProtocol: {name}");
            for yaml in [speaking(&said, ""), speaking("", &said)] {
                let mut key = key(BackendPort::Number(80));
                key.protocol = protocol.clone();
                let objects = objects(&yaml);
                let (own, services) = (BTreeSet::new(), [("d", "web")].into_iter().collect());
                let resolved = Resolver::new(&objects, &own, &services).resolve(&key, None);
                let wanted = [8080, 8080, 8081].map(|port| (port, speaks));
                assert_eq!((spoken_to(&resolved), resolved.gap), (wanted.to_vec(), None), "{yaml}");
            }
        }
    }
}

#[test]
fn a_service_of_files_that_nobody_answers_for_says_why() {
    let slice = |label: &str, rest: &str| {
        format!(
            "{SERVICE}---\nkind: EndpointSlice\nmetadata: {{name: s, namespace: d, labels: {{{label}: web}}}}\n{rest}\n"
        )
    };
    let mine = |rest: &str| slice(SERVICE_NAME, rest);
    let http = |endpoints: &str| {
        mine(&format!(
            "addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: [{endpoints}]"
        ))
    };
    for (yaml, expected) in [
        (SERVICE.to_owned(), Empty::NoSlice),
        (slice("kubernetes.io/service", "addressType: IPv4\nendpoints: []"), Empty::NoSlice),
        (
            mine("addressType: FQDN\nports: [{name: http, port: 1}]\nendpoints: []"),
            Empty::AddressType,
        ),
        (mine("addressType: IPv4\nports: [{name: web, port: 1}]\nendpoints: []"), Empty::Port),
        (http(""), Empty::Nobody),
        (http("{addresses: [10.0.0.1], conditions: {ready: false}}"), Empty::NotReady),
        (http("{addresses: [169.254.169.254]}"), Empty::Refused),
    ] {
        let mut objects = objects(&yaml);
        let (own, services) = (BTreeSet::new(), [("d", "web")].into_iter().collect());
        let gap = |objects: &Objects| {
            Resolver::new(objects, &own, &services).resolve(&key(BackendPort::Number(80)), None).gap
        };
        assert_eq!(gap(&objects), None, "a cluster's endpoints come and go");
        for stored in objects.services.values_mut() {
            stored.trust.standalone = true;
        }
        assert_eq!(gap(&objects), Some(Gap::Endpoints(expected)), "{yaml}");
    }
}

/// A Service that is a name, `far` in another namespace that has endpoints, and whether files say so.
fn led(name: &str, far: &str, standalone: bool) -> Resolved {
    let yaml = format!(
        "kind: Service\nmetadata: {{name: web, namespace: d}}\nspec: {{type: ExternalName, externalName: {name}, \
         ports: [{{name: http, port: 80, targetPort: 81}}]}}\n---\nkind: Service\nmetadata: {{name: far, namespace: o}}\n\
         spec: {{{far}, ports: [{{name: http, port: 81, targetPort: 8080}}]}}\n---\nkind: EndpointSlice\n\
         metadata: {{name: far-1, namespace: o, labels: {{kubernetes.io/service-name: far}}}}\naddressType: IPv4\n\
         ports: [{{name: http, port: 8080}}, {{name: same, port: 81}}]\nendpoints: [{{addresses: [10.0.0.7]}}]\n\
         ---\nkind: Service\nmetadata: {{name: next, namespace: o}}\n\
         spec: {{type: ExternalName, externalName: far.o.svc, ports: [{{port: 81}}]}}\n"
    );
    let mut objects = objects(&yaml);
    let trust = SourceTrust { standalone, ..SourceTrust::default() };
    objects.services.values_mut().for_each(|stored| stored.trust = trust);
    let key = key(BackendPort::Number(80));
    let (own, way) = (BTreeSet::new(), through(&key, &objects));
    let services = way.iter().map(|key| (&*key.namespace, &*key.name)).collect();
    Resolver::new(&objects, &own, &services).resolve(&key, None)
}

#[test]
fn a_name_that_a_service_of_the_files_has_in_a_cluster_leads_to_its_endpoints() {
    let (plain, headless) = ("type: ClusterIP", "clusterIP: None");
    for (name, far, expected) in [
        ("far.o.svc.cluster.local", plain, "10.0.0.7:8080"),
        ("Far.o.svc.", plain, "10.0.0.7:8080"),
        ("next.o.svc", plain, "10.0.0.7:8080"),
        // A backend of it has its pods, and chooses the port itself.
        ("far.o.svc", headless, "10.0.0.7:81"),
    ] {
        let resolved = led(name, far, true);
        assert_eq!(addresses(&resolved), [expected], "{name} {far}");
        assert!(resolved.backend.endpoints.external.is_none() && resolved.gap.is_none());
        assert!(resolved.through.contains(&ObjectKey::new("o", "far")));
        // In a cluster its name servers say what is meant.
        assert!(led(name, far, false).backend.endpoints.external.is_some());
    }
    assert_eq!(led("gone.o.svc", plain, true).gap, Some(Gap::Named));
    for name in
        ["gone.o.svc", "far.o", "far.o.pod.cluster.local", "a.far.o.svc", "far.o.svc.example.com"]
    {
        let resolved = led(name, plain, true);
        assert_eq!(&*resolved.backend.endpoints.external.as_ref().unwrap().host, name);
    }
}

#[test]
fn an_idled_service_without_endpoints_is_woken_up_by_its_own_address() {
    let idled = SERVICE
        .replace("namespace: d}", "namespace: d, annotations: {idling.alpha.openshift.io/idled-at: '2026-12-01T10:00:00Z'}}")
        .replace("spec:", "spec:\n  clusterIP: 172.30.0.9");
    let slices = SLICES.replace("10.0.0.1]}", "10.0.0.1], conditions: {ready: false}}");
    let slices = slices
        .replace("ready: true", "ready: false")
        .replace("'fd00::1']", "'fd00::1'], conditions: {ready: false}");
    for objects in [idled.clone(), format!("{idled}---{slices}")] {
        for (port, expected) in [
            (BackendPort::Number(80), &["172.30.0.9:80"][..]),
            (BackendPort::Name("admin".into()), &["172.30.0.9:81"]),
            (BackendPort::Target("8080".into()), &["172.30.0.9:80"]),
            (BackendPort::Target("adm".into()), &["172.30.0.9:81"]),
            (BackendPort::Target("80".into()), &[]),
            (BackendPort::All, &["172.30.0.9:80", "172.30.0.9:81"]),
        ] {
            let resolved = resolve(&objects, port.clone(), false);
            assert_eq!(addresses(&resolved), expected, "{port:?}");
        }
    }
    let awake = resolve(&format!("{idled}---{SLICES}"), BackendPort::Number(80), false);
    assert_eq!(addresses(&awake).len(), 3, "endpoints take precedence");
    for other in [
        idled.replace("172.30.0.9", "None"),
        idled.replace("'2026-12-01T10:00:00Z'", "''"),
        idled.replace("172.30.0.9", "169.254.169.254"),
        SERVICE.to_owned(),
    ] {
        let resolved = resolve(&other, BackendPort::Number(80), false);
        assert_eq!(addresses(&resolved), Vec::<String>::new(), "{other}");
    }
}
