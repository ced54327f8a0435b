use super::*;
use crate::{compile::compile, options::Options, testing};

const OBJECTS: &str = "
kind: Ingress
metadata: {name: old, namespace: d, creationTimestamp: '2001-01-01T00:00:00Z'}
spec:
  rules:
  - host: a.foo.com
    http:
      paths:
      - {pathType: Prefix, path: /api, backend: {service: {name: api, port: {number: 80}}}}
      - {pathType: Prefix, path: /, backend: {service: {name: root, port: {number: 80}}}}
      - {pathType: Exact, path: /api/exact, backend: {service: {name: exact, port: {number: 80}}}}
---
kind: Ingress
metadata: {name: young, namespace: d, creationTimestamp: '2002-01-01T00:00:00Z'}
spec:
  rules:
  - host: a.foo.com
    http: {paths: [{pathType: Prefix, path: /api, backend: {service: {name: api2, port: {number: 80}}}}]}
  - host: '*.foo.com'
    http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: wild, port: {number: 80}}}}]}
  - http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: any, port: {number: 80}}}}]}
---
kind: Route
metadata: {name: secure, namespace: d, creationTimestamp: '2003-01-01T00:00:00Z'}
spec: {host: b.bar.com, to: {name: secure}, tls: {termination: edge}}
";

/// The explanation of a `GET`.
fn explained_get(compiled: &Compiled, scheme: Scheme, host: &str, path: &str) -> Explanation {
    let (parts, ()) = http::Request::new(()).into_parts();
    let view = RequestView { scheme, host, path, parts: &parts };
    let server_name = Some(host);
    explain(compiled, &Asked { table: 0, view, encoded_slash: false, client: None, server_name })
}

/// Winner and losers as `path: reason`.
fn lines(scheme: Scheme, host: &str, path: &str) -> (Option<String>, Vec<String>) {
    let explanation = explained_get(&testing::compiled(OBJECTS), scheme, host, path);
    let line = |rule: &ExplainedRule| {
        format!("{}{} {}: {}", rule.host, rule.path, rule.object.key.name, rule.reason)
    };
    (explanation.winner.as_ref().map(line), explanation.losers.iter().map(line).collect())
}

#[test]
fn the_winner_and_each_loser_say_why() {
    let (winner, losers) = lines(Scheme::Http, "a.foo.com", "/api/x");
    assert_eq!(
        winner.as_deref(),
        Some("a.foo.com/api old: the host is named, and it is the longest prefix of the path")
    );
    assert_eq!(
        losers,
        [
            "a.foo.com/api/exact old: the path is not exactly this",
            "a.foo.com/ old: matches, but Prefix /api of Ingress d/old is more specific",
            "a.foo.com/api young: Ingress d/old has this host and path and is older",
            "*.foo.com/ young: host a.foo.com is more specific and answers",
            "*/ young: host a.foo.com is more specific and answers",
            "b.bar.com secure: host does not match",
        ]
    );
}

#[test]
fn an_older_rule_that_a_younger_protection_closes_does_not_hear_that_the_other_is_older() {
    let ingress = |name: &str, annotations: &str| {
        format!(
            "kind: Ingress
metadata: {{name: {name}, namespace: d, annotations: {{{annotations}}}}}
spec:
  rules:
    - host: closed.test
      http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: s, port: {{number: 80}}}}}}}}]}}
---
"
        )
    };
    let limited = "nginx.ingress.kubernetes.io/limit-rps: x";
    let all = [OBJECTS, "---\n", &ingress("a", ""), &ingress("b", limited)].concat();
    let explanation = explained_get(&testing::compiled(&all), Scheme::Http, "closed.test", "/");
    let a = explanation.losers.iter().find(|rule| rule.object.key.name.as_ref() == "a").unwrap();
    assert_eq!(
        a.reason,
        "Ingress d/b has this host and path, and a protection that is not in force"
    );
}

#[test]
fn a_wildcard_says_that_it_covers_one_label() {
    let (winner, losers) = lines(Scheme::Http, "x.a.foo.com", "/");
    assert_eq!(
        winner.as_deref(),
        Some("*/ young: the host has no rule of its own, and it is the longest prefix of the path")
    );
    assert!(
        losers.contains(
            &"*.foo.com/ young: host does not match: *.foo.com covers exactly one label".to_owned()
        ),
        "{losers:?}"
    );
}

