use serde_json::{Value, json};

use super::*;
use crate::{
    compile::{Compiled, compile},
    options::Options,
    testing::{answer, from_values},
};

const SLASHES: &str = "gatehouse.io/encoded-slashes";

/// An Ingress of host `a.test`: name, path type, path, annotations. The Service has its name.
fn ingress(name: &str, kind: &str, path: &str, annotations: Value) -> Value {
    let service = json!({"name": name.trim_end_matches(char::is_numeric), "port": {"number": 80}});
    json!({
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "d", "annotations": annotations},
        "spec": {"rules": [{"host": "a.test", "http": {"paths": [
            {"pathType": kind, "path": path, "backend": {"service": service}}]}}]},
    })
}

fn compiled(policy: EncodedSlashes, ingresses: &[Value]) -> Compiled {
    let options = Options { encoded_slashes: policy, ..Options::default() };
    compile(&from_values(ingresses.iter().cloned()), &options, None)
}

fn answers(compiled: &Compiled, paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| answer(compiled, &format!("http://a.test{path}"))).collect()
}

#[test]
fn a_slash_goes_on_where_it_makes_no_difference() {
    let site = [
        ingress("git", "Prefix", "/", json!({})),
        ingress("adm", "Prefix", "/admin", json!({})),
        ingress("one", "Exact", "/one/x", json!({})),
    ];
    let compiled = compiled(EncodedSlashes::Safe, &site);
    for (path, expected) in [
        ("/api/v4/projects/team%2Fapp/hooks", "git:80"),
        ("/@scope%2fpackage", "git:80"),
        ("/a%5Cb", "git:80"),
        ("/%2F", "git:80"),
        ("/admin/a%2Fb", "adm:80"),
        // A server that decodes it would answer for a path that has another rule.
        ("/admin%2Fx", "400"),
        ("/admin%2fx", "400"),
        ("/admin%5Cx", "400"),
        ("/%2Fadmin", "400"),
        ("/x%2F..%2Fadmin", "400"),
        ("/x/..%2Fadmin", "400"),
        ("/admin/..%2Fx", "400"),
        ("/admin%2Fx%5Cy", "400"),
        ("/one%2Fx", "400"),
        // It would be led out of the site.
        ("/..%2F..%2Fetc", "400"),
    ] {
        assert_eq!(answers(&compiled, &[path]), [expected], "{path}");
    }
}

#[test]
fn without_a_rule_there_is_nothing_to_reach() {
    let compiled = compiled(EncodedSlashes::Safe, &[ingress("adm", "Prefix", "/admin", json!({}))]);
    assert_eq!(
        answers(&compiled, &["/admin%2Fx", "/b%2Fc", "/admin/b%2Fc"]),
        ["404", "404", "adm:80"]
    );
}

#[test]
fn rules_that_do_the_same_decide_alike() {
    let allow = json!({"nginx.ingress.kubernetes.io/whitelist-source-range": "10.0.0.0/8"});
    let paths = ["/api%2Fx", "/closed%2Fx"];
    let site = [
        ingress("web1", "Prefix", "/", json!({})),
        ingress("web2", "Prefix", "/api", json!({})),
        ingress("web3", "Prefix", "/closed", allow),
    ];
    assert_eq!(answers(&compiled(EncodedSlashes::Safe, &site), &paths), ["web:80", "400"]);
}

#[test]
fn an_ingress_says_what_becomes_of_its_own_paths() {
    let site = |root: &str, admin: &str| {
        [
            ingress("git", "Prefix", "/", json!({SLASHES: root})),
            ingress("adm", "Prefix", "/admin", json!({SLASHES: admin})),
        ]
    };
    let paths = ["/a%2Fb", "/admin%2Fx", "/admin/a%2Fb", "/..%2Fx"];
    for (process, root, admin, expected) in [
        (EncodedSlashes::Safe, "reject", "", ["400", "400", "adm:80", "400"]),
        // What the other object protects is not opened by this one.
        (EncodedSlashes::Safe, "keep", "", ["git:80", "400", "adm:80", "git:80"]),
        (EncodedSlashes::Safe, "keep", "keep", ["git:80", "git:80", "adm:80", "git:80"]),
        (EncodedSlashes::Keep, "", "", ["git:80", "git:80", "adm:80", "git:80"]),
        (EncodedSlashes::Keep, "", "safe", ["git:80", "400", "adm:80", "git:80"]),
        (EncodedSlashes::Keep, "reject", "", ["400", "400", "adm:80", "400"]),
        (EncodedSlashes::Reject, "", "", ["400", "400", "400", "400"]),
        (EncodedSlashes::Reject, "safe", "", ["git:80", "400", "400", "400"]),
        // A value that cannot be read opens nothing.
        (EncodedSlashes::Safe, "yes", "", ["503 InvalidAnnotation", "400", "adm:80", "400"]),
    ] {
        let given = answers(&compiled(process, &site(root, admin)), &paths);
        assert_eq!(given, expected, "{process:?} {root:?} {admin:?}");
    }
}
