//! Which certificates of Routes may be used: the extended validation of OpenShift's router, in its words.
//!
//! The compile asks before it translates the Routes, as one with a broken certificate is refused and served with no
//! other. A certificate that has expired or is for another host is served all the same.

use std::{collections::HashMap, sync::Arc, time::Duration};

use gatehouse_routes::{
    compile::{CertificateFault, CertificateFaults},
    model::CertSource,
    objects::{ObjectKey, ObjectRef, Objects, Revision},
    openshift::TlsConfig,
};
use k8s_openapi::api::core::v1::Secret;
use rustls::{
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{Builder, PairError, der, provider};

const CERTIFICATE: &str = "certificate";
const KEY: &str = "key";
const CA: &str = "caCertificate";
const DESTINATION_CA: &str = "destinationCACertificate";
const EXTERNAL: &str = "externalCertificate";

/// Signatures that anybody can forge by now, as object identifiers, and the name of their hash.
const BROKEN: [(&[u8], &str); 5] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 2], "MD2"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], "MD5"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], "SHA1"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 3], "SHA1"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], "SHA1"),
];

/// The Routes that have been judged.
pub(super) type Judgements = HashMap<ObjectKey, Judgement>;

/// What was found, and what it was found of.
pub(super) struct Judgement {
    route: Revision,
    secret: Option<Arc<Secret>>,
    refused: Option<Arc<str>>,
    fault: Option<CertificateFault>,
}

impl Builder<'_> {
    /// The Routes whose certificates may not be used. One that has not changed since is not looked at again.
    pub(crate) fn judge_routes(&mut self, objects: &Objects) -> CertificateFaults {
        let mut faults = CertificateFaults::new();
        for (key, stored) in objects.routes.iter().filter(|(_, stored)| stored.special) {
            let Some(tls) = &stored.object.spec.tls else { continue };
            let named = tls.external_certificate.as_ref();
            let named = named.map(|named| ObjectKey::new(Arc::clone(&key.namespace), &*named.name));
            let secret = named.as_ref().and_then(|named| self.secrets.get(named));
            let secret = secret.map(|stored| Arc::clone(&stored.object));
            let refusal =
                |name: &ObjectKey| objects.refused.get(&ObjectRef::new("Secret", name.clone()));
            let refused = named.as_ref().and_then(refusal).cloned();
            let known = self.previous.and_then(|cache| cache.judged.get(key)).filter(|known| {
                let same = match (&known.secret, &secret) {
                    (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                    (a, b) => a.is_none() && b.is_none(),
                };
                same && known.refused == refused && known.route == stored.revision
            });
            let fault = match known {
                Some(known) => known.fault.clone(),
                None => match &named {
                    Some(named) => self.external(named, secret.as_deref(), refused.as_deref()),
                    None => self.inline(tls),
                },
            };
            if let Some(fault) = &fault {
                faults.insert(key.clone(), fault.clone());
            }
            let route = stored.revision;
            let judgement = Judgement { route, secret, refused, fault };
            self.cache.judged.insert(key.clone(), judgement);
        }
        faults
    }

    /// The certificate in a Secret.
    fn external(
        &mut self,
        name: &ObjectKey,
        secret: Option<&Secret>,
        refused: Option<&str>,
    ) -> Option<CertificateFault> {
        let reason = "ExternalCertificateValidationFailed";
        let field = format!("spec.tls.{EXTERNAL}");
        let told = |message: String, hint: &str| {
            Some(CertificateFault::refused(reason, field.clone(), message, hint))
        };
        let Some(secret) = secret else {
            return match refused {
                Some(why) => told(
                    format!("Forbidden: the gateway may not read secret {:?}: {why}", name.name),
                    "allow the service account of the gateway to get and watch Secrets in that namespace",
                ),
                None => told(
                    format!("Not found: secrets {:?} not found", name.name),
                    "create a Secret of type kubernetes.io/tls in the same namespace",
                ),
            };
        };
        if secret.type_.as_deref() != Some("kubernetes.io/tls") {
            let message = format!(
                "Invalid value: {:?}: secret of type \"kubernetes.io/tls\" required",
                name.name
            );
            return told(message, "give the Secret that type");
        }
        match self.pair(&CertSource::Secret(name.clone())) {
            Ok(pair) => weak(&pair.cert).map(|why| invalid(EXTERNAL, &why)),
            Err(error) => Some(invalid(EXTERNAL, &error.to_string())),
        }
    }

    /// What stands in the Route itself.
    fn inline(&mut self, tls: &TlsConfig) -> Option<CertificateFault> {
        self.judge(tls).err()
    }

    fn judge(&mut self, tls: &TlsConfig) -> Result<(), CertificateFault> {
        if let Some(text) = text(&tls.destination_ca_certificate) {
            authorities(DESTINATION_CA, text)?;
        }
        // A key without a certificate is not looked at, and a certificate without a key is refused as it is.
        let Some((chain, Some(key))) = tls.pair() else { return Ok(()) };
        let own = text(&tls.certificate).unwrap_or_default();
        blocks(CERTIFICATE, own, |label| label == "CERTIFICATE" || is_key(label))?;
        if let Some(key) = text(&tls.key) {
            if key.contains("-----BEGIN CERTIFICATE-----") {
                let why =
                    "tls: found a certificate rather than a key in the PEM for the private key";
                return Err(invalid(KEY, why));
            }
            blocks(KEY, key, is_key)?;
        }
        let anchors = match text(&tls.ca_certificate) {
            Some(text) => authorities(CA, text)?,
            None => Vec::new(),
        };
        let source = CertSource::Inline { certificate: chain.into(), key: key.into() };
        let pair = self.pair(&source).map_err(|error| of_pair(&error))?;
        let given = CertificateDer::pem_slice_iter(own.as_bytes()).flatten().collect::<Vec<_>>();
        if let Some(why) = weak(&given) {
            return Err(invalid(CERTIFICATE, &why));
        }
        if !anchors.is_empty() && !is_signed(&pair, &given, &anchors) {
            return Err(invalid(CERTIFICATE, "x509: certificate signed by unknown authority"));
        }
        Ok(())
    }
}