#[test]
fn a_rule_of_the_other_scheme_says_so() {
    let (_, losers) = lines(Scheme::Http, "b.bar.com", "/");
    assert!(
        losers.contains(&"b.bar.com secure: not served in clear text".to_owned()),
        "{losers:?}"
    );
    let (winner, _) = lines(Scheme::Https, "b.bar.com", "/");
    assert!(winner.unwrap().starts_with("b.bar.com secure: the host is named"));
}

#[test]
fn every_rule_is_listed_once_and_the_winner_is_what_the_table_answers() {
    let compiled = testing::compiled(OBJECTS);
    for (host, path) in [("a.foo.com", "/"), ("z.foo.com", "/q"), ("q", "/"), ("b.bar.com", "/")] {
        let explanation = explained_get(&compiled, Scheme::Http, host, path);
        let winner = explanation.winner.as_ref().map(|winner| winner.object.clone());
        let found = testing::lookup(&compiled.tables[0].routes, Scheme::Http, host, path);
        assert_eq!(winner, found.map(|found| found.rule.object.clone()));
        assert_eq!(explanation.losers.len() + usize::from(explanation.winner.is_some()), 7);
    }
}

#[test]
fn it_prints_as_json() {
    let explanation = explained_get(&testing::compiled(OBJECTS), Scheme::Http, "q", "/");
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["winner"]["matchKind"], "Prefix");
    assert_eq!(json["winner"]["object"], "Ingress d/young");
    assert_eq!(json["winner"]["action"], "forward to d/any:80");
}

/// The failure of a request: its status, or 0.
fn status(compiled: &Compiled, table: usize, url: &str, client: Option<&str>) -> u16 {
    let (host, path) = url.split_once('/').unwrap();
    let raw = format!("/{path}");
    let path = crate::path::canonical(&raw).unwrap();
    let (parts, ()) = http::Request::new(()).into_parts();
    let view = RequestView { scheme: Scheme::Http, host, path: &path.matched, parts: &parts };
    let client = client.map(|client| client.parse().unwrap());
    let server_name = None;
    let asked = Asked { table, view, encoded_slash: path.encoded_slash, client, server_name };
    explain(compiled, &asked).error.map_or(0, |error| error.status)
}

const IN_TROUBLE: &str = "
kind: IngressClass
metadata: {name: theirs}
spec: {controller: example.com/other}
---
kind: IngressClass
metadata: {name: ours, annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}}
spec: {controller: gatehouse.io/ingress}
---
kind: IngressClass
metadata: {name: far}
spec:
  controller: gatehouse.io/ingress
  parameters: {kind: Service, scope: Namespace, namespace: d, name: gateway}
---
kind: Service
metadata: {name: web, namespace: d}
spec: {ports: [{port: 80}]}
---
kind: EndpointSlice
metadata: {name: web, namespace: d, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 9001}]
endpoints: [{addresses: [10.0.0.1]}]
---
kind: Ingress
metadata: {name: web, namespace: d, annotations: {nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8}}
spec:
  rules:
  - host: a.test
    http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: web, port: {number: 80}}}}, {pathType: Prefix, path: /none, backend: {service: {name: none, port: {number: 80}}}}]}
---
kind: Ingress
metadata: {name: closed, namespace: d, annotations: {nginx.ingress.kubernetes.io/auth-snippet: 'deny all;'}}
spec:
  rules:
  - host: a.test
    http: {paths: [{pathType: Prefix, path: /closed, backend: {service: {name: web, port: {number: 80}}}}]}
---
kind: Ingress
metadata: {name: theirs, namespace: d}
spec:
  ingressClassName: theirs
  rules: [{host: a.test, http: {paths: [{pathType: Prefix, path: /x, backend: {service: {name: web, port: {number: 80}}}}]}}]
---
kind: Ingress
metadata: {name: lost, namespace: d}
spec:
  ingressClassName: nobodys
  rules: [{host: '*.test', http: {paths: [{pathType: Prefix, path: /x, backend: {service: {name: web, port: {number: 80}}}}]}}]
---
kind: Ingress
metadata: {name: far, namespace: d}
spec:
  ingressClassName: far
  rules: [{host: far.test, http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: web, port: {number: 80}}}}]}}]
