use super::*;
use crate::testing::objects;

const CLASSES: &str = "
kind: IngressClass
metadata: {name: ours}
spec: {controller: gatehouse.io/ingress}
---
kind: IngressClass
metadata: {name: edge}
spec:
  controller: gatehouse.io/ingress
  parameters: {kind: Service, scope: Namespace, namespace: gw, name: edge}
---
kind: IngressClass
metadata: {name: broken}
spec:
  controller: gatehouse.io/ingress
  parameters: {apiGroup: x.io, kind: Thing, name: edge}
---
kind: IngressClass
metadata: {name: theirs}
spec: {controller: k8s.io/ingress-nginx}
";

fn ingress(class: Option<&str>, legacy: Option<&str>) -> Ingress {
    let mut ingress = Ingress::default();
    ingress.metadata.annotations =
        legacy.map(|name| [("kubernetes.io/ingress.class".to_owned(), name.to_owned())].into());
    ingress.spec.get_or_insert_default().ingress_class_name = class.map(str::to_owned);
    ingress
}

/// `ours`, `ours at GATEWAY`, `foreign` or `unknown`.
fn claim(yaml: &str, options: &Options, class: Option<&str>, legacy: Option<&str>) -> String {
    let objects = objects(yaml);
    let (classes, _) = Classes::new(&objects, options);
    match classes.claim(&ingress(class, legacy)) {
        Claim::Ours { unread: Some(why), .. } => format!("closed: {why}"),
        Claim::Ours { gateway: None, .. } => "ours".into(),
        Claim::Ours { gateway: Some(gateway), .. } => format!("ours at {gateway}"),
        Claim::Foreign => "foreign".into(),
        Claim::Unknown { .. } => "unknown".into(),
    }
}

#[test]
fn ownership_goes_by_the_controller_and_by_claimed_names() {
    let options = Options::default();
    let claiming =
        Options { claim_classes: vec!["nginx".into(), "theirs".into()], ..Options::default() };
    for (options, class, legacy, expected) in [
        (&options, Some("ours"), None, "ours"),
        (&options, None, Some("ours"), "ours"),
        (&options, Some("edge"), None, "ours at gw/edge"),
        (&options, Some("broken"), None, "ours"),
        (&options, Some("theirs"), None, "foreign"),
        (&options, Some("nginx"), None, "unknown"),
        (&options, None, Some("nginx"), "unknown"),
        (&options, None, None, "foreign"),
        // the field beats the annotation
        (&options, Some("ours"), Some("theirs"), "ours"),
        (&options, Some("theirs"), Some("ours"), "foreign"),
        (&claiming, None, Some("nginx"), "ours"),
        (&claiming, Some("theirs"), None, "ours"),
    ] {
        assert_eq!(claim(CLASSES, options, class, legacy), expected, "{class:?} {legacy:?}");
    }
}

#[test]
fn an_ingress_without_a_class_needs_a_default_class_of_ours() {
    let options = Options::default();
    let default = |name: &str| {
        let from = format!("metadata: {{name: {name}}}");
        let annotations = "annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}";
        CLASSES.replace(&from, &format!("metadata: {{name: {name}, {annotations}}}"))
    };
    assert_eq!(claim(&default("edge"), &options, None, None), "ours at gw/edge");
    assert_eq!(claim(&default("theirs"), &options, None, None), "foreign");
    assert_eq!(claim("", &options, None, None), "ours");
    assert_eq!(claim("", &options, Some("nginx"), None), "unknown");
}

