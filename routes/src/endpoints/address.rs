//! Which addresses and names are never dialled: a user who may write a Service or an EndpointSlice could point the gateway at
//! the node itself or at a cloud's metadata service.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use crate::host;

/// The host that an `ExternalName` Service names. Kubernetes calls an address there a name of digits, but ingress
/// controllers connect to it.
///
/// # Errors
/// Why it is never resolved.
pub(super) fn external_host(name: &str, loopback: bool) -> Result<Arc<str>, &'static str> {
    let host = host::canonical(name).ok_or("not a DNS name")?;
    if host.parse::<IpAddr>().is_ok() {
        checked(&host, loopback)?;
    } else if host.starts_with('[') {
        return Err("not a DNS name");
    }
    if !loopback && (host == "localhost" || host.ends_with(".localhost")) {
        return Err("this host itself");
    }
    Ok(host.into())
}

/// The address that a text stands for. `loopback`: this host itself will do.
///
/// # Errors
/// Why it is never dialled.
pub(super) fn checked(text: &str, loopback: bool) -> Result<IpAddr, &'static str> {
    let ip: IpAddr = text.parse().map_err(|_| "not an IP address")?;
    let ip = ip.to_canonical();
    match refusal(ip) {
        Some(why) if !(loopback && ip.is_loopback()) => Err(why),
        _ => Ok(ip),
    }
}

/// Why an address is never dialled, if so. IPv4 inside IPv6 (mapped or compatible) counts as IPv4.
pub fn refusal(ip: IpAddr) -> Option<&'static str> {
    const AZURE_WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_loopback() => Some("a loopback address"),
        IpAddr::V4(ip) if ip.is_link_local() => Some("a link-local address"),
        IpAddr::V4(ip) if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V4(ip) if ip.is_broadcast() || ip.octets()[0] == 0 => {
            Some("not an address of a host")
        }
        IpAddr::V4(AZURE_WIRE_SERVER) => Some("the address of a cloud's metadata service"),
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) if ip.is_loopback() => Some("a loopback address"),
        IpAddr::V6(ip) if ip.is_unspecified() => Some("not an address of a host"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(ip) if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V6(AWS_METADATA) => Some("the address of a cloud's metadata service"),
        IpAddr::V6(ip) => match ip.to_ipv4() {
            Some(inner) => refusal(IpAddr::V4(inner)),
            None => None,
        },
    }
}
