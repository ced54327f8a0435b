use gatehouse_routes::objects::Stored;
use k8s_openapi::ByteString;

use super::*;

struct Pem {
    chain: String,
    key: String,
}

fn pem(name: &str) -> Pem {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    Pem { chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

fn pair() -> Arc<CertifiedKey> {
    let Pem { chain, key } = pem("a");
    Arc::new(parse_pair(("c", chain.as_bytes()), ("k", key.as_bytes())).unwrap())
}

fn secret(fields: &[(&str, &str)]) -> Arc<Secret> {
    let data = fields.iter().map(|(name, text)| ((*name).to_owned(), ByteString((*text).into())));
    Arc::new(Secret { data: Some(data.collect()), ..Secret::default() })
}

fn store(secrets: &[(&str, &Arc<Secret>)]) -> Store<Secret> {
    let entry = |(name, secret): &(&str, &Arc<Secret>)| {
        (ObjectKey::new("default", *name), Stored::new(Arc::clone(secret), 0, Default::default()))
    };
    secrets.iter().map(entry).collect()
}

fn binding(host: &str, secret: &str) -> CertBinding {
    CertBinding {
        host: HostPattern::Exact(host.into()),
        if_named: false,
        source: CertSource::Secret(ObjectKey::new("default", secret)),
        object: ObjectRef::new("Ingress", ObjectKey::new("default", "web")),
        field: "spec.tls[0].secretName".to_owned(),
    }
}

/// One compile of the plain scope.
fn build(
    secrets: &Store<Secret>,
    bindings: &[CertBinding],
    previous: Option<&(Arc<CertTable>, CertCache)>,
) -> ((Arc<CertTable>, CertCache), Vec<Problem>) {
    let mut builder = Builder::new(secrets, previous.map(|(_, cache)| cache));
    let table = builder.table(&Scope::Plain, bindings, previous.map(|(table, _)| table));
    let (cache, problems) = builder.finish();
    ((table, cache), problems)
}

#[test]
fn a_server_name_finds_the_exact_certificate_then_the_wildcard_then_the_one_for_any() {
    let [exact, wildcard, any] = [pair(), pair(), pair()];
    let mut table = CertTable::default();
    assert!(table.is_empty() && table.resolve(Some("a.example.com")).is_none());
    table.insert(&HostPattern::Exact("a.example.com".into()), Arc::clone(&exact));
    table.insert(&HostPattern::OneLabel("example.com".into()), Arc::clone(&wildcard));
    assert!(table.resolve(None).is_none() && table.resolve(Some("b.c.example.com")).is_none());
    table.insert(&HostPattern::Any, Arc::clone(&any));
    assert_eq!(table.len(), 3);
    let long = "A".repeat(254);
    for (name, expected) in [
        (Some("a.example.com"), &exact),
        (Some("A.Example.COM"), &exact),
        (Some("a.example.com."), &exact),
        (Some("b.example.com"), &wildcard),
        (Some("B.EXAMPLE.com"), &wildcard),
        (Some("example.com"), &any),
        (Some("b.c.example.com"), &any),
        (Some(&*long), &any),
        (Some(""), &any),
        (None, &any),
    ] {
        assert!(Arc::ptr_eq(table.resolve(name).unwrap(), expected), "{name:?}");
    }
}

#[test]
fn a_pair_must_be_complete_readable_and_belong_together() {
    let (good, other) = (pem("a"), pem("b"));
    let parse = |chain: &str, key: &str| {
        parse_pair(("tls.crt", chain.as_bytes()), ("tls.key", key.as_bytes())).map(|_| ())
    };
    assert_eq!(parse(&good.chain, &good.key), Ok(()));
    assert_eq!(parse(&format!("{}{}", good.chain, other.chain), &good.key), Ok(()), "a chain");
    assert_eq!(parse(&good.chain, &other.key), Err(PairError::Mismatch));
    assert_eq!(parse(&good.key, &good.key), Err(PairError::NoCertificate("tls.crt")));
    assert_eq!(parse("", &good.key), Err(PairError::NoCertificate("tls.crt")));
    assert_eq!(parse(&good.chain, &good.chain), Err(PairError::NoKey("tls.key")));
    let damaged = good.chain.replace("-----END", "----END");
    assert_eq!(parse(&damaged, &good.key), Err(PairError::Pem("tls.crt")));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(parse(garbage, &good.key), Err(PairError::Unusable(_))));
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(matches!(parse(&good.chain, garbage), Err(PairError::Unusable(_))));
}

#[test]
fn an_unchanged_secret_keeps_its_parsed_pair_and_an_unchanged_table_its_pointer() {
    let (one, two) = (pem("a"), pem("b"));
    let first = secret(&[("tls.crt", &one.chain), ("tls.key", &one.key)]);
    let second = secret(&[("tls.crt", &two.chain), ("tls.key", &two.key)]);
    let bindings = [binding("a", "one"), binding("b", "two"), binding("c", "one")];
    let (before, problems) = build(&store(&[("one", &first), ("two", &second)]), &bindings, None);
    assert_eq!(problems, []);
    let pair = |built: &(Arc<CertTable>, CertCache), name: &str| Arc::clone(&built.0.exact[name]);
    assert!(Arc::ptr_eq(&pair(&before, "a"), &pair(&before, "c")), "one secret, one pair");

    let (same, _) = build(&store(&[("one", &first), ("two", &second)]), &bindings, Some(&before));
    assert!(Arc::ptr_eq(&before.0, &same.0));

    let renewed = secret(&[("tls.crt", &two.chain), ("tls.key", &two.key)]);
    let (after, _) = build(&store(&[("one", &first), ("two", &renewed)]), &bindings, Some(&same));
    assert!(Arc::ptr_eq(&pair(&before, "a"), &pair(&after, "a")));
    assert!(!Arc::ptr_eq(&pair(&before, "b"), &pair(&after, "b")));
}

#[test]
fn a_broken_renewal_keeps_the_last_good_pair_as_long_as_it_stays_broken() {
    let (one, two) = (pem("a"), pem("b"));
    let good = secret(&[("tls.crt", &one.chain), ("tls.key", &one.key)]);
    let broken = secret(&[("tls.crt", &one.chain), ("tls.key", &two.key)]);
    let bindings = [binding("a", "pair")];
    let (before, _) = build(&store(&[("pair", &good)]), &bindings, None);
    let mut last = build(&store(&[("pair", &broken)]), &bindings, Some(&before));
    for _ in 0..2 {
        let (built, problems) = &last;
        assert!(Arc::ptr_eq(&built.0, &before.0));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].reason, "CertificateInvalid");
        assert_eq!(problems[0].object.to_string(), "Ingress default/web");
        assert_eq!(
            problems[0].message,
            "certificate of secret default/pair for a: the private key does not belong to the \
             certificate; the previous certificate is used"
        );
        last = build(&store(&[("pair", &broken)]), &bindings, Some(built));
    }
    let (fresh, problems) = build(&store(&[("pair", &broken)]), &bindings, None);
    assert!(fresh.0.is_empty(), "without a good one, the default certificate answers");
    assert!(problems[0].message.ends_with("the default certificate is used"), "{}", problems[0]);
}

