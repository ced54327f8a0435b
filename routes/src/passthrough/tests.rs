use crate::{
    compile::Compiled,
    model::BackendProtocol,
    testing::{answer, compiled, problems},
    transport::Alpn,
};

fn route(name: &str, created: u32, host: &str, more: &str) -> String {
    format!(
        "kind: Route\nmetadata: {{name: {name}, namespace: d, creationTimestamp: '2026-01-0{created}T00:00:00Z'}}\n\
         spec: {{host: {host}, to: {{name: {name}}}{more}}}\n---\n"
    )
}

fn ingress(name: &str, created: u32, host: &str, annotations: &str, tls: &str) -> String {
    format!(
        "kind: Ingress\nmetadata: {{name: {name}, namespace: d, creationTimestamp: '2026-01-0{created}T00:00:00Z', \
         annotations: {{kubernetes.io/ingress.class: c, {annotations}}}}}\n\
         spec: {{tls: [{tls}], rules: [{{host: '{host}', http: {{paths: [\
         {{path: /, pathType: Prefix, backend: {{service: {{name: {name}, port: {{number: 443}}}}}}}}]}}}}]}}\n---\n\
         kind: IngressClass\nmetadata: {{name: c}}\nspec: {{controller: gatehouse.io/ingress}}\n---\n"
    )
}

const PASS: &str = ", tls: {termination: passthrough}";
const PASS_AND_REDIRECT: &str =
    ", tls: {termination: Passthrough, insecureEdgeTerminationPolicy: Redirect}";
const EDGE: &str = ", tls: {termination: edge}";
const SSL_PASSTHROUGH: &str = "nginx.ingress.kubernetes.io/ssl-passthrough: 'true'";

/// The Service that connections for a name are passed on to, `-`: nobody; `terminated`.
fn passed(compiled: &Compiled, name: &str) -> String {
    let table = &compiled.tables[0];
    let Some(found) = table.passthrough.find(name, &table.routes) else {
        return "terminated".into();
    };
    let backend = found.forward.as_ref().and_then(|forward| forward.spec.main().first());
    backend.map_or_else(|| "-".into(), |backend| backend.key.to_string())
}

fn unreferenced(compiled: &Compiled) -> Vec<String> {
    let missing = |problem: &String| problem.contains("BackendNotFound");
    problems(compiled).into_iter().filter(|problem| !missing(problem)).collect()
}

#[test]
fn a_route_is_passed_through_and_leaves_clear_text_to_others() {
    let all = [
        route("deep", 1, "a.test", PASS),
        route("plain", 2, "a.test", ", path: /plain"),
        route("root", 3, "a.test", ""),
        route("told", 1, "b.test", PASS_AND_REDIRECT),
    ];
    let compiled = compiled(&all.concat());
    assert_eq!(passed(&compiled, "a.test"), "d/deep:*");
    assert_eq!(passed(&compiled, "b.test"), "d/told:*");
    assert_eq!(passed(&compiled, "c.test"), "terminated");
    assert_eq!(answer(&compiled, "http://a.test/plain"), "plain:*");
    assert_eq!(answer(&compiled, "http://a.test/"), "root:*");
    assert_eq!(
        answer(&compiled, "https://a.test/plain"),
        "503",
        "nothing of it over TLS that ends here"
    );
    assert_eq!(answer(&compiled, "http://b.test/x"), "redirect 302");
    assert_eq!(answer(&compiled, "https://b.test/x"), "503");
    assert_eq!(unreferenced(&compiled), Vec::<String>::new());
}

