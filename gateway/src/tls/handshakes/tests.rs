use super::*;

/// What the terms of a host leave of all that is built in.
fn narrowed(versions: Versions, ciphers: &[&str]) -> Result<Arc<Handshake>, &'static str> {
    let ciphers = ciphers.iter().map(|list| Arc::from(*list)).collect();
    let terms = TlsTerms { versions, ciphers, own_order: None };
    Profile::default().narrowed(&terms).map(|profile| Handshake::new(profile, String::new()))
}

fn cipher(suite: rustls::CipherSuite) -> CipherSet {
    CipherSet::of(suite)
}

#[test]
fn a_connection_is_judged_by_the_cipher_that_it_has() {
    use rustls::CipherSuite as S;
    let newest = narrowed(Versions::NEWEST, &[]).unwrap();
    let one = narrowed(Versions::ALL, &["ECDHE-RSA-AES128-GCM-SHA256", "HIGH"]).unwrap();
    let old = S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
    for (suite, by_newest, by_one) in [
        (old, false, true),
        (S::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, false, false),
        (S::TLS13_AES_128_GCM_SHA256, true, true),
        (S::TLS13_CHACHA20_POLY1305_SHA256, true, true),
    ] {
        assert_eq!(newest.allowed.contains(cipher(suite)), by_newest, "{suite:?}");
        assert_eq!(one.allowed.contains(cipher(suite)), by_one, "{suite:?}");
    }
    // Clear text has agreed on nothing.
    let handshakes = Handshakes::default();
    assert_eq!(handshakes.admit(None, CipherSet::default()), Ok(()));
    assert_eq!(handshakes.admit(None, cipher(old)), Ok(()));
    let unknown = Arc::new(TlsTerms::default());
    assert_eq!(handshakes.admit(Some(&unknown), cipher(old)), Err(Unfit::Closed));
}

#[test]
fn the_config_map_takes_from_what_the_command_line_leaves_and_adds_nothing() {
    let objects = gatehouse_routes::objects::ObjectKey::new("n", "c");
    let object = gatehouse_routes::objects::ObjectRef::new("ConfigMap", objects);
    let global = |versions, ciphers: &[&str], groups: Option<&str>| GlobalTls {
        object: object.clone(),
        terms: TlsTerms {
            versions,
            ciphers: ciphers.iter().map(|list| Arc::from(*list)).collect(),
            own_order: None,
        },
        groups: groups.map(Arc::from),
        http2: true,
        tickets: false,
        cache: true,
        lifetime: None,
        only_known_names: false,
    };
    let all = Arc::new(Profile::default());
    let terms = TlsTerms { versions: Versions::NEWEST, ..TlsTerms::default() };
    let newest = Arc::new(all.narrowed(&terms).unwrap());
    let of = |flags, global| Handshakes::of(flags, Some(&global), &[], None);
    let reasons = |handshakes: &Handshakes| {
        handshakes.problems().map(|problem| (problem.reason, problem.field)).collect::<Vec<_>>()
    };
    let field = |key: &str| format!("data[{key}]");
    for (flags, global, tls12, told) in [
        (&all, global(Versions::ALL, &[], None), true, vec![]),
        (&all, global(Versions::NEWEST, &[], None), false, vec![]),
        (&newest, global(Versions::ALL, &["HIGH"], None), false, vec![]),
        (
            &all,
            global(Versions::ALL, &["HIGH:AES128-SHA"], Some("X25519:brainpoolP256r1")),
            true,
            vec![("TlsProfileReduced", field(CIPHERS)), ("TlsProfileReduced", field(GROUPS))],
        ),
        (
            &all,
            global(Versions::ALL, &["ECDHE-RSA-AES128-GCM-SHA265"], None),
            false,
            vec![("TlsProfileReduced", field(CIPHERS)), ("TlsTermsImpossible", field(CIPHERS))],
        ),
    ] {
        let handshakes = of(flags, global);
        assert_eq!(handshakes.base().profile.tls12(), tls12, "{handshakes:?}");
        assert_eq!(handshakes.base().profile.sessions, Sessions::Remembered);
        assert_eq!(reasons(&handshakes), told);
    }
    // Nothing is left: all is closed, whatever a handshake agrees on.
    let tls12 = Versions { tls12: true, tls13: false };
    for (global, told) in [
        (global(tls12, &[], None), vec![("TlsTermsImpossible", field(VERSIONS))]),
        (global(Versions::NONE, &[], None), vec![]),
        (
            global(Versions::ALL, &[], Some("sect571r1")),
            vec![("TlsTermsImpossible", field(GROUPS))],
        ),
    ] {
        let handshakes = of(&newest, global);
        assert_eq!(reasons(&handshakes), told);
        let newest = cipher(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(handshakes.admit(None, newest), Err(Unfit::Closed));
    }
}
