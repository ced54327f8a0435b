//! What becomes of an annotation when its object is written as one of another kind.
//!
//! `convert` asks. An annotation that is read there goes along as it is; one that has an equal there is written as
//! that; anything else is told, and whether it protected: nothing is carried to where nobody reads it.

use super::{
    Annotation, ObjectKind, family_of, haproxy_route, is_class, nginx, openshift,
    reader::protects_elsewhere, table::Family, unknown, value::Setting,
};

/// What an annotation is on the other kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// These, which say the same: whole names and values.
    As(Vec<(String, String)>),
    /// These, which keep out whom it keeps out here, and what is not the same elsewhere.
    Near(Vec<(String, String)>, String),
    /// Nothing: it asks for nothing, or for what the fields of the object say.
    Said,
    /// Nothing there says it.
    Lost {
        /// It keeps clients out.
        protects: bool,
        why: String,
    },
}

/// Names whose meaning the fields of a Route take over, after the prefix of ingress-nginx.
const FIELDS_OF_ROUTES: [&str; 11] = [
    "backend-protocol",
    "canary",
    "canary-by-cookie",
    "canary-by-header",
    "canary-by-header-pattern",
    "canary-by-header-value",
    "canary-weight",
    "canary-weight-total",
    "force-ssl-redirect",
    "rewrite-target",
    "ssl-passthrough",
];
/// The same of names that are more than fields only where paths are expressions.
const WITH_PATHS: [&str; 2] = ["ssl-redirect", "use-regex"];
/// Names of which a Route has one for both, `response-memory`, which the conversion writes.
const AS_MEMORY: [&str; 2] = ["proxy-buffer-size", "proxy-buffers-number"];

/// What becomes of an annotation.
pub(crate) fn carry(from: ObjectKind, to: ObjectKind, full: &str, value: &str) -> Carried {
    let same = || Carried::As(vec![(full.to_owned(), value.to_owned())]);
    // What another program left for itself says nothing of the object.
    if full.starts_with("kubectl.kubernetes.io/") || is_class(full) {
        return Carried::Said;
    }
    let Some((family, name)) = family_of(full) else { return same() };
    let Some(row) = family.row(name) else {
        let paths = family.objects.iter().any(|kind| kind.has_paths());
        if !family.exclusive || !paths {
            return same();
        }
        let protects = unknown::judge(name, family, from).protects;
        let protects = protects.is_some_and(|parser| (parser.read)(value) != Ok(Setting::Nothing));
        return Carried::Lost { protects, why: "it is not known".to_owned() };
    };
    if !row.objects.contains(&from) {
        let protects = protects_elsewhere(row, value);
        return Carried::Lost {
            protects,
            why: format!("it has no effect on {}", from.with_article()),
        };
    }
    if row.objects.contains(&to) {
        return same();
    }
    match (row.parser.read)(value) {
        Err(_) => {
            let why = "its value cannot be read".to_owned();
            return Carried::Lost { protects: row.protects, why };
        }
        Ok(Setting::Nothing) => return Carried::Said,
        Ok(setting)
            if !row.default.is_empty() && (row.parser.read)(row.default) == Ok(setting.clone()) =>
        {
            return Carried::Said;
        }
        Ok(_) => {}
    }
    if to == ObjectKind::Route && is_said_by_fields(family, name) {
        return Carried::Said;
    }
    match equal(family, row, value) {
        // Elsewhere a Route is served by who does not know it.
        Some(list) if to == ObjectKind::Route && row.protects && list.iter().any(is_own) => {
            let why =
                "only Gatehouse reads it; OpenShift's router lets everybody in whom it keeps out";
            Carried::Near(list, why.to_owned())
        }
        Some(list) => Carried::As(list),
        None => Carried::Lost {
            protects: row.protects,
            why: format!("nothing on {} says the same", to.with_article()),
        },
    }
}

fn is_said_by_fields(family: &Family, name: &str) -> bool {
    if family.prefix == openshift::FAMILY.prefix {
        return ["destination-ca-certificate-secret", "termination", "reconcile-labels"]
            .contains(&name);
    }
    family.prefix == nginx::FAMILY.prefix
        && [&FIELDS_OF_ROUTES[..], &WITH_PATHS, &AS_MEMORY].iter().any(|list| list.contains(&name))
}

