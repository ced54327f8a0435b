//! The TLS of hosts as objects say it: the ConfigMap of ingress-nginx for all of them, annotations for one. Asked by
//! `openssl s_client`, while objects change.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        gateway::{Gateway, Plan},
        manifests::{ingress, prefix, route, secret, service},
        pki::Authority,
        s_client::{agreed, request},
        tls::{Pair, Tls, client_config_of_tls12},
    },
    guard, wait,
};

const AES128: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";
const AES256: &str = "ECDHE-ECDSA-AES256-GCM-SHA384";

/// The ConfigMap of ingress-nginx.
fn config(data: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: global, namespace: default}}\ndata: {{hsts: \"false\", {data}}}\n"
    )
}

/// An Ingress of host `NAME.test`; annotations in YAML, flow style.
fn host(name: &str, annotations: &str) -> String {
    ingress(name, annotations, "", &[prefix(&format!("{name}.test"), "/", "web")])
}

struct Bed {
    gateway: Gateway,
    _backend: Backend,
}

impl Bed {
    fn new(args: &[&str], files: &[String]) -> Self {
        let backend = Backend::echo("web");
        let mut plan = Plan::default()
            .args(args)
            .manifest("web.yaml", service("web", &[backend.addr]))
            .manifest("config.yaml", config(""));
        for (at, text) in files.iter().enumerate() {
            plan = plan.manifest(&format!("{at}.yaml"), text.clone());
        }
        Self { gateway: plan.start(), _backend: backend }
    }

    /// Version and cipher of a handshake for a name.
    fn agreed(&self, name: &str, more: &[&str]) -> Option<String> {
        agreed(self.gateway.https, name, more)
    }

    /// The status of a request for a host in a handshake for a name; `None`: that fails.
    fn status(&self, name: &str, host: &str, more: &[&str]) -> Option<String> {
        let said = request(self.gateway.https, name, host, more);
        let at = said.find("HTTP/1.1 ")?;
        Some(said[at + 9..at + 12].to_owned())
    }

    /// Writes the ConfigMap and waits until what is asked is as it says.
    fn becomes(&self, data: &str, is_so: impl Fn(&Self) -> bool) {
        self.gateway.save("config.yaml", &config(data));
        assert!(wait::comes_true(|| is_so(self)), "{data}: {}", self.gateway.page("/status"));
    }

    fn has_problem(&self, reason: &str, field: &str) -> bool {
        let page = self.gateway.page("/status");
        page.contains(reason) && page.contains(field)
    }
}

const GLOBAL: &[&str] = &["--nginx-config", "default/global"];

