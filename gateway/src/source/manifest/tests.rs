use super::*;

fn parse(text: &str) -> Result<Manifest, Vec<ManifestError>> {
    result(Manifest::parse(text, false, None, 1))
}

fn result(manifest: Manifest) -> Result<Manifest, Vec<ManifestError>> {
    let errors: Vec<_> = manifest.errors().collect();
    if errors.is_empty() { Ok(manifest) } else { Err(errors) }
}

fn names(manifest: &Manifest) -> Vec<String> {
    manifest.objects().map(|placed| format!("{}:{}", placed.line, placed.name)).collect()
}

fn errors(text: &str) -> Vec<String> {
    let errors = parse(text).unwrap_err();
    errors.into_iter().map(|error| format!("{}: {error}", error.line)).collect()
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n";

#[test]
fn documents_are_found_with_their_lines() {
    let text = format!(
        "# a comment\n%YAML 1.2\n---\n# only a comment\n---\n{SERVICE}---\n{SERVICE}  namespace: shop\n\
         ...\n---   # the last one\n{SERVICE}  namespace: \"\"\n"
    );
    let manifest = parse(&text).unwrap();
    assert_eq!(
        names(&manifest),
        ["5:Service default/web", "10:Service shop/web", "17:Service default/web"]
    );
    assert_eq!(names(&parse("").unwrap()), [""; 0]);
    assert_eq!(names(&parse("---\n# nothing\n---\n").unwrap()), [""; 0]);
}

#[test]
fn a_marker_inside_a_block_scalar_is_text_if_it_is_indented() {
    let text =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: |\n    ---\n    b\n";
    let manifest = parse(text).unwrap();
    let Object::ConfigMap(map) = manifest.objects().next().unwrap().object else { panic!() };
    assert_eq!(map.data.as_ref().unwrap()["x"], "---\nb\n");
}

#[test]
fn head_fields_are_understood_however_they_are_written() {
    for text in [
        "{apiVersion: v1, kind: Service, metadata: {name: web}}",
        "kind: \"Service\"\napiVersion: 'v1'\nmetadata: {name: web}",
        "  apiVersion: v1\n  kind: Service # the kind\n  metadata:\n    name: web",
        "apiVersion: v1 # x\r\nkind: Service\r\nmetadata:\r\n  name: web\r\n",
        "\u{feff}apiVersion: v1\nkind: Service\nmetadata: {name: web}",
    ] {
        assert_eq!(names(&parse(text).unwrap()), ["1:Service default/web"], "{text}");
    }
}

#[test]
fn lists_are_taken_apart_and_their_items_keep_their_lines() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata:\n    \
                name: a\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: b, namespace: x}\n";
    assert_eq!(names(&parse(text).unwrap()), ["4:Service default/a", "8:Namespace b"]);
    let text =
        "apiVersion: networking.k8s.io/v1\nkind: IngressList\nitems:\n- metadata: {name: a}\n";
    assert_eq!(names(&parse(text).unwrap()), ["4:Ingress default/a"]);
    assert_eq!(names(&parse("apiVersion: v1\nkind: List\nitems: []").unwrap()), [""; 0]);
}

#[test]
fn json_is_read_value_by_value() {
    let text = "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\n\"metadata\":{\"name\":\"a\"}}\n\n\
                {\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\",\
                \"kind\":\"Secret\",\"metadata\":{\"name\":\"b\"}}]}";
    let manifest = result(Manifest::parse(text, true, None, 1)).unwrap();
    assert_eq!(names(&manifest), ["1:Service default/a", "4:Secret default/b"]);

    let broken = "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\n\"metadata\":{\"name\":\"a\",\n\
                  \"labels\":3}}";
    let error = &result(Manifest::parse(broken, true, None, 1)).unwrap_err()[0];
    assert_eq!((error.line, &*error.object, &*error.field), (3, "Service a", "metadata.labels"));
    let error = &result(Manifest::parse("{\n\"a\": tru", true, None, 1)).unwrap_err()[0];
    assert_eq!(error.line, 2);
    assert!(!error.message.contains("line"), "{error}");
}

