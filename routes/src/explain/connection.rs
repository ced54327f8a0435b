//! What is decided before any rule is asked: whether TLS ends here at all, and which certificate a client has to show.

use std::sync::Arc;

use serde::Serialize;

use super::{Asked, answers};
use crate::{
    compile::Compiled,
    filter::client_certificate::{
        CertificateFields, ClientCertificates, Demand, Refusal, Shown, Subjects, Verify,
    },
    matcher::RequestView,
    model::{HostPattern, Scheme},
    objects::ObjectRef,
    table::{Matched, RouteTable},
};

/// A connection that is passed on as it is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedOn {
    /// The object that asks for it.
    pub object: ObjectRef,
    /// Its host.
    pub host: HostPattern,
    /// The backends.
    pub to: Vec<String>,
    /// Why it is broken off instead.
    pub broken_off: Option<&'static str>,
}

/// What becomes of the connection, if its TLS does not end here.
pub(super) fn passed_on(compiled: &Compiled, asked: &Asked<'_>) -> Option<PassedOn> {
    let table = compiled.tables.get(asked.table)?;
    let name = asked.server_name.filter(|_| asked.view.scheme == Scheme::Https)?;
    let pass = table.passthrough.find(name, &table.routes)?;
    let refuses = |client| pass.access.as_ref().is_some_and(|access| !access.admit(client));
    let backends = pass.forward.as_ref().map_or(&[][..], |forward| &forward.spec.backends);
    let broken_off = if asked.client.is_some_and(refuses) {
        Some("the addresses that may pass do not hold the client's")
    } else if !answers(compiled, backends) {
        Some("no backend of it has a ready endpoint")
    } else {
        None
    };
    let to = backends.iter().filter(|one| one.weight > 0).map(|one| one.key.to_string());
    let (object, host) = (pass.object.clone(), pass.host.clone());
    Some(PassedOn { object, host, to: to.collect(), broken_off })
}

/// Whether a host is reached by connections whose TLS does not end here, and by no other.
pub(super) fn is_passed_on(compiled: &Compiled, table: usize, view: &RequestView<'_>) -> bool {
    let table = compiled.tables.get(table).filter(|_| view.scheme == Scheme::Https);
    table.is_some_and(|table| table.passthrough.find(view.host, &table.routes).is_some())
}

/// The certificate that a client is asked for in its handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The object that says so; `None`: the settings of this process.
    pub asked_by: Option<ObjectRef>,
    /// What happens to one that is not believed.
    pub verify: &'static str,
    /// Certificates between that of the client and that of an authority, at most.
    pub depth: u8,
    /// Expressions for the subjects that may pass; `None`: all.
    pub subjects: Option<String>,
    /// Whether lists of certificates that were taken back are looked at.
    pub revocation_lists: bool,
    /// What becomes of a request without one.
    pub without: String,
}

/// What the client of a request is asked for; `None`: nothing.
pub(super) fn certificate(
    table: &RouteTable,
    view: &RequestView<'_>,
    winner: Matched<'_>,
) -> Option<Certificate> {
    let asked = demands(table, view, winner).filter(|_| view.scheme == Scheme::Https)?;
    let demand = &asked.demand;
    let own = winner.rule.client_certificates().unwrap_or(asked);
    let without = match (demand.admit(Shown::None), &own.error_page) {
        (Ok(()), _) => "it passes".to_owned(),
        (Err(Refusal::OtherName), _) => "403".to_owned(),
        (Err(_), Some(page)) => format!("302 to {}", String::from_utf8_lossy(page.as_bytes())),
        (Err(_), None) => "400".to_owned(),
    };
    let mut hosts = table.entries_for(view.host);
    let by = hosts.find_map(|host| host.certificates_asked_by());
    Some(Certificate {
        asked_by: by.map(|rule| rule.object.clone()),
        verify: match demand.verify {
            Verify::Required => "required",
            Verify::Optional => "optional",
            Verify::OptionalUnknown => "optional, of any authority",
        },
        depth: demand.depth,
        subjects: demand.subjects.as_ref().map(Subjects::text),
        revocation_lists: demand.revoked.is_some(),
        without,
    })
}

/// Whether the handshake of a request was made for a name that is asked for another certificate than its host.
pub(super) fn is_misdirected(
    table: &RouteTable,
    (view, server_name): (&RequestView<'_>, Option<&str>),
    winner: Matched<'_>,
) -> bool {
    if view.scheme != Scheme::Https
        || winner.rule.is_solver()
        || winner.rule.redirect(view.scheme).is_some()
    {
        return false;
    }
    let demand = |name| table.client_certificates(name).map(|asked| &asked.demand);
    server_name != Some(view.host) && demand(server_name) != demand(Some(view.host))
}

/// What a request is asked for by the certificate of its client; `None`: nothing.
pub fn demand<'c>(compiled: &'c Compiled, asked: &Asked<'_>) -> Option<&'c Arc<Demand>> {
    let table = &compiled.tables.get(asked.table)?.routes;
    let winner = table.lookup(&asked.view)?;
    demands(table, &asked.view, winner).map(|asked| &asked.demand)
}

/// What the host of a request asks of the certificates of clients, as the data path finds it.
fn demands<'t>(
    table: &'t RouteTable,
    view: &RequestView<'_>,
    winner: Matched<'t>,
) -> Option<&'t Arc<ClientCertificates>> {
    let rule = winner.rule;
    if rule.is_solver() || rule.redirect(view.scheme).is_some() {
        return None;
    }
    let own = || table.client_certificates(Some(view.host));
    let asked = winner.host.client_certificates().or_else(own)?;
    // What OpenShift's router asks is the affair of TLS.
    let of_tls = asked.fields == CertificateFields::Router && rule.client_certificates().is_none();
    (view.scheme == Scheme::Https || !of_tls).then_some(asked)
}

/// Whether a request in clear text is refused because it comes without a certificate.
pub(super) fn lacks_certificate(
    table: &RouteTable,
    view: &RequestView<'_>,
    winner: Matched<'_>,
) -> bool {
    let asked = demands(table, view, winner).filter(|_| view.scheme == Scheme::Http);
    // A page for the error is an answer.
    asked
        .is_some_and(|asked| asked.error_page.is_none() && asked.demand.admit(Shown::None).is_err())
}

/// What a client has to show in its handshake; empty: nothing.
pub(super) fn required(
    table: &RouteTable,
    view: &RequestView<'_>,
    winner: Matched<'_>,
) -> &'static str {
    match demands(table, view, winner).map(|asked| asked.demand.verify) {
        Some(Verify::Required) => "; requires a client certificate",
        Some(Verify::Optional) => {
            "; requires that a client certificate is believed, if one is shown"
        }
        Some(Verify::OptionalUnknown) | None => "",
    }
}