#[test]
fn versions_and_ciphers_of_the_config_map_are_live_and_an_unknown_list_opens_nothing() {
    let bed = Bed::new(GLOBAL, &[host("a", "")]);
    let is = |got: Option<String>, version: &str| got.is_some_and(|got| got.starts_with(version));
    assert!(is(bed.agreed("a.test", &["-tls1_2"]), "TLSv1.2"));
    bed.becomes("ssl-protocols: TLSv1.3", |bed| bed.agreed("a.test", &["-tls1_2"]).is_none());
    assert!(is(bed.agreed("a.test", &[]), "TLSv1.3"));
    // Also for names that no rule is for, and for none.
    assert_eq!(bed.agreed("nobody.test", &["-tls1_2"]), None);
    assert_eq!(bed.agreed("", &["-tls1_2"]), None);
    bed.becomes("ssl-protocols: TLSv1.2", |bed| is(bed.agreed("a.test", &[]), "TLSv1.2"));
    assert_eq!(bed.agreed("a.test", &["-tls1_3"]), None);
    // What is asked for besides is spoken, and what is not known is named.
    bed.becomes("ssl-protocols: SSLv3 TLSv1 TLSv1.3", |bed| {
        bed.has_problem("TlsProfileReduced", "data[ssl-protocols]")
    });
    assert_eq!(bed.agreed("a.test", &["-tls1_2"]), None);
    for unknown in ["TLSv1.4", "TLSv1 TLSv1.1", "tls1.2"] {
        bed.becomes(&format!("ssl-protocols: {unknown}"), |bed| {
            bed.status("a.test", "a.test", &[]).as_deref() == Some("503")
        });
        assert!(bed.has_problem("TlsTermsImpossible", "data[ssl-protocols]"));
    }
    bed.becomes(&format!("ssl-ciphers: {AES256}:{AES128}"), |bed| {
        let offered = format!("{AES128}:{AES256}");
        let got = bed.agreed("a.test", &["-tls1_2", "-cipher", &offered]);
        got == Some(format!("TLSv1.2 {AES256}"))
    });
    assert_eq!(bed.status("a.test", "a.test", &[]).as_deref(), Some("200"));
    assert_eq!(
        bed.agreed("a.test", &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"]),
        None
    );
    // Nothing of TLS 1.2 is left: it is not spoken, and nobody gets all of it instead.
    bed.becomes("ssl-ciphers: \"AES128-SHA:ECDHE-RSA-AES128-GCM-SHA265\"", |bed| {
        bed.agreed("a.test", &["-tls1_2"]).is_none()
    });
    assert!(is(bed.agreed("a.test", &[]), "TLSv1.3"));
    assert!(bed.has_problem("TlsTermsImpossible", "data[ssl-ciphers]"));
}

#[test]
fn the_config_map_cannot_open_what_the_command_line_closes() {
    let args = [GLOBAL, &["--tls-profile=modern"]].concat();
    let bed = Bed::new(&args, &[host("a", "")]);
    bed.becomes("ssl-protocols: TLSv1.2 TLSv1.3, ssl-ciphers: AES128-SHA", |bed| {
        bed.has_problem("TlsProfileReduced", "AES128-SHA")
    });
    assert_eq!(bed.agreed("a.test", &["-tls1_2"]), None);
    assert_eq!(bed.status("a.test", "a.test", &[]).as_deref(), Some("200"));
    bed.becomes("ssl-protocols: TLSv1.2", |bed| {
        bed.status("a.test", "a.test", &[]).as_deref() == Some("503")
    });
    assert_eq!(bed.agreed("a.test", &["-tls1_2"]), None);
}

#[test]
fn other_keys_about_handshakes_are_live() {
    let bed = Bed::new(GLOBAL, &[host("a", "")]);
    let https = bed.gateway.https;
    let h2 = || Tls::connect(https, "a.test", &["h2", "http/1.1"]).unwrap().alpn();
    assert_eq!(h2().as_deref(), Some("h2"));
    bed.becomes("use-http2: \"false\"", |_| h2().as_deref() == Some("http/1.1"));
    bed.becomes("ssl-ecdh-curve: \"P-384:brainpoolP256r1\"", |bed| {
        bed.agreed("a.test", &["-curves", "X25519"]).is_none()
    });
    assert!(bed.agreed("a.test", &["-curves", "P-384"]).is_some());
    assert!(bed.has_problem("TlsProfileReduced", "data[ssl-ecdh-curve]"));
    assert_eq!(h2().as_deref(), Some("h2"));
    bed.becomes("ssl-reject-handshake: \"true\"", |bed| bed.agreed("b.test", &[]).is_none());
    assert_eq!(bed.agreed("", &[]), None);
    assert_eq!(bed.status("a.test", "a.test", &[]).as_deref(), Some("200"));
    // A word that is neither counts as the stricter one.
    bed.becomes("ssl-reject-handshake: perhaps", |bed| {
        bed.has_problem("InvalidSetting", "data[ssl-reject-handshake]")
    });
    assert_eq!(bed.agreed("b.test", &[]), None);
    bed.becomes("", |bed| bed.agreed("b.test", &[]).is_some());
}

#[test]
fn sessions_are_resumed_by_tickets_by_memory_or_not_at_all() {
    let folder = guard::folder("sessions-").unwrap();
    let bed = Bed::new(GLOBAL, &[host("a", "")]);
    for (at, (data, version, ticket, resumes)) in [
        ("", "-tls1_3", true, true),
        ("", "-tls1_2", true, true),
        ("ssl-session-tickets: \"false\"", "-tls1_2", false, true),
        ("ssl-session-tickets: \"false\"", "-tls1_3", true, true),
        ("ssl-session-cache: \"false\"", "-tls1_3", false, false),
        ("ssl-session-cache: \"false\"", "-tls1_2", false, false),
        ("ssl-session-cache: \"false\", ssl-session-tickets: \"true\"", "-tls1_2", true, true),
    ]
    .into_iter()
    .enumerate()
    {
        let session = folder.path().join(at.to_string());
        let session = session.to_str().unwrap();
        let ask = |more: &[&str]| {
            request(bed.gateway.https, "a.test", "a.test", &[&[version], more].concat())
        };
        // Of TLS 1.3 a ticket is also what tells the process which session it remembers.
        bed.becomes(data, |_| ask(&[]).contains("TLS session ticket:") == ticket);
        let began = ask(&["-sess_out", session]);
        assert!(began.contains("HTTP/1.1 200"), "{data}: {began}");
        let again = ask(&["-sess_in", session]);
        assert_eq!(again.contains("Reused, "), resumes, "{data} {version}: {again}");
    }
}

const NEWEST: &str = "\"gatehouse.io/tls-min-version\": \"1.3\"";

#[test]
fn a_host_speaks_no_older_version_than_it_says_whatever_the_connection_was_made_for() {
    let folder = guard::folder("sessions-").unwrap();
    let with = |host: &str| {
        let text = route("of-route", host, &[("web", 1)]);
        let text = text.replace(
            "namespace: default}",
            &format!("namespace: default, annotations: {{{NEWEST}}}}}"),
        );
        text.replace("  to:", "  tls: {termination: edge}\n  to:")
    };
    let files = [host("new", NEWEST), host("old", ""), with("route.test")];
    let bed = Bed::new(&[], &files);
    let status = |name: &str, host: &str, more: &[&str]| bed.status(name, host, more);
    for new in ["new.test", "route.test"] {
        assert_eq!(bed.agreed(new, &["-tls1_2"]), None);
        assert_eq!(status(new, new, &[]).as_deref(), Some("200"));
        // Another name, and none, lead to it in TLS 1.3 alone.
        for name in ["old.test", "", "nobody.test"] {
            assert_eq!(status(name, new, &["-tls1_2"]).as_deref(), Some("421"), "{name:?} {new}");
            assert_eq!(status(name, new, &["-tls1_3"]).as_deref(), Some("200"), "{name:?} {new}");
        }
    }
    assert_eq!(status("old.test", "old.test", &["-tls1_2"]).as_deref(), Some("200"));
    assert_eq!(status("new.test", "old.test", &[]).as_deref(), Some("200"));
    // A session of another host is not taken up, whatever its version.
    for version in ["-tls1_2", "-tls1_3"] {
        let session = folder.path().join(version);
        let session = session.to_str().unwrap();
        let said =
            request(bed.gateway.https, "old.test", "old.test", &[version, "-sess_out", session]);
        assert!(said.contains("HTTP/1.1 200"));
        let said = request(bed.gateway.https, "new.test", "new.test", &["-sess_in", session]);
        assert!(!said.contains("Reused, ") && !said.contains("Protocol  : TLSv1.2"), "{said}");
    }
    assert!(bed.gateway.page("/metrics").contains("tls_misdirected"));
}

#[test]
fn a_connection_that_is_older_than_the_terms_carries_no_more_requests() {
    let bed = Bed::new(&[], &[host("a", "")]);
    let mut open =
        Tls::connect_with(client_config_of_tls12(), bed.gateway.https, "a.test").unwrap();
    let mut ask = || {
        open.write_all(b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            open.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    };
    assert!(ask().starts_with("HTTP/1.1 200"));
    bed.gateway.save("0.yaml", &host("a", NEWEST));
    assert!(wait::comes_true(|| bed.agreed("a.test", &["-tls1_2"]).is_none()));
    let last = ask();
    assert!(last.starts_with("HTTP/1.1 421") && last.contains("connection: close"), "{last}");
}

#[test]
fn ciphers_of_a_host_are_its_own_and_no_others_than_the_process_has() {
    let ciphers = |list: &str, more: &str| {
        format!("\"nginx.ingress.kubernetes.io/ssl-ciphers\": \"{list}\"{more}")
    };
    let theirs = ", \"nginx.ingress.kubernetes.io/ssl-prefer-server-ciphers\": \"false\"";
    let files = [
        host("strong", &ciphers(AES256, "")),
        host("order", &ciphers(&format!("{AES256}:{AES128}"), "")),
        host("theirs", &ciphers(&format!("{AES256}:{AES128}"), theirs)),
        host("none", &ciphers("AES128-SHA", "")),
        host("chacha", &ciphers("CHACHA20", "")),
        host("plain", ""),
    ];
    let bed = Bed::new(&["--tls-ciphers", &format!("{AES128}:{AES256}")], &files);
    let both = format!("{AES128}:{AES256}:ECDHE-ECDSA-CHACHA20-POLY1305");
    for (name, cipher) in [
        ("strong", Some(AES256)),
        ("order", Some(AES256)),
        ("theirs", Some(AES128)),
        ("none", None),
        ("chacha", None),
        ("plain", Some(AES128)),
    ] {
        let name = format!("{name}.test");
        let got = bed.agreed(&name, &["-tls1_2", "-cipher", &both]);
        assert_eq!(got, cipher.map(|cipher| format!("TLSv1.2 {cipher}")), "{name}");
        assert_eq!(bed.status(&name, &name, &[]).as_deref(), Some("200"), "{name}");
    }
    let reused = bed.status("plain.test", "strong.test", &["-tls1_2", "-cipher", AES128]);
    assert_eq!(reused.as_deref(), Some("421"));
    let reused = bed.status("plain.test", "strong.test", &["-tls1_2", "-cipher", AES256]);
    assert_eq!(reused.as_deref(), Some("200"));
    assert!(bed.has_problem("TlsTermsImpossible", "ssl-ciphers"));
    assert!(bed.has_problem("TlsProfileReduced", "AES128-SHA"));
}

#[test]
fn of_two_objects_that_disagree_about_a_host_both_get_what_they_ask_for_and_hear_of_it() {
    let of = |name: &str, path: &str, annotations: &str| {
        ingress(name, annotations, "", &[prefix("shared.test", path, "web")])
    };
    let ciphers =
        format!("\"nginx.ingress.kubernetes.io/ssl-ciphers\": \"{AES256}:TLS_AES_256_GCM_SHA384\"");
    let stranger =
        of("stranger", "/stranger", NEWEST).replace("namespace: default", "namespace: other");
    let files = [of("first", "/", &ciphers), of("second", "/second", NEWEST)];
    let bed = Bed::new(&[], &files);
    assert_eq!(bed.agreed("shared.test", &["-tls1_2"]), None);
    let got = bed.agreed("shared.test", &[]);
    assert_eq!(got.as_deref(), Some("TLSv1.3 TLS_AES_256_GCM_SHA384"));
    assert_eq!(bed.status("shared.test", "shared.test", &[]).as_deref(), Some("200"));
    let told = bed.gateway.page("/status").matches("TlsTermsDiffer").count();
    assert!(told >= 2, "{}", bed.gateway.page("/status"));
    // Another namespace asks nothing of the clients of this one, and is not served with less than it asks for.
    let files = [of("first", "/", ""), stranger];
    let bed = Bed::new(&[], &files);
    assert!(bed.agreed("shared.test", &["-tls1_2"]).is_some());
    let mut answers = [("/", "200"), ("/stranger", "503")].into_iter();
    assert!(answers.all(|(path, status)| {
        let mut tls = Tls::connect(bed.gateway.https, "shared.test", &[]).unwrap();
        let ask = format!("GET {path} HTTP/1.1\r\nHost: shared.test\r\nConnection: close\r\n\r\n");
        tls.write_all(ask.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = tls.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).starts_with(&format!("HTTP/1.1 {status}"))
    }));
    assert!(bed.has_problem("TlsTermsDiffer", "stranger"));
}

#[test]
fn sessions_are_resumed_for_as_long_as_the_config_map_says() {
    let folder = guard::folder("sessions-").unwrap();
    let bed = Bed::new(GLOBAL, &[host("a", "")]);
    let session = folder.path().join("session");
    let session = session.to_str().unwrap();
    let memory = "ssl-session-tickets: \"false\"";
    for (data, version, lives) in [
        ("ssl-session-timeout: 1h", "-tls1_3", true),
        ("ssl-session-timeout: 1s", "-tls1_3", false),
        ("ssl-session-timeout: 1h", "-tls1_2", true),
        ("ssl-session-timeout: 1s", "-tls1_2", false),
        (&format!("ssl-session-timeout: 1h, {memory}"), "-tls1_2", true),
        (&format!("ssl-session-timeout: 1s, {memory}"), "-tls1_2", false),
    ] {
        let ask = |more: &[&str]| {
            request(bed.gateway.https, "a.test", "a.test", &[&[version], more].concat())
        };
        let seconds = if lives { 3600 } else { 1 };
        let hint = format!("lifetime hint: {seconds} ");
        let ticket = !data.contains(memory);
        let before = bed.gateway.page("/metrics");
        bed.becomes(data, |bed| match ticket {
            true => ask(&[]).contains(&hint),
            // Nothing tells the client.
            false => generation(&bed.gateway.page("/metrics")) > generation(&before),
        });
        assert!(ask(&["-sess_out", session]).contains("HTTP/1.1 200"), "{data}");
        // A second has begun when it is noted.
        std::thread::sleep(std::time::Duration::from_millis(2100));
        let again = ask(&["-sess_in", session]);
        assert_eq!(again.contains("Reused, "), lives, "{data} {version}: {again}");
    }
    bed.becomes("ssl-session-timeout: 1d", |bed| {
        bed.has_problem("SettingReduced", "data[ssl-session-timeout]")
    });
}

/// Of the configuration that is served.
fn generation(metrics: &str) -> u64 {
    let name = "gatehouse_snapshot_generation ";
    metrics.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap()
}

#[test]
fn names_without_a_certificate_of_their_own_are_shown_the_default_one_whenever_it_changes() {
    let authority = Authority::new("test");
    let [first, second, own] = ["*.apps.test", "*.apps.test", "own.apps.test"]
        .map(|name| authority.server(&[name, "apps.test"]));
    let of_all = |pair: &Pair| {
        secret("of-all", pair).replace("namespace: default", "namespace: openshift-ingress")
    };
    let tls = "spec:\n  tls: {termination: edge}\n";
    let edge = route("edge", "edge.apps.test", &[("web", 1)]).replace("spec:\n", tls);
    let named =
        "{hosts: [own.apps.test], secretName: own}, {hosts: [lost.apps.test], secretName: none}";
    let rules = ["own", "lost"].map(|name| format!("{name}.apps.test"));
    let rules = rules.each_ref().map(|host| prefix(host, "/", "web"));
    let bed = Bed::new(
        &["--default-certificate", "openshift-ingress/of-all"],
        &[of_all(&first), edge, secret("own", &own), ingress("named", "", named, &rules)],
    );
    let shown = |name: &str| Tls::connect(bed.gateway.https, name, &[]).unwrap().peer();
    let others = ["edge.apps.test", "lost.apps.test", "nobody.test", "127.0.0.1"];
    for name in others {
        assert!(shown(name) == first.der, "{name}");
    }
    assert!(shown("own.apps.test") == own.der);
    assert_eq!(bed.status("edge.apps.test", "edge.apps.test", &[]).as_deref(), Some("200"));

    bed.gateway.save("0.yaml", &of_all(&second));
    assert!(wait::comes_true(|| shown("edge.apps.test") == second.der), "a renewal is live");
    assert!(others.iter().all(|name| shown(name) == second.der));

    bed.gateway.save("0.yaml", "");
    assert!(wait::comes_true(|| shown("edge.apps.test") != second.der), "the Secret is gone");
    let page = bed.gateway.page("/status");
    let told = "Secret openshift-ingress/of-all does not exist; one that nobody trusts is used";
    assert!(page.contains("SecretNotFound") && page.contains(told), "{page}");
    assert!(shown("own.apps.test") == own.der);
}
