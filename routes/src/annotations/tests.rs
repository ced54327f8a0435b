use std::{fmt::Write as _, fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::objects::ObjectKey;

mod effects;
mod isolation;

const NGINX: &str = "nginx.ingress.kubernetes.io/";
const HAPROXY: &str = "haproxy.router.openshift.io/";

/// What ingress-nginx publishes in `annotations-risk.md` of version 1.15.1, names only.
const PUBLISHED: &str = "
affinity affinity-canary-behavior affinity-mode allowlist-source-range app-root auth-always-set-cookie
auth-cache-duration auth-cache-key auth-keepalive auth-keepalive-requests auth-keepalive-share-vars
auth-keepalive-timeout auth-method auth-proxy-set-headers auth-realm auth-request-redirect
auth-response-headers auth-secret auth-secret-type auth-signin auth-signin-redirect-param auth-snippet
auth-tls-error-page auth-tls-match-cn auth-tls-pass-certificate-to-upstream auth-tls-secret
auth-tls-verify-client auth-tls-verify-depth auth-type auth-url backend-protocol canary canary-by-cookie
canary-by-header canary-by-header-pattern canary-by-header-value canary-weight canary-weight-total
client-body-buffer-size configuration-snippet connection-proxy-header cors-allow-credentials
cors-allow-headers cors-allow-methods cors-allow-origin cors-expose-headers cors-max-age custom-headers
custom-http-errors default-backend denylist-source-range disable-proxy-intercept-errors enable-access-log
enable-cors enable-global-auth enable-modsecurity enable-opentelemetry enable-owasp-core-rules
enable-rewrite-log fastcgi-index fastcgi-params-configmap force-ssl-redirect from-to-www-redirect
http2-push-preload limit-allowlist limit-burst-multiplier limit-connections limit-rate limit-rate-after
limit-rpm limit-rps load-balance mirror-host mirror-request-body mirror-target modsecurity-snippet
modsecurity-transaction-id opentelemetry-operation-name opentelemetry-trust-incoming-span
permanent-redirect permanent-redirect-code preserve-trailing-slash proxy-body-size proxy-buffer-size
proxy-buffering proxy-buffers-number proxy-busy-buffers-size proxy-connect-timeout proxy-cookie-domain
proxy-cookie-path proxy-http-version proxy-max-temp-file-size proxy-next-upstream
proxy-next-upstream-timeout proxy-next-upstream-tries proxy-read-timeout proxy-redirect-from
proxy-redirect-to proxy-request-buffering proxy-send-timeout proxy-ssl-ciphers proxy-ssl-name
proxy-ssl-protocols proxy-ssl-secret proxy-ssl-server-name proxy-ssl-verify proxy-ssl-verify-depth
relative-redirects rewrite-target satisfy server-alias server-snippet service-upstream
session-cookie-change-on-failure session-cookie-conditional-samesite-none session-cookie-domain
session-cookie-expires session-cookie-max-age session-cookie-name session-cookie-partitioned
session-cookie-path session-cookie-samesite session-cookie-secure ssl-ciphers ssl-passthrough
ssl-prefer-server-ciphers ssl-redirect stream-snippet temporal-redirect temporal-redirect-code
upstream-hash-by upstream-hash-by-subset upstream-hash-by-subset-size upstream-vhost
use-port-in-redirects use-regex whitelist-source-range limit-whitelist x-forwarded-prefix
";

/// What OpenShift's router reads of a Route.
const PUBLISHED_OF_ROUTES: &str = "
haproxy.router.openshift.io/balance haproxy.router.openshift.io/disable_cookies
haproxy.router.openshift.io/h1-adjust-case haproxy.router.openshift.io/hsts_header
haproxy.router.openshift.io/ip_allowlist haproxy.router.openshift.io/ip_whitelist
haproxy.router.openshift.io/pod-concurrent-connections haproxy.router.openshift.io/rate-limit-connections
haproxy.router.openshift.io/rate-limit-connections.concurrent-tcp
haproxy.router.openshift.io/rate-limit-connections.rate-http
haproxy.router.openshift.io/rate-limit-connections.rate-tcp haproxy.router.openshift.io/rewrite-target
haproxy.router.openshift.io/set-forwarded-headers haproxy.router.openshift.io/timeout
haproxy.router.openshift.io/timeout-tunnel router.openshift.io/cookie-same-site
router.openshift.io/cookie_name router.openshift.io/haproxy.health.check.interval
";

fn parse_on(kind: &'static str, name: &str, value: &str) -> (Settings, Vec<Problem>) {
    let object = ObjectRef::new(kind, ObjectKey::new("d", "a"));
    let annotations = Some([(name.to_owned(), value.to_owned())].into());
    parse(&object, &ObjectMeta { annotations, ..ObjectMeta::default() })
}

/// Of an Ingress with one annotation of ingress-nginx.
fn parse_one(name: &str, value: &str) -> (Settings, Vec<&'static str>) {
    let (settings, problems) = parse_on("Ingress", &format!("{NGINX}{name}"), value);
    (settings, problems.iter().map(|problem| problem.reason).collect())
}

/// Every row, with its family and a kind that it is read on.
fn rows() -> impl Iterator<Item = (&'static Family, &'static Annotation, &'static str)> {
    let rows = |family: &'static Family| family.rows().map(move |row| (family, row));
    let kinds = |row: &'static Annotation| row.objects.iter().map(|kind| kind.name());
    let all = FAMILIES.into_iter().flat_map(rows);
    all.flat_map(move |(family, row)| kinds(row).map(move |kind| (family, row, kind)))
}

#[test]
fn the_table_is_in_order_and_every_default_can_be_read() {
    for family in FAMILIES {
        for rows in family.subjects {
            assert!(rows.is_sorted_by(|a, b| a.name < b.name), "{}", family.prefix);
        }
    }
    for (family, row, kind) in rows() {
        let full = format!("{}{}", family.prefix, row.name);
        assert!(row.doc.ends_with('.'), "{full}");
        let closes = matches!(row.status, Status::Closes);
        assert!(row.protects || !closes, "{full} closes, so it protects");
        assert!(!row.protects || closes || row.status == Status::Honoured, "{full}");
        assert!(row.objects.iter().all(|kind| family.objects.contains(kind)), "{full}");
        for value in row.nothing().iter().chain([&"", &row.default]) {
            if value.is_empty() && row.status == Status::Honoured {
                continue;
            }
            let (settings, problems) = parse_on(kind, &full, value);
            assert_eq!((settings, problems), (DEFAULTS.clone(), vec![]), "{full}: {value:?}");
        }
    }
}

#[test]
fn every_published_annotation_has_a_verdict() {
    let nginx = PUBLISHED.split_whitespace().map(|name| (format!("{NGINX}{name}"), "Ingress"));
    let routes = PUBLISHED_OF_ROUTES.split_whitespace().map(|name| (name.to_owned(), "Route"));
    for (full, kind) in nginx.chain(routes) {
        let (family, name) = family_of(&full).unwrap();
        let row = family.row(name).unwrap_or_else(|| panic!("{full} has no row"));
        assert!(row.objects.iter().any(|on| on.name() == kind), "{full} is not read on a {kind}");
    }
}

/// The names that must never be served as if they were not there, whatever is built.
#[test]
fn a_published_name_that_protects_is_marked_so() {
    let begins = ["limit-", "auth-", "proxy-ssl-", "modsecurity-", "enable-modsecurity"];
    let others = [
        "allowlist-source-range",
        "backend-protocol",
        "custom-headers",
        "denylist-source-range",
        "enable-global-auth",
        "enable-owasp-core-rules",
        "proxy-body-size",
        "rewrite-target",
        "satisfy",
        "ssl-ciphers",
        "ssl-passthrough",
        "whitelist-source-range",
    ];
    for name in PUBLISHED.split_whitespace() {
        let protects = begins.iter().any(|begin| name.starts_with(begin))
            || name.ends_with("-snippet")
            || others.contains(&name);
        let row = nginx::FAMILY.row(name).unwrap();
        assert_eq!(row.protects, protects, "{name}");
    }
}

#[test]
fn each_protection_that_is_not_built_closes_and_says_how_to_open() {
    for (family, row, kind) in rows().filter(|(_, row, _)| row.status == Status::Closes) {
        let full = format!("{}{}", family.prefix, row.name);
        let (settings, problems) = parse_on(kind, &full, "7");
        if full == gatehouse::unread_fields() {
            assert_eq!((settings.deny, &*problems[0].field), (Some("UnknownField"), "7"));
            continue;
        }
        if full == gatehouse::unreadable() {
            let (settings, problems) = parse_on(kind, &full, "spec.x: it is torn: off");
            assert_eq!(settings.deny, Some("ObjectUnreadable"));
            assert_eq!(&*problems[0].field, "spec.x");
            assert!(problems[0].message.contains("read: it is torn: off; so every path is closed"));
            continue;
        }
        assert_eq!(settings.deny, Some("ProtectionNotSupported"), "{full}");
        let [problem] = &problems[..] else { panic!("{full}: {problems:?}") };
        assert_eq!(problem.reason, "ProtectionNotSupported");
        assert_eq!(problem.severity, crate::problem::Severity::Error);
        assert_eq!(problem.field, format!("metadata.annotations[{full}]"));
        assert!(problem.message.contains("\"7\""), "{}", problem.message);
        let remedy = if row.remedy.is_empty() { "remove the annotation" } else { row.remedy };
        assert!(problem.hint.starts_with(remedy), "{}", problem.hint);
        assert_eq!(settings.deny_host, row.of_host, "{full}");
    }
}

#[test]
fn what_does_not_protect_is_served_with_a_warning() {
    for (family, row, kind) in rows() {
        if let Status::Harmless = row.status {
            let full = format!("{}{}", family.prefix, row.name);
            let (settings, problems) = parse_on(kind, &full, "7");
            assert_eq!(settings, *DEFAULTS, "{full}");
            let reasons: Vec<_> = problems.iter().map(|problem| problem.reason).collect();
            assert_eq!(reasons, ["AnnotationIgnored"], "{full}");
            assert!(!problems[0].is_error(), "{full}");
        }
    }
}

#[test]
fn a_name_without_a_row_closes_if_it_protects_and_warns_if_not() {
    const CLOSED: Option<&str> = Some("ProtectionNotSupported");
    for (kind, name, value, deny, said) in [
        // By its words.
        ("Ingress", "nginx.ingress.kubernetes.io/jwt-verify", "on", CLOSED, "is not known"),
        (
            "Ingress",
            "nginx.ingress.kubernetes.io/location-snippet",
            "deny all;",
            CLOSED,
            "is not known",
        ),
        (
            "Ingress",
            "nginx.ingress.kubernetes.io/Lua-Resty-WAF-Mode",
            "active",
            CLOSED,
            "is not known",
        ),
        ("Ingress", "gatehouse.io/rate-limit", "10", CLOSED, "is not known"),
        ("Route", "gatehouse.io/basic-auth", "users", CLOSED, "is not known"),
        ("Route", "haproxy.router.openshift.io/ip_denylist_x", "10.0.0.1", CLOSED, "is not known"),
        ("Ingress", "haproxy.router.openshift.io/secure-backends", "1", CLOSED, "is not known"),
        ("Ingress", "nginx.ingress.kubernetes.io/jwt-verify", "false", None, "no effect"),
        ("Ingress", "nginx.ingress.kubernetes.io/jwt-verify", "None", None, "no effect"),
        ("Ingress", "gatehouse.io/allow-from", "::/0 0.0.0.0/0", None, "no effect"),
        // By the name that was meant.
        (
            "Ingress",
            "nginx.ingress.kubernetes.io/proxy-body-sise",
            "1m",
            CLOSED,
            "proxy-body-size was meant?",
        ),
        (
            "Ingress",
            "nginx.ingress.kubernetes.io/proxy_body_size",
            "1m",
            CLOSED,
            "proxy-body-size was meant?",
        ),
        ("Ingress", "nginx.ingress.kubernetes.io/satisy", "any", CLOSED, "satisfy was meant?"),
        (
            "Ingress",
            "nginx.ingress.kubernetes.io/backend-protocl",
            "HTTPS",
            CLOSED,
            "backend-protocol was meant?",
        ),
        (
            "Ingress",
            "nginx.ingress.kubernetes.io/backend-protocl",
            "HTTP",
            None,
            "backend-protocol was meant?",
        ),
        (
            "Ingress",
            "nginx.ingress.kubernetes.io/whitelist-source-ranges",
            "0.0.0.0/0,::/0",
            None,
            "whitelist-source-range was meant?",
        ),
        (
            "Route",
            "haproxy.router.openshift.io/ip-whitelist",
            "10.0.0.1",
            CLOSED,
            "ip_whitelist was meant?",
        ),
        (
            "Ingress",
            "nginx.ingress.kubernetes.io/rewrite-traget",
            "/",
            CLOSED,
            "rewrite-target was meant?",
        ),
        (
            "Ingress",
            "nginx.ingress.kubernetes.io/ssl-redirct",
            "false",
            None,
            "ssl-redirect was meant?",
        ),
        // Neither.
        ("Ingress", "nginx.ingress.kubernetes.io/proxy-colour", "blue", None, "no effect"),
        ("Route", "haproxy.router.openshift.io/colour", "blue", None, "no effect"),
        ("Service", "metallb.io/loadbalancerips", "10.0.0.1", None, "loadBalancerIPs was meant?"),
        ("Service", "metallb.io/deny-all", "true", None, "no effect"),
        ("Service", "gatehouse.io/source-ranges", "10.0.0.0/8", CLOSED, "no port is passed on"),
        ("Service", "gatehouse.io/proxy-protocl", "v2", CLOSED, "proxy-protocol was meant?"),
        ("Service", "gatehouse.io/tls-secrt", "pair", CLOSED, "tls-secret was meant?"),
        ("Service", "gatehouse.io/fowarding", "kernel", None, "forwarding was meant?"),
        ("IPAddressPool", "gatehouse.io/drian", "true", None, "no effect"),
    ] {
        let (settings, problems) = parse_on(kind, name, value);
        assert_eq!(settings.deny, deny, "{name}: {value}");
        let [problem] = &problems[..] else { panic!("{name}: {problems:?}") };
        assert!(problem.message.contains(said), "{name}: {}", problem.message);
        assert_eq!(problem.field, format!("metadata.annotations[{name}]"));
    }
}

#[test]
fn a_version_of_the_proxy_protocol_that_is_none_closes_an_empty_one_too() {
    for (value, deny) in [("v1", None), (" V2 ", None), ("", Some("InvalidAnnotation"))] {
        for kind in ["Ingress", "Route", "Service"] {
            let (settings, problems) = parse_on(kind, "gatehouse.io/proxy-protocol", value);
            assert_eq!(settings.deny, deny, "{value:?} on {kind}");
            assert_eq!(problems.iter().any(Problem::is_error), deny.is_some(), "{problems:?}");
        }
    }
}

#[test]
fn other_prefixes_and_other_kinds_are_left_alone() {
    for (kind, name) in [
        ("Ingress", "traefik.io/whitelist"),
        ("Ingress", "kubernetes.io/auth"),
        ("Ingress", "metallb.io/address-pool"),
        ("Route", "metallb.io/address-pool"),
        ("Service", "nginx.ingress.kubernetes.io/auth-url"),
        ("Pod", "nginx.ingress.kubernetes.io/auth-url"),
    ] {
        assert_eq!(parse_on(kind, name, "x"), (DEFAULTS.clone(), vec![]), "{name} on {kind}");
    }
    let (_, problems) = parse_on("Ingress", "gatehouse.io/drain", "true");
    assert!(problems[0].hint.contains("IPAddressPool"), "{problems:?}");
}

#[test]
fn a_flag_that_cannot_be_read_keeps_its_default() {
    let (settings, problems) = parse_one("ssl-redirect", "yes");
    assert!(settings.ssl_redirect);
    assert_eq!(problems, ["InvalidAnnotation"]);
    let (settings, problems) = parse_one("ssl-redirect", "F");
    assert!(!settings.ssl_redirect && problems.is_empty());
}

#[test]
fn each_honoured_flag_sets_its_own_field_and_no_other() {
    let with = |change: fn(&mut Settings)| {
        let mut settings = DEFAULTS.clone();
        change(&mut settings);
        (settings, vec![])
    };
    assert_eq!(parse_one("use-regex", "true"), with(|s| s.use_regex = true));
    assert_eq!(parse_one("ssl-redirect", "false"), with(|s| s.ssl_redirect = false));
    assert_eq!(parse_one("force-ssl-redirect", "true"), with(|s| s.force_ssl_redirect = true));
    let termination = parse_on("Ingress", "route.openshift.io/termination", "edge");
    assert_eq!(termination, (with(|s| s.termination = Some(Termination::Edge)).0, vec![]));
}

#[test]
fn what_has_no_effect_is_one_line_with_its_list() {
    let names = ["proxy-busy-buffers-size", "enable-opentracing", "enable-opentelemetry"];
    let all = names.map(|name| (format!("{NGINX}{name}"), "true".to_owned()));
    let object = ObjectRef::new("Ingress", ObjectKey::new("d", "a"));
    let annotations = Some(all.into());
    let (_, problems) = parse(&object, &ObjectMeta { annotations, ..ObjectMeta::default() });
    let [problem] = &*problems else { panic!("{problems:?}") };
    assert!(!problem.is_error());
    assert_eq!(problem.field, "metadata.annotations");
    for name in names {
        assert_eq!(problem.to_string().matches(name).count(), 1, "{problem}");
    }
}

#[test]
fn no_name_stands_twice_in_a_line() {
    for (family, row, kind) in rows() {
        let full = format!("{}{}", family.prefix, row.name);
        for problem in parse_on(kind, &full, "certainly not").1 {
            let line = problem.to_string();
            // Those that the reader of an object sets are not what is wrong.
            let told = ["UnknownField", gatehouse::UNREADABLE_REASON].contains(&problem.reason);
            assert!(line.matches(&full).count() == 1 || told, "{line}");
        }
    }
}

#[test]
fn annotations_of_other_controllers_are_named_and_those_that_protect_close() {
    for (name, value, closed, error) in [
        ("haproxy.org/allow-list", "10.0.0.0/8", true, true),
        ("traefik.ingress.kubernetes.io/router.middlewares", "d-auth@kubernetescrd", true, true),
        ("alb.ingress.kubernetes.io/inbound-cidrs", "10.0.0.0/8", true, true),
        ("konghq.com/plugins", "key-auth", true, true),
        ("ingress.kubernetes.io/ssl-redirect", "true", false, true),
        ("projectcontour.io/response-timeout", "5s", false, false),
    ] {
        for kind in ["Ingress", "Route"] {
            let (settings, problems) = parse_on(kind, name, value);
            assert_eq!(settings.deny.is_some(), closed, "{name}");
            let [problem] = &*problems else { panic!("{name}: {problems:?}") };
            assert_eq!(problem.is_error(), error, "{problem}");
            assert!(problem.to_string().contains(name) && !problem.hint.is_empty(), "{problem}");
        }
        assert_eq!(parse_on("Service", name, value), (DEFAULTS.clone(), vec![]));
    }
}

#[test]
fn a_rewrite_target_that_cannot_be_used_closes() {
    let (settings, problems) = parse_one("rewrite-target", "new");
    assert_eq!(settings.deny, Some("InvalidRewriteTarget"));
    assert_eq!(problems, ["InvalidRewriteTarget"]);
    assert_eq!(parse_one("rewrite-target", "").0, *DEFAULTS);
}

#[test]
fn a_canary_is_one_only_if_it_says_so() {
    assert!(parse_one("canary", "true").0.canary.is_on());
    for (name, value) in [("canary", "false"), ("canary", "yes"), ("canary-weight", "50")] {
        assert!(!parse_one(name, value).0.canary.is_on(), "{name}: {value}");
    }
}

#[test]
fn a_message_repeats_a_long_value_in_part() {
    let (_, problems) = parse_on("Ingress", &format!("{HAPROXY}ip_whitelist"), &"é ".repeat(500));
    assert!(problems[0].message.len() < 300, "{}", problems[0].message);
}

/// A name that some file matches by itself would be a row that the table does not know of.
#[test]
fn no_name_is_spelled_outside_the_table() {
    let mut literals = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for source in ["routes/src", "vip/src", "gateway/src"] {
        read_sources(&root.join(source), &mut literals);
    }
    let spelled = |text: &str| literals.contains(&format!("\"{text}\""));
    for family in FAMILIES {
        assert!(!spelled(family.prefix), "{}", family.prefix);
        for row in family.rows() {
            let full = format!("{}{}", family.prefix, row.name);
            assert!(!spelled(&full), "{full}");
            // Some names are words that mean something else elsewhere, or headers.
            let own = row.name.contains(['-', '_']) && !row.name.starts_with("x-");
            assert!(!own || !spelled(row.name), "{}", row.name);
        }
    }
}

/// Appends all sources below a folder but the table's own and tests.
#[expect(clippy::disallowed_methods, reason = "a test of the sources reads them")]
fn read_sources(folder: &Path, out: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let skipped = ["annotations", "annotations.rs", "testing", "tests", "tests.rs"];
        if skipped.contains(&name) || name.ends_with("_tests.rs") {
            continue;
        }
        if path.is_dir() {
            read_sources(&path, out);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let _ = writeln!(out, "{code}");
        }
    }
}