#[test]
fn ingresses_of_a_class_that_cannot_be_read_are_closed_unless_it_is_surely_anothers() {
    let unread = |controller: &str, default: bool| {
        format!(
            "kind: IngressClass\nmetadata: {{name: bad, annotations: {{gatehouse.io/unreadable: 'spec: torn', \
             ingressclass.kubernetes.io/is-default-class: '{default}'}}}}\nspec: {{{controller}}}\n---\n{CLASSES}"
        )
    };
    let options = Options::default();
    let claiming = Options { claim_classes: vec!["bad".into()], ..Options::default() };
    let closed = "closed: IngressClass bad cannot be read: spec: torn";
    let theirs = "controller: k8s.io/ingress-nginx";
    for (options, controller, class, expected) in [
        (&options, "controller: gatehouse.io/ingress", Some("bad"), closed),
        (&options, "", Some("bad"), closed),
        (&options, "", None, closed),
        (&options, theirs, Some("bad"), "foreign"),
        (&options, theirs, None, "foreign"),
        (&claiming, "", Some("bad"), closed),
        // Ours by its name, whatever it says of its own controller.
        (&claiming, theirs, Some("bad"), "ours"),
        (&options, "", Some("ours"), "ours"),
    ] {
        let found = claim(&unread(controller, true), options, class, None);
        assert_eq!(found, expected, "{controller} {class:?}");
    }
    assert_eq!(claim(&unread("", false), &options, None, None), "foreign");
    let annotations = "annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}";
    let with_default = unread("", true)
        .replace("metadata: {name: ours}", &format!("metadata: {{name: ours, {annotations}}}"));
    assert_eq!(claim(&with_default, &options, None, None), "ours", "the one that can be read");
}

#[test]
fn a_class_without_a_name_that_can_be_read_closes_what_nothing_else_defines() {
    let nameless = |controller: &str| {
        format!(
            "kind: IngressClass\nmetadata: {{name: unnamed-1, annotations: {{gatehouse.io/unreadable: 'name: torn', \
             gatehouse.io/unnamed: 'true'}}}}\nspec: {{{controller}}}\n---\n{CLASSES}"
        )
    };
    let options = Options::default();
    let claiming = Options { claim_classes: vec!["nginx".into()], ..Options::default() };
    let closed = "closed: nothing else defines the class, and an IngressClass whose name is not known cannot be read: \
                  name: torn";
    let ours = "controller: gatehouse.io/ingress";
    let theirs = "controller: k8s.io/ingress-nginx";
    for (options, controller, class, legacy, expected) in [
        (&options, ours, Some("web"), None, closed),
        (&options, "", Some("web"), None, closed),
        (&options, "", None, Some("web"), closed),
        (&options, "", Some("edge"), None, "ours at gw/edge"),
        (&options, "", Some("theirs"), None, "foreign"),
        (&options, "", None, None, "foreign"),
        (&options, theirs, Some("web"), None, "unknown"),
        (&claiming, "", Some("nginx"), None, "ours"),
        (&claiming, "", Some("web"), None, closed),
    ] {
        let found = claim(&nameless(controller), options, class, legacy);
        assert_eq!(found, expected, "{controller} {class:?} {legacy:?}");
    }
}

#[test]
fn classes_without_parameters_are_served_on_the_default_gateway() {
    let gateway = Some(ObjectKey::new("gw", "main"));
    let options = Options { default_gateway: gateway, ..Options::default() };
    assert_eq!(claim(CLASSES, &options, Some("ours"), None), "ours at gw/main");
    assert_eq!(claim(CLASSES, &options, Some("edge"), None), "ours at gw/edge");
    assert_eq!(claim(CLASSES, &options, Some("broken"), None), "ours");
    assert_eq!(claim("", &options, None, None), "ours at gw/main");
    let objects = objects(CLASSES);
    let names: Vec<_> =
        Classes::new(&objects, &options).0.gateways().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["gw/edge", "gw/main"]);
}

#[test]
fn parameters_that_name_no_service_are_a_problem_of_the_class() {
    let objects = objects(CLASSES);
    let (_, problems) = Classes::new(&objects, &Options::default());
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(problem.object.to_string(), "IngressClass broken");
    assert_eq!(
        (problem.reason, &*problem.field),
        ("InvalidParameters", "spec.parameters.apiGroup")
    );
    assert!(problem.message.contains("plain addresses only"), "{}", problem.message);
}
