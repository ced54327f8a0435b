//! What is spoken with TLS clients, and whose sessions are resumed, asked by `openssl s_client` and curl.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use gatehouse_testbed::{
    gatehouse::{
        gateway::{Gateway, Plan, free_address},
        manifests::{ingress, prefix},
        pki::{Authority, secret},
        s_client::{agreed, request},
    },
    guard,
};

/// A plan with one host, `a.test`, that shows a certificate with an RSA key or an elliptic one.
fn plan(rsa: bool, folder: &Path) -> Plan {
    let key = if rsa { &["rsa:2048"][..] } else { &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] };
    let (certificate, private) = (folder.join("tls.crt"), folder.join("tls.key"));
    let mut openssl = guard::command("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=a.test", "-newkey"]);
    openssl.args(key).args(["-addext", "subjectAltName=DNS:a.test"]);
    let openssl = openssl.arg("-out").arg(&certificate).arg("-keyout").arg(&private);
    assert!(openssl.output().expect("openssl is installed (.ci/setup)").status.success());
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let pair = [("tls.crt", &*read(&certificate)), ("tls.key", &*read(&private))];
    let host = ingress("a", "", "", &[prefix("a.test", "/", "none")]);
    let host = host.replace("tls: []", "tls: [{hosts: [a.test], secretName: pair}]");
    Plan::default().manifest("a.yaml", host).manifest("pair.yaml", secret("pair", &pair))
}

