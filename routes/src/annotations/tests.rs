use proptest::prelude::*;

use super::*;
use crate::objects::ObjectKey;

fn parse_one(name: &str, value: &str) -> (Settings, Vec<String>) {
    let object = ObjectRef::new("Ingress", ObjectKey::new("d", "a"));
    let annotations = Some([(name.to_owned(), value.to_owned())].into());
    let (settings, problems) = parse(&object, &ObjectMeta { annotations, ..ObjectMeta::default() });
    (settings, problems.iter().map(|problem| problem.reason.to_owned()).collect())
}

#[test]
fn the_table_is_sorted_and_every_default_can_be_read() {
    assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
    for row in TABLE {
        let (settings, problems) = parse_one(&format!("{PREFIX}{}", row.name), row.default);
        assert_eq!((settings, problems), (Settings::default(), vec![]), "{}", row.name);
        assert!(row.doc.ends_with('.'), "{}", row.name);
    }
}

#[test]
fn each_protection_that_is_not_supported_closes_the_ingress() {
    for row in TABLE.iter().filter(|row| row.kind == Kind::Protects) {
        let (settings, problems) = parse_one(&format!("{PREFIX}{}", row.name), "on");
        assert_eq!(settings.deny, Some("ProtectionNotSupported"), "{}", row.name);
        assert_eq!(problems, ["ProtectionNotSupported"]);
    }
}

#[test]
fn what_is_not_known_is_named_and_other_prefixes_are_left_alone() {
    let unknown = parse_one("nginx.ingress.kubernetes.io/proxy-body-size", "1m");
    assert_eq!(unknown, (Settings::default(), vec!["AnnotationIgnored".to_owned()]));
    assert_eq!(parse_one("traefik.io/x", "y"), (Settings::default(), vec![]));
}

#[test]
fn a_flag_that_cannot_be_read_keeps_its_default() {
    let (settings, problems) = parse_one("nginx.ingress.kubernetes.io/ssl-redirect", "yes");
    assert!(settings.ssl_redirect);
    assert_eq!(problems, ["InvalidAnnotation"]);
    let (settings, problems) = parse_one("nginx.ingress.kubernetes.io/ssl-redirect", "F");
    assert!(!settings.ssl_redirect && problems.is_empty());
}

#[test]
fn rewrite_targets_are_paths_with_numbered_references() {
    for (value, expected) in [
        ("/", Some(("/", false))),
        ("/new path/é", Some(("/new%20path/%C3%A9", false))),
        ("/$1/x$2", Some(("/$1/x$2", true))),
        ("$1", Some(("$1", true))),
        ("/$10", Some(("/$10", true))),
    ] {
        let (settings, problems) = parse_one("nginx.ingress.kubernetes.io/rewrite-target", value);
        let target = settings.rewrite.as_ref().map(|target| (&*target.text, target.captures));
        assert_eq!((target, problems), (expected, vec![]), "{value:?}");
    }
    for value in [
        "new",
        "https://a/",
        "http://a/",
        "/a?b=c",
        "/$host",
        "/$0",
        "/$",
        "/${1}",
        "/%2f",
        "/../x",
        "/$1\n/",
        "/$1 x",
        "/$1#",
    ] {
        let (settings, problems) = parse_one("nginx.ingress.kubernetes.io/rewrite-target", value);
        assert_eq!(settings.deny, Some("InvalidRewriteTarget"), "{value:?}");
        assert_eq!(problems, ["InvalidRewriteTarget"]);
    }
}

#[test]
fn a_canary_is_not_served_as_if_it_were_the_main_ingress() {
    let (settings, problems) = parse_one("nginx.ingress.kubernetes.io/canary", "true");
    assert!(settings.excluded);
    assert_eq!(problems, ["CanaryNotSupported"]);
    assert!(!parse_one("nginx.ingress.kubernetes.io/canary", "false").0.excluded);
}

proptest! {
    #[test]
    fn no_value_makes_it_panic(row in 0..TABLE.len(), value in "\\PC{0,40}|[\"';{}\\n\\x00$(]{0,20}") {
        let (settings, problems) = parse_one(&format!("{PREFIX}{}", TABLE[row].name), &value);
        // Whatever is not understood is said.
        prop_assert!(settings == Settings::default() || problems.len() <= 1);
    }
}