fn text(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.trim().is_empty())
}

/// Nothing of what is secret, or might be, is repeated.
fn invalid(field: &str, why: &str) -> CertificateFault {
    let what = match field {
        CERTIFICATE => "redacted certificate data",
        KEY => "redacted key data",
        CA => "redacted ca certificate data",
        DESTINATION_CA => "redacted destination ca certificate data",
        _ => "redacted secret data",
    };
    let message = format!("Invalid value: {what:?}: {why}");
    let hint = "write PEM: the certificate of the host first, its private key, the authorities that signed it";
    CertificateFault::refused(
        "ExtendedValidationFailed",
        format!("spec.tls.{field}"),
        message,
        hint,
    )
}

fn of_pair(error: &PairError) -> CertificateFault {
    const NO_KEY: &str = "tls: failed to find any PEM data in key input";
    const NO_CERTIFICATE: &str = "tls: failed to find any PEM data in certificate input";
    match error {
        PairError::Mismatch => invalid(KEY, "tls: private key does not match public key"),
        PairError::NoKey(_) | PairError::Pem("spec.tls.key") => invalid(KEY, NO_KEY),
        PairError::NoCertificate(_) | PairError::Pem(_) => invalid(CERTIFICATE, NO_CERTIFICATE),
        PairError::Missing(_) | PairError::Unusable(_) => invalid(KEY, &error.to_string()),
    }
}

fn is_key(label: &str) -> bool {
    label.ends_with("PRIVATE KEY") || label == "EC PARAMETERS"
}

/// Refuses blocks of PEM that do not belong there.
fn blocks(field: &str, text: &str, known: impl Fn(&str) -> bool) -> Result<(), CertificateFault> {
    let labels = text.split("-----BEGIN ").skip(1).filter_map(|rest| rest.split_once("-----"));
    for (label, _) in labels {
        if !known(label) {
            return Err(invalid(field, &format!("unexpected block type {label:?}")));
        }
    }
    Ok(())
}

/// The authorities of a bundle.
fn authorities(field: &str, text: &str) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    blocks(field, text, |label| label == "CERTIFICATE")?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match read {
        Ok(all)
            if !all.is_empty() && all.iter().all(|one| anchor_from_trusted_cert(one).is_ok()) =>
        {
            Ok(all)
        }
        _ => Err(invalid(field, "failed to parse CA certificate")),
    }
}

/// The hash of a signature in the chain that anybody can forge; that of a root is never looked at.
fn weak(chain: &[CertificateDer<'_>]) -> Option<String> {
    let signed = chain.iter().filter(|one| !der::is_self_issued(one));
    let algorithms = signed.filter_map(|one| der::signature_algorithm(one));
    let mut hashes = algorithms.filter_map(|algorithm| {
        BROKEN.iter().find(|(broken, _)| *broken == algorithm).map(|(_, hash)| hash)
    });
    hashes.next().map(|hash| format!("router does not support certs using {hash}"))
}

/// Whether the authorities have signed the certificate, at whatever time.
fn is_signed(
    pair: &CertifiedKey,
    given: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'_>],
) -> bool {
    let Some(leaf) = pair.cert.first() else { return false };
    if authorities.iter().any(|one| one == leaf) {
        return true;
    }
    let Ok(certificate) = EndEntityCert::try_from(leaf) else { return false };
    let anchors: Vec<_> =
        authorities.iter().filter_map(|one| anchor_from_trusted_cert(one).ok()).collect();
    let begin = der::validity(leaf).map_or(0, |(begin, _)| begin);
    let time = UnixTime::since_unix_epoch(Duration::from_secs(begin.try_into().unwrap_or(0)));
    let algorithms = provider().signature_verification_algorithms.all;
    let rest = given.get(1..).unwrap_or_default();
    let usage = KeyUsage::server_auth();
    match certificate.verify_for_usage(algorithms, &anchors, rest, time, usage, None, None) {
        Ok(_) => true,
        Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => false,
        // Times and uses are the client's to judge; but another name's certificate is not what was asked for.
        Err(_) => {
            let issuer = der::names(leaf).map(|(issuer, _)| issuer);
            let mut subjects = authorities.iter().chain(rest).filter_map(|one| der::names(one));
            subjects.any(|(_, subject)| Some(subject) == issuer)
        }
    }
}

#[cfg(test)]
mod tests;
