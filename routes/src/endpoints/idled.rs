//! Services whose pods `oc idle` has stopped. A connection to the Service's own address has the cluster start them again
//! and is held until one is ready, so that address stands in for the endpoints (as in OpenShift's router).

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};

use super::Wanted;
use crate::model::Transport;

/// When the Service was idled; removed when it wakes up.
const IDLED_AT: &str = "idling.alpha.openshift.io/idled-at";

/// Where an idled Service is woken up; empty: it is not idled, or has no address.
pub(super) fn addresses(
    service: &Service,
    wanted: &Wanted<'_>,
    transport: Transport,
) -> Vec<SocketAddr> {
    let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(IDLED_AT));
    let idled = annotation.is_some_and(|since| !since.trim().is_empty());
    let Some(spec) = service.spec.as_ref().filter(|_| idled) else { return Vec::new() };
    let ip = spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
    let Some(ip) = ip else { return Vec::new() };
    let ports = spec.ports.iter().flatten().filter(|port| {
        let name = port.name.as_deref().unwrap_or_default();
        Transport::of_port(port.protocol.as_deref()) == Some(transport)
            && match wanted {
                Wanted::Name(wanted) => *wanted == name,
                Wanted::Target(wanted) => {
                    *wanted == name
                        || match &port.target_port {
                            None => **wanted == *port.port.to_string(),
                            Some(IntOrString::Int(number)) => **wanted == *number.to_string(),
                            Some(IntOrString::String(name)) => wanted == name,
                        }
                }
                Wanted::All => true,
            }
    });
    ports.filter_map(|port| Some(SocketAddr::new(ip, u16::try_from(port.port).ok()?))).collect()
}