fn router_limit(name: &str, count: u32) -> Vec<(String, String)> {
    let prefix = haproxy_route::HAPROXY.prefix;
    let on = (format!("{prefix}rate-limit-connections"), "true".to_owned());
    vec![on, (format!("{prefix}rate-limit-connections.{name}"), count.to_string())]
}

/// Names of ingress-nginx that Routes have with our own prefix.
const OWN: [(&str, &str); 9] = [
    ("limit-allowlist", "limit-allowlist"),
    ("limit-burst-multiplier", "limit-burst-multiplier"),
    ("limit-rpm", "limit-rpm"),
    ("limit-rps", "limit-rps"),
    ("limit-whitelist", "limit-allowlist"),
    ("load-balance", "load-balance"),
    ("proxy-buffering", "response-buffering"),
    ("proxy-max-temp-file-size", "response-file"),
    ("proxy-request-buffering", "request-buffering"),
];

/// The annotations of the other kind that are equal to one.
fn equal(family: &Family, row: &Annotation, value: &str) -> Option<Vec<(String, String)>> {
    if family.prefix == super::gatehouse::FAMILY.prefix {
        let (nginx, _) = OWN.iter().find(|(_, own)| *own == row.name)?;
        return Some(vec![(format!("{}{nginx}", nginx::FAMILY.prefix), value.to_owned())]);
    }
    if family.prefix != nginx::FAMILY.prefix {
        return None;
    }
    let setting = (row.parser.read)(value).ok()?;
    let haproxy =
        |name: &str, value: String| (format!("{}{name}", haproxy_route::HAPROXY.prefix), value);
    let router =
        |name: &str, value: String| (format!("{}{name}", haproxy_route::ROUTER.prefix), value);
    let spaced = || value.split(',').map(str::trim).collect::<Vec<_>>().join(" ");
    let found = match (row.name, &setting) {
        ("whitelist-source-range", _) => vec![haproxy("ip_whitelist", spaced())],
        ("allowlist-source-range", _) => vec![haproxy("ip_allowlist", spaced())],
        (_, Setting::Connections(count)) => return Some(router_limit("concurrent-tcp", *count)),
        (_, Setting::PauseTimeout(time)) => {
            let time = format!("{}ms", time.as_millis().max(1));
            return Some(vec![haproxy("timeout", time.clone()), haproxy("timeout-tunnel", time)]);
        }
        // A Route has that cookie anyway.
        ("affinity", _) => return Some(Vec::new()),
        ("session-cookie-name", _) => return Some(vec![router("cookie_name", value.to_owned())]),
        ("session-cookie-samesite", _) => {
            return Some(vec![router("cookie-same-site", value.to_owned())]);
        }
        ("upstream-hash-by", _) => vec![own("hash-by", value)],
        (name, _) => {
            let (_, name) = OWN.iter().find(|(nginx, _)| *nginx == name)?;
            vec![own(name, value)]
        }
    };
    // The value must mean there what it means here.
    let means_same = found.iter().all(|(full, value)| {
        let row = family_of(full).and_then(|(family, name)| family.row(name));
        row.is_some_and(|row| (row.parser.read)(value) == Ok(setting.clone()))
    });
    means_same.then_some(found)
}

fn is_own((name, _): &(String, String)) -> bool {
    name.starts_with(super::gatehouse::FAMILY.prefix)
}

