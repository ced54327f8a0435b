//! What a client has shown of itself in its handshake, and what was found of that.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatehouse_routes::filter::client_certificate::{Demand, Shown, Subject};
use http::HeaderValue;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::{
    http::router_fields::RouterFields,
    tls::client_certificates::{ClientTrust, Standing, subject},
};

/// What a client has shown in a handshake that asked for a certificate.
pub(crate) struct ClientIdentity {
    /// Leaf first; empty if it has shown none.
    chain: Box<[CertificateDer<'static>]>,
    judged: RefCell<Option<Rc<Judged>>>,
    /// The leaf, as backends get it.
    escaped: OnceCell<HeaderValue>,
}

/// A chain and what one demand finds of it.
pub(crate) struct Judged {
    demand: Arc<Demand>,
    pub(crate) standing: Standing,
    pub(crate) subject: Subject,
    pub(crate) issuer: Subject,
    /// The leaf.
    pub(crate) leaf: CertificateDer<'static>,
    /// What is told of it in the words of OpenShift's router.
    router_fields: OnceCell<RouterFields>,
}

impl ClientIdentity {
    /// What was shown in a handshake.
    pub(crate) fn new(chain: &[CertificateDer<'static>]) -> Self {
        Self { chain: chain.into(), judged: RefCell::default(), escaped: OnceCell::new() }
    }

    /// What a demand finds of the chain; `None`: there is none.
    pub(crate) fn judged(&self, demand: &Arc<Demand>, trust: &ClientTrust) -> Option<Rc<Judged>> {
        let leaf = self.chain.first()?;
        let known = self.judged.borrow().clone();
        if let Some(known) = known.filter(|known| known.demand == *demand) {
            return Some(known);
        }
        let (subject, issuer) = subject::of(leaf);
        let judged = Rc::new(Judged {
            demand: Arc::clone(demand),
            standing: trust.judge(&self.chain, UnixTime::now()),
            subject,
            issuer,
            leaf: leaf.clone(),
            router_fields: OnceCell::new(),
        });
        tracing::debug!(subject = judged.subject.rfc2253, standing = ?judged.standing, "client certificate");
        self.judged.replace(Some(Rc::clone(&judged)));
        Some(judged)
    }

    /// The certificate itself, as backends get it.
    pub(crate) fn leaf(&self) -> Option<HeaderValue> {
        let leaf = self.chain.first()?;
        Some(self.escaped.get_or_init(|| escaped(leaf)).clone())
    }
}

impl Judged {
    /// What is told of the leaf in the words of OpenShift's router.
    pub(crate) fn router_fields(&self) -> &RouterFields {
        self.router_fields.get_or_init(|| RouterFields::of(&self.leaf, &self.subject, &self.issuer))
    }

    /// The same, as demands are held against it.
    pub(crate) fn shown(&self) -> Shown<'_> {
        match self.standing {
            Standing::Believed => Shown::Believed(&self.subject),
            Standing::Unknown => Shown::Unknown(&self.subject),
            Standing::Invalid(_) => Shown::Invalid,
        }
    }
}

/// A certificate in PEM, with all but unreserved characters percent-encoded (`$ssl_client_escaped_cert` of nginx).
fn escaped(der: &[u8]) -> HeaderValue {
    let text = STANDARD.encode(der);
    let mut out = String::with_capacity(text.len() * 5 / 4 + 128);
    out.push_str("-----BEGIN%20CERTIFICATE-----%0A");
    for (at, character) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            out.push_str("%0A");
        }
        match character {
            '+' => out.push_str("%2B"),
            '/' => out.push_str("%2F"),
            '=' => out.push_str("%3D"),
            plain => out.push(plain),
        }
    }
    out.push_str("%0A-----END%20CERTIFICATE-----%0A");
    HeaderValue::try_from(out).expect("unreserved characters and percent signs are a valid value")
}