proptest! {
    #[test]
    fn no_value_makes_it_panic(at in 0..usize::MAX, value in "\\PC{0,40}|[\"';{}\\n\\x00$(]{0,20}") {
        let all: Vec<_> = rows().collect();
        let (family, row, kind) = all[at % all.len()];
        let (settings, problems) = parse_on(kind, &format!("{}{}", family.prefix, row.name), &value);
        // Whatever is not understood is said.
        let of_fields = problems.iter().all(|problem| problem.reason == "UnknownField");
        prop_assert!(settings == *DEFAULTS || problems.len() <= 1 || of_fields);
    }

    #[test]
    fn no_name_makes_it_panic(name in "\\PC{0,80}") {
        for family in FAMILIES {
            for kind in family.objects {
                let _ = parse_on(kind.name(), &format!("{}{name}", family.prefix), "x");
            }
        }
    }
}

#[test]
fn a_protection_of_ingresses_closes_a_route_and_the_rest_of_them_is_named() {
    const ROUTE: &str = "Route";
    const INGRESS: &str = "Ingress";
    let closed = |kind, name: &str, value: &str| {
        let (settings, problems) = parse_on(kind, name, value);
        assert_eq!(settings.deny.is_some(), problems.iter().any(|it| it.is_error()), "{name}");
        let open = || assert!(!problems.is_empty(), "{name}: {value} without a word");
        settings.deny.is_none().then(open);
        settings.deny.is_some()
    };
    for (name, value) in [
        ("whitelist-source-range", "10.0.0.0/8"),
        ("auth-url", "http://a.b/"),
        ("auth-secret", "users"),
        ("limit-rps", "5"),
        ("limit-rpss", "5"),
        ("configuration-snippet", "deny all;"),
        ("proxy-body-size", "1m"),
        ("no-such-limit", "5"),
    ] {
        assert!(closed(ROUTE, &format!("nginx.ingress.kubernetes.io/{name}"), value), "{name}");
    }
    for (name, value) in [
        ("proxy-read-timeout", "5"),
        ("enable-cors", "true"),
        ("limit-rps", "0"),
        ("auth-tls-pass-certificate-to-upstream", "false"),
        ("backend-protocol", "HTTP"),
        ("no-such-thing", "5"),
    ] {
        assert!(!closed(ROUTE, &format!("nginx.ingress.kubernetes.io/{name}"), value), "{name}");
    }
    // Those of Routes are read on an Ingress.
    for (name, value, denied) in [
        ("ip_allowlist", "nonsense", true),
        ("ip_allowlst", "10.0.0.0/8", true),
        ("rate-limit-connections", "maybe", true),
    ] {
        assert_eq!(
            closed(INGRESS, &format!("haproxy.router.openshift.io/{name}"), value),
            denied,
            "{name}"
        );
    }
    let allow = "haproxy.router.openshift.io/ip_allowlist";
    assert_ne!(parse_on(INGRESS, allow, "10.0.0.0/8").0.addresses, AddressRules::default());
    for row in rows().filter(|(family, row, _)| {
        family.objects.iter().any(|kind| kind.has_paths())
            && row.protects
            && !row.objects.contains(&ObjectKind::Route)
            // Whether that is a loss goes by what the object says of its TLS.
            && row.name != gatehouse::TLS_SECRET.name
    }) {
        let (family, row, _) = row;
        let full = format!("{}{}", family.prefix, row.name);
        // But for those whose values mean nothing anywhere.
        let values = ["text", "true", "7", "10.0.0.0/8", "on"];
        let means = |value: &&str| (row.parser.read)(value) != Ok(Setting::Nothing);
        let mut meant = values.into_iter().filter(means).peekable();
        let means_nothing = meant.peek().is_none();
        assert!(means_nothing || meant.any(|value| closed(ROUTE, &full, value)), "{full}");
    }
}

