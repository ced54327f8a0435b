use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    action::Action,
    filter::HttpsRedirect,
    model::{CertSource, HostPattern, Scheme},
    objects::SourceTrust,
    problem::Severity,
    testing::{self, add, answer, answer_of, objects, problems},
};

mod edits;
mod sharing;

#[test]
fn ingresses_answer_as_the_table_of_cases_says() {
    testing::run_cases(include_str!("ingress_cases.yaml"));
}

#[test]
fn routes_answer_as_the_table_of_cases_says() {
    testing::run_cases(include_str!("route_cases.yaml"));
}

#[test]
fn routes_are_admitted_as_the_table_of_cases_says() {
    testing::run_cases(include_str!("admission_cases.yaml"));
}

#[test]
fn every_action_carries_what_its_redirect_needs() {
    let compiled = testing::compiled(
        "kind: Ingress\nmetadata: {name: a, namespace: d}\nspec: {tls: [{hosts: [i.com]}], rules: [{host: i.com, http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: s, port: {number: 80}}}}]}}]}\n\
         ---\nkind: Route\nmetadata: {name: r, namespace: d}\nspec: {host: r.com, to: {name: s}, tls: {termination: edge, insecureEdgeTerminationPolicy: Redirect}}",
    );
    let redirect = |host: &str| {
        let matched = testing::lookup(&compiled.tables[0].routes, Scheme::Http, host, "/").unwrap();
        *matched.rule.redirect(Scheme::Http).unwrap()
    };
    assert_eq!(redirect("i.com"), HttpsRedirect { status: 308, trim_slash: true });
    assert_eq!(redirect("r.com"), HttpsRedirect { status: 302, trim_slash: false });
}

const GATEWAYS: &str = "
kind: IngressClass
metadata: {name: inner}
spec: {controller: gatehouse.io/ingress, parameters: {kind: Service, scope: Namespace, namespace: gw, name: inner}}
---
kind: IngressClass
metadata: {name: outer}
spec: {controller: gatehouse.io/ingress, parameters: {kind: Service, scope: Namespace, namespace: gw, name: outer}}
---
kind: IngressClass
metadata: {name: theirs}
spec: {controller: example.com/other}
";

fn of_class(name: &str, class: &str, service: &str) -> String {
    format!(
        "---\nkind: Ingress\nmetadata: {{name: {name}, namespace: d}}\nspec: {{ingressClassName: {class}, \
         rules: [{{host: foo.com, http: {{paths: [{{pathType: Prefix, path: /, backend: \
         {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}}}]}}\n"
    )
}

#[test]
fn each_gateway_serves_the_ingresses_of_its_classes_and_plain_addresses_serve_all() {
    let yaml = format!(
        "{GATEWAYS}{}{}{}{}",
        of_class("a", "inner", "in"),
        of_class("b", "outer", "out"),
        of_class("c", "theirs", "x"),
        of_class("d", "nobody", "x")
    );
    let compiled = testing::compiled(&yaml);
    let answers: Vec<_> = compiled
        .tables
        .iter()
        .map(|table| (format!("{:?}", table.scope), answer_of(&table.routes, "http://foo.com/")))
        .collect();
    let gateway = |name| format!("{:?}", Scope::Gateway(ObjectKey::new("gw", name)));
    assert_eq!(
        answers,
        [
            ("Plain".to_owned(), "in:80".to_owned()),
            (gateway("inner"), "in:80".to_owned()),
            (gateway("outer"), "out:80".to_owned()),
        ]
    );
    // Two gateways with different rules for one host are a split horizon, not a conflict.
    let mut given = problems(&compiled);
    given.retain(|line| !line.contains("BackendNotFound"));
    assert_eq!(given, ["Ingress d/d UnknownClass spec.ingressClassName"]);
    let outcomes: Vec<_> = compiled
        .ingresses
        .iter()
        .map(|outcome| {
            (outcome.object.name.to_string(), outcome.class.clone(), outcome.gateway.clone())
        })
        .collect();
    let gateway = |name| Some(ObjectKey::new("gw", name));
    assert_eq!(
        outcomes,
        [
            ("a".to_owned(), Some("inner".to_owned()), gateway("inner")),
            ("b".to_owned(), Some("outer".to_owned()), gateway("outer")),
        ]
    );
}

