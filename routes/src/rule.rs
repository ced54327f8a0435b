//! One rule of the route table: the one form that every kind of object compiles into.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use crate::{
    action::{Action, Forward, Reach, WeightedBackend},
    filter::{
        Filter, Filters, HttpsRedirect, Rewrite,
        cases::{Answer, Case, Subject},
        client_certificate::ClientCertificates,
        tls_terms::TlsTerms,
    },
    matcher::{Matches, RequestView},
    model::{HostPattern, Scheme},
    objects::ObjectRef,
    options::EncodedSlashes,
    path,
};

/// Some requests to one host, and what becomes of them. Equal rules may stand in for each other.
#[derive(Debug, PartialEq)]
pub struct RouteRule {
    /// The object that asks for it.
    pub object: ObjectRef,
    /// Host it stands under.
    pub host: HostPattern,
    /// Which requests to the host.
    pub matches: Matches,
    /// What becomes of those whose path holds an encoded slash.
    pub encoded_slashes: EncodedSlashes,
    /// What is done to them first, in the order of phases.
    pub filters: Filters,
    /// How they end.
    pub action: Action,
}

impl RouteRule {
    /// Whether the rule is there for requests of this scheme.
    pub fn serves(&self, scheme: Scheme) -> bool {
        self.matches.schemes.contains(scheme)
    }

    /// The redirect that answers requests of this scheme.
    pub fn redirect(&self, scheme: Scheme) -> Option<&HttpsRedirect> {
        self.filters.iter().find_map(|filter| match filter {
            Filter::HttpsRedirect(redirect) => Some(redirect).filter(|r| r.applies(scheme)),
            _ => None,
        })
    }

    /// The answer to a request that meets a condition. One about the address of a client that is not known counts for
    /// nothing.
    pub(crate) fn answer_of_case(
        &self,
        request: &RequestView<'_>,
        client: Option<IpAddr>,
    ) -> Option<&Answer> {
        let cases = self.filters.iter().find_map(|filter| match filter {
            Filter::Cases(cases) => Some(&**cases),
            _ => None,
        });
        let known = |case: &&Case| client.is_some() || case.subject != Subject::Client;
        let client = || client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut known = cases.unwrap_or_default().iter().filter(known);
        known.find(|case| case.is_met(request, &client)).map(|case| &case.answer)
    }

    /// What becomes of the path on the way to the backend.
    pub fn rewrite(&self) -> Option<&Rewrite> {
        self.filters.iter().find_map(|filter| match filter {
            Filter::Rewrite(rewrite) => Some(rewrite),
            _ => None,
        })
    }

    /// What it asks of the certificates of clients, for its whole host.
    pub fn client_certificates(&self) -> Option<&Arc<ClientCertificates>> {
        self.filters.iter().find_map(|filter| match filter {
            Filter::ClientCertificate(asked) => Some(asked),
            _ => None,
        })
    }

    /// What it asks of TLS, for its whole host.
    pub fn tls_terms(&self) -> Option<&Arc<TlsTerms>> {
        self.filters.iter().find_map(|filter| match filter {
            Filter::Tls(terms) => Some(terms),
            _ => None,
        })
    }

    /// The same requests, refused.
    pub(crate) fn closed(&self, reason: &'static str) -> Self {
        Self {
            object: self.object.clone(),
            host: self.host.clone(),
            matches: self.matches.clone(),
            encoded_slashes: self.encoded_slashes,
            filters: Filters::default(),
            action: Action::Deny { reason, reach: Reach::Path },
        }
    }

    /// Whether it answers the challenges of an authority (ACME's HTTP-01), which has no certificate to show.
    pub fn is_solver(&self) -> bool {
        path::is_acme(self.matches.path.text())
    }

    /// Where requests are sent, if they are.
    pub fn forward(&self) -> Option<&Forward> {
        match &self.action {
            Action::Forward(forward) => Some(forward),
            Action::Deny { .. } | Action::Redirect(_) => None,
        }
    }

    /// The Service that answers where no backend has an endpoint, if there is one; it words errors, too.
    pub fn stand_in(&self) -> Option<&WeightedBackend> {
        let backend = self.filters.iter().find_map(|filter| match filter {
            Filter::ErrorPages(pages) => pages.backend.as_ref(),
            _ => None,
        });
        backend?.spec.main().first()
    }

    /// The same, to be changed.
    pub(crate) fn forward_mut(&mut self) -> Option<&mut Forward> {
        match &mut self.action {
            Action::Forward(forward) => Some(forward),
            Action::Deny { .. } | Action::Redirect(_) => None,
        }
    }

    /// What it keeps closed, if it protects and is closed for that.
    pub(crate) fn guards(&self) -> Option<Reach> {
        match self.action {
            Action::Deny { reach: reach @ (Reach::Path | Reach::Host), .. } => Some(reach),
            Action::Deny { reach: Reach::Rule, .. } | Action::Forward(_) | Action::Redirect(_) => {
                None
            }
        }
    }
}