fn own(name: &str, value: &str) -> (String, String) {
    (format!("{}{name}", super::gatehouse::FAMILY.prefix), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ingress(name: &str, value: &str) -> Carried {
        let full = format!("{}{name}", nginx::FAMILY.prefix);
        carry(ObjectKind::Ingress, ObjectKind::Route, &full, value)
    }

    #[test]
    fn what_a_route_can_say_is_said_in_its_own_annotations_and_units() {
        let haproxy = |list: &[(&str, &str)]| {
            let whole = |(name, value): &(&str, &str)| {
                (format!("haproxy.router.openshift.io/{name}"), (*value).to_owned())
            };
            Carried::As(list.iter().map(whole).collect())
        };
        for (name, value, expected) in [
            (
                "whitelist-source-range",
                "10.0.0.0/8, 1.2.3.4",
                haproxy(&[("ip_whitelist", "10.0.0.0/8 1.2.3.4")]),
            ),
            ("allowlist-source-range", "fd00::/8", haproxy(&[("ip_allowlist", "fd00::/8")])),
            (
                "limit-connections",
                "7",
                haproxy(&[
                    ("rate-limit-connections", "true"),
                    ("rate-limit-connections.concurrent-tcp", "7"),
                ]),
            ),
            (
                "proxy-read-timeout",
                "90",
                haproxy(&[("timeout", "90000ms"), ("timeout-tunnel", "90000ms")]),
            ),
            (
                "proxy-read-timeout",
                "1h",
                haproxy(&[("timeout", "3600000ms"), ("timeout-tunnel", "3600000ms")]),
            ),
            ("affinity", "cookie", Carried::As(Vec::new())),
            ("ssl-redirect", "true", Carried::Said),
            ("limit-rps", "0", Carried::Said),
        ] {
            assert_eq!(of_ingress(name, value), expected, "{name}: {value}");
        }
    }

    #[test]
    fn limits_are_the_same_on_a_route_and_are_told_to_be_read_here_alone() {
        for (name, value, own) in [
            ("limit-rps", "5", "limit-rps"),
            ("limit-rpm", "5", "limit-rpm"),
            ("limit-rpm", "600", "limit-rpm"),
            ("limit-burst-multiplier", "1", "limit-burst-multiplier"),
            ("limit-allowlist", "10.0.0.0/8,1.2.3.4", "limit-allowlist"),
            ("limit-whitelist", "1.2.3.4", "limit-allowlist"),
        ] {
            let Carried::Near(list, told) = of_ingress(name, value) else { panic!("{name}") };
            let own = format!("{}{own}", super::super::gatehouse::FAMILY.prefix);
            assert_eq!(list, [(own.clone(), value.to_owned())]);
            assert!(told.contains("OpenShift's router"), "{told}");
            let Carried::As(back) = carry(ObjectKind::Route, ObjectKind::Ingress, &own, value)
            else {
                panic!("{own}")
            };
            let name = name.replace("whitelist", "allowlist");
            assert_eq!(back, [(format!("{}{name}", nginx::FAMILY.prefix), value.to_owned())]);
        }
        assert_eq!(of_ingress("limit-burst-multiplier", "5"), Carried::Said);
    }

    /// Whatever is added to the table of ingress-nginx: it is read on a Route, or told.
    #[test]
    fn no_annotation_is_carried_to_where_nobody_reads_it() {
        for (from, to) in
            [(ObjectKind::Ingress, ObjectKind::Route), (ObjectKind::Route, ObjectKind::Ingress)]
        {
            for (family, row) in
                super::super::FAMILIES.iter().flat_map(|it| it.rows().map(move |row| (it, row)))
            {
                for value in ["true", "5", "10.0.0.0/8", "cookie", "text", "on", "/x"] {
                    let full = format!("{}{}", family.prefix, row.name);
                    let list = match carry(from, to, &full, value) {
                        Carried::As(list) | Carried::Near(list, _) => list,
                        Carried::Said | Carried::Lost { .. } => continue,
                    };
                    for (full, _) in list {
                        let (family, name) = family_of(&full).unwrap();
                        let read = family.row(name).unwrap().objects.contains(&to);
                        let others = !family.objects.iter().any(|kind| kind.has_paths());
                        assert!(read || others, "{full}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_route_cannot_say_is_lost_and_whether_it_protected_is_known() {
        for (name, value, protecting) in [
            ("auth-url", "http://a/", true),
            ("auth-secret", "users", true),
            ("auth-tls-secret", "d/ca", true),
            ("denylist-source-range", "1.2.3.4", true),
            ("whitelist-source-range", "nonsense", true),
            ("limit-rate", "5", true),
            ("limit-whitelist", "nonsense", true),
            ("proxy-body-size", "1m", true),
            ("whitelist-source-rang", "1.2.3.4", true),
            ("configuration-snippet", "deny all;", true),
            ("enable-cors", "true", false),
            ("proxy-connect-timeout", "5", false),
            ("no-such-thing", "5", false),
        ] {
            let Carried::Lost { protects, .. } = of_ingress(name, value) else { panic!("{name}") };
            assert_eq!(protects, protecting, "{name}");
        }
    }
}