#[test]
fn the_number_of_a_scope_is_never_another_ones_whoever_comes_and_goes() {
    let class = |name: &str| {
        format!(
            "---\nkind: IngressClass\nmetadata: {{name: {name}}}\nspec: {{controller: gatehouse.io/ingress, \
             parameters: {{kind: Service, scope: Namespace, namespace: gw, name: {name}}}}}\n"
        )
    };
    let mut last: Option<Compiled> = None;
    let mut known = BTreeMap::new();
    // Bit n: the gateway n is named.
    for present in [0b0011, 0b0010, 0b0110, 0b0000, 0b1001, 0b0001, 0b1111] {
        let named = (0..4).filter(|n| present >> n & 1 == 1);
        let yaml: String = named.map(|n| class(&format!("g{n}"))).collect();
        let compiled = compile(&objects(&yaml), &Options::default(), last.as_ref());
        assert_eq!(compiled.tables.len(), 1 + (present as u32).count_ones() as usize);
        assert_eq!(compiled.tables[0].slot, ScopeSlot::PLAIN);
        for table in &compiled.tables {
            let slot = known.entry(table.scope.clone()).or_insert(table.slot);
            assert_eq!(*slot, table.slot, "{:?} {present:b}", table.scope);
        }
        last = Some(compiled);
    }
    let slots: BTreeSet<_> = known.values().collect();
    assert_eq!(slots.len(), known.len());
}

#[test]
fn on_one_gateway_the_younger_of_two_ingresses_has_the_conflict() {
    let yaml =
        format!("{GATEWAYS}{}{}", of_class("a", "inner", "one"), of_class("b", "inner", "two"));
    let given = problems(&testing::compiled(&yaml));
    assert!(given.contains(&"Ingress d/b PathConflict spec.rules".to_owned()), "{given:?}");
}

#[test]
fn a_gateway_that_serves_everything_shares_the_plain_table() {
    let yaml = format!("{GATEWAYS}{}", of_class("a", "inner", "one"));
    let compiled = testing::compiled(&yaml);
    assert!(Arc::ptr_eq(&compiled.tables[0].routes, &compiled.tables[1].routes));
    assert_eq!(answer_of(&compiled.tables[2].routes, "http://foo.com/"), "404");
}

#[test]
fn the_oldest_tls_entry_of_a_host_names_its_certificate() {
    let entry = |name: &str, secret: &str, year: u32| {
        format!(
            "---\nkind: Ingress\nmetadata: {{name: {name}, namespace: d, creationTimestamp: '{year}-01-01T00:00:00Z'}}\n\
             spec: {{tls: [{{hosts: [foo.com, {name}.com], secretName: {secret}}}], defaultBackend: {{service: {{name: s, port: {{number: 80}}}}}}}}\n"
        )
    };
    let secret =
        |name: &str| format!("---\nkind: Secret\nmetadata: {{name: {name}, namespace: d}}\n");
    let certs = |yaml: &str| -> Vec<String> {
        let compiled = testing::compiled(yaml);
        let certs = compiled.tables[0].certs.iter();
        certs
            .map(|cert| match &cert.source {
                CertSource::Secret(key) => format!("{} {}", cert.host, key.name),
                CertSource::Inline { certificate, .. } => format!("{} {certificate}", cert.host),
            })
            .collect()
    };
    let both = entry("a", "young", 2020) + &entry("b", "old", 2010);
    let all = format!("{both}{}{}", secret("young"), secret("old"));
    assert_eq!(certs(&all), ["foo.com old", "b.com old", "a.com young"]);
    // A missing Secret means the default certificate, not that of a younger object.
    let missing = format!("{both}{}", secret("young"));
    assert_eq!(certs(&missing), ["a.com young"]);
    let given = problems(&testing::compiled(&missing));
    assert!(given.contains(&"Ingress d/b SecretNotFound spec.tls[0].secretName".to_owned()));
    let inline = "kind: Route\nmetadata: {name: r, namespace: d}\nspec: {host: r.com, to: {name: s}, tls: {certificate: CERT, key: KEY, caCertificate: CA}}";
    assert_eq!(certs(inline), ["r.com CERT\nCA"]);
    // What a Route is refused for is nobody else's, unless nobody else has anything.
    let refused = inline.replace("name: r,", "name: q,").replace("{name: s}", "{name: ''}");
    let alone = refused.replace("CERT", "REFUSED");
    let both = format!("{}---\n{inline}", alone.replace("to:", "path: /a, to:") + "\n");
    assert_eq!(certs(&both), ["r.com CERT\nCA"]);
    assert_eq!(certs(&alone), ["r.com REFUSED\nCA"]);
}