#[test]
fn a_secret_without_a_field_names_it() {
    let one = pem("a");
    for (fields, missing) in [
        (vec![("tls.key", &*one.key)], "tls.crt"),
        (vec![("tls.crt", &*one.chain)], "tls.key"),
        (vec![("tls.crt", &*one.chain), ("tls.key", "")], "tls.key"),
    ] {
        let (_, problems) = build(&store(&[("s", &secret(&fields))]), &[binding("a", "s")], None);
        assert!(
            problems[0].message.contains(&format!("the secret has no {missing}")),
            "{fields:?}"
        );
    }
}

#[test]
fn string_data_counts_as_the_api_server_would_count_it() {
    let one = pem("a");
    let mut made = Secret::clone(&secret(&[("tls.crt", "garbage")]));
    let text = [("tls.crt".to_owned(), one.chain), ("tls.key".to_owned(), one.key)];
    made.string_data = Some(text.into());
    let (built, problems) = build(&store(&[("s", &Arc::new(made))]), &[binding("a", "s")], None);
    assert_eq!((problems, built.0.len()), (Vec::new(), 1));
}

#[test]
fn a_pair_inside_the_object_is_parsed_once() {
    let Pem { chain, key } = pem("a");
    let source = CertSource::Inline { certificate: chain.into(), key: key.into() };
    let bindings = [CertBinding { source, ..binding("a", "") }];
    let (before, problems) = build(&Store::new(), &bindings, None);
    assert_eq!(problems, []);
    let (after, _) = build(&Store::new(), &bindings, Some(&before));
    assert!(Arc::ptr_eq(&before.0, &after.0));
}

#[test]
fn debug_output_holds_names_but_no_key() {
    let Pem { chain, key } = pem("a");
    let source = CertSource::Inline { certificate: chain.into(), key: key.into() };
    let (built, _) = build(&Store::new(), &[CertBinding { source, ..binding("a.b", "") }], None);
    let text = format!("{built:?}");
    assert!(text.contains("a.b") && !text.contains("PRIVATE"), "{text}");
}

#[test]
fn what_an_authority_says_of_a_certificate_is_stapled_if_it_is_there() {
    let Pem { chain, key } = pem("a.test");
    for (staple, expected) in [
        (None, None),
        (Some("0\u{3}\n\u{1}\u{0}"), Some(5)),
        (Some("-----BEGIN OCSP RESPONSE-----"), None),
    ] {
        let mut fields = vec![("tls.crt", &*chain), ("tls.key", &*key)];
        fields.extend(staple.map(|text| ("tls.ocsp-staple", text)));
        let secrets = store(&[("pair", &secret(&fields))]);
        let ((table, _), problems) = build(&secrets, &[binding("a.test", "pair")], None);
        assert_eq!(problems, []);
        let stapled = table.resolve(Some("a.test")).unwrap().ocsp.as_ref();
        assert_eq!(stapled.map(Vec::len), expected);
    }
}
