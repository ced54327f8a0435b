//! What the annotations of a Service come to: that goes by who serves it.
//!
//! Our own are read where this process passes connections on. A gateway is served by Ingresses and Routes, and what
//! kube-proxy passes on it passes on without a look at any of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    Annotation, DEFAULTS, Found, ObjectKind, family_of, gatehouse,
    reader::{Reader, protects_elsewhere},
    served::ServedBy,
};
use crate::{objects::ObjectRef, problem::Problem};

/// What is wrong with the names of a Service's annotations, and with those that nobody reads who serves it.
pub fn of_service(object: &ObjectRef, metadata: &ObjectMeta, by: ServedBy) -> Vec<Problem> {
    let ours = metadata.annotations.iter().flatten().filter(|(name, _)| family_of(name).is_some());
    if ours.clone().next().is_none() {
        return Vec::new();
    }
    let mut reader = Reader::new(object, DEFAULTS.clone(), false).served(by);
    reader.all(ObjectKind::Service, metadata.annotations.iter().flatten());
    let (_, mut problems) = reader.done();
    if by != ServedBy::Process {
        problems.extend(ours.filter_map(|(name, value)| unread(object, name, value, by)));
    }
    problems
}

/// The annotations of ours on a Service that asks for no address: of this type.
pub fn of_inner_service(object: &ObjectRef, metadata: &ObjectMeta, type_: &str) -> Vec<Problem> {
    let ours = metadata.annotations.iter().flatten().filter(|(name, _)| {
        let row = family_of(name).filter(|(family, _)| family.prefix == gatehouse::FAMILY.prefix);
        let row = row.and_then(|(family, short)| family.row(short));
        row.is_some_and(|row| row.objects.contains(&ObjectKind::Service))
    });
    let problem = |(name, value): (&String, &String)| {
        Problem::warning(
            object,
            "AnnotationIgnored",
            Found { name, value }.field(),
            format!("it has no effect on a Service of type {type_}, which has no address here"),
            "write spec.type: LoadBalancer, or remove it",
        )
    };
    ours.map(problem).collect()
}

/// The problem of an annotation that is right, and without effect on what is served by these.
fn unread(object: &ObjectRef, name: &str, value: &str, by: ServedBy) -> Option<Problem> {
    let (family, short) = family_of(name)?;
    let row = family.row(short).filter(|row| row.objects.contains(&ObjectKind::Service))?;
    // Who passes the connections on is what that one says: where it says nothing that makes sense, its reader tells.
    let forwarding = row.name == gatehouse::FORWARDING.name;
    let of_cluster = forwarding && by == ServedBy::Cluster;
    let readable = (row.parser.read)(value).is_ok();
    if family.prefix != gatehouse::FAMILY.prefix || of_cluster || !readable {
        return None;
    }
    let (message, hint) = match by {
        ServedBy::Process => return None,
        ServedBy::Gateway => (
            "it has no effect on a gateway, where connections end as Ingresses and Routes say",
            of_gateway(row),
        ),
        ServedBy::Cluster => (
            "it has no effect: kube-proxy passes the connections of the Service on, which does not read it",
            "have this process pass them on (gatehouse.io/forwarding: gateway), or remove it",
        ),
    };
    let field = Found { name, value }.field();
    const REASON: &str = "AnnotationIgnored";
    Some(match protects_elsewhere(row, value) {
        true => Problem::error(object, REASON, field, message, hint),
        false => Problem::warning(object, REASON, field, message, hint),
    })
}

fn of_gateway(row: &Annotation) -> &'static str {
    match row.name {
        name if name == gatehouse::TLS_SECRET.name => {
            "name the certificate in spec.tls of the Ingresses, or in the Routes"
        }
        name if name == gatehouse::PROXY_PROTOCOL.name => {
            "to read the headers of a load balancer in front, start with --proxy-protocol-from; to send them to pods, \
             annotate the Ingress or the Route"
        }
        name if name == gatehouse::TLS_SERVER_NAMES.name => {
            "have Routes of termination passthrough, or Ingresses with ssl-passthrough, choose by server name"
        }
        _ => "annotate the Ingresses and Routes that it serves, or remove it",
    }
}