#[test]
fn of_two_routes_the_older_one_says_where_tls_ends() {
    for (older, younger, pass) in [(PASS, EDGE, "d/a:*"), (EDGE, PASS, "terminated")] {
        let all = [route("a", 1, "a.test", older), route("b", 2, "a.test", younger)];
        let both = compiled(&all.concat());
        assert_eq!(passed(&both, "a.test"), pass);
        assert_eq!(unreferenced(&both), ["Route d/b HostAlreadyClaimed spec.host"]);
        // The other way round in the text makes no difference.
        let turned = compiled(&[all[1].clone(), all[0].clone()].concat());
        assert_eq!((passed(&turned, "a.test"), problems(&turned)), (pass.into(), problems(&both)));
        // The one that waits takes the place of the one that goes.
        let alone = compiled(&all[1]);
        assert_eq!(passed(&alone, "a.test") == "terminated", younger == EDGE);
    }
    let redirects = [route("a", 1, "a.test", PASS_AND_REDIRECT), route("b", 2, "a.test", "")];
    let redirects = compiled(&redirects.concat());
    assert_eq!(answer(&redirects, "http://a.test/"), "redirect 302");
    assert!(!redirects.routes[1].admitted, "clear text of the host is spoken for");
    // The other way round only the redirect gives way: TLS of the host is passed on.
    let served = [route("a", 1, "a.test", ""), route("b", 2, "a.test", PASS_AND_REDIRECT)];
    let served = compiled(&served.concat());
    assert_eq!(passed(&served, "a.test"), "d/b:*");
    assert_eq!(answer(&served, "http://a.test/"), "a:*");
    assert!(served.routes.iter().all(|route| route.admitted), "{:?}", served.routes);
    assert_eq!(unreferenced(&served), ["Route d/b PathConflict spec.path"]);
}

#[test]
fn the_time_for_a_silent_backend_bounds_what_is_passed_on_unless_there_is_one_for_tunnels() {
    const TIMEOUT: &str = "haproxy.router.openshift.io/timeout";
    let of_route = |annotations: &str| {
        let text = route("a", 1, "a.test", PASS);
        text.replacen("namespace: d", &format!("namespace: d, annotations: {{{annotations}}}"), 1)
    };
    let tunnel = |text: &str| {
        let compiled = compiled(text);
        let table = &compiled.tables[0];
        let found = table.passthrough.find("a.test", &table.routes).unwrap();
        let policy = &found.forward.as_ref().unwrap().spec.policy;
        policy.timeouts.and_then(|timeouts| timeouts.tunnel).map(|time| time.as_secs())
    };
    let both = format!("{TIMEOUT}: 5s, {TIMEOUT}-tunnel: 2h");
    assert_eq!(tunnel(&of_route(&format!("{TIMEOUT}: 5s"))), Some(5));
    assert_eq!(tunnel(&of_route(&both)), Some(7200));
    assert_eq!(tunnel(&of_route("")), None);
    let through = format!("route.openshift.io/termination: passthrough, {TIMEOUT}: 5s");
    assert_eq!(tunnel(&ingress("a", 1, "a.test", &through, "")), Some(5));
}

#[test]
fn what_is_said_of_requests_is_named_where_nobody_sees_them() {
    let told = |annotation: &str| {
        let annotations =
            format!("namespace: d, annotations: {{haproxy.router.openshift.io/{annotation}}}");
        let compiled =
            compiled(&route("a", 1, "a.test", PASS).replacen("namespace: d", &annotations, 1));
        assert_eq!(passed(&compiled, "a.test"), "d/a:*", "{annotation}");
        unreferenced(&compiled)
    };
    for annotation in [
        "hsts_header: max-age=1",
        "rewrite-target: /x",
        "set-forwarded-headers: append",
        "h1-adjust-case: 'true'",
    ] {
        let expected = ["Route d/a AnnotationIgnored metadata.annotations"];
        assert_eq!(told(annotation), expected, "{annotation}");
    }
    for annotation in ["ip_allowlist: 10.0.0.0/8", "timeout: 5s", "balance: leastconn"] {
        assert_eq!(told(annotation), Vec::<String>::new(), "{annotation}");
    }
}

