use super::*;

#[test]
fn a_foreign_name_is_judged_by_what_it_would_have_done() {
    use Effect::{Answers, Protects, Tuning};
    for (name, value, expected) in [
        ("haproxy.org/allow-list", "10.0.0.0/8", Protects),
        ("haproxy.org/whitelist", "192.168.0.0/16", Protects),
        ("haproxy.org/auth-type", "basic-auth", Protects),
        ("haproxy.org/rate-limit-requests", "10", Protects),
        ("haproxy.org/server-ssl", "true", Protects),
        ("haproxy.org/server-proto", "h2", Protects),
        ("haproxy.org/pod-maxconn", "30", Protects),
        ("haproxy.org/backend-config-snippet", "http-request deny", Protects),
        ("haproxy.org/path-rewrite", "/", Answers),
        ("haproxy.org/ssl-redirect", "true", Answers),
        ("haproxy.org/timeout-client", "5s", Tuning),
        ("haproxy.org/auth-type", "", Tuning),
        ("haproxy-ingress.github.io/allowlist-source-range", "10.0.0.0/8", Protects),
        ("haproxy-ingress.github.io/allowlist-source-range", "::/0,0.0.0.0/0", Tuning),
        ("haproxy-ingress.github.io/auth-url", "http://a/", Protects),
        ("haproxy-ingress.github.io/backend-protocol", "h1-ssl", Protects),
        ("haproxy-ingress.github.io/backend-protocol", "HTTP", Tuning),
        ("haproxy-ingress.github.io/oauth", "oauth2_proxy", Protects),
        ("haproxy-ingress.github.io/app-root", "/web", Tuning),
        ("ingress.kubernetes.io/whitelist-source-range", "10.0.0.0/8", Protects),
        ("ingress.kubernetes.io/auth-type", "basic", Protects),
        ("ingress.kubernetes.io/ssl-redirect", "true", Answers),
        ("ingress.kubernetes.io/rewrite-target", "/", Answers),
        ("traefik.ingress.kubernetes.io/router.middlewares", "d-auth@kubernetescrd", Protects),
        ("traefik.ingress.kubernetes.io/router.tls.options", "d-mtls@kubernetescrd", Protects),
        ("traefik.ingress.kubernetes.io/router.tls", "true", Answers),
        ("traefik.ingress.kubernetes.io/router.entrypoints", "websecure", Answers),
        ("traefik.ingress.kubernetes.io/service.serversscheme", "https", Protects),
        ("traefik.ingress.kubernetes.io/redirect-entry-point", "https", Answers),
        ("alb.ingress.kubernetes.io/inbound-cidrs", "10.0.0.0/8", Protects),
        ("alb.ingress.kubernetes.io/auth-type", "oidc", Protects),
        ("alb.ingress.kubernetes.io/wafv2-acl-arn", "arn:aws:waf", Protects),
        ("alb.ingress.kubernetes.io/conditions.a", "[{\"field\":\"source-ip\"}]", Protects),
        ("alb.ingress.kubernetes.io/certificate-arn", "arn:aws:acm", Tuning),
        ("alb.ingress.kubernetes.io/ssl-policy", "ELBSecurityPolicy", Tuning),
        ("alb.ingress.kubernetes.io/ssl-redirect", "443", Answers),
        ("alb.ingress.kubernetes.io/actions.ssl-redirect", "{}", Answers),
        ("alb.ingress.kubernetes.io/backend-protocol", "HTTPS", Protects),
        ("alb.ingress.kubernetes.io/scheme", "internet-facing", Tuning),
        ("alb.ingress.kubernetes.io/healthcheck-interval-seconds", "5", Tuning),
        ("konghq.com/plugins", "key-auth", Protects),
        ("konghq.com/protocol", "https", Protects),
        ("konghq.com/strip-path", "true", Answers),
        ("projectcontour.io/auth-realm", "x", Protects),
        ("projectcontour.io/upstream-protocol.tls", "443", Protects),
        ("projectcontour.io/response-timeout", "5s", Tuning),
        ("nginx.org/basic-auth-secret", "users", Protects),
        ("nginx.org/server-snippets", "deny all;", Protects),
        ("nginx.com/jwt-key", "jwk", Protects),
        ("zalando.org/skipper-filter", "basicAuth()", Protects),
    ] {
        let (name, value) = (name.to_owned(), value.to_owned());
        let found = judge(true, [(&name, &value)].into_iter());
        let [one] = &*found else { panic!("{name}: {found:?}") };
        assert_eq!(one.effect, expected, "{name}: {value}");
    }
}

#[test]
fn one_finding_for_each_prefix_and_effect_and_none_for_what_all_programs_read() {
    let annotations = [
        ("cert-manager.io/cluster-issuer", "letsencrypt"),
        ("external-dns.alpha.kubernetes.io/hostname", "a.example"),
        ("haproxy.org/allow-list", "10.0.0.0/8"),
        ("haproxy.org/deny-list", "10.1.0.0/16"),
        ("haproxy.org/timeout-server", "5s"),
        ("konghq.com/plugins", "key-auth"),
        ("kubernetes.io/tls-acme", "true"),
        ("nginx.ingress.kubernetes.io/auth-url", "http://a/"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let found = judge(true, annotations.iter().map(|(name, value)| (name, value)));
    let found: Vec<_> = found.iter().map(|one| (one.effect, one.names.join(" "))).collect();
    assert_eq!(
        found,
        [
            (Effect::Protects, "haproxy.org/allow-list haproxy.org/deny-list".to_owned()),
            (Effect::Tuning, "haproxy.org/timeout-server".to_owned()),
            (Effect::Protects, "konghq.com/plugins".to_owned()),
        ]
    );
}

#[test]
fn what_the_same_object_says_to_ingress_nginx_in_the_same_words_is_not_lost() {
    let effect = |read, [foreign, own]: [(&str, &str); 2]| {
        let all = [foreign, own].map(|(name, value)| (name.to_owned(), value.to_owned()));
        judge(read, all.iter().map(|(name, value)| (name, value)))[0].effect
    };
    let own = |name: &'static str| -> &'static str {
        ["nginx.ingress.kubernetes.io/", name].concat().leak()
    };
    for (name, foreign, same) in [
        ("ssl-redirect", "true", "true"),
        ("proxy-body-size", "8m", " 8m"),
        ("whitelist-source-range", "10.0.0.0/8", "10.0.0.0/8"),
    ] {
        for prefix in ["ingress.kubernetes.io/", "haproxy-ingress.github.io/"] {
            let pair = [(&*format!("{prefix}{name}"), foreign), (own(name), same)];
            assert_eq!(effect(true, pair), Effect::Tuning, "{pair:?}");
            assert_ne!(effect(false, pair), Effect::Tuning, "a Route: {pair:?}");
        }
    }
    for pair in [
        [
            ("ingress.kubernetes.io/whitelist-source-range", "10.0.0.0/8"),
            (own("whitelist-source-range"), "10.0.0.0/7"),
        ],
        [("haproxy.org/allow-list", "10.0.0.0/8"), (own("whitelist-source-range"), "10.0.0.0/8")],
        [("ingress.kubernetes.io/auth-snippet", "deny all;"), (own("auth-snippet"), "deny all;")],
        [("alb.ingress.kubernetes.io/auth-type", "oidc"), (own("auth-type"), "basic")],
    ] {
        assert_eq!(effect(true, pair), Effect::Protects, "{pair:?}");
    }
}
