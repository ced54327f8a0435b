use serde_json::json;

use super::*;

/// One Secret and one ConfigMap, of the same name.
struct Store;

impl Data for Store {
    fn secret(&mut self, name: &str) -> anyhow::Result<Option<BTreeMap<String, Vec<u8>>>> {
        Ok((name == "app").then(|| [("key".to_owned(), b"hidden".to_vec())].into()))
    }

    fn config_map(&mut self, name: &str) -> anyhow::Result<Option<BTreeMap<String, Vec<u8>>>> {
        Ok((name == "app").then(|| [("MODE".to_owned(), b"quick".to_vec())].into()))
    }
}

/// The command of the only container of a Pod.
fn command_of(container: serde_json::Value) -> anyhow::Result<Option<Command>> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", "containers": [container]},
    }))?;
    let images = Images::new(&["web=/build/web --listen $(POD_IP):80".into(), "tools=".into()])?;
    let addresses = Addresses { host: "10.77.0.2".into(), pod: "10.78.2.3".into() };
    let container = &pod.spec.as_ref().unwrap().containers[0];
    command(&pod, container, &images, &addresses, &BTreeMap::new(), &mut Store)
}

#[test]
fn the_environment_comes_from_fields_secrets_maps_and_earlier_variables() {
    let found = command_of(json!({
        "name": "web",
        "image": "registry.test:5000/team/web:1.2@sha256:00",
        "envFrom": [{"prefix": "APP_", "configMapRef": {"name": "app"}}],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "WHERE", "value": "$(POD_IP) on $(NODE), $$(POD_IP)"},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "app", "key": "key"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "no", "key": "key", "optional": true}}},
        ],
    }));
    let found = found.unwrap().unwrap();
    let seen = |name: &str| found.environment.get(name).map(String::as_str);
    assert_eq!(seen("WHERE"), Some("10.78.2.3 on $(NODE), $(POD_IP)"));
    assert_eq!([seen("LABEL"), seen("KEY"), seen("NONE")], [Some("web"), Some("hidden"), None]);
    assert_eq!(seen("APP_MODE"), Some("quick"));
    assert_eq!(found.words, ["/web", "--listen", "10.78.2.3:80"]);
    assert_eq!(found.program.as_deref(), Some("/build/web"));
}

#[test]
fn a_missing_key_is_named_and_an_unknown_image_has_no_command() {
    let missing = json!({
        "name": "web",
        "image": "web",
        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "app", "key": "other"}}}],
    });
    let error = command_of(missing).unwrap_err().to_string();
    assert_eq!(error, "KEY: no other in Secret app");
    assert_eq!(command_of(json!({"name": "x", "image": "nginx"})).unwrap(), None);
}

#[test]
fn a_command_of_the_containers_own_is_found_in_its_image_or_in_the_path() {
    let words = |container| command_of(container).unwrap().unwrap().words;
    let own = json!({"name": "web", "image": "web", "command": ["web"], "args": ["status"]});
    assert_eq!(words(own), ["/web", "status"]);
    let shell = json!({"name": "sh", "image": "tools:1", "command": ["sh", "-c", "exit 0"]});
    assert_eq!(words(shell), ["sh", "-c", "exit 0"]);
}

#[test]
fn rights_are_what_is_dropped_and_added() {
    let rights = |context| {
        command_of(json!({"name": "web", "image": "web", "securityContext": context}))
            .unwrap()
            .unwrap()
            .rights
    };
    let found = rights(json!({
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "CAP_NET_RAW"]},
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "runAsUser": 65532,
    }));
    assert_eq!(found.capabilities, ["net_admin", "net_raw"]);
    assert_eq!(found.user, Some((65532, 0)));
    assert!(!found.may_escalate && found.read_only_root && !found.privileged);
    assert_eq!(rights(json!({})).capabilities, DEFAULT_CAPABILITIES);
}
