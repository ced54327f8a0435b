use gatehouse_routes::objects::{Special, Store, Stored};
use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use super::*;

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Ca { pem, issuer: Issuer::new(params, key) }
}

/// A certificate that the CA has signed, and its key.
fn signed(ca: &Ca, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &ca.issuer).unwrap().pem(), key.serialize_pem())
}

fn store<T: Special>(objects: impl IntoIterator<Item = (&'static str, T)>) -> Store<T> {
    let stored = |object| Stored::new(Arc::new(object), 0, Default::default());
    let keyed = |(name, object)| (ObjectKey::new("d", name), stored(object));
    objects.into_iter().map(keyed).collect()
}

fn fault_with(tls: TlsConfig, secrets: Store<Secret>) -> Option<String> {
    let mut route = gatehouse_routes::openshift::Route::default();
    route.spec.tls = Some(tls);
    let objects = Objects { routes: store([("r", route)]), ..Objects::default() };
    let mut builder = Builder::new(&secrets, None);
    let faults = builder.judge_routes(&objects);
    let (cache, _) = builder.finish();
    let again = Builder::new(&secrets, Some(&cache)).judge_routes(&objects);
    assert_eq!(again, faults, "what is known is found again");
    faults.into_values().next().map(|one| format!("{} {} {}", one.reason, one.field, one.message))
}

fn fault(certificate: &str, key: &str, authorities: &str) -> Option<String> {
    let given = |text: &str| Some(text.to_owned());
    let tls = TlsConfig {
        certificate: given(certificate),
        key: given(key),
        ca_certificate: given(authorities),
        ..TlsConfig::default()
    };
    fault_with(tls, Store::new())
}

#[test]
fn what_a_client_can_judge_itself_is_served() {
    let own = ca("own");
    let (certificate, key) = signed(&own, |_| {});
    assert_eq!(fault(&certificate, &key, ""), None, "the authority is not given");
    assert_eq!(fault(&certificate, &key, &own.pem), None);
    let bundled = format!("{certificate}{key}");
    assert_eq!(fault(&bundled, "", &own.pem), None, "the key comes with the certificate");
    let (expired, key) = signed(&own, |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    assert_eq!(fault(&expired, &key, &own.pem), None);
    let alone = rcgen::generate_simple_self_signed(["b.test".to_owned()]).unwrap();
    let key = alone.signing_key.serialize_pem();
    assert_eq!(fault(&alone.cert.pem(), &key, ""), None, "self-signed, of another host");
    assert_eq!(fault(&alone.cert.pem(), &key, &alone.cert.pem()), None);
    assert_eq!(fault("", &key, ""), None, "a key alone is ignored");
}

#[test]
fn what_is_broken_is_refused_with_the_words_of_the_router() {
    let (own, other) = (ca("own"), ca("other"));
    let (certificate, key) = signed(&own, |_| {});
    let (_, foreign) = signed(&own, |_| {});
    for (certificate, key, authorities, field, words) in [
        (&*certificate, &*foreign, "", "key", "private key does not match public key"),
        (&certificate, &certificate, "", "key", "found a certificate rather than a key"),
        (&certificate, "junk", "", "key", "failed to find any PEM data in key input"),
        ("junk", &key, "", "certificate", "failed to find any PEM data in certificate input"),
        (&certificate, &key, &other.pem, "certificate", "signed by unknown authority"),
        (&certificate, &key, "junk", "caCertificate", "failed to parse CA certificate"),
        (&certificate, &key, &key, "caCertificate", "unexpected block type"),
    ] {
        let told = fault(certificate, key, authorities).unwrap();
        assert!(told.starts_with(&format!("ExtendedValidationFailed spec.tls.{field} ")), "{told}");
        assert!(told.contains("redacted") && told.contains(words), "{told}");
    }
    let key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(["a.test".to_owned()]).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name.push(rcgen::DnType::CommonName, "itself");
    let root = root.self_signed(&key).unwrap().pem();
    let told = fault(&root, &key.serialize_pem(), &other.pem).unwrap();
    assert!(told.contains("signed by unknown authority"), "{told}");
    let (certificate, key) = signed(&own, |_| {});
    let unknown = format!("{certificate}-----BEGIN THING-----\nAA==\n-----END THING-----\n");
    assert!(fault(&unknown, &key, "").unwrap().contains("unexpected block type \"THING\""));
    let mut tls =
        TlsConfig { destination_ca_certificate: Some("junk".into()), ..TlsConfig::default() };
    tls.termination = Some("reencrypt".into());
    let told = fault_with(tls, Store::new()).unwrap();
    assert!(told.contains("spec.tls.destinationCACertificate"), "{told}");
}

#[test]
fn a_signature_that_can_be_forged_is_refused_unless_it_is_a_roots_own() {
    let own = ca("own");
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    let signed = params.signed_by(&key, &own.issuer).unwrap().der().to_vec();
    let root = params.self_signed(&key).unwrap().der().to_vec();
    // ecdsa-with-SHA256 becomes ecdsa-with-SHA1 and a byte behind it: nobody checks the signature here.
    let sha256 = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let sha1 = [6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1, 5];
    let forged = |mut der: Vec<u8>| {
        for at in 0..der.len() - sha256.len() {
            if der[at..].starts_with(&sha256) {
                der[at..at + sha1.len()].copy_from_slice(&sha1);
            }
        }
        CertificateDer::from(der)
    };
    assert_eq!(weak(&[CertificateDer::from(signed.clone())]), None);
    let told = weak(&[forged(signed)]);
    assert_eq!(told.as_deref(), Some("router does not support certs using SHA1"));
    assert_eq!(weak(&[forged(root)]), None);
}

#[test]
fn a_secret_is_there_of_the_type_for_it_and_a_pair() {
    let external = || TlsConfig {
        external_certificate: Some(gatehouse_routes::openshift::LocalObjectReference {
            name: "s".into(),
        }),
        ..TlsConfig::default()
    };
    let (certificate, key) = signed(&ca("own"), |_| {});
    let secret = |kind: &str, key: &str| {
        let field = |name: &str, text: &str| (name.to_owned(), ByteString(text.into()));
        let data = [field("tls.crt", &certificate), field("tls.key", key)].into();
        Secret { data: Some(data), type_: Some(kind.to_owned()), ..Secret::default() }
    };
    let fault = |secret| fault_with(external(), store([("s", secret)]));
    assert_eq!(fault(secret("kubernetes.io/tls", &key)), None);
    let opaque = fault(secret("Opaque", &key)).unwrap();
    assert!(opaque.contains("secret of type \"kubernetes.io/tls\" required"), "{opaque}");
    let broken = fault(secret("kubernetes.io/tls", "junk")).unwrap();
    assert!(
        broken.starts_with("ExtendedValidationFailed spec.tls.externalCertificate"),
        "{broken}"
    );
    let missing = fault_with(external(), Store::new()).unwrap();
    assert!(missing.starts_with("ExternalCertificateValidationFailed"), "{missing}");
    assert!(missing.contains("secrets \"s\" not found"), "{missing}");
}
