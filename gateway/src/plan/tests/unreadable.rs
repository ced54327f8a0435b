//! What cannot be read at the start, beside an object whose `/` is open: what was protected stays closed.

use super::*;

/// An Ingress of `/admin` with more lines under its annotations and at its end.
fn guarded(annotations: &str, rest: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: guarded\n  annotations:\n    \
         nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8\n{annotations}spec:\n  rules:\n  \
         - host: example.com\n    http:\n      paths:\n      - path: /admin\n        pathType: Prefix\n        \
         backend: {{service: {{name: b, port: {{number: 80}}}}}}\n{rest}"
    )
}

/// Of which the host that is open cannot be told apart.
const CUT: [&str; 3] = ["\tx: y", "path: [/admin]", "- host: \"a"];

fn explained(manifests: &str, path: &str) -> String {
    let (result, out) = command(manifests, &format!("explain @ http://example.com{path}"));
    result.unwrap_or_else(|error| panic!("{error}\n{manifests}"));
    out
}

fn annotation(value: &str) -> String {
    format!("    nginx.ingress.kubernetes.io/limit-rps: {value}\n")
}

#[test]
fn an_ingress_that_cannot_be_read_in_whole_closes_its_hosts_and_paths() {
    let rule = "  - host: other.example\n    http:\n      paths:\n      ";
    let json = |text: &str| {
        format!("{{\"apiVersion\": \"networking.k8s.io/v1\", \"kind\": \"Ingress\", {text}}}\n")
    };
    let list = |item: &str| {
        let item = item.trim_end().replace('\n', "\n  ");
        format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n")
    };
    let cases = [
        guarded(&annotation("5"), ""),
        guarded(&annotation("true"), ""),
        guarded(&annotation("yes"), ""),
        guarded(&annotation("1.5"), ""),
        guarded(&annotation("[a]"), ""),
        guarded(&annotation("{a: b}"), ""),
        guarded(&(annotation("\"5\"") + &annotation("\"5\"")), ""),
        guarded("", "  ingressClassName: [a]\n"),
        guarded("", "  tls: nothing\n"),
        guarded("", "spec: {}\n"),
        guarded("", "spec:\n  rules: []\n"),
        guarded("", &format!("{rule}- path: [/\n")),
        guarded("", &format!("{rule}- path: \"/x\n")),
        guarded("", &format!("{rule}- path: /x\n        backend: {{service: {{na")),
        guarded("", "  - host\n"),
        guarded("", "\tx: y\n"),
        guarded("", "").replace("name: guarded", "name: Guarded_"),
        guarded("", "").replace("  name: guarded\n", ""),
        guarded("", "").replace("- path: /admin", "- path: [/admin]"),
        guarded("", "").replace("80}", "eighty}"),
        guarded("", "").replace("apiVersion: networking.k8s.io/v1\n", ""),
        guarded("", "").replace("- host:", "  host:"),
        json(
            "\"metadata\": {\"name\": \"guarded\", \"annotations\": {\"x\": 5}}, \"spec\": {\"rules\": [{\"host\": \
              \"example.com\", \"http\": {\"paths\": [{\"path\": \"/admin\", \"pathType\": \"Prefix\"}]}}]}",
        ),
        list(&guarded(&annotation("5"), "")),
        list(&guarded("", "spec: {}\n")),
        list(&guarded("", "  - host: \"a\n")),
    ];
    for guarded in cases {
        // The open one is the older; and it is the younger.
        for manifests in [format!("{OPEN}{guarded}"), format!("{guarded}\n---\n{OPEN}")] {
            let out = explained(&manifests, "/admin/x");
            assert!(out.contains("with 503: ObjectUnreadable"), "{manifests}\n{out}");
            let out = explained(&manifests, "/");
            let cut = out.contains("with 503: ObjectUnreadable");
            assert_eq!(cut, CUT.iter().any(|part| guarded.contains(part)), "{manifests}\n{out}");
            let (_, out) = command(&manifests, "check @");
            assert!(out.contains("closed (503)"), "{manifests}\n{out}");
        }
    }
}

#[test]
fn a_route_that_cannot_be_read_in_whole_closes_its_path() {
    let route = |name: &str, more: &str, rest: &str| {
        format!(
            "apiVersion: route.openshift.io/v1\nkind: Route\nmetadata:\n  name: {name}\n{more}spec:\n  host: \
             example.com\n  to: {{kind: Service, name: b}}\n{rest}---\n"
        )
    };
    let open = route("open", "", "") + backend();
    let limit = "  annotations:\n    haproxy.router.openshift.io/rate-limit-connections: true\n";
    for (more, rest) in [
        (limit, "  path: /admin\n"),
        ("", "  path: /admin\n  tls: edge\n"),
        ("", "  path: /admin\n  path: /admin\n"),
        ("", "  path: /admin\n  port: {targetPort: [\n"),
        ("", "  path: /admin\n  alternateBackends: {}\n"),
    ] {
        let manifests = format!("{open}{}", route("guarded", more, rest));
        let out = explained(&manifests, "/admin/x");
        assert!(out.contains("with 503: ObjectUnreadable"), "{manifests}\n{out}");
        let out = explained(&manifests, "/");
        assert!(!out.contains("with 503: ObjectUnreadable"), "{manifests}\n{out}");
    }
}

