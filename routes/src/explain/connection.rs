//! What is decided before any rule is asked: whether TLS ends here at all, and which certificate a client has to show.

use std::sync::Arc;

use serde::Serialize;

use super::{Asked, answers};
use crate::{
    compile::Compiled,
    filter::client_certificate::{CertificateFields, ClientCertificates, Demand, Shown, Verify},
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