#[test]
fn an_error_names_line_object_field_and_reason() {
    let port = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\n  namespace: \
                shop\nspec:\n  rules:\n  - http:\n      paths:\n      - path: /\n        pathType: \
                Prefix\n        backend:\n          service:\n            name: a\n            port:\n              \
                number: eighty\n";
    let text = format!("{SERVICE}---\n{port}");
    assert_eq!(
        errors(&text),
        ["21: Ingress shop/web: spec.rules[0].http.paths[0].backend.service.port.number: \
          invalid i32"]
    );
    let missing = "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: shop\n";
    assert_eq!(errors(missing), ["1: Service: metadata.name: is missing"]);
    let name = "apiVersion: v1\nkind: Service\nmetadata:\n  name: \"a\\\"b\"\n";
    let found = errors(name);
    assert!(
        found[0].starts_with("1: Service default/a\"b: metadata.name: \"a\\\"b\" is not"),
        "{found:?}"
    );
    let item = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata:\n    \
                name: a\n  spec:\n    ports: x\n";
    assert!(
        errors(item)[0].starts_with("4: Service a: items[0].spec.ports: "),
        "{:?}",
        errors(item)
    );
}

#[test]
fn all_errors_of_a_file_are_found() {
    let text = "kind: Service\n---\napiVersion: v1\nkind: Service\nmetadata: {}\n---\na: [\n";
    let found = errors(text);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[0].starts_with("1: ") && found[0].contains("not a Kubernetes object"),
        "{found:?}"
    );
    assert!(found[1].starts_with("2: Service: metadata.name"), "{found:?}");
}

#[test]
fn a_document_that_cannot_be_read_takes_no_other_with_it() {
    let service =
        |name: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n");
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: x}}\n\
                - {apiVersion: v1, kind: Service, metadata: {}}\n";
    let [a, b] = ["a", "b"].map(service);
    let json = |name: &str| {
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{{\"name\":\"{name}\"}}}}\n"
        )
    };
    let broken_json = json("a") + "{]";
    for (text, is_json, good, wrong) in [
        (format!("{a}---\na: [\n---\n{b}"), false, &["1:a", "6:b"][..], 1),
        (format!("{a}---\n{}  x: [\n", service("c")), false, &["1:a"], 1),
        (format!("{a}spec: {{ports: 3}}\n---\n{b}"), false, &["5:b"], 1),
        (format!("just text\n---\n{b}---\nkind: Service\n"), false, &["2:b"], 2),
        (format!("{list}---\n{b}"), false, &["4:x", "6:b"], 1),
        (broken_json, true, &["1:a"], 1),
    ] {
        let manifest = Manifest::parse(&text, is_json, None, 1);
        let read: Vec<_> =
            manifest.objects().map(|it| format!("{}:{}", it.line, it.name.key.name)).collect();
        assert_eq!(read, good, "{text}");
        assert_eq!(manifest.errors().count(), wrong, "{text}");
    }
}

#[test]
fn what_a_file_no_longer_names_stays_while_a_part_of_it_cannot_be_read() {
    let service =
        |name: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n---\n");
    let all = |names: &[&str]| names.iter().map(|name| service(name)).collect::<String>();
    let mut known = Manifest::parse(&all(&["a", "b", "c"]), false, None, 1);
    for (text, expected) in [
        // One is spoilt, so that its name cannot be read.
        (all(&["a", "c"]) + "kind: [\n", &["a", "c", "b"][..]),
        // New ones count at once; what has been kept stays kept.
        (all(&["d", "c"]) + "kind: [\n", &["d", "c", "a", "b"]),
        (all(&["d"]), &["d"]),
    ] {
        known = Manifest::parse(&text, false, Some(&known), 1);
        let names: Vec<_> = known.objects().map(|it| it.name.key.name.to_string()).collect();
        assert_eq!(names, expected, "{text}");
        assert_eq!(known.len(), expected.len());
    }
}

/// An Ingress of one path.
fn ingress(name: &str, path: &str, annotation: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, annotations: {{a: \
         {annotation}}}}}\nspec: {{rules: [{{host: a.b, http: {{paths: [{{path: {path}, pathType: Prefix}}]}}}}]}}\n---\n"
    )
}