#[test]
fn where_a_document_is_cut_off_the_last_host_that_can_be_read_is_closed_whole() {
    let manifests = format!("{}  - host: example.com\n    http: {{pa", guarded("", ""));
    assert!(explained(&format!("{OPEN}{manifests}"), "/").contains("with 503: ObjectUnreadable"));
    // A canary takes nothing while it cannot be read.
    let canary = guarded("    nginx.ingress.kubernetes.io/canary: true\n", "");
    assert!(
        !explained(&format!("{OPEN}{canary}"), "/admin").contains("with 503: ObjectUnreadable")
    );
}

#[test]
fn a_document_of_which_not_even_hosts_can_be_read_is_an_error_that_says_so() {
    let broken = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: x\nspec:\n";
    let (_, out) = command(&format!("{OPEN}{broken}"), "check @");
    assert!(out.contains("none of its hosts can be read, so nothing keeps them closed"), "{out}");
    assert!(!explained(&format!("{OPEN}{broken}"), "/").contains("with 503: ObjectUnreadable"));
}

#[test]
fn a_value_without_quotes_is_told_with_object_annotation_value_and_what_to_write() {
    let (_, out) = command(&guarded(&annotation("5"), ""), "check @");
    for part in ["Ingress guarded", "nginx.ingress.kubernetes.io/limit-rps", "5 reads as", "\"5\""]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (_, out) = command(&guarded(&annotation(""), ""), "check @");
    assert!(out.contains("limit-rps") && out.contains("\"\""), "{out}");
}

#[test]
fn an_object_in_another_version_or_spelling_of_its_kind_is_named_with_what_to_write() {
    for (version, kind) in [
        ("networking.k8s.io/v1beta1", "Ingress"),
        ("extensions/v1beta1", "Ingress"),
        ("networking.k8s.io/v1", "ingress"),
        ("networking.k8s.io/v1", "Ingresses"),
        ("networking.k8s.io/v2", "Ingress"),
        ("networking/v1", "Ingress"),
        ("network.k8s.io/v1", "Ingress"),
        ("v1", "Ingress"),
        ("apps/v1", "Ingress"),
    ] {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: old}}\n");
        let (result, out) = command(&text, "check @");
        assert!(succeeded(&result.unwrap()), "{out}");
        let fix = "write apiVersion: networking.k8s.io/v1, kind: Ingress";
        assert!(out.contains(&format!("{version} {kind} old is not read")), "{out}");
        assert!(out.contains(fix), "{out}");
    }
    let text = "apiVersion: v1\nkind: Route\nmetadata: {name: old}\n";
    assert!(command(text, "check @").1.contains("write apiVersion: route.openshift.io/v1"));
    for (version, kind) in
        [("serving.knative.dev/v1", "Route"), ("config.openshift.io/v1", "Ingress")]
    {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: theirs}}\n");
        assert!(command(&text, "check @").1.contains("0 warnings"), "{kind}");
    }
}

#[test]
fn an_object_in_another_version_that_protects_is_closed_and_one_that_does_not_is_not_there() {
    let old = |version: &str, kind: &str, annotation: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: guarded\n  annotations:\n    \
             nginx.ingress.kubernetes.io/{annotation}\nspec:\n  rules:\n  - host: example.com\n    http:\n      \
             paths:\n      - path: /admin\n        backend: {{serviceName: b, servicePort: 80}}\n"
        )
    };
    let list = |item: &str| {
        let item = item.trim_end().replace('\n', "\n  ");
        format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n")
    };
    let guard = "whitelist-source-range: 10.0.0.0/8";
    for guarded in [
        old("networking.k8s.io/v1beta1", "Ingress", guard),
        old("extensions/v1beta1", "Ingress", guard),
        old("networking.k8s.io/v1", "ingress", guard),
        old("network.k8s.io/v1", "Ingress", guard),
        old("extensions/v1beta1", "Ingress", "auth-url: http://auth.example"),
        old("extensions/v1beta1", "Ingress", "auth-type: basic"),
        old("extensions/v1beta1", "Ingress", "limit-rps: 5"),
        list(&old("extensions/v1beta1", "Ingress", guard)),
        list(&old("extensions/v1beta1", "Ingress", guard))
            .replace("kind: List", "kind: IngressList"),
        old("extensions/v1beta1", "Ingress", guard).replace("  name: guarded\n", ""),
        // Torn, nobody knows what else it said.
        old("extensions/v1beta1", "Ingress", "x: y") + "  tls: [\n",
    ] {
        for manifests in [format!("{OPEN}{guarded}"), format!("{guarded}\n---\n{OPEN}")] {
            let out = explained(&manifests, "/admin/x");
            assert!(out.contains("with 503: ObjectUnreadable"), "{manifests}\n{out}");
            let (_, out) = command(&manifests, "check @");
            assert!(out.contains("closed (503)"), "{manifests}\n{out}");
        }
    }
    for harmless in [
        old("extensions/v1beta1", "Ingress", "proxy-read-timeout: \"5\""),
        old("config.openshift.io/v1", "Ingress", guard),
    ] {
        let out = explained(&format!("{OPEN}{harmless}"), "/admin/x");
        assert!(!out.contains("503"), "{harmless}\n{out}");
    }
    let route = "apiVersion: v1\nkind: Route\nmetadata: {name: old, annotations: \
                 {haproxy.router.openshift.io/ip_whitelist: 10.0.0.0/8}}\nspec: {host: example.com, path: /admin, to: \
                 {kind: Service, name: b}}\n";
    let open = "apiVersion: route.openshift.io/v1\nkind: Route\nmetadata: {name: open}\nspec: {host: example.com, \
                to: {kind: Service, name: b}}\n---\n";
    let open = format!("{open}{}", backend());
    assert!(explained(&format!("{open}{route}"), "/admin/x").contains("ObjectUnreadable"));
    assert!(!explained(&format!("{open}{route}"), "/").contains("with 503"));
}