#[test]
fn what_a_missing_service_costs_is_said_of_copies_and_of_authentication() {
    let of = |name: &str, annotations: &str| {
        let own = "nginx.ingress.kubernetes.io";
        let annotations = annotations.replace("own/", &format!("{own}/"));
        of_class(name, "nginx", "there").replace("foo.com", &format!("{name}.com")).replacen(
            "metadata: {",
            &format!("metadata: {{annotations: {{{annotations}}}, "),
            1,
        )
    };
    let yaml = [
        "kind: Service\nmetadata: {name: there, namespace: d}\nspec: {ports: [{port: 80}]}\n"
            .to_owned(),
        of("a", "own/mirror-target: 'http://gone.d.svc'"),
        of("b", "own/mirror-target: 'http://there.d.svc:81', own/default-backend: there"),
        of("c", "own/auth-url: 'http://there.d.svc.cluster.local:81/'"),
        of("d", "own/auth-url: 'http://gone.o.svc/'"),
        of("e", "gatehouse.io/jwt-jwks-url: 'http://there.d.svc:81/'"),
    ];
    let mut objects = objects(&yaml.join("---\n"));
    let trust = SourceTrust { standalone: true, loopback_endpoints: true };
    objects.services.values_mut().for_each(|stored| stored.trust = trust);
    objects.ingresses.values_mut().for_each(|stored| stored.trust = trust);
    let options = Options { claim_classes: vec!["nginx".into()], ..Options::default() };
    let compiled = compile(&objects, &options, None);
    let told = |problem: &Problem| {
        (problem.object.key.name.to_string(), problem.severity, problem.message.clone())
    };
    let told: Vec<_> =
        compiled.problems.iter().filter(|it| it.field.contains('[')).map(told).collect();
    for expected in [
        ("a", Severity::Warning, "Service d/gone does not exist; no copy is sent"),
        ("b", Severity::Warning, "Service d/there has no TCP port 81; no copy is sent"),
        (
            "d",
            Severity::Warning,
            "Service o/gone is in none of the files; a name server is asked for it",
        ),
        (
            "c",
            Severity::Error,
            "Service d/there has no TCP port 81; it cannot be asked, so nobody passes (500)",
        ),
        (
            "e",
            Severity::Error,
            "Service d/there has no TCP port 81; its keys cannot be had, so nobody passes (503)",
        ),
    ] {
        let (name, severity, message) = expected;
        assert!(
            told.contains(&(name.to_owned(), severity, message.to_owned())),
            "{expected:?}: {told:#?}"
        );
    }
}

#[test]
fn references_that_lead_nowhere_are_named_and_keep_their_path() {
    let yaml = format!(
        "{}---\nkind: Service\nmetadata: {{name: there, namespace: d}}\nspec: {{ports: [{{port: 8080}}]}}\n\
         ---\nkind: Route\nmetadata: {{name: r, namespace: d}}\nspec: {{host: r.com, to: {{name: gone}}}}\n",
        of_class("a", "nginx", "there")
    );
    let options = Options { claim_classes: vec!["nginx".into()], ..Options::default() };
    let compiled = compile(&objects(&yaml), &options, None);
    assert_eq!(
        problems(&compiled),
        [
            "Ingress d/a PortNotFound spec.rules[0].http.paths[0].backend.service",
            "Route d/r BackendNotFound spec.to",
        ]
    );
    assert_eq!(answer(&compiled, "http://foo.com/"), "there:80");
    assert_eq!(answer(&compiled, "http://r.com/"), "gone:*");
    assert!(compiled.backends.slots.iter().flatten().all(|backend| backend.endpoints.is_empty()));
}

