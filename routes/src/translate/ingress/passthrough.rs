//! `ssl-passthrough`, and termination `passthrough` of OpenShift: TLS for the hosts of an Ingress goes to the backend of `/` as it is.

use std::sync::Arc;

use super::{super::openshift::passthrough::in_bytes, Translator, termination};
use crate::{
    action::{Forward, ForwardSpec},
    annotations::Termination,
    filter::{AddressRules, Filter},
    matcher::{PathMatch, Schemes},
    model::{BackendKey, BackendProtocol, HostPattern},
    passthrough::{ClientLimits, PassThrough},
    problem::Problem,
};

const FIELD: &str = "metadata.annotations[nginx.ingress.kubernetes.io/ssl-passthrough]";

impl Translator<'_, '_> {
    /// Passes TLS of all hosts on and leaves the rules to clear text, if that is asked for. An Ingress that is closed
    /// stays closed.
    pub(super) fn pass_through(&mut self) {
        if !(self.settings.passthrough || self.as_route()) || self.settings.deny.is_some() {
            return;
        }
        let access = self.access();
        for at in 0..self.out.entries.len() {
            let host = self.out.entries[at].host.clone();
            for rule in &mut self.out.entries[at].rules {
                if let Some(rule) = Arc::get_mut(rule) {
                    rule.matches.schemes =
                        Schemes { http: rule.matches.schemes.http, https: false };
                }
            }
            let forward = if access.is_err() { None } else { self.root(at) };
            if host == HostPattern::Any {
                self.not_passed(
                    "a rule without a host has no server name, so nothing of it is passed through",
                );
            } else if access.is_err() {
                self.not_passed("a protection of requests cannot be in force where TLS is passed through, so TLS of the host is closed");
            } else if forward.is_none() {
                self.not_passed(&format!(
                    "{host} has no path \"/\" with a Service, so TLS of the host is closed"
                ));
            }
            self.out.passthrough.push(Arc::new(PassThrough {
                object: self.out.object.clone(),
                host,
                forward,
                by_client: self.as_route() && self.settings.keeps_clients().unwrap_or(true),
                access: access.as_ref().ok().and_then(|(access, _)| access.clone()),
                limits: access.as_ref().map(|(_, limits)| limits.clone()).unwrap_or_default(),
            }));
        }
    }

    /// It is passed through as a Route does it.
    fn as_route(&self) -> bool {
        self.settings.termination == Some(Termination::PassThrough)
    }

    fn not_passed(&mut self, message: &str) {
        let hint = "name a host and a backend for its path \"/\", or remove the annotation";
        let field = if self.as_route() { termination::FIELD } else { FIELD };
        let problem =
            Problem::error(&self.out.object, "PassthroughImpossible", field, message, hint);
        self.out.problems.push(problem);
    }

    /// Where requests for `/` go, as bytes.
    fn root(&mut self, entry: usize) -> Option<Forward> {
        let rules = &self.out.entries[entry].rules;
        let is_root = |path: &PathMatch| match path {
            PathMatch::Prefix(path) | PathMatch::Exact(path) => matches!(&**path, "/" | ""),
            PathMatch::Default => true,
            PathMatch::RoutePrefix(_) | PathMatch::Regex(_) => false,
        };
        let rule = rules.iter().find(|rule| is_root(&rule.matches.path))?;
        let backend = rule.forward()?.spec.main().first()?;
        let (key, field) = (backend.key.clone(), backend.slot);
        let used = self.out.backends.iter().find(|used| used.slot == field);
        let field = used.map(|used| used.field.clone()).unwrap_or_default();
        let key = BackendKey { protocol: BackendProtocol::Bytes, ..key };
        let backend = self.out.backend(key, 1, field, self.slots);
        let policy = Arc::clone(&self.policy);
        let policy = if self.as_route() { in_bytes(policy) } else { policy };
        Some(Forward::new(ForwardSpec::of(Box::new([backend]), policy)))
    }

    /// Which clients may come in, and how often.
    ///
    /// # Errors
    /// Something else protects the Ingress, which can only be done to requests.
    fn access(&self) -> Result<(Option<AddressRules>, ClientLimits), ()> {
        let (mut access, mut limits) = (None, ClientLimits::default());
        for filter in &self.filters {
            match filter {
                Filter::Access(rules) => access = Some((**rules).clone()),
                filter if self.as_route() && limits.take(filter) => {}
                // Limits of nginx are for requests, and say nothing of what is passed through.
                Filter::RateLimit(_) if !self.as_route() => {}
                Filter::BodyLimit(_) => {}
                other if other.protects() => return Err(()),
                _ => {}
            }
        }
        Ok((access, limits))
    }
}