#[test]
fn a_route_counts_and_keeps_answers_as_the_ingress_of_the_same_words() {
    let read = |kind, annotations: &[(&str, &str)]| {
        let object = ObjectRef::new(kind, ObjectKey::new("d", "a"));
        let whole = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let annotations = Some(annotations.iter().map(whole).collect());
        let metadata = ObjectMeta { annotations, ..ObjectMeta::default() };
        let (settings, problems) = parse(&object, &metadata);
        assert_eq!(problems, [], "{metadata:?}");
        let limits = settings.filters(&object).into_iter().filter_map(|filter| match filter {
            Filter::RateLimit(it) => Some((it.interval, it.burst, it.exempt.clone(), it.status)),
            _ => None,
        });
        (limits.collect::<Vec<_>>(), settings.policy(&object, None).answers)
    };
    let nginx: Vec<(String, &str)> = [
        ("limit-rps", "5"),
        ("limit-rpm", "7"),
        ("limit-burst-multiplier", "3"),
        ("limit-allowlist", "10.0.0.0/8"),
        ("proxy-buffering", "on"),
        ("proxy-buffer-size", "64k"),
        ("proxy-buffers-number", "2"),
        ("proxy-max-temp-file-size", "1m"),
    ]
    .map(|(name, value)| (format!("{NGINX}{name}"), value))
    .into();
    let nginx: Vec<(&str, &str)> = nginx.iter().map(|(name, value)| (&**name, *value)).collect();
    let of_route = [
        ("gatehouse.io/limit-rps", "5"),
        ("gatehouse.io/limit-rpm", "7"),
        ("gatehouse.io/limit-burst-multiplier", "3"),
        ("gatehouse.io/limit-allowlist", "10.0.0.0/8"),
        ("gatehouse.io/response-buffering", "on"),
        ("gatehouse.io/response-memory", "128k"),
        ("gatehouse.io/response-file", "1m"),
    ];
    let (limits, answers) = read("Ingress", &nginx);
    assert!(limits.len() == 2 && answers.is_some_and(|it| it.on && it.memory == 128 * 1024));
    assert_eq!(read("Route", &of_route), (limits, answers));
}
