//! Where copies of an Ingress' requests go.

use std::{net::IpAddr, sync::Arc};

use http::HeaderValue;

use super::Translator;
use crate::{
    action::{Forward, ForwardSpec},
    annotations::mirror::{MirrorSettings, MirrorUrl},
    endpoints,
    filter::{Filter, mirror::Mirror},
    model::{BackendKey, BackendPort, BackendProtocol},
    objects::ObjectKey,
    policy::Policy,
    problem::Problem,
    transport::{Alpn, BackendTls},
};

impl Translator<'_, '_> {
    /// Adds the filter. A target that cannot be had costs the copies, not the requests.
    pub(super) fn mirror(&mut self) {
        let settings = self.settings.mirror.clone();
        let Some(url) = settings.to else { return };
        let field = MirrorSettings::field();
        if let Ok(ip) = url.host.parse::<IpAddr>()
            && let Some(why) = endpoints::refusal(ip)
            && !(self.reading.loopback && ip.is_loopback())
        {
            self.out.problems.push(Problem::error(
                &self.out.object,
                "InvalidMirrorTarget",
                field,
                format!("{} is {why}, which no gateway sends to; no copy is sent", url.host),
                "name the Service or the host that is to get the copies",
            ));
            return;
        }
        let key = self.mirror_key(&url);
        let backend = self.out.backend(key, 1, field, self.slots);
        let spec = ForwardSpec::of(Box::new([backend]), Policy::of_the_process());
        // As in URLs: brackets around what holds colons.
        let host =
            if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.to_string() };
        let Some(host) = settings.host.or_else(|| HeaderValue::try_from(host).ok()) else { return };
        self.filters.push(Filter::Mirror(Arc::new(Mirror {
            to: Forward::new(spec),
            host,
            target: url.target,
            body: settings.body,
            share: settings.share,
        })));
    }

    /// A Service of the namespace, of which the endpoints are known; else a host, whose name is resolved when a
    /// copy is sent.
    fn mirror_key(&self, url: &MirrorUrl) -> BackendKey {
        let namespace = Arc::clone(&self.key.namespace);
        let name = url.host.strip_suffix(".cluster.local").unwrap_or(&url.host);
        let service = name.strip_suffix(".svc").and_then(|name| name.split_once('.'));
        match service.filter(|(_, of)| **of == *namespace) {
            Some((name, _)) => BackendKey {
                service: ObjectKey::new(namespace, name),
                port: BackendPort::Number(url.port),
                protocol: match url.secure {
                    true => BackendProtocol::Tls(Alpn::Either, Arc::new(tls(url))),
                    false => BackendProtocol::Declared,
                },
                whole: false,
            },
            None => BackendKey {
                service: ObjectKey::new(namespace, &*url.host),
                port: BackendPort::Outside { number: url.port, loopback: self.reading.loopback },
                protocol: match url.secure {
                    true => BackendProtocol::Tls(Alpn::Http1, Arc::new(tls(url))),
                    false => BackendProtocol::ClearText,
                },
                whole: false,
            },
        }
    }
}

/// As nginx has it where nobody says more: any certificate is taken. The server is told its name.
fn tls(url: &MirrorUrl) -> BackendTls {
    let named = url.host.parse::<IpAddr>().is_err();
    BackendTls { server_name: named.then(|| Arc::clone(&url.host)), ..BackendTls::default() }
}