#[test]
fn ingresses_of_a_class_that_cannot_be_read_are_closed_and_neither_open_nor_missing() {
    let named = OPEN.replace("spec:\n  rules:", "spec:\n  ingressClassName: web\n  rules:");
    let class = |annotations: &str, rest: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata:\n  name: web\n  annotations:\n    \
             {annotations}\nspec:\n  controller: gatehouse.io/ingress\n{rest}---\n"
        )
    };
    let default = |value: &str| format!("ingressclass.kubernetes.io/is-default-class: {value}");
    for (annotations, rest, unnamed) in [
        (default("true"), "", true),
        (default("\"true\""), "  parameters: [\n", true),
        ("x: 5".to_owned(), "", false),
        ("x: y".to_owned(), "  controller: 5\n", false),
        ("x: y".to_owned(), "\tparameters:\n", true),
    ] {
        let class = class(&annotations, rest);
        for manifests in [format!("{named}{class}"), format!("{class}{named}")] {
            let out = explained(&manifests, "/");
            assert!(out.contains("with 503: ObjectUnreadable"), "{manifests}\n{out}");
            let (_, out) = command(&manifests, "check @");
            assert!(out.contains("IngressClass web cannot be read"), "{manifests}\n{out}");
        }
        let out = explained(&format!("{class}{OPEN}"), "/");
        let closed = out.contains("with 503: ObjectUnreadable");
        assert_eq!(closed, unnamed, "of Ingresses that name none: {class}\n{out}");
    }
    let whole = class(&default("\"true\""), "");
    for open in [&*named, OPEN] {
        assert!(!explained(&format!("{whole}{open}"), "/").contains("503"), "{whole}{open}");
    }
}

#[test]
fn a_class_whose_name_cannot_be_read_closes_the_ingresses_of_classes_that_nothing_else_defines() {
    let of = |class: &str| {
        OPEN.replace("spec:\n  rules:", &format!("spec:\n  ingressClassName: {class}\n  rules:"))
    };
    let class = |metadata: &str, controller: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: IngressClass\n{metadata}spec:\n  controller: {controller}\n---\n"
        )
    };
    let ours = "gatehouse.io/ingress";
    let other = class("metadata: {name: other}\n", ours);
    let mut classes: Vec<String> = [
        "metadata: {}\n",
        "",
        "metadata:\n",
        "metadata: {name: [web]}\n",
        "metadata: {name: {web: }}\n",
        "metadata: {name: \"\"}\n",
        "metadata: {name: Web_}\n",
        "metadata: web\n",
        "metadata:\n  name: \"web\n",
        "metadata:\n\tname: web\n",
        "metadata: {nmae: web}\n",
        // Whichever counts.
        "metadata:\n  name: web\n  name: old\n",
    ]
    .map(|metadata| class(metadata, ours))
    .into();
    classes.push(
        "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: web\n---\n".into(),
    );
    for class in &classes {
        let web = of("web");
        for manifests in [format!("{other}{web}{class}"), format!("{class}{web}---\n{other}")] {
            let out = explained(&manifests, "/");
            assert!(out.contains("with 503: ObjectUnreadable"), "{manifests}\n{out}");
            let (_, out) = command(&manifests, "check @");
            let told = out.contains("ClassUnreadable") && out.contains("name is not known");
            assert!(told || class.contains("old"), "{manifests}\n{out}");
        }
        let out = explained(&format!("{class}{other}{}", of("other")), "/");
        assert!(!out.contains("503"), "{class}\n{out}");
    }
    let theirs = class("metadata: {}\n", "k8s.io/ingress-nginx");
    let out = explained(&format!("{theirs}{}", of("web")), "/");
    assert!(!out.contains("503"), "surely another's: {out}");
}
