//! An installation where nothing has an IPv4 address: neither nodes nor Pods nor Services nor the client.

use std::{net::SocketAddr, time::Instant};

use gatehouse_testbed::{lan::Family, prober::Prober};

use super::{
    site::Site,
    traffic::{
        MIGRATE, PATIENT, QUIET, answers, backends, death_of_the_owner, installed_whole,
        outage_of_the_api_server, upgrade,
    },
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
    let owner = site.owner(address);
    let node = site.nodes.iter().find(|node| node.name() != owner.name()).unwrap();
    let apps = [("nginx-service", "nginx"), ("other-service", "other")];
    let pods = apps.iter().map(|(service, app)| backends(service, app, node, "[::]"));
    let pods: String = pods.collect();
    site.cluster.apply(&pods).unwrap();
    answers(&site, address);

    let server = SocketAddr::new(address, 80);
    let client = Prober::start(&site.client, server, "nginx.example.com", PATIENT).unwrap();
    assert!(client.wait_quiet(Instant::now(), QUIET), "{}", site.describe());
    outage_of_the_api_server(&site, &client);
    upgrade(&site, &client, 3, "traffic.upstreamTimeout=30");
    drop(client);
    death_of_the_owner(&site, server);
}