#[test]
fn what_counts_connections_is_in_force_where_tls_is_passed_on_and_what_counts_requests_closes() {
    const LIMIT: &str = "haproxy.router.openshift.io/rate-limit-connections";
    for kind in ["route", "ingress"] {
        let limited = |name: &str| {
            let limits = format!("{LIMIT}: 'true', {LIMIT}.{name}: '3'");
            if kind == "route" {
                let text = route("a", 1, "a.test", PASS);
                let limits = format!("namespace: d, annotations: {{{limits}}}");
                return compiled(&text.replacen("namespace: d", &limits, 1));
            }
            let through = format!("route.openshift.io/termination: passthrough, {limits}");
            compiled(&ingress("a", 1, "a.test", &through, ""))
        };
        let limits = |name: &str| {
            let compiled = limited(name);
            let table = &compiled.tables[0];
            let limits =
                table.passthrough.find("a.test", &table.routes).map(|it| it.limits.clone());
            let limits = limits.unwrap_or_default();
            (limits.rate.map(|it| it.burst + 1), limits.at_once.map(|it| it.limit))
        };
        assert_eq!(limits("rate-tcp"), (Some(3), None), "{kind}");
        assert_eq!(limits("concurrent-tcp"), (None, Some(3)), "{kind}");
        let requests = limited("rate-http");
        assert!(["terminated", "-"].contains(&&*passed(&requests, "a.test")), "{kind}");
        assert!(!unreferenced(&requests).is_empty(), "{kind}");
    }
}

#[test]
fn an_ingress_may_have_the_termination_of_a_route() {
    let annotation = |value: &str| format!("route.openshift.io/termination: {value}");
    let through = compiled(&ingress("deep", 1, "a.test", &annotation("passthrough"), ""));
    assert_eq!(passed(&through, "a.test"), "d/deep:443");
    let table = &through.tables[0];
    assert!(table.passthrough.find("a.test", &table.routes).unwrap().by_client);
    assert_eq!(answer(&through, "http://a.test/"), "redirect 302");

    let again = ingress("again", 1, "a.test", &annotation("reencrypt"), "{hosts: [a.test]}");
    let again = compiled(&again);
    assert_eq!(passed(&again, "a.test"), "terminated");
    assert!(answer(&again, "http://a.test/").starts_with("redirect"));
    assert_eq!(answer(&again, "https://a.test/"), "again:443");
    let spoken = again.backends.slots.iter().flatten().map(|backend| &backend.key.protocol);
    assert!(spoken.clone().all(|it| matches!(it, BackendProtocol::Tls(Alpn::Either, _))));
    let unverified =
        "Ingress d/again BackendNotVerified metadata.annotations[route.openshift.io/termination]";
    assert!(unreferenced(&again).iter().any(|problem| problem == unverified));

    let unknown = compiled(&ingress("odd", 1, "a.test", &annotation("Edge"), ""));
    assert_eq!(answer(&unknown, "http://a.test/"), "503 ProtectionNotSupported");
}

#[test]
fn an_ingress_passes_its_hosts_through_to_the_backend_of_the_root() {
    let all = [
        ingress("deep", 1, "a.test", SSL_PASSTHROUGH, ""),
        ingress("wild", 2, "*.w.test", SSL_PASSTHROUGH, ""),
        ingress("own", 3, "own.w.test", "", "{hosts: [own.w.test]}"),
    ];
    let compiled = compiled(&all.concat());
    assert_eq!(passed(&compiled, "a.test"), "d/deep:443");
    assert_eq!(passed(&compiled, "x.w.test"), "d/wild:443");
    assert_eq!(passed(&compiled, "x.y.w.test"), "terminated");
    assert_eq!(
        passed(&compiled, "own.w.test"),
        "terminated",
        "a host of its own is not part of the wildcard"
    );
    assert_eq!(answer(&compiled, "http://a.test/"), "redirect 308");
    assert_eq!(answer(&compiled, "https://a.test/"), "404");
    assert_eq!(answer(&compiled, "https://own.w.test/"), "own:443");
    assert_eq!(unreferenced(&compiled), Vec::<String>::new());
}

