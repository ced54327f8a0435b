//! An installation where nothing has an IPv4 address: neither nodes nor Pods nor Services nor the client.

use std::net::SocketAddr;

use gatehouse_testbed::lan::Family;

use super::{
    site::Site,
    traffic::{MIGRATE, example, installed_whole, outage_upgrade_and_death},
};

#[test]
fn a_cluster_that_has_only_ipv6_is_served_through_outage_upgrade_and_death() {
    let site = Site::of(Family::V6);
    site.install("addresses.pools[0]=2001:db8:1::200-2001:db8:1::250,ingressClass.claim[0]=nginx");
    let address = site.address();
    assert_eq!(address.to_string(), "2001:db8:1::200");
    installed_whole(&site, address);

    for file in ["10-backends.yaml", "20-ingresses.yaml"] {
        site.cluster.kubectl(&["apply", "--filename", &format!("{MIGRATE}/{file}")]).unwrap();
    }
    example(&site, address);
    outage_upgrade_and_death(&site, SocketAddr::new(address, 80));
}