/// `name path`, and whether it stands in for an object that cannot be read.
fn paths(manifest: &Manifest) -> Vec<String> {
    let shown = |placed: Placed<'_>| {
        let Object::Ingress(ingress) = placed.object else { panic!() };
        let spec = ingress.spec.as_ref().unwrap();
        let paths = &spec.rules.as_ref().unwrap()[0].http.as_ref().unwrap().paths;
        let closed = if salvage::is_stand_in(placed.object) { " closed" } else { "" };
        format!("{} {}{closed}", placed.name.key.name, paths[0].path.as_ref().unwrap())
    };
    manifest.objects().map(shown).collect()
}

#[test]
fn an_ingress_that_cannot_be_read_is_closed_unless_a_version_before_is_known() {
    let mut known = Manifest::default();
    for (text, expected) in [
        (ingress("x", "/a", "5"), &["x /a closed"][..]),
        (ingress("x", "/b", "5"), &["x /b closed"]),
        // Now it cannot be told which one is meant.
        ("kind: [\n".to_owned(), &["x /b closed"]),
        (ingress("x", "/c", "text") + &ingress("w", "/d", "5"), &["x /c", "w /d closed"]),
        (ingress("x", "/e", "5") + &ingress("w", "/f", "text"), &["w /f", "x /c"]),
        (ingress("w", "/f", "text"), &["w /f"]),
    ] {
        known = Manifest::read((&text, false, false), Some(&known), 1);
        assert_eq!(paths(&known), expected, "{text}");
        assert_eq!(known.len(), expected.len());
    }
}

#[test]
fn of_a_file_that_is_not_text_in_whole_the_documents_that_are_count() {
    let text = ingress("a", "/a", "text") + &ingress("b", "/b", "\"\u{fc}\"") + "# \u{fc}\n---\n";
    assert_eq!(paths(&parse(&text).unwrap()), ["a /a", "b /b"]);
    let latin: Vec<u8> = text.chars().map(|char| char as u32 as u8).collect();
    let manifest = Manifest::parse_bytes(&latin, false, None, 1);
    assert_eq!(paths(&manifest), ["a /a", "b /b closed"]);
    let errors: Vec<_> =
        manifest.errors().map(|error| format!("{}: {error}", error.line)).collect();
    assert_eq!(errors, ["8: Ingress b: not valid UTF-8"]);
    // The same text, now in UTF-8.
    let mended = Manifest::parse_bytes(text.as_bytes(), false, Some(&manifest), 1);
    assert_eq!(paths(&mended), ["a /a", "b /b"]);
}