#[test]
fn an_ingress_and_a_route_of_one_host_are_told_who_has_its_tls() {
    let all = [
        ingress("edge", 1, "a.test", "", "{hosts: [a.test], secretName: s}"),
        route("deep", 2, "a.test", PASS),
    ];
    let older_edge = compiled(&all.concat());
    assert_eq!(passed(&older_edge, "a.test"), "terminated");
    assert!(
        problems(&older_edge)
            .contains(&"Route d/deep PassthroughConflict spec.tls.termination".into())
    );
    let all = [
        ingress("edge", 2, "a.test", "", "{hosts: [a.test], secretName: s}"),
        route("deep", 1, "a.test", PASS),
    ];
    let older_pass = compiled(&all.concat());
    assert_eq!(passed(&older_pass, "a.test"), "d/deep:*");
    assert!(problems(&older_pass).contains(&"Ingress d/edge PassthroughConflict spec.tls".into()));
}

#[test]
fn a_route_that_is_refused_does_not_say_where_the_tls_of_its_host_ends() {
    let edge = |more: &str| {
        route("edge", 1, "a.test", &format!(", path: /edge, tls: {{termination: edge{more}}}"))
    };
    let through = ingress("deep", 2, "a.test", SSL_PASSTHROUGH, "");
    let refused = compiled(&[edge(", certificate: x"), through.clone()].concat());
    assert_eq!(passed(&refused, "a.test"), "d/deep:443");
    let served = compiled(&[edge(""), through].concat());
    assert_eq!(passed(&served, "a.test"), "terminated");
}

#[test]
fn what_cannot_be_protected_or_makes_no_sense_is_passed_to_nobody() {
    let whitelist = "nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8";
    let limited = ingress("a", 1, "a.test", &format!("{SSL_PASSTHROUGH}, {whitelist}"), "");
    let limited = compiled(&limited);
    let found = limited.tables[0].passthrough.find("a.test", &limited.tables[0].routes).unwrap();
    let access = found.access.as_ref().unwrap();
    assert!(
        access.admit("10.1.1.1".parse().unwrap()) && !access.admit("192.0.2.1".parse().unwrap())
    );

    for more in [
        ", path: /x, tls: {termination: passthrough}",
        ", tls: {termination: passthrough, certificate: x}",
        ", tls: {termination: passthrough, insecureEdgeTerminationPolicy: Allow}",
    ] {
        let compiled = compiled(&route("a", 1, "a.test", more));
        assert_eq!(passed(&compiled, "a.test"), "terminated", "{more}");
        assert!(problems(&compiled)[0].contains("ExtendedValidationFailed spec."), "{more}");
    }
    let auth = "nginx.ingress.kubernetes.io/auth-tls-secret: d/x";
    let closed = compiled(&ingress("a", 1, "a.test", &format!("{SSL_PASSTHROUGH}, {auth}"), ""));
    assert!(matches!(&*passed(&closed, "a.test"), "-" | "terminated"));
}

#[test]
fn connections_of_a_client_go_to_one_endpoint_unless_a_route_balances_otherwise_or_has_several_services()
 {
    let by_client = |balance: &str, more: &str| {
        let annotation =
            format!("annotations: {{haproxy.router.openshift.io/balance: '{balance}'}}");
        let route = route("deep", 1, "a.test", &format!("{PASS}{more}"));
        let compiled =
            compiled(&route.replace("namespace: d", &format!("namespace: d, {annotation}")));
        let table = &compiled.tables[0];
        table.passthrough.find("a.test", &table.routes).unwrap().by_client
    };
    let two = ", alternateBackends: [{name: more, weight: 1}]";
    let spare = ", alternateBackends: [{name: more, weight: 0}]";
    for (balance, more, expected) in [
        ("", "", true),
        ("nonsense", "", true),
        ("source", "", true),
        ("roundrobin", "", false),
        ("leastconn", "", false),
        ("random", "", false),
        ("", two, false),
        ("", spare, true),
        ("source", two, true),
    ] {
        assert_eq!(by_client(balance, more), expected, "{balance:?} {more:?}");
    }
    let annotations = "route.openshift.io/termination: passthrough, haproxy.router.openshift.io/balance: roundrobin";
    let compiled = compiled(&ingress("deep", 1, "a.test", annotations, ""));
    let table = &compiled.tables[0];
    assert!(!table.passthrough.find("a.test", &table.routes).unwrap().by_client);
}