/// Names that `openssl ciphers` knows for a version.
fn known(version: &str) -> Vec<String> {
    let mut openssl = guard::command("openssl");
    let output = openssl.args(["ciphers", "-s", version, "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]);
    let output = output.output().unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    names.trim().split(':').map(str::to_owned).collect()
}

/// Every pair of a version and a cipher that OpenSSL can speak and the gateway agrees to. As scanners do it: all ciphers
/// are offered, then all but the one that was chosen, until none is.
fn enumerated(gateway: &Gateway) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for version in ["-tls1", "-tls1_1", "-tls1_2", "-tls1_3"] {
        let newest = version == "-tls1_3";
        let option = if newest { "-ciphersuites" } else { "-cipher" };
        let mut offered = known(version);
        offered.retain(|name| name.starts_with("TLS_") == newest);
        assert!(!offered.is_empty(), "openssl has no cipher for {version}");
        while !offered.is_empty() {
            let level = (!newest).then(|| "@SECLEVEL=0".to_owned());
            let list = offered.iter().cloned().chain(level).collect::<Vec<_>>().join(":");
            let Some(pair) = agreed(gateway.https, "a.test", &[version, option, &list]) else {
                break;
            };
            let (_, cipher) = pair.split_once(' ').unwrap();
            offered.retain(|name| name != cipher);
            assert!(found.insert(pair), "{version} {offered:?}");
        }
    }
    found
}

const TLS13: [&str; 3] =
    ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

#[test]
fn each_profile_speaks_what_is_built_in_of_it_and_nothing_else() {
    let folder = guard::folder("pair-").unwrap();
    for rsa in [true, false] {
        let key = if rsa { "RSA" } else { "ECDSA" };
        let newest = TLS13.map(|name| format!("TLSv1.3 {name}"));
        let tls12 = ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"]
            .map(|name| format!("TLSv1.2 ECDHE-{key}-{name}"));
        let both: BTreeSet<_> = newest.iter().chain(&tls12).cloned().collect();
        let newest = BTreeSet::from(newest);
        let one = format!("--tls-ciphers=ECDHE-{key}-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256");
        let listed = BTreeSet::from([
            format!("TLSv1.2 ECDHE-{key}-AES128-GCM-SHA256"),
            "TLSv1.3 TLS_AES_128_GCM_SHA256".to_owned(),
        ]);
        for (args, expected) in [
            (&["--tls-profile=old"][..], &both),
            (&[], &both),
            (&["--tls-profile=modern"], &newest),
            (&["--tls-profile=custom", &one], &listed),
        ] {
            let gateway = plan(rsa, folder.path()).args(args).start();
            assert_eq!(&enumerated(&gateway), expected, "{key} {args:?}");
        }
    }
}

#[test]
fn what_is_asked_for_and_not_built_in_is_named() {
    let folder = guard::folder("pair-").unwrap();
    for (args, names) in [
        (&[][..], &[][..]),
        (&["--tls-profile=intermediate"], &[]),
        (&["--tls-profile=old"], &["TLS 1.0, TLS 1.1", "DES-CBC3-SHA", "DHE-RSA-AES128-SHA256"]),
        (&["--tls-min-version=VersionTLS11"], &["TLS 1.1"]),
        (&["--tls-ciphers=AES128-SHA:TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], &["AES128-SHA"]),
    ] {
        let gateway = plan(true, folder.path()).args(args).start();
        let said = gateway.output();
        assert_eq!(said.contains("TlsProfileReduced"), !names.is_empty(), "{args:?}");
        for name in names {
            assert!(said.contains(name), "{args:?}: {said}");
        }
        if !names.is_empty() {
            assert!(gateway.page("/status").contains("TlsProfileReduced"));
        }
    }
}

#[test]
fn a_list_that_leaves_nothing_ends_the_start_with_its_reason() {
    for (args, reason) in [
        (&["--tls-ciphers=AES128-SHA"][..], "ECDHE-RSA-AES128-GCM-SHA256"),
        (&["--tls-profile=custom"], "--tls-min-version"),
        (&["--tls-min-version=0.9"], "0.9"),
    ] {
        let (mut command, _folder) = Plan::default().args(args).command();
        let output = command.output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn the_order_of_a_list_counts_and_without_one_that_of_the_client_does() {
    let folder = guard::folder("pair-").unwrap();
    let (first, second) = ("ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES256-GCM-SHA384");
    let offered = format!("{second}:{first}");
    let list = format!("--tls-ciphers={first}:{second}");
    for (args, expected) in [(&[list.as_str()][..], first), (&[], second)] {
        let gateway = plan(true, folder.path()).args(args).start();
        let got = agreed(gateway.https, "a.test", &["-tls1_2", "-cipher", &offered]);
        assert_eq!(got, Some(format!("TLSv1.2 {expected}")), "{args:?}");
    }
}

/// Files with keys of groups.
fn keys(folder: &Path) -> [PathBuf; 2] {
    ["ours", "theirs"].map(|name| {
        let path = folder.join(name);
        fs::write(&path, format!("{name}, a secret of more than sixteen bytes")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    })
}

#[test]
fn nodes_of_a_group_resume_each_others_sessions_and_those_of_no_other() {
    let folder = guard::folder("group-").unwrap();
    let [ours, theirs] = keys(folder.path());
    let authority = Authority::new("clients");
    let member = |node: &str, key: Option<&Path>| {
        let rule = |host| [prefix(host, "/", "none")];
        let asks = "\"nginx.ingress.kubernetes.io/auth-tls-secret\": default/ca, \
                    \"nginx.ingress.kubernetes.io/auth-tls-verify-client\": optional";
        let plan = Plan::default()
            .node(node)
            .manifest("a.yaml", ingress("a", "", "", &rule("a.test")))
            .manifest("b.yaml", ingress("b", "", "", &rule("b.test")))
            .manifest("asks.yaml", ingress("asks", asks, "", &rule("asks.test")))
            .manifest("ca.yaml", secret("ca", &[("ca.crt", &authority.pem())]));
        let Some(key) = key else { return plan.start() };
        // One host, so that each needs a port of its own for heartbeats.
        let port = free_address().port().to_string();
        plan.args(&["--group-key", key.to_str().unwrap(), "--group-port", &port]).start()
    };
    let first = member("first", Some(&ours));
    let others = [
        (member("second", Some(&ours)), true),
        (member("stranger", Some(&theirs)), false),
        (member("alone", None), false),
    ];
    for version in ["-tls1_2", "-tls1_3"] {
        for (began, resumes, same) in [
            ("a.test", "a.test", true),
            ("a.test", "b.test", false),
            ("asks.test", "asks.test", true),
            ("asks.test", "a.test", false),
            ("a.test", "asks.test", false),
        ] {
            let ticket = folder.path().join(format!("{began}-{resumes}{version}"));
            let ticket = ticket.to_str().unwrap();
            let said = request(first.https, began, began, &[version, "-sess_out", ticket]);
            assert!(said.contains("HTTP/1.1 503"), "{said}");
            for (gateway, ours) in &others {
                let said = request(gateway.https, resumes, resumes, &[version, "-sess_in", ticket]);
                assert!(said.contains("HTTP/1.1 503"), "{said}");
                let resumed = said.contains("Reused, ");
                assert_eq!(resumed, same && *ours, "{version} {began} {resumes}: {said}");
            }
        }
    }
}