#[test]
fn route_outcomes_carry_the_messages_that_clients_know() {
    let route = |ns: &str, name: &str, year: u32, rest: &str| {
        format!(
            "---\nkind: Route\nmetadata: {{name: {name}, namespace: {ns}, creationTimestamp: '{year}-01-01T00:00:00Z'}}\nspec: {{{rest}, to: {{name: s}}}}\n"
        )
    };
    let yaml = [
        route("b", "first", 2001, "host: foo.com"),
        route("b", "second", 2002, "host: foo.com"),
        route("a", "third", 2003, "host: foo.com, path: /x"),
        route("a", "nohost", 2003, "path: /x"),
        route("a", "wild", 2003, "host: x.foo.com, wildcardPolicy: Subdomain"),
    ];
    let compiled = testing::compiled(&yaml.concat());
    let outcomes: Vec<_> = compiled
        .routes
        .iter()
        .map(|o| (&*o.object.name, &*o.host, o.admitted, o.reason, &*o.message))
        .collect();
    let claimed = "HostAlreadyClaimed";
    assert_eq!(
        outcomes,
        [
            ("nohost", "", false, "NoHostValue", "no host value was defined for the route"),
            (
                "third",
                "foo.com",
                false,
                claimed,
                "a route in another namespace holds foo.com and is older than third"
            ),
            ("wild", "x.foo.com", false, "RouteNotAdmitted", "wildcard routes are not allowed"),
            ("first", "foo.com", true, "", ""),
            (
                "second",
                "foo.com",
                false,
                claimed,
                "route first already exposes foo.com and is older"
            ),
        ]
    );
}

#[test]
fn an_object_that_makes_no_sense_changes_nothing_else() {
    let mut good = objects("");
    for n in 0..50 {
        let host = format!("h{n}.com");
        let ingress = json!({"kind": "Ingress", "metadata": {"name": format!("i{n}"), "namespace": "d"},
            "spec": {"rules": [{"host": host, "http": {"paths": [{"pathType": "Prefix", "path": "/",
            "backend": {"service": {"name": format!("s{n}"), "port": {"number": 80}}}}]}}]}});
        add(&mut good, n, ingress);
    }
    let options = Options::default();
    let before = compile(&good, &options, None);
    let mut with_bad = good.clone();
    for (at, spec) in (100..).zip([
        json!({}),
        json!({"rules": [{"host": "h1.com:80"}, {"host": "*"}, {"host": "\u{0}"}]}),
        json!({"rules": [{"host": "h2.com", "http": {"paths": [{"pathType": "Odd", "path": "\u{1}", "backend": {}}]}}]}),
        json!({"rules": [{"host": "bad.com", "http": {"paths": [{"pathType": "Exact", "path": "/".repeat(100_000), "backend": {}}]}}]}),
        json!({"tls": [{"hosts": ["h3.com:1", ""]}], "defaultBackend": {}}),
    ]) {
        let name = format!("bad{at}");
        add(&mut with_bad, at, json!({"kind": "Ingress", "metadata": {"name": name, "namespace": "d"}, "spec": spec}));
        add(&mut with_bad, at, json!({"kind": "Route", "metadata": {"name": name, "namespace": "d"}, "spec": {"host": "..", "path": "\u{0}"}}));
        add(&mut with_bad, at, json!({"kind": "EndpointSlice", "metadata": {"name": name, "namespace": "d", "labels": {"kubernetes.io/service-name": "s1"}}, "addressType": "Odd", "endpoints": [{"addresses": ["x"]}]}));
    }
    let after = compile(&with_bad, &options, Some(&before));
    for n in 0..50 {
        let url = format!("http://h{n}.com/x");
        assert_eq!(answer(&after, &url), answer(&before, &url));
    }
    let blamed = |compiled: &Compiled| {
        compiled.problems.iter().filter(|p| p.object.key.name.starts_with("bad")).count()
    };
    assert!(blamed(&after) >= 9, "{:#?}", problems(&after));
    assert_eq!(after.problems.len() - blamed(&after), before.problems.len());
}

/// Ingresses and Routes with few names, hosts and ages, so that they collide often.
fn crowd() -> impl Strategy<Value = Vec<serde_json::Value>> {
    let one = (0..3u8, 0..3u8, 0..2u8, 0..3u8, any::<bool>());
    proptest::collection::vec(one, 1..10).prop_map(|all| {
        let object = |(at, (ns, host, path, age, ingress)): (usize, (u8, u8, u8, u8, bool))| {
            let (host, path) = (format!("h{host}.com"), ["/", "/a"][usize::from(path)]);
            let metadata = json!({"name": format!("o{at}"), "namespace": format!("n{ns}"),
                "uid": format!("{:02}", 50 - at),
                "creationTimestamp": format!("200{age}-01-01T00:00:00Z")});
            if ingress {
                json!({"kind": "Ingress", "metadata": metadata, "spec": {"rules": [{"host": host,
                    "http": {"paths": [{"pathType": "Prefix", "path": path, "backend":
                    {"service": {"name": format!("s{at}"), "port": {"number": 80}}}}]}}]}})
            } else {
                json!({"kind": "Route", "metadata": metadata,
                    "spec": {"host": host, "path": path, "to": {"name": format!("s{at}")}}})
            }
        };
        all.into_iter().enumerate().map(object).collect()
    })
}

