//! How bad it is that a value has no effect, and which values mean to have none.

use super::*;

#[test]
fn what_cannot_be_read_is_an_error_where_answers_are_others_for_it_and_a_warning_where_it_tunes() {
    for (name, value, error) in [
        ("affinity", "cookies", true),
        ("ssl-redirect", "yes", true),
        ("app-root", "nope", true),
        ("server-alias", "a..b", true),
        ("upstream-vhost", "a b", true),
        ("proxy-cookie-path", "/ \"/; Domain=a.test\"", true),
        ("proxy-cookie-path", "/ /; secure", true),
        ("enable-cors", "maybe", true),
        // Names that are nearly one.
        ("afinity", "cookie", true),
        ("proxy-read-timeouts", "5", false),
        ("proxy-read-timeout", "soon", false),
        ("proxy-buffering", "maybe", false),
        ("load-balance", "best", false),
    ] {
        let (_, problems) = parse_on("Ingress", &format!("{NGINX}{name}"), value);
        let [problem] = &*problems else { panic!("{name}: {problems:?}") };
        assert_eq!(problem.is_error(), error, "{problem}");
    }
}

#[test]
fn a_word_that_switches_a_protection_off_closes_nothing_and_a_list_of_everybody_denied_is_none() {
    for (name, value, closed) in [
        ("whitelist-source-range", "off", false),
        ("whitelist-source-range", "none", true),
        ("denylist-source-range", "off", false),
        ("denylist-source-range", "None", false),
        ("limit-whitelist", "none", false),
        ("auth-type", "none", false),
        ("auth-type", "digests", true),
        ("auth-url", "off", false),
        ("auth-tls-verify-client", "false", false),
        ("ssl-passthrough", "", false),
        ("ssl-passthrough", "off", false),
        ("ssl-passthrough", "maybe", true),
        ("deny-everybody", "0.0.0.0/0,::/0", true),
        ("deny-everybody", "off", false),
    ] {
        let (settings, _) = parse_on("Ingress", &format!("{NGINX}{name}"), value);
        assert_eq!(settings.deny.is_some(), closed, "{name}: {value:?}");
    }
    for (name, closed) in [("haproxy.org/deny-list", true), ("haproxy.org/allow-list", false)] {
        let (settings, _) = parse_on("Ingress", name, "::/0, 0.0.0.0/0");
        assert_eq!(settings.deny.is_some(), closed, "{name}");
    }
}

#[test]
fn what_closes_a_path_is_told_before_what_only_changes_its_answers() {
    let object = ObjectRef::new("Ingress", ObjectKey::new("d", "a"));
    let all = [("affinity", "cookies"), ("whitelist-source-range", "nonsense")];
    let all = all.map(|(name, value)| (format!("{NGINX}{name}"), value.to_owned()));
    let metadata = ObjectMeta { annotations: Some(all.into()), ..ObjectMeta::default() };
    let (_, problems) = parse(&object, &metadata);
    assert!(problems[0].field.contains("whitelist"), "{problems:?}");
    assert_eq!(problems.len(), 2);
}
