//! What an Ingress has besides its rules: redirects of its own, more names of its hosts.

use std::sync::Arc;

use super::Translator;
use crate::{
    action::{Action, Redirect},
    host,
    matcher::PathMatch,
    model::{CertBinding, HostPattern},
    template::Template,
    translate::Alias,
};

impl Translator<'_, '_> {
    /// What is redirected besides the object's own paths: `/` of its hosts, and their names with or without
    /// `www.`.
    pub(super) fn own_redirects(&mut self) {
        if self.settings.deny.is_some() {
            return;
        }
        let hosts: Vec<_> = self.out.entries.iter().map(|entry| entry.host.clone()).collect();
        let literal = |text: &str| Template::parse(text).ok();
        for host in hosts {
            if let Some(path) = self.settings.redirects.app_root.clone()
                && let Some(to) = literal(&format!("$scheme://$http_host{path}"))
            {
                let root = PathMatch::Exact("/".into());
                let entry = self.out.entry(&host, true);
                entry.rules.retain(|rule| rule.matches.path != root);
                self.push(&host, root, Vec::new(), Action::Redirect(Redirect { status: 302, to }));
            }
            if self.settings.redirects.www
                && let HostPattern::Exact(name) = &host
                && let other = match name.strip_prefix("www.") {
                    Some(bare) => bare.to_owned(),
                    None => format!("www.{name}"),
                }
                && let Ok(other) = host::pattern(&other)
                && self.out.entries.iter().all(|entry| entry.host != other)
                && let Some(to) = literal(&format!("$scheme://{name}$request_uri"))
            {
                let action = Action::Redirect(Redirect { status: 308, to });
                self.push(&other, PathMatch::Default, Vec::new(), action);
            }
        }
    }

    /// Names that stand for the hosts. Where the certificate of a host holds such a name, it serves it, too.
    pub(super) fn aliases(&mut self) {
        let names = Arc::clone(&self.settings.aliases);
        let hosts = self.out.entries.iter().map(|entry| &entry.host);
        let hosts: Vec<_> = hosts.filter(|host| **host != HostPattern::Any).cloned().collect();
        let of = |name: &HostPattern| {
            let first = hosts.first().filter(|_| !hosts.contains(name))?;
            Some(Alias { name: name.clone(), of: first.clone() })
        };
        self.out.aliases = names.iter().filter_map(of).collect();
        let aliases = self.out.aliases.iter();
        let certs = aliases.flat_map(|alias| {
            let of_host = self.out.certs.iter().filter(|cert| cert.host == alias.of);
            of_host.map(|cert| CertBinding {
                host: alias.name.clone(),
                if_named: true,
                ..cert.clone()
            })
        });
        let certs: Vec<_> = certs.collect();
        if !certs.is_empty() {
            self.out.certs = self.out.certs.iter().cloned().chain(certs).collect();
        }
    }
}
