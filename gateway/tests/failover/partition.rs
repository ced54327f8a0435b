//! The nodes do not hear each other, or may not.

use std::time::{Duration, Instant};

use gatehouse_testbed::{
    capture::Capture,
    group::{GROUP_PORT, Options, VIPS},
    wait::{self, eventually},
};

use super::{Bed, assert_short, options};

#[test]
fn a_healed_partition_leaves_exactly_one_owner() {
    let mut bed = Bed::start(&options());
    let mut outages = Vec::new();
    for vip in VIPS {
        let owner = bed.owner(vip);
        let client = bed.client(vip);
        let hosts = [0, 1, 2].map(|node| bed.site.nodes[node].host.clone());
        let mut rest: Vec<_> = (0..3).filter(|node| *node != owner).map(|n| &hosts[n]).collect();
        rest.extend([&bed.site.client, &bed.site.stranger]);
        let event = Instant::now();
        bed.site.lan.partition(&[&hosts[owner]], &rest).unwrap();
        outages.push(bed.outage(&client, event));
        let holders = wait::look(|| {
            let holders = bed.site.holders(vip).unwrap();
            (holders.len() == 2 && holders.contains(&owner)).then_some(holders)
        });
        let text = bed.site.describe();
        assert!(holders.is_some(), "{vip} has an owner on each side of the cut, {owner}:\n{text}");

        let capture = Capture::start(&bed.site.client).unwrap();
        bed.site.lan.heal().unwrap();
        let healed = Instant::now();
        bed.whole();
        bed.assert_sole_owner(vip, owner);
        // The owner has told everybody, so that no neighbour keeps the other one's MAC address.
        let mac = bed.site.nodes[owner].host.mac();
        let told = capture.wait_for(vip, &mac, healed, wait::LIMIT);
        assert!(told.is_some(), "{vip} is announced again by {mac}");
        bed.outage(&client, healed);
    }
    assert_short(&outages, "cut off");
}

#[test]
fn owners_that_clients_of_both_sides_see_become_one_when_they_hear_each_other() {
    let mut bed = Bed::start(&options());
    let hosts = [0, 1, 2].map(|node| bed.site.nodes[node].host.clone());
    let owner = bed.owner(VIPS[0]);
    let others: Vec<_> = (0..3).filter(|node| *node != owner).map(|node| &hosts[node]).collect();
    // Only the nodes lose sight of each other: clients reach all of them.
    bed.site.lan.partition(&[&hosts[owner]], &others).unwrap();
    let both = wait::comes_true(|| bed.site.holders(VIPS[0]).unwrap().len() == 2);
    assert!(both, "{}", bed.site.describe());
    bed.site.lan.heal().unwrap();
    bed.whole();
    for (vip, owner) in VIPS.into_iter().zip(bed.homes) {
        bed.assert_sole_owner(vip, owner);
        bed.client(vip);
    }
}

#[test]
fn a_way_that_is_cut_in_one_direction_ends_with_one_owner_when_it_is_whole() {
    let mut bed = Bed::start(&options());
    let hosts = [0, 1, 2].map(|node| bed.site.nodes[node].host.clone());
    let owner = bed.owner(VIPS[0]);
    for other in (0..3).filter(|node| *node != owner) {
        bed.site.lan.cut_one_way(&hosts[owner], &hosts[other]).unwrap();
    }
    // Long enough for everybody to have drawn conclusions.
    std::thread::sleep(Duration::from_secs(3));
    bed.site.lan.heal().unwrap();
    bed.whole();
    for (vip, owner) in VIPS.into_iter().zip(bed.homes) {
        bed.assert_sole_owner(vip, owner);
        bed.client(vip);
    }
}

#[test]
fn nodes_on_a_link_without_multicast_find_each_other_by_unicast() {
    let mut bed = Bed::empty(&Options { peers: true, ..options() });
    bed.site.lan.drop_multicast(GROUP_PORT).unwrap();
    for node in &mut bed.site.nodes {
        node.start().unwrap();
    }
    bed.homes = bed.settle();
    let mut outages = Vec::new();
    for (vip, owner) in VIPS.into_iter().zip(bed.homes) {
        bed.assert_sole_owner(vip, owner);
        let client = bed.client(vip);
        let event = Instant::now();
        bed.site.nodes[owner].kill();
        outages.push(bed.outage(&client, event));
        let next = bed.owner(vip);
        assert_ne!(next, owner);
        bed.assert_sole_owner(vip, next);
        bed.whole();
    }
    assert_short(&outages, "killed, unicast only");
}

#[test]
fn a_node_with_another_key_is_never_heard() {
    let keys =
        ["a shared key of some length", "a shared key of some length", "not the shared key at all"];
    let mut bed = Bed::empty(&Options { keys, ..options() });
    for node in &mut bed.site.nodes[..2] {
        node.start().unwrap();
    }
    let owners = bed.settle();
    let capture = Capture::start(&bed.site.client).unwrap();
    let begin = Instant::now();
    bed.site.nodes[2].start().unwrap();
    bed.site.nodes[2].wait_ready().unwrap();
    // It asks the link before it claims, hears that the addresses are in use, and says so.
    eventually("AddressInUse", || match bed.site.nodes[2].page("/snapshot").unwrap_or_default() {
        page if page.contains("AddressInUse") => Ok(()),
        page => Err(page),
    });
    assert_eq!(bed.settle(), owners, "nothing has moved");
    let outsider = bed.site.nodes[2].host.mac();
    for (vip, owner) in VIPS.into_iter().zip(owners) {
        assert!(!capture.claimants(vip, begin..Instant::now()).contains(&outsider), "{vip}");
        bed.assert_sole_owner(vip, owner);
    }
    // The two that share a key count on each other only.
    let client = bed.client(VIPS[0]);
    let (owner, other) = (owners[0], 1 - owners[0]);
    let event = Instant::now();
    bed.site.nodes[owner].kill();
    bed.outage(&client, event);
    let moved = || bed.site.holders(VIPS[0]).unwrap().contains(&other);
    assert!(wait::comes_true(moved), "{}", bed.site.describe());
}
