//! What is missing where an object refers to a backend, and how it is told.

use super::{empty::Empty, named::service_named};
use crate::{
    model::{BackendKey, BackendPort},
    objects::ObjectRef,
    problem::Problem,
};

/// What a reference to a backend misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// There is no such Service.
    Service,
    /// The Service has no such port.
    Port,
    /// It is named as a cluster names a Service, and no file has one of that name.
    Named,
    /// Nobody is there, for this reason; asked only where the objects are written by hand, as the endpoints of a
    /// cluster come and go.
    Endpoints(Empty),
}

impl Gap {
    /// The problem of an object that refers to a backend with this gap; `so` is what becomes of its requests.
    pub(crate) fn problem(
        self,
        object: &ObjectRef,
        key: &BackendKey,
        field: &str,
        so: &str,
    ) -> Problem {
        let service = match (&key.port, service_named(&key.service.name)) {
            (BackendPort::Outside { .. }, Some((namespace, name))) => format!("{namespace}/{name}"),
            _ => key.service.to_string(),
        };
        match self {
            Self::Service => Problem::error(
                object,
                "BackendNotFound",
                field,
                format!("Service {service} does not exist; {so}"),
                "create the Service in the same namespace, or correct its name",
            ),
            Self::Port => Problem::error(
                object,
                "PortNotFound",
                field,
                format!(
                    "Service {service} has no {} port {}; {so}",
                    key.protocol.transport().name(),
                    key.port
                ),
                match key.port {
                    BackendPort::Target(_) => "name a port of the pods, not of the Service",
                    _ => "name a port that the Service lists in spec.ports",
                },
            ),
            Self::Named => Problem::error(
                object,
                "BackendNotFound",
                field,
                match key.port {
                    BackendPort::Outside { .. } => {
                        format!("Service {service} is in none of the files; {so}")
                    }
                    _ => format!(
                        "Service {service} is the name of a Service that is in none of the files; {so}"
                    ),
                },
                "write the Service that is meant, or name a host that name servers know",
            ),
            Self::Endpoints(why) => Problem::error(
                object,
                "NoEndpoints",
                field,
                format!("Service {service} has no endpoint: {why}; {so}"),
                "write an EndpointSlice of that label, with the Service's port name and an address that is ready",
            ),
        }
    }
}
