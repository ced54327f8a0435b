//! One gateway with three recording backends, as the corpora use it.
//!
//! `good.test` is served by `app`, but its `/private` by `secret`; `other.test` by `other`;
//! `empty.test` has no endpoints and `redirect.test` sends everyone to HTTPS. A request that shows
//! up at a backend where it does not belong has confused the router.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::gatehouse::{
    backend::{Backend, Record, describe},
    client::{Exchange, Step, Want, exchange},
    gateway::{Gateway, Plan},
    manifests, tls,
    tunnel::Tunnel,
};

/// A gateway (or what stands in for one) and what is behind it.
pub struct Bed {
    /// Its plain listener.
    pub http: SocketAddr,
    /// Its TLS listener.
    pub https: SocketAddr,
    /// Serves `good.test`.
    pub app: Backend,
    /// Serves `other.test`.
    pub other: Backend,
    /// Serves `/private` of `good.test`.
    pub secret: Backend,
    /// None where a tunnel stands in for it.
    pub gateway: Option<Gateway>,
    _tunnel: Option<Tunnel>,
}

/// What the backends were sent in one case.
pub struct Seen {
    /// What [`Bed::app`] was sent.
    pub app: Vec<Record>,
    /// What [`Bed::other`] was sent.
    pub other: Vec<Record>,
    /// What [`Bed::secret`] was sent.
    pub secret: Vec<Record>,
}

impl Seen {
    /// The records as text for a failure.
    pub fn describe(&self) -> String {
        format!(
            "  app saw:\n{}  other saw:\n{}  secret saw:\n{}",
            describe(&self.app),
            describe(&self.other),
            describe(&self.secret)
        )
    }
}

impl Bed {
    /// A gateway of one data thread (so that pooled connections are met again) with these flags.
    pub fn gateway(args: &[&str]) -> Self {
        let [app, other, secret] = ["app", "other", "secret"].map(Backend::echo);
        Self::around(app, other, secret, args)
    }

    /// As [`Bed::gateway`] with backends of the caller's.
    pub fn around(app: Backend, other: Backend, secret: Backend, args: &[&str]) -> Self {
        let gateway = Plan::default()
            .manifest("bed.yaml", manifest([&app, &other, &secret].map(|b| b.addr)))
            .args(args)
            .start();
        let (http, https) = (gateway.http, gateway.https);
        Self { http, https, app, other, secret, gateway: Some(gateway), _tunnel: None }
    }

    /// A byte tunnel to `app`: the control that shows what the runner can see.
    pub fn tunnel() -> Self {
        let [app, other, secret] = ["app", "other", "secret"].map(Backend::echo);
        let tunnel = Tunnel::to(app.addr);
        let (http, https) = (tunnel.addr, tunnel.addr);
        Self { http, https, app, other, secret, gateway: None, _tunnel: Some(tunnel) }
    }

    /// Takes what the backends were sent, but for honest probes.
    pub fn take(&self) -> Seen {
        let [app, other, secret] = [&self.app, &self.other, &self.secret].map(|backend| {
            let mut records = backend.take();
            records.retain(|r| {
                !matches!(r, Record::Request(r) if r.target.starts_with("/probe-") && r.body.is_empty())
            });
            records
        });
        Seen { app, other, secret }
    }

    /// Three honest requests with a token each, the last two on one connection; each must be
    /// answered with its own token. A pool out of step answers with somebody else's.
    pub fn probe(&self) -> Result<(), String> {
        static TOKEN: AtomicU64 = AtomicU64::new(0);
        let ask = |count: usize| -> Result<(), String> {
            let tokens: Vec<String> = (0..count)
                .map(|_| format!("/probe-{}", TOKEN.fetch_add(1, Ordering::Relaxed)))
                .collect();
            let bytes: String = tokens
                .iter()
                .map(|t| format!("GET {t} HTTP/1.1\r\nHost: good.test\r\n\r\n"))
                .collect();
            let steps = [Step::Send(bytes.into_bytes())];
            let seen: Exchange = exchange(self.http, &steps, Want::responses(count));
            for (n, token) in tokens.iter().enumerate() {
                let answer = seen.responses.get(n);
                let text = answer.map(|r| r.text()).unwrap_or_default();
                if answer.map(|r| r.status) != Some(200) || text != format!("app GET {token}\n") {
                    return Err(format!(
                        "probe {token} was answered {:?} {text:?}",
                        answer.map(|r| r.status)
                    ));
                }
            }
            Ok(())
        };
        ask(1)?;
        ask(2)
    }
}

/// The manifests of a bed with these backends: app, other, secret.
pub fn manifest([app, other, secret]: [SocketAddr; 3]) -> String {
    let names = ["good.test", "other.test", "empty.test", "redirect.test"];
    let pair = tls::certificate(&names);
    let plain = "nginx.ingress.kubernetes.io/ssl-redirect: \"false\"";
    let hosts = "{hosts: [good.test, other.test, empty.test], secretName: bed}";
    [
        manifests::secret("bed", &pair),
        manifests::service("app", &[app]),
        manifests::service("other", &[other]),
        manifests::service("secret", &[secret]),
        manifests::service("empty", &[]),
        manifests::ingress(
            "bed",
            plain,
            hosts,
            &[
                manifests::prefix("good.test", "/", "app"),
                manifests::prefix("good.test", "/private", "secret"),
                manifests::prefix("other.test", "/", "other"),
                manifests::prefix("empty.test", "/", "empty"),
            ],
        ),
        manifests::ingress(
            "redirect",
            "",
            "{hosts: [redirect.test], secretName: bed}",
            &[manifests::prefix("redirect.test", "/", "app")],
        ),
    ]
    .concat()
}