---
kind: Route
metadata: {name: through, namespace: d}
spec: {host: r.test, to: {name: web}, tls: {termination: nonsense}}
";

#[test]
fn what_goes_wrong_with_the_winner_is_said() {
    let compiled = testing::compiled(IN_TROUBLE);
    for (url, client, expected) in [
        ("a.test/", None, 0),
        ("a.test/", Some("10.1.2.3"), 0),
        ("a.test/", Some("192.0.2.1"), 403),
        ("a.test/x%2Fy", None, 0),
        ("a.test/none%2Fy", None, 400),
        ("a.test/none", None, 503),
        ("a.test/closed", None, 503),
        ("b.test/", None, 404),
    ] {
        assert_eq!(status(&compiled, 0, url, client), expected, "{url} {client:?}");
    }
}

#[test]
fn each_table_answers_for_itself() {
    let compiled = testing::compiled(IN_TROUBLE);
    assert_eq!(compiled.tables.len(), 2);
    assert_eq!(
        (status(&compiled, 0, "far.test/", None), status(&compiled, 1, "far.test/", None)),
        (0, 0)
    );
    assert_eq!(
        (status(&compiled, 0, "a.test/", None), status(&compiled, 1, "a.test/", None)),
        (0, 404)
    );
}

#[test]
fn objects_that_claim_the_host_without_effect_say_why() {
    let objects = testing::objects(IN_TROUBLE);
    let compiled = testing::compiled(IN_TROUBLE);
    let told = |table: usize, host: &str| -> Vec<String> {
        let refused = refused(&compiled, &objects, table, host);
        let line = |one: &Refused| format!("{}: {}", one.object.key.name, one.reasons.join(" + "));
        refused.iter().map(line).collect()
    };
    let lines = told(0, "a.test");
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[3].contains("web: spec.rules[0].http.paths[1]"), "{lines:#?}");
    assert!(lines[0].starts_with("closed: ") && lines[0].contains("(503)"), "{lines:#?}");
    assert!(lines[1].contains("IngressClass nobodys does not exist"), "{lines:#?}");
    assert_eq!(lines[2], "theirs: its class theirs is not ours");
    let lines = told(1, "a.test");
    assert!(lines.contains(&"web: it is served on plain addresses only".to_owned()), "{lines:#?}");
    assert!(told(0, "far.test").iter().all(|line| !line.starts_with("far: ")));
    let lines = told(0, "r.test");
    assert!(lines.iter().any(|line| line.contains("nonsense")), "{lines:#?}");
    assert_eq!(told(0, "else.where"), Vec::<String>::new());
}

#[test]
fn what_stands_in_for_a_service_without_endpoints_is_said_to_answer_everywhere() {
    let manifests = |annotations: &str, fallback: &str| {
        format!(
            "
kind: Service
metadata: {{name: empty, namespace: d}}
spec: {{ports: [{{port: 80}}]}}
---
kind: Service
metadata: {{name: fallback, namespace: d}}
spec: {{ports: [{{port: 80}}]}}
---
kind: EndpointSlice
metadata: {{name: f-1, namespace: d, labels: {{kubernetes.io/service-name: {fallback}}}}}
addressType: IPv4
endpoints: [{{addresses: [10.0.0.9]}}]
ports: [{{port: 80}}]
---
kind: Ingress
metadata: {{name: web, namespace: d, annotations: {{{annotations}}}}}
spec:
  rules: [{{host: a.test, http: {{paths: [{{pathType: Prefix, path: /, backend: {{service: {{name: empty, port: {{number: 80}}}}}}}}]}}}}]
"
        )
    };
    let stand_in = "nginx.ingress.kubernetes.io/default-backend: fallback";
    let with_errors = format!("{stand_in}, nginx.ingress.kubernetes.io/custom-http-errors: '404'");
    for (annotations, fallback, expected) in [
        (stand_in, "fallback", 0),
        (&with_errors, "fallback", 0),
        (stand_in, "nobody", 503),
        ("", "fallback", 503),
    ] {
        let compiled = testing::compiled(&manifests(annotations, fallback));
        assert_eq!(status(&compiled, 0, "a.test/", None), expected, "{annotations} {fallback}");
        let explanation = explained_get(&compiled, Scheme::Http, "a.test", "/");
        let winner = explanation.winner.unwrap();
        let answers = winner.reason.contains("fallback");
        assert_eq!(answers, expected == 0, "{}", winner.reason);
        // Nor does the problem of its backend say anything else.
        let problems: Vec<_> =
            compiled.problems.iter().filter(|it| it.message.contains("d/empty")).collect();
        for problem in problems {
            assert_eq!(problem.message.contains("requests get 503"), expected == 503, "{problem}");
            assert_eq!(problem.is_error(), expected == 503, "{problem}");
        }
    }
}

