//! What the API server takes and refuses by the definitions of custom resources and the admission policies.

use gatehouse_testbed::cluster::eventually;

use super::{NAMESPACE, cluster};

/// Creates an object, or only asks whether it could be (`dry`); the refusal otherwise.
fn create(object: &str, user: Option<&str>, dry: bool) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("object.yaml");
    std::fs::write(&file, object).unwrap();
    let file = file.to_string_lossy().into_owned();
    let mut words = vec!["apply", "--filename", &file, "--namespace", NAMESPACE];
    if dry {
        words.push("--dry-run=server");
    }
    if let Some(kubeconfig) = user {
        words.extend(["--kubeconfig", kubeconfig]);
    }
    cluster().kubectl(&words).map_err(|error| format!("{error:#}"))
}

fn route(spec: &str) -> String {
    format!("apiVersion: route.openshift.io/v1\nkind: Route\nmetadata: {{name: r}}\nspec: {spec}\n")
}

fn metallb(version: &str, kind: &str, spec: &str) -> String {
    format!("apiVersion: metallb.io/{version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
}

/// `refusal` is a part of the message, empty if the object is taken.
fn check(object: &str, refusal: &str) {
    match (create(object, None, true), refusal) {
        (Ok(_), "") => {}
        (Ok(_), refusal) => panic!("taken, though {refusal:?}: {object}"),
        (Err(error), "") => panic!("refused: {object}{error}"),
        (Err(error), refusal) => assert!(error.contains(refusal), "{object}{error}"),
    }
}

#[test]
fn routes_are_taken_and_refused_as_on_openshift() {
    let label = "a".repeat(64);
    let long_label = format!("{{host: {label}.example.test, to: {{name: a}}}}");
    for (spec, refusal) in [
        ("{to: {name: a}}", ""),
        ("{host: www.example.test, path: /a, to: {kind: '', name: a, weight: null}}", ""),
        ("{host: WWW.example.test, to: {name: a}}", "spec.host"),
        ("{host: -a.example.test, to: {name: a}}", "spec.host"),
        ("{host: www.example.test., to: {name: a}}", "spec.host"),
        (&long_label, "a label is longer than 63 characters"),
        ("{path: a, to: {name: a}}", "spec.path"),
        ("{path: '/a#b', to: {name: a}}", "spec.path"),
        ("{path: '/a b', to: {name: a}}", "spec.path"),
        ("{to: {name: ''}}", "spec.to.name"),
        ("{to: {kind: Pod, name: a}}", "spec.to.kind"),
        ("{to: {name: a, weight: 257}}", "spec.to.weight"),
        ("{to: {name: a}, alternateBackends: [{name: b}, {name: c}, {name: d}]}", ""),
        ("{to: {name: a}, alternateBackends: [{name: b}, {name: b}]}", "Duplicate value"),
        (
            "{to: {name: a}, alternateBackends: [{name: b}, {name: c}, {name: d}, {name: e}]}",
            "alternateBackends",
        ),
        ("{to: {name: a}, port: {targetPort: http}}", ""),
        ("{to: {name: a}, port: {targetPort: 8080}}", ""),
        ("{to: {name: a}, port: {targetPort: 0}}", "the number or the name of a port"),
        ("{to: {name: a}, port: {targetPort: ''}}", "the number or the name of a port"),
        ("{to: {name: a}, tls: {}}", ""),
        ("{to: {name: a}, tls: {termination: Edge, insecureEdgeTerminationPolicy: Redirect}}", ""),
        ("{to: {name: a}, tls: {termination: open}}", "termination"),
        ("{to: {name: a}, tls: {destinationCACertificate: x}}", "needs termination reencrypt"),
        ("{to: {name: a}, tls: {termination: reencrypt, destinationCACertificate: x}}", ""),
        ("{to: {name: a}, tls: {termination: passthrough}}", ""),
        (
            "{path: /, to: {name: a}, tls: {termination: passthrough}}",
            "passthrough Route has no path",
        ),
        (
            "{to: {name: a}, tls: {termination: Passthrough, key: x}}",
            "passthrough Route has no certificates",
        ),
        (
            "{to: {name: a}, tls: {termination: passthrough, insecureEdgeTerminationPolicy: Allow}}",
            "None or Redirect",
        ),
        (
            "{to: {name: a}, tls: {certificate: x, externalCertificate: {name: s}}}",
            "externalCertificate excludes",
        ),
        (
            "{to: {name: a}, tls: {termination: passthrough, externalCertificate: {name: s}}}",
            "no certificates",
        ),
        ("{to: {name: a}, wildcardPolicy: Subdomain}", "needs a host"),
        ("{host: www.example.test, to: {name: a}, wildcardPolicy: Subdomain}", ""),
    ] {
        check(&route(spec), refusal);
    }
    let annotated = route(&long_label).replace(
        "{name: r}",
        "{name: r, annotations: {route.openshift.io/allow-non-dns-compliant-host: 'true'}}",
    );
    check(&annotated, "");
}

#[test]
fn headers_of_a_route_are_checked() {
    for (header, refusal) in [
        ("{name: X-A, action: {type: Set, set: {value: 'a %% %[req.hdr(host),lower]'}}}", ""),
        ("{name: X-A, action: {type: Delete}}", ""),
        ("{name: 'X A', action: {type: Delete}}", "name"),
        ("{name: Set-Cookie, action: {type: Delete}}", "cannot be changed"),
        ("{name: X-A, action: {type: Set}}", "exactly if type is Set"),
        ("{name: X-A, action: {type: Delete, set: {value: a}}}", "exactly if type is Set"),
        ("{name: X-A, action: {type: Set, set: {value: ''}}}", "value"),
        (
            "{name: X-A, action: {type: Set, set: {value: '%[res.hdr(a)]'}}}",
            "may follow a percent sign",
        ),
        (
            "{name: X-A, action: {type: Set, set: {value: '%[env(PATH)]'}}}",
            "may follow a percent sign",
        ),
    ] {
        let headers = format!("httpHeaders: {{actions: {{request: [{header}]}}}}");
        check(&route(&format!("{{to: {{name: a}}, {headers}}}")), refusal);
    }
    let passthrough = "{to: {name: a}, tls: {termination: passthrough}, httpHeaders: {}}";
    check(&route(passthrough), "passthrough Route changes no headers");
}

#[test]
fn what_may_not_change_does_not_and_defaults_are_filled_in() {
    let named = |spec: &str| route(spec).replace("{name: r}", "{name: fixed}");
    create(&named("{host: a.example.test, to: {name: a}, tls: {}}"), None, false).unwrap();
    let path =
        "jsonpath={.spec.to.kind} {.spec.to.weight} {.spec.tls.termination} {.spec.wildcardPolicy}";
    let get = ["get", "route/fixed", "--namespace", NAMESPACE, "--output", path];
    assert_eq!(cluster().kubectl(&get).unwrap(), "Service 100 edge None");
    let changed = "{host: a.example.test, to: {name: a}, tls: {}, wildcardPolicy: Subdomain}";
    let refusal = create(&named(changed), None, true).unwrap_err();
    assert!(refusal.contains("wildcardPolicy cannot be changed"), "{refusal}");
    let columns = cluster().kubectl(&["get", "routes", "--namespace", NAMESPACE]).unwrap();
    for column in ["NAME", "HOST", "PATH", "SERVICE", "PORT", "TLS", "ADMITTED", "REASON", "AGE"] {
        assert!(columns.contains(column), "{columns}");
    }
}

#[test]
fn hosts_and_certificates_need_the_right_to_choose_them() {
    let user = |name: &str, rules: &[&str]| {
        cluster().kubectl(&["create", "serviceaccount", name, "--namespace", NAMESPACE]).unwrap();
        for (at, rule) in rules.iter().enumerate() {
            let role = format!("{name}-{at}");
            let (verbs, resource) = rule.split_once(' ').unwrap();
            let verbs = format!("--verb={verbs}");
            let resource = format!("--resource={resource}");
            let role_words = ["create", "role", &role, &verbs, &resource, "--namespace", NAMESPACE];
            cluster().kubectl(&role_words).unwrap();
            let role_of = format!("--role={role}");
            let account = format!("--serviceaccount={NAMESPACE}:{name}");
            let binding =
                ["create", "rolebinding", &role, &role_of, &account, "--namespace", NAMESPACE];
            cluster().kubectl(&binding).unwrap();
        }
        let kubeconfig = cluster().kubeconfig_of(NAMESPACE, name).unwrap();
        kubeconfig.to_string_lossy().into_owned()
    };
    const ROUTES: &str = "get,create,update,patch routes.route.openshift.io";
    let plain = user("plain", &[ROUTES]);
    let creator = user("creator", &[ROUTES, "create routes.route.openshift.io/custom-host"]);
    let changer = user("changer", &[ROUTES, "create,update routes.route.openshift.io/custom-host"]);
    let named = |spec: &str| route(spec).replace("{name: r}", "{name: owned}");

    let hosted = named("{host: owned.example.test, to: {name: a}}");
    // Policies and rights take a moment to reach the API server's own caches.
    eventually("a host is refused to whoever may not choose it", || {
        Ok(create(&hosted, Some(&plain), true)
            .is_err_and(|error| error.contains("spec.host: you do not")))
    })
    .unwrap();
    let certified = named("{to: {name: a}, tls: {certificate: x, key: k}}");
    let refusal = create(&certified, Some(&plain), true).unwrap_err();
    assert!(refusal.contains("spec.tls: you do not have permission"), "{refusal}");
    create(&named("{to: {name: a}}"), Some(&plain), true).unwrap();

    eventually("whoever may choose hosts creates one", || {
        Ok(create(&hosted, Some(&creator), false).is_ok())
    })
    .unwrap();
    let moved = named("{host: moved.example.test, to: {name: a}}");
    let refusal = create(&moved, Some(&creator), true).unwrap_err();
    assert!(refusal.contains("spec.host: you do not have permission"), "{refusal}");
    // What does not touch the host needs no such right.
    create(&named("{host: owned.example.test, to: {name: b}}"), Some(&plain), true).unwrap();
    eventually(
        "whoever may change hosts does",
        || Ok(create(&moved, Some(&changer), true).is_ok()),
    )
    .unwrap();
}

#[test]
fn objects_written_for_metallb_are_taken_and_contradictions_refused() {
    for (version, kind, spec, refusal) in [
        ("v1beta1", "IPAddressPool", "{addresses: [192.168.1.0/24], autoAssign: false}", ""),
        ("v1beta1", "IPAddressPool", "{}", "spec.addresses"),
        ("v1beta1", "L2Advertisement", "{ipAddressPools: [a], interfaces: [eth0]}", ""),
        (
            "v1beta2",
            "BGPPeer",
            "{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, ebgpMultiHop: true}",
            "",
        ),
        ("v1beta2", "BGPPeer", "{myASN: 1, dynamicASN: external, interface: eth0}", ""),
        (
            "v1beta2",
            "BGPPeer",
            "{myASN: 1, peerAddress: 10.0.0.1}",
            "exactly one of peerASN and dynamicASN",
        ),
        (
            "v1beta2",
            "BGPPeer",
            "{myASN: 1, peerASN: 2}",
            "exactly one of peerAddress and interface",
        ),
        (
            "v1beta2",
            "BGPPeer",
            "{myASN: 1, peerASN: 1, peerAddress: a, ebgpMultiHop: true}",
            "another ASN",
        ),
        (
            "v1beta2",
            "BGPPeer",
            "{myASN: 1, peerASN: 2, peerAddress: a, password: p, passwordSecret: {name: s}}",
            "exclude each other",
        ),
        ("v1beta1", "BGPPeer", "{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, holdTime: 90s}", ""),
        (
            "v1beta1",
            "BGPPeer",
            "{myASN: 1, peerASN: 2, peerAddress: a, holdTime: 0s}",
            "leave holdTime out",
        ),
        ("v1beta1", "BGPAdvertisement", "{ipAddressPools: [a], aggregationLength: 24}", ""),
        (
            "v1beta1",
            "BGPAdvertisement",
            "{aggregationLength: 24, serviceSelectors: [{}]}",
            "serviceSelectors need",
        ),
        ("v1beta1", "BFDProfile", "{receiveInterval: 100}", ""),
        ("v1beta1", "BFDProfile", "{receiveInterval: 1}", "receiveInterval"),
        ("v1beta1", "Community", "{communities: [{name: a, value: '65000:1'}]}", ""),
    ] {
        check(&metallb(version, kind, spec), refusal);
    }
}
