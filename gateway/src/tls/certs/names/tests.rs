use std::collections::BTreeMap;

use gatehouse_routes::{
    model::Scope,
    objects::{ObjectKey, Store, Stored},
};
use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::*;
use crate::tls::certs::Builder;

/// A Secret of certificates with these names.
fn secret(names: &[&str]) -> Secret {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let data = [("tls.crt", chain), ("tls.key", key)];
    let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
    Secret { data: Some(data.into()), ..Secret::default() }
}

fn pattern(host: &str) -> HostPattern {
    host::pattern(host.strip_prefix('?').unwrap_or(host)).unwrap()
}

/// The table of bindings `(host, secret)`, a `?` before the host where only the certificate names it, as
/// `server name: secret`; and what is told.
fn shown(
    secrets: &[(&str, &[&str])],
    bindings: &[(&str, &str)],
    asked: &[&str],
) -> (Vec<String>, Vec<String>) {
    let store: Store<Secret> = secrets
        .iter()
        .map(|(name, names)| {
            let object = Arc::new(secret(names));
            (ObjectKey::new("d", *name), Stored::new(object, 0, Default::default()))
        })
        .collect();
    let bindings: Vec<_> = bindings
        .iter()
        .map(|(host, secret)| CertBinding {
            host: pattern(host),
            if_named: host.starts_with('?'),
            source: CertSource::Secret(ObjectKey::new("d", *secret)),
            object: ObjectRef::new("Ingress", ObjectKey::new("d", format!("of-{secret}"))),
            field: "spec.tls[0].secretName".to_owned(),
        })
        .collect();
    let mut builder = Builder::new(&store, None);
    let table = builder.table(&Scope::Plain, &bindings, None);
    let by_key: BTreeMap<_, _> = bindings
        .iter()
        .filter_map(|one| Some((Arc::as_ptr(&builder.pair(&one.source).ok()?), &one.source)))
        .collect();
    let name = |asked: &&str| match table.resolve(Some(asked)) {
        None => format!("{asked}: default"),
        Some(pair) => match by_key[&Arc::as_ptr(pair)] {
            CertSource::Secret(key) => format!("{asked}: {}", key.name),
            CertSource::Inline { .. } => unreachable!("all are Secrets"),
        },
    };
    let answers = asked.iter().map(name).collect();
    let problems = builder.finish().1;
    (answers, problems.into_iter().map(|problem| problem.message).collect())
}

#[test]
fn a_certificate_is_shown_for_what_it_and_the_rules_name() {
    let (answers, told) = shown(
        &[("s", &["a.test", "*.b.test", "c.test"])],
        &[("?a.test", "s"), ("?x.b.test", "s"), ("?other.test", "s")],
        &["a.test", "x.b.test", "y.b.test", "c.test", "other.test", "stranger.test"],
    );
    assert_eq!(
        answers,
        [
            "a.test: s",
            "x.b.test: s",
            "y.b.test: default",
            "c.test: default",
            "other.test: default",
            "stranger.test: default"
        ]
    );
    assert_eq!(
        told,
        [
            "the entry names no hosts: the certificate of secret d/s is shown for a.test, x.b.test; other.test \
          gets the default certificate"
        ]
    );
}

#[test]
fn a_rule_for_many_hosts_takes_what_the_certificate_names() {
    let (answers, told) = shown(
        &[("s", &["a.test", "*.b.test"])],
        &[("?", "s")],
        &["a.test", "x.b.test", "stranger.test"],
    );
    assert_eq!(answers, ["a.test: s", "x.b.test: s", "stranger.test: default"]);
    assert!(
        told[0].ends_with("for *.b.test, a.test; other hosts get the default certificate"),
        "{told:?}"
    );

    let (answers, _) = shown(
        &[("s", &["x.b.test", "a.test"])],
        &[("?*.b.test", "s")],
        &["x.b.test", "y.b.test", "a.test"],
    );
    assert_eq!(answers, ["x.b.test: s", "y.b.test: default", "a.test: default"]);
}

#[test]
fn an_entry_that_does_not_name_a_host_does_not_keep_it_from_others() {
    let secrets: &[(&str, &[&str])] =
        &[("old", &["a.test", "b.test"]), ("young", &["b.test", "c.test"])];
    // The older Ingress has rules for all three.
    let old = [("?a.test", "old"), ("?b.test", "old"), ("?c.test", "old")];
    let asked = &["a.test", "b.test", "c.test"];
    let with =
        |young: &[(&'static str, &'static str)]| shown(secrets, &[&old, young].concat(), asked);
    let (answers, told) = with(&[("b.test", "young"), ("c.test", "young")]);
    assert_eq!(answers, ["a.test: old", "b.test: old", "c.test: young"]);
    assert!(told[0].ends_with("for a.test, b.test; c.test gets that of another entry"), "{told:?}");
    let (answers, _) = with(&[("?b.test", "young"), ("?c.test", "young")]);
    assert_eq!(answers, ["a.test: old", "b.test: old", "c.test: young"]);
    // A rule without host is for less than one that spells its host.
    let (answers, _) = shown(secrets, &[("?", "old"), ("b.test", "young")], asked);
    assert_eq!(answers, ["a.test: old", "b.test: young", "c.test: default"]);
}

#[test]
fn a_certificate_that_names_no_host_of_the_rules_is_shown_to_nobody() {
    let (answers, told) =
        shown(&[("s", &["10.0.0.1"])], &[("?a.test", "s")], &["a.test", "10.0.0.1"]);
    assert_eq!(answers, ["a.test: default", "10.0.0.1: default"]);
    assert!(told[0].contains("is shown for no host; a.test gets the default"), "{told:?}");
}