#[test]
fn of_json_and_of_lists_that_end_in_the_middle_counts_what_is_there() {
    let item = |name: &str| {
        format!(
            r#"{{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{{"name":"{name}"}},"spec":{{"rules":[{{"host":"a.b","http":{{"paths":[{{"path":"/{name}","pathType":"Prefix","backend":{{}}}}]}}}}]}}}}"#
        )
    };
    let json = |text: &str| Manifest::parse(text, true, None, 1);
    let torn = item("b").replace(r#","backend":{}}]}}]}}"#, r#","ba"#);
    let manifest = json(&(item("a") + "\n" + &torn));
    assert_eq!(paths(&manifest), ["a /a", "b /b closed"]);
    assert_eq!(manifest.errors().map(|error| error.line).collect::<Vec<_>>(), [2]);
    let list = format!(r#"{{"apiVersion":"v1","kind":"List","items":[{},{torn}"#, item("a"));
    assert_eq!(paths(&json(&list)), ["a /a", "b /b closed"]);
    for end in 0..list.len() {
        // It has no end that makes anybody panic.
        json(&list[..end]);
    }
    // A key that is there twice closes the item that has it.
    let yaml = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}\n- {}\n",
        item("a"),
        item("b").replace(r#""kind""#, r#""kind":"Route","kind""#)
    );
    assert_eq!(paths(&Manifest::parse(&yaml, false, None, 1)), ["a /a", "b /b closed"]);
}

#[test]
fn text_that_looks_like_a_number_or_a_boolean_needs_quotes_as_in_a_cluster() {
    let annotation = |value: &str| {
        let annotations = format!("  annotations:\n    x: {value}\n");
        parse(&format!("{SERVICE}{annotations}")).map(|_| ())
    };
    assert_eq!(annotation("\"true\""), Ok(()));
    assert_eq!(annotation("text"), Ok(()));
    assert_eq!(annotation("192.168.1.1"), Ok(()));
    for value in ["true", "yes", "80", "1.5"] {
        let text = format!("{SERVICE}  annotations:\n    x: {value}\n");
        let expected = format!(
            "6: Service web: metadata.annotations.x: {value} reads as a boolean or a number, so as a \
             text it must be quoted: \"{value}\""
        );
        assert_eq!(errors(&text), [expected]);
    }
}

#[test]
fn twice_the_same_key_is_an_error() {
    let found = errors(&format!("{SERVICE}spec: {{}}\nspec: {{}}\n"));
    assert_eq!(found, ["6: Service web: duplicate mapping key: spec"]);
}

#[test]
fn kinds_of_others_are_left_alone_and_kinds_that_may_be_expected_of_us_are_named() {
    let document = |api_version: &str, kind: &str| {
        parse(&format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n")).unwrap()
    };
    for (api_version, kind) in
        [("apps/v1", "Deployment"), ("networking.k8s.io/v1", "NetworkPolicy"), ("a.b/v1", "Route")]
    {
        let manifest = document(api_version, kind);
        assert_eq!(manifest.ignored().collect::<Vec<_>>(), [format!("{api_version} {kind}")]);
        assert_eq!(manifest.unsupported().count(), 0);
    }
    for (api_version, kind) in [
        ("metallb.io/v1beta1", "ServiceL2Status"),
        ("metallb.io/v1alpha1", "IPAddressPool"),
        ("networking.k8s.io/v1beta1", "Ingress"),
        ("extensions/v1beta1", "Ingress"),
        ("gatehouse.io/v1", "Anything"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("traefik.io/v1alpha1", "IngressRoute"),
        ("projectcontour.io/v1", "HTTPProxy"),
        ("networking.istio.io/v1", "VirtualService"),
        ("v1", "Endpoints"),
        ("discovery.k8s.io/v1beta1", "EndpointSlice"),
    ] {
        let manifest = document(api_version, kind);
        assert_eq!(manifest.objects().count() + manifest.ignored().count(), 0, "{kind}");
        let found = manifest.unsupported().next().unwrap();
        assert_eq!((&*found.kind, &*found.name, found.line), (kind, "a", 1));
        // The same in a list, by itself and as a list of its own kind.
        let item = format!(
            "{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: b, namespace: ns}}}}"
        );
        let list = format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n- {item}\n");
        let own = format!(
            "apiVersion: {api_version}\nkind: {kind}List\nitems:\n- metadata: {{name: b, namespace: ns}}\n"
        );
        for (text, lines) in [(list, vec![4, 5]), (own, vec![4])] {
            let manifest = parse(&text).unwrap();
            let found =
                manifest.unsupported().inspect(|one| assert_eq!(one.name, "ns/b", "{text}"));
            assert_eq!(found.map(|one| one.line).collect::<Vec<_>>(), lines, "{text}");
        }
    }
}

#[test]
fn a_misspelt_kind_is_named_and_kinds_of_others_that_look_alike_are_not() {
    let found = |api_version: &str, kind: &str| {
        let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n");
        let manifest = parse(&text).unwrap();
        manifest.unsupported().next().map(|one| one.meant())
    };
    for (api_version, kind, meant) in [
        ("v1", "Servce", Kind::Service),
        ("v1", "Secert", Kind::Secret),
        ("v1", "configmaps", Kind::ConfigMap),
        ("networking.k8s.io/v1", "Ingres", Kind::Ingress),
        ("networking.k8s.io/v1", "IngressClas", Kind::IngressClass),
        ("route.openshift.io/v1", "Roete", Kind::Route),
        ("discovery.k8s.io/v1", "EndpontSlices", Kind::EndpointSlice),
        ("metallb.io/v1beta1", "IPAdressPool", Kind::IpAddressPool),
        ("metallb.io/v1beta1", "L2Advertisment", Kind::L2Advertisement),
    ] {
        assert_eq!(found(api_version, kind), Some(Some(meant)), "{kind}");
    }
    for (api_version, kind) in [
        ("v1", "Pod"),
        ("v1", "ServiceAccount"),
        ("networking.k8s.io/v1", "IPAddress"),
        ("networking.k8s.io/v1", "ServiceCIDR"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("resource.k8s.io/v1", "ResourceSlice"),
        ("crd.antrea.io/v1beta1", "Egress"),
        ("serving.knative.dev/v1", "Service"),
        ("example.com/v1", "Servce"),
    ] {
        assert_eq!(found(api_version, kind), None, "{kind}");
    }
}

#[test]
fn a_misspelt_field_is_named_and_refuses_or_closes_the_object_that_it_limits() {
    let pool = |spec: &str| {
        format!(
            "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: p}}\nspec: {spec}\n"
        )
    };
    let refused = errors(&pool("{addresses: [10.0.0.0/24], autoassign: false}"));
    assert_eq!(
        refused,
        [
            "1: IPAddressPool p: spec.autoassign: the field is not known: autoAssign was meant?; it may limit who gets \
          what, so nothing of the object counts"
        ]
    );
    let served = parse(&pool("{addresses: [10.0.0.0/24], avoidBuggyIps: true}")).unwrap();
    let (object, unread) = served.unread().next().unwrap();
    assert_eq!(
        format!("{object} {}{}", unread.path, unread.advice()),
        "IPAddressPool default/p spec.avoidBuggyIps: avoidBuggyIPs was meant?"
    );
    assert_eq!(served.objects().count(), 1);

    let ingress = |field: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: i}}\n\
                 spec: {{rules: [{{{field}: a.example}}]}}\n"
        )
    };
    let list =
        format!("apiVersion: v1\nkind: List\nitems:\n- {}", ingress("Host").replace('\n', "\n  "));
    for (text, closed) in [(ingress("host"), false), (ingress("hosts"), true), (list, true)] {
        let manifest = parse(&text).unwrap();
        let placed = manifest.objects().next().unwrap();
        assert_eq!(placed.object.metadata().annotations.is_some(), closed, "{text}");
    }
}

