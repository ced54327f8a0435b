//! The certificates of the cases, and the pods that speak TLS.
//!
//! Certificates of a host are called `own`, `second`, `expired`, `mismatched` (for another name), `wildcard` (for the
//! names one label below the host) and `below` (of an authority that the known one vouches for); `default` is what the
//! gateway shows to strangers, and a pod's is called as the pod.

use std::{cell::RefCell, collections::BTreeMap};

use gatehouse_testbed::gatehouse::{manifests::service, pki::Authority, secure::Secure, tls::Pair};

const OF_HOSTS: [&str; 6] = ["own", "second", "expired", "mismatched", "wildcard", "below"];

/// Certificates as a client is shown them, and what they are called; with the host if they are of one.
type Names = BTreeMap<Vec<u8>, (String, Option<String>)>;

pub(crate) struct Certificates {
    pub(crate) authority: Authority,
    stranger: Authority,
    names: RefCell<Names>,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let [authority, stranger] = ["authority", "stranger"].map(Authority::new);
        Self { authority, stranger, names: RefCell::default() }
    }

    /// What a certificate is called in the case of this host.
    pub(crate) fn name(&self, der: &[u8], own: &str) -> String {
        match self.names.borrow().get(der) {
            Some((name, None)) => name.clone(),
            Some((name, Some(host))) if host == own => name.clone(),
            Some((name, Some(host))) => format!("{name} of {host}"),
            None => "default".to_owned(),
        }
    }

    /// The objects of a case with the certificates that they name.
    pub(crate) fn fill(&self, own: &str, manifest: &str) -> String {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let mut text = manifest.to_owned();
        for name in OF_HOSTS {
            let place = |field: &str| format!("\"{{{name}.{field}}}\"");
            let places = ["crt", "key", "pem"].map(place);
            if places.iter().any(|place| text.contains(place)) {
                let pair = self.of_host(name, own);
                let both = format!("{}{}", pair.certificate, pair.key);
                for (place, value) in places.iter().zip([&pair.certificate, &pair.key, &both]) {
                    text = text.replace(place, &quoted(value));
                }
                self.names.borrow_mut().insert(pair.der, (name.to_owned(), Some(own.to_owned())));
            }
        }
        let authority = quoted(&self.authority.pem());
        let text = text.replace("\"{stranger}\"", &quoted(&self.stranger.pem()));
        text.replace("\"{authority}\"", &authority).replace("{authority}", &authority)
    }

    fn of_host(&self, name: &str, own: &str) -> Pair {
        match name {
            "expired" => self.authority.expired_server(&[own]),
            "mismatched" => self.authority.server(&["elsewhere.test"]),
            "wildcard" => self.authority.server(&[&format!("*.{own}")]),
            "below" => {
                let below = self.authority.below("below");
                let pair = below.server(&[own]);
                Pair { certificate: pair.certificate + &below.pem(), ..pair }
            }
            _ => self.authority.server(&[own]),
        }
    }

    /// Pods that speak TLS, and a Service for each, of the same name.
    pub(crate) fn pods(&self) -> (Vec<Secure>, String) {
        let stranger = &self.stranger;
        let mut pods = Vec::new();
        let mut services = String::new();
        let mut add = |name: &str, pair: Pair, alpn: &[&str]| {
            let pod = Secure::tls(&pair, alpn);
            services += &service(name, &[pod.addr]);
            self.names.borrow_mut().insert(pair.der, (name.to_owned(), None));
            pods.push(pod);
        };
        let server = |names: &[&str]| self.authority.server(names);
        add("pod", server(&["pod.test", "pod.default.svc"]), &["http/1.1"]);
        add("another-pod", server(&["another-pod.default.svc"]), &["http/1.1"]);
        add("third-pod", server(&["third-pod.default.svc"]), &["http/1.1"]);
        add("http2-pod", server(&["http2-pod.default.svc"]), &["h2", "http/1.1"]);
        add("strange-pod", stranger.server(&["strange-pod.default.svc"]), &["http/1.1"]);
        add("expired-pod", self.authority.expired_server(&["expired-pod.default.svc"]), &[]);
        (pods, services)
    }
}