/// A host that asks for client certificates, with more annotations.
fn shown(more: &str) -> String {
    format!(
        "
kind: Service
metadata: {{name: web, namespace: d}}
spec: {{ports: [{{port: 80}}]}}
---
kind: EndpointSlice
metadata: {{name: web, namespace: d, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: [{{addresses: [10.0.0.9]}}]
ports: [{{port: 80}}]
---
kind: Secret
metadata: {{name: ca, namespace: d}}
stringData: {{ca.crt: x}}
---
kind: Ingress
metadata: {{name: web, namespace: d, annotations: {{nginx.ingress.kubernetes.io/auth-tls-secret: d/ca{more}}}}}
spec:
  rules: [{{host: a.test, http: {{paths: [{{pathType: Prefix, path: /, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}}}]
"
    )
}

#[test]
fn what_clients_have_to_show_is_said_and_in_clear_text_nobody_can() {
    let nginx =
        |name: &str, value: &str| format!(", nginx.ingress.kubernetes.io/{name}: '{value}'");
    let optional = nginx("auth-tls-verify-client", "optional");
    let page = nginx("auth-tls-error-page", "https://b.test/");
    for (more, said, in_clear_text, without) in [
        (String::new(), "; requires a client certificate", 400, "400"),
        (optional, "; requires that a client certificate", 0, "it passes"),
        (nginx("auth-tls-verify-client", "optional_no_ca"), "", 0, "it passes"),
        (page, "; requires a client certificate", 0, "302 to https://b.test/"),
    ] {
        let compiled = testing::compiled(&shown(&more));
        let explanation = explained_get(&compiled, Scheme::Https, "a.test", "/");
        let action = explanation.winner.unwrap().action;
        assert!(action.contains(said), "{more}: {action}");
        assert_eq!(action.contains("certificate"), !said.is_empty(), "{more}: {action}");
        assert_eq!(explanation.error, None, "{more}");
        let asked = explanation.client_certificate.unwrap();
        assert_eq!(asked.without, without, "{more}");
        assert_eq!(asked.asked_by.unwrap().to_string(), "Ingress d/web");
        assert_eq!(status(&compiled, 0, "a.test/", None), in_clear_text, "{more}");
        let clear = explained_get(&compiled, Scheme::Http, "a.test", "/");
        assert_eq!(clear.client_certificate, None, "there is no handshake: {more}");
    }
    let named = nginx("auth-tls-match-cn", "CN=me") + &nginx("auth-tls-verify-depth", "3");
    let asked = explained_get(&testing::compiled(&shown(&named)), Scheme::Https, "a.test", "/");
    let asked = asked.client_certificate.unwrap();
    assert_eq!((asked.subjects.as_deref(), asked.depth), (Some("CN=me"), 3));
}

#[test]
fn a_host_that_is_passed_through_is_misdirected_where_tls_ends_here() {
    let mut options = Options::default();
    options.route_admission.wildcards = true;
    let route = |name: &str, host: &str, more: &str, termination: &str| {
        format!(
            "---\nkind: Route\nmetadata: {{name: {name}, namespace: d}}\nspec: {{host: {host}{more}, to: {{name: s}}, \
             tls: {{termination: {termination}}}}}\n"
        )
    };
    let yaml = route("w", "any.a.test", ", wildcardPolicy: Subdomain", "edge")
        + &route("b", "b.a.test", "", "passthrough");
    let compiled = compile(&testing::objects(&yaml), &options, None);
    let (parts, ()) = http::Request::new(()).into_parts();
    for (scheme, host, server_name, expected) in [
        (Scheme::Https, "b.a.test", Some("b.a.test"), None),
        (Scheme::Https, "b.a.test", Some("c.a.test"), Some(421)),
        (Scheme::Https, "b.a.test", None, Some(421)),
        (Scheme::Https, "c.a.test", Some("c.a.test"), Some(503)),
        (Scheme::Http, "b.a.test", None, Some(503)),
    ] {
        let view = RequestView { scheme, host, path: "/", parts: &parts };
        let asked = Asked { table: 0, view, encoded_slash: false, client: None, server_name };
        let error = explain(&compiled, &asked).error.map(|error| error.status);
        assert_eq!(error, expected, "{scheme:?} {host} {server_name:?}");
    }
}

#[test]
fn a_wildcard_that_is_refused_is_named_to_whoever_asks_for_a_host_below_it() {
    let yaml = "kind: Route\nmetadata: {name: w, namespace: d}\nspec: {host: any.a.test, wildcardPolicy: Subdomain, \
                to: {name: s}}\n---\nkind: Route\nmetadata: {name: u, namespace: d}\nspec: {host: UPPER.test, to: {name: s}}\n";
    let objects = testing::objects(yaml);
    let compiled = compile(&objects, &Options::default(), None);
    for (host, expected) in [
        ("x.a.test", &["Route d/w"][..]),
        ("upper.test", &["Route d/u"]),
        ("x.b.a.test", &[]),
        ("b.test", &[]),
    ] {
        let refused = refused(&compiled, &objects, 0, host);
        let named: Vec<_> = refused.iter().map(|one| one.object.to_string()).collect();
        assert_eq!(named, expected, "{host}");
    }
}

#[test]
fn a_request_whose_handshake_was_asked_for_nothing_is_misdirected() {
    let compiled = testing::compiled(&shown(""));
    let (parts, ()) = http::Request::new(()).into_parts();
    let view = RequestView { scheme: Scheme::Https, host: "a.test", path: "/", parts: &parts };
    for (server_name, expected) in
        [(Some("a.test"), None), (Some("b.test"), Some(421)), (None, Some(421))]
    {
        let asked = Asked { table: 0, view, encoded_slash: false, client: None, server_name };
        let error = explain(&compiled, &asked).error.map(|error| error.status);
        assert_eq!(error, expected, "{server_name:?}");
    }
}

#[test]
fn a_condition_of_a_snippet_answers_who_meets_it() {
    let objects = "
kind: Service
metadata: {name: web, namespace: d}
spec: {ports: [{port: 80}]}
---
kind: EndpointSlice
metadata: {name: web, namespace: d, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.9]}]
ports: [{port: 80}]
---
kind: Ingress
metadata:
  name: web
  namespace: d
  annotations:
    nginx.ingress.kubernetes.io/configuration-snippet: |
      if ($remote_addr = 192.0.2.1) { return 403; }
      if ($arg_key != 1) { return 404; }
      if ($http_x_forwarded_proto = http) { return 301 https://$host$request_uri; }
spec:
  rules: [{host: a.test, http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: web, port: {number: 80}}}}]}}]
";
    let options = Options { understand_snippets: true, ..Options::default() };
    let compiled = compile(&testing::objects(objects), &options, None);
    for (uri, proto, client, status, action) in [
        ("/", "", None, Some(404), "forward to d/web:80"),
        ("/?key=1", "", None, None, "forward to d/web:80"),
        ("/?key=1", "", Some("192.0.2.1"), Some(403), "forward to d/web:80"),
        ("/?key=1", "", Some("192.0.2.2"), None, "forward to d/web:80"),
        ("/?key=1", "http", None, None, "redirect to https://$host$request_uri (301)"),
    ] {
        let request = http::Request::get(uri).header("x-forwarded-proto", proto);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let (scheme, host, path) = (Scheme::Http, "a.test", "/");
        let view = RequestView { scheme, host, path, parts: &parts };
        let client = client.map(|client| client.parse().unwrap());
        let asked = Asked { table: 0, view, encoded_slash: false, client, server_name: None };
        let found = explain(&compiled, &asked);
        assert_eq!(found.error.map(|error| error.status), status, "{uri} {client:?}");
        let winner = found.winner.unwrap();
        assert!(winner.action.starts_with(action), "{uri} {client:?}: {}", winner.action);
    }
}