#[test]
fn a_document_whose_text_did_not_change_keeps_its_object() {
    let first = parse(&format!("{SERVICE}---\n{SERVICE}  namespace: b\n")).unwrap();
    let text = format!("# moved\n---\n{SERVICE}  namespace: c\n---\n{SERVICE}  namespace: b\n");
    let second = Manifest::parse(&text, false, Some(&first), 1);
    let pointer = |manifest: &Manifest, name: &str| {
        let placed = manifest.objects().find(|placed| &*placed.name.key.namespace == name).unwrap();
        let Object::Service(service) = placed.object else { panic!() };
        (Arc::as_ptr(service), placed.line)
    };
    assert_eq!(pointer(&first, "b").0, pointer(&second, "b").0);
    assert_eq!((pointer(&first, "b").1, pointer(&second, "b").1), (5, 8));
}

#[test]
fn many_threads_give_what_one_gives() {
    let text: String =
        (0..1000).map(|index| format!("{SERVICE}  namespace: n{index}\n---\n")).collect();
    let one = Manifest::parse(&text, false, None, 1);
    let many = Manifest::parse(&text, false, None, 4);
    assert_eq!(names(&one), names(&many));
    assert_eq!(one.objects().count(), 1000);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[-.a-z:{}\\[\\]\"'&*#|>%\n \t]{0,80}", json in proptest::bool::ANY) {
        let _ = Manifest::parse(&text, json, None, 1);
        for kind in ["v1\nkind: Service", "networking.k8s.io/v1\nkind: Ingress", "v1\nkind: List"] {
            let document = format!("apiVersion: {kind}\nmetadata:\n  name: {text}");
            let _ = Manifest::parse(&document, json, None, 1);
        }
    }
}

#[test]
fn a_time_of_zero_is_one_that_was_not_given_in_the_older_version_of_a_bgp_peer() {
    for (version, expected) in [("v1beta1", None), ("v1beta2", Some("0s"))] {
        let text = format!(
            "{{apiVersion: metallb.io/{version}, kind: BGPPeer, metadata: {{name: tor}}, \
             spec: {{myASN: 1, peerASN: 2, holdTime: 0s}}}}"
        );
        let manifest = parse(&text).unwrap();
        let Object::BgpPeer(peer) = manifest.objects().next().unwrap().object else { panic!() };
        assert_eq!(peer.spec.hold_time.as_deref(), expected, "{version}");
    }
    let newer = "{apiVersion: metallb.io/v1, kind: BGPPeer, metadata: {name: tor}}";
    assert_eq!(parse(newer).unwrap().unsupported().count(), 1);
}
