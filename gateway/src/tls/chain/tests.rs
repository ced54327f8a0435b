use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

fn ca(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn root(name: &str) -> Authority {
    CertifiedIssuer::self_signed(ca(name), KeyPair::generate().unwrap()).unwrap()
}

fn below(name: &str, issuer: &Issuer<'_, KeyPair>) -> Authority {
    CertifiedIssuer::signed_by(ca(name), KeyPair::generate().unwrap(), issuer).unwrap()
}

fn leaf(params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> CertificateDer<'static> {
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
}

fn believed(authority: &Authority) -> Authorities {
    Authorities::parse(("ca.crt", authority.pem().as_bytes()), None).unwrap()
}

/// The first of January of a year.
fn at(year: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600))
}

#[test]
fn a_chain_leads_to_an_authority_by_signature_in_time_and_within_its_depth() {
    let (root, stranger) = (root("root"), root("stranger"));
    let first = below("first", &root);
    let second = below("second", &first);
    let direct = leaf(&params("direct"), &root);
    let deep = leaf(&params("deep"), &second);
    let between = [second.der().clone(), first.der().clone()];
    let server = |authorities: &Authorities, leaf, others: &[_], depth, year| {
        authorities.verify(leaf, others, Purpose::Server, depth, at(year))
    };
    let ours = believed(&root);
    assert_eq!(server(&ours, &direct, &[], Some(0), 2026), Ok(()));
    assert_eq!(server(&ours, &deep, &between, None, 2026), Ok(()));
    assert_eq!(server(&ours, &deep, &between, Some(2), 2026), Ok(()));
    assert!(server(&ours, &deep, &between, Some(1), 2026).is_err(), "two stand between");
    assert!(server(&ours, &deep, &between[..1], None, 2026).is_err(), "one is missing");
    assert_eq!(server(&believed(&stranger), &direct, &[], None, 2026), Err(Error::UnknownIssuer));
    for year in [2019, 2031] {
        assert!(server(&ours, &direct, &[], None, year).is_err(), "{year}");
    }
    // An authority in the middle is as good as one at the top.
    assert_eq!(server(&believed(&second), &deep, &[], Some(0), 2026), Ok(()));
}

#[test]
fn a_certificate_for_servers_is_none_for_clients() {
    let root = root("root");
    let mut only_server = params("server");
    only_server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let der = leaf(&only_server, &root);
    let ours = believed(&root);
    assert_eq!(ours.verify(&der, &[], Purpose::Server, None, at(2026)), Ok(()));
    assert!(ours.verify(&der, &[], Purpose::Client, None, at(2026)).is_err());
}

#[test]
fn a_self_signed_certificate_is_its_own_authority_also_where_it_says_so() {
    for params in [params("self"), ca("self")] {
        let own = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let ours = Authorities::parse(("ca.crt", own.pem().as_bytes()), None).unwrap();
        let verify = |year| ours.verify(own.der(), &[], Purpose::Server, Some(0), at(year));
        assert_eq!(verify(2026), Ok(()), "{:?}", params.is_ca);
        assert!(verify(2031).is_err(), "{:?}", params.is_ca);
    }
    let other = ca("self").self_signed(&KeyPair::generate().unwrap()).unwrap();
    let ours = believed(&root("self"));
    assert!(ours.verify(other.der(), &[], Purpose::Server, None, at(2026)).is_err());
}

fn list(issuer: &Authority, revoked: &[u64]) -> String {
    let revoked = revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2025, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 1, 1),
        next_update: date_time_ymd(2027, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

#[test]
fn what_an_authority_has_revoked_is_not_believed() {
    let root = root("root");
    let [good, bad] = [7, 8].map(|serial| {
        let mut params = params("client");
        params.serial_number = Some(SerialNumber::from(serial));
        leaf(&params, &root)
    });
    let lists = list(&root, &[8]);
    let pem = root.pem();
    let ours = Authorities::parse(("ca.crt", pem.as_bytes()), Some(("ca.crl", lists.as_bytes())));
    let ours = ours.unwrap();
    let verify = |der, year| ours.verify(der, &[], Purpose::Client, None, at(year));
    assert_eq!(verify(&good, 2026), Ok(()));
    assert_eq!(verify(&bad, 2026), Err(Error::CertRevoked));
    assert!(verify(&good, 2028).is_err(), "the list is old");
}

#[test]
fn what_cannot_be_read_is_told() {
    let pem = root("root").pem();
    for (certificates, lists, words) in [
        ("", None, "ca.crt holds no PEM certificate"),
        ("text", None, "ca.crt holds no PEM certificate"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", None, "not valid PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            None,
            "unusable certificate",
        ),
        (&pem, Some("text"), "ca.crl holds no PEM list"),
        (
            &pem,
            Some("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"),
            "ca.crl holds an unusable list",
        ),
    ] {
        let lists = lists.map(|text| ("ca.crl", text.as_bytes()));
        let error = Authorities::parse(("ca.crt", certificates.as_bytes()), lists).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