fn answers(compiled: &Compiled) -> Vec<String> {
    let urls = (0..3).flat_map(|h| ["/", "/a", "/b"].map(|p| format!("http://h{h}.com{p}")));
    urls.map(|url| answer(compiled, &url)).collect()
}

proptest! {
    #[test]
    fn who_owns_what_depends_on_the_set_of_objects_alone(
        (all, shuffled, removed) in crowd()
            .prop_flat_map(|all| (Just(all.clone()), Just(all.clone()).prop_shuffle(), 0..all.len()))
    ) {
        let options = Options::default();
        let build = |documents: &[serde_json::Value]| {
            let mut objects = objects("");
            for document in documents {
                add(&mut objects, 0, document.clone());
            }
            objects
        };
        let expected = compile(&build(&all), &options, None);
        // Arriving one by one, in another order, with an object that was there in between.
        let mut last: Option<Compiled> = None;
        for count in 1..=shuffled.len() {
            last = Some(compile(&build(&shuffled[..count]), &options, last.as_ref()));
        }
        let mut without = all.clone();
        without.remove(removed);
        let between = compile(&build(&without), &options, last.as_ref());
        let again = compile(&build(&all), &options, Some(&between));
        prop_assert_eq!(answers(&again), answers(&expected));
        prop_assert_eq!(&again.problems, &expected.problems);
        prop_assert_eq!(&again.routes, &expected.routes);
        prop_assert_eq!(&last.unwrap().problems, &expected.problems);
        let fresh = compile(&build(&without), &options, None);
        prop_assert_eq!(answers(&between), answers(&fresh));
        prop_assert_eq!(&between.problems, &fresh.problems);
    }
}

#[test]
fn every_slot_of_a_served_rule_holds_the_backend_it_names() {
    let mut last: Option<Compiled> = None;
    let options = Options::default();
    // Hosts come and go; slots are freed and used again.
    for round in 0..12u32 {
        let mut state = objects("");
        for n in (0..20).filter(|n| (n * 7 + round) % 3 != 0) {
            let route = json!({"kind": "Route", "metadata": {"name": format!("r{n}"), "namespace": "d"},
                "spec": {"host": format!("h{n}.com"), "to": {"name": format!("s{}", n + round % 2)}}});
            add(&mut state, 0, route);
        }
        let compiled = compile(&state, &options, last.as_ref());
        for (_, host) in compiled.tables[0].routes.hosts() {
            for rule in host.rules() {
                let Action::Forward(forward) = &rule.action else { panic!("{rule:?}") };
                for backend in &forward.spec.backends {
                    assert_eq!(compiled.backends.get(backend.slot).unwrap().key, backend.key);
                }
            }
        }
        assert!(compiled.backends.slots.len() <= 42, "slots are used again");
        last = Some(compiled);
    }
}

#[test]
fn a_backend_that_comes_back_does_not_take_the_slot_that_another_got_meanwhile() {
    let mut last: Option<Compiled> = None;
    for services in [&["a", "b"][..], &["b"], &["a", "b", "c"], &["c"], &["a", "c"]] {
        let mut state = objects("");
        for name in services {
            let route = json!({"kind": "Route", "metadata": {"name": name, "namespace": "d"},
                "spec": {"host": format!("{name}.com"), "to": {"name": name}}});
            add(&mut state, 0, route);
        }
        let compiled = compile(&state, &Options::default(), last.as_ref());
        let held = compiled.backends.slots.iter().flatten();
        let mut held: Vec<_> = held.map(|backend| &*backend.key.service.name).collect();
        held.sort_unstable();
        assert_eq!(held, services);
        last = Some(compiled);
    }
}

#[test]
fn a_host_pattern_finds_its_entry() {
    let compiled = testing::compiled(&of_class("a", "\"\"", "s"));
    let pattern = HostPattern::Exact("foo.com".into());
    let host = compiled.tables[0].routes.host(&pattern).unwrap();
    assert_eq!((&*host.name, host.rules().count()), ("foo.com", 1));
}
