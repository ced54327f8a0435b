//! Where the gateways of this cluster listen, as far as the objects tell. No endpoint may be there: a request
//! would come back to a gateway for ever.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use crate::{
    objects::{ObjectKey, Objects},
    options::Options,
};

/// The ports of gateway Services on their addresses, and the plain listeners: those that take any address on
/// the addresses of every node, as another node's gateway sends back what this one sends there.
pub(super) fn listeners(
    objects: &Objects,
    options: &Options,
    gateways: &BTreeSet<ObjectKey>,
) -> BTreeSet<SocketAddr> {
    let mut own = BTreeSet::new();
    for listener in &options.listeners {
        if listener.ip().is_unspecified() {
            own.extend(node_addresses(objects).map(|ip| SocketAddr::new(ip, listener.port())));
        } else {
            own.insert(SocketAddr::new(listener.ip().to_canonical(), listener.port()));
        }
    }
    for service in gateways.iter().filter_map(|key| objects.services.get(key)) {
        let spec = service.object.spec.as_ref();
        let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        let status =
            service.object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let given = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
        let ips = given.iter().filter_map(|entry| entry.ip.as_deref()?.parse::<IpAddr>().ok());
        for ip in ips {
            let ports = ports.iter().filter_map(|port| u16::try_from(port.port).ok());
            own.extend(ports.map(|port| SocketAddr::new(ip.to_canonical(), port)));
        }
    }
    own
}

fn node_addresses(objects: &Objects) -> impl Iterator<Item = IpAddr> {
    let status = objects.nodes.values().filter_map(|node| node.object.status.as_ref());
    let addresses = status.flat_map(|status| status.addresses.iter().flatten());
    addresses.filter_map(|one| one.address.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn gateways_listen_on_their_services_and_on_every_node() {
        let objects = testing::objects(
            "
kind: Node
metadata: {name: a}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: Hostname, address: a}]}
---
kind: Node
metadata: {name: b}
status: {addresses: [{type: InternalIP, address: 'fd00::2'}]}
---
kind: Service
metadata: {name: gateway, namespace: d}
spec: {ports: [{port: 80}, {port: 443}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {hostname: lb.example}]}}
---
kind: Service
metadata: {name: other, namespace: d}
spec: {ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.2}]}}
",
        );
        let listeners = ["0.0.0.0:8080", "127.0.0.1:8443"].map(|one| one.parse().unwrap()).to_vec();
        let options = Options { listeners, ..Options::default() };
        let own = super::listeners(&objects, &options, &[ObjectKey::new("d", "gateway")].into());
        let own: Vec<String> = own.iter().map(ToString::to_string).collect();
        assert_eq!(
            own,
            ["10.0.0.1:8080", "127.0.0.1:8443", "192.0.2.1:80", "192.0.2.1:443", "[fd00::2]:8080",]
        );
    }
}
