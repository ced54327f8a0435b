use crate::plan::tests::{command, succeeded};

/// An Ingress of class nginx, of another name, annotations and host path.
fn ingress(name: &str, class: &str, annotations: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\n\
         spec:\n  ingressClassName: {class}\n  rules:\n  - host: {name}.com\n    http:\n      paths:\n      \
         - {{path: /, pathType: Prefix, backend: {{service: {{name: app, port: {{number: 80}}}}}}}}\n"
    )
}

const WORLD: &str = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: public}
spec: {controller: k8s.io/ingress-nginx}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: traefik}
spec: {controller: traefik.io/ingress-controller}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-1, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
ports: [{port: 8080}]
";

fn nginx(name: &str, value: &str) -> String {
    format!("nginx.ingress.kubernetes.io/{name}: \"{value}\"")
}

#[test]
fn each_object_is_judged_by_the_worst_of_what_it_asks_for_and_the_worst_come_first() {
    let world = [
        WORLD.to_owned(),
        ingress("a", "nginx", &nginx("proxy-body-size", "8m")),
        ingress("b", "public", &nginx("limit-rps", "5")),
        ingress("c", "nginx", &nginx("configuration-snippet", "deny all;")),
        ingress("d", "traefik", ""),
    ];
    let (code, text) = command(&world.concat(), "migrate @");
    assert!(!succeeded(&code.unwrap()), "one is closed");
    let order: Vec<_> = text.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(
        order[0].starts_with("Ingress default/c (@:") && order[0].ends_with(": closed"),
        "{text}"
    );
    assert!(order[1].starts_with("Ingress default/b") && order[1].ends_with(": noted"), "{text}");
    assert!(
        order[2].starts_with("Ingress default/a") && order[2].ends_with(": honoured"),
        "{text}"
    );
    assert_eq!(
        order[3],
        "3 objects: 1 honoured, 1 equal with a note, 0 answered otherwise, 1 closed; 1 of other classes not \
         looked at (--claim-class NAME)"
    );
    assert!(text.contains("429 instead of 503"), "{text}");
}

#[test]
fn what_is_wrong_besides_annotations_counts_too_and_an_equal_world_succeeds() {
    let world = [WORLD.to_owned(), ingress("a", "nginx", "")].concat();
    let (code, text) = command(&world, "migrate @");
    assert!(succeeded(&code.unwrap()), "{text}");
    let (code, text) = command(&world.replace("name: app, port", "name: gone, port"), "migrate @");
    assert!(!succeeded(&code.unwrap()));
    assert!(text.contains("Ingress default/a") && text.contains("differs"), "{text}");
}

#[test]
fn the_report_is_the_same_for_programs_and_as_a_page_that_runs_nothing_of_an_object() {
    let evil = nginx("rewrite-target", "<script>alert(1)</script>");
    let world = [WORLD.to_owned(), ingress("a", "nginx", &evil)].concat();
    let (_, text) = command(&world, "migrate -o json @");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["totals"]["closed"], 1, "{text}");
    assert_eq!(report["objects"][0]["verdict"], "closed");
    assert_eq!(report["objects"][0]["annotations"][0]["verdict"], "closed");
    let (_, page) = command(&world, "migrate -o html @");
    assert!(page.starts_with("<!doctype html>") && page.contains("Ingress default/a"), "{page}");
    assert!(!page.contains("<script>"), "{page}");
}
