use std::collections::BTreeMap;

use gatehouse_routes::{
    model::{Backend, BackendKey, BackendPort, BackendProtocol},
    objects::{ObjectRef, Stored},
    transport::TlsVersions,
};
use k8s_openapi::ByteString;

use super::*;

fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["pod".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn secret(fields: &[(&str, &str)]) -> Stored<Secret> {
    let data: BTreeMap<_, _> = fields
        .iter()
        .map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec())))
        .collect();
    let object = Arc::new(Secret { data: Some(data), ..Secret::default() });
    Stored::new(object, 0, Default::default())
}

fn backends(all: &[BackendProtocol]) -> Arc<BackendTable> {
    let slots = all.iter().map(|protocol| {
        let service = ObjectKey::new("d", "web");
        let (port, protocol) = (BackendPort::Number(443), protocol.clone());
        let key = BackendKey { service, port, protocol, whole: false };
        Some(Arc::new(Backend { key, endpoints: Arc::default() }))
    });
    Arc::new(BackendTable::new(slots.collect()))
}

fn by_secret() -> BackendTls {
    let key = ObjectKey::new("d", "tls");
    BackendTls {
        trust: Some(Trust::Secret(key.clone())),
        identity: Some(key),
        name: Some("pod".into()),
        asked_by: Some((ObjectRef::new("Ingress", ObjectKey::new("d", "web")), "field".into())),
        ..BackendTls::default()
    }
}

fn id(table: &BackendTlsTable, slot: u32) -> WayId {
    table.get(BackendSlot(slot)).unwrap().of(Alpn::Http1, false, false).id
}

#[test]
fn a_way_stays_while_what_it_is_made_of_stays_and_changes_with_its_secret() {
    let (certificate, key) = pair();
    let whole = [("ca.crt", &*certificate), ("tls.crt", &*certificate), ("tls.key", &*key)];
    let name = ObjectKey::new("d", "tls");
    let mut secrets: Store<Secret> = [(name.clone(), secret(&whole))].into_iter().collect();
    let protocols = [
        BackendProtocol::Declared,
        BackendProtocol::Tls(Alpn::Http1, Arc::new(by_secret())),
        BackendProtocol::Tls(Alpn::Either, Arc::new(by_secret())),
    ];
    let all = backends(&protocols);
    let first = BackendTlsTable::of(&all, &secrets, None);
    assert_eq!(first.problems(), []);
    assert_eq!(first.secrets(), [name.clone()].into());
    assert_eq!(id(&first, 1), id(&first, 2), "the same trust and the same certificate");
    assert_ne!(id(&first, 0), id(&first, 1));
    assert_eq!(id(&first, 0), id(&first, 99), "who says nothing is spoken to like all others");

    let again = BackendTlsTable::of(&all, &secrets, Some(&first));
    assert!(Arc::ptr_eq(&first.0, &again.0), "nothing has changed");
    let more = BackendTlsTable::of(&backends(&protocols[..2]), &secrets, Some(&first));
    assert_eq!((id(&more, 0), id(&more, 1)), (id(&first, 0), id(&first, 1)));
    secrets.insert(name, secret(&whole));
    let changed = BackendTlsTable::of(&all, &secrets, Some(&first));
    assert_ne!(id(&changed, 1), id(&first, 1), "old connections serve no more requests");
    assert_eq!(id(&changed, 0), id(&first, 0));
}

#[test]
fn what_is_asked_for_by_the_client_chooses_the_way() {
    let table = BackendTlsTable::of(&backends(&[BackendProtocol::Declared]), &Store::new(), None);
    let ways = table.get(BackendSlot(0)).unwrap();
    for (alpn, http2, http1, way) in [
        (Alpn::Http1, true, false, &ways.http1),
        (Alpn::Http2, false, false, &ways.http2),
        (Alpn::Http2, false, true, &ways.http1),
        (Alpn::Either, true, false, &ways.either),
        (Alpn::Either, true, true, &ways.http1),
        (Alpn::Either, false, false, &ways.http1),
    ] {
        assert_eq!(ways.of(alpn, http2, http1).id, way.id, "{alpn:?} {http2} {http1}");
    }
}

#[test]
fn what_is_broken_is_closed_and_told_to_the_object_that_asks_for_it() {
    let (certificate, key) = pair();
    let versions = TlsVersions { tls12: true, tls13: false };
    let no_cipher = BackendTls { ciphers: Some("RC4-SHA".into()), ..BackendTls::default() };
    let pem = BackendTls { trust: Some(Trust::Pem("text".into())), ..BackendTls::default() };
    for (tls, fields, words) in [
        (by_secret(), None, "Secret d/tls does not exist"),
        (by_secret(), Some(vec![("tls.crt", &*certificate)]), "has no ca.crt"),
        (by_secret(), Some(vec![("ca.crt", "text")]), "ca.crt holds no PEM certificate"),
        (
            by_secret(),
            Some(vec![("ca.crt", &*certificate), ("tls.crt", "text"), ("tls.key", &*key)]),
            "tls.crt holds no PEM certificate",
        ),
        (no_cipher, None, "none of the ciphers \"RC4-SHA\" is built in"),
        (pem, None, "the authority holds no PEM certificate"),
    ] {
        let tls = BackendTls { asked_by: by_secret().asked_by, versions, ..tls };
        let table = BackendTlsTable::of(
            &backends(&[BackendProtocol::Tls(Alpn::Http1, Arc::new(tls))]),
            &fields.iter().map(|it| (ObjectKey::new("d", "tls"), secret(it))).collect(),
            None,
        );
        assert!(table.get(BackendSlot(0)).is_err_and(|why| why.contains(words)), "{words}");
        let problems = table.problems();
        assert!(matches!(&*problems, [one] if one.message.contains(words)), "{problems:?}");
    }
    let alone = secret(&[("ca.crt", &*certificate)]);
    let table = BackendTlsTable::of(
        &backends(&[BackendProtocol::Tls(Alpn::Http1, Arc::new(by_secret()))]),
        &[(ObjectKey::new("d", "tls"), alone)].into_iter().collect(),
        None,
    );
    assert!(table.get(BackendSlot(0)).is_ok(), "no certificate needs to be shown");
}
