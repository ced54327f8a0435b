//! The owner dies, hangs or loses its link.

use std::time::{Duration, Instant};

use gatehouse_testbed::{capture::Capture, group::VIPS, process::Signal, wait};

use super::{Bed, assert_short, options};

#[test]
fn a_killed_owner_is_replaced_and_its_kernel_stops_answering() {
    let mut bed = Bed::start(&options());
    let (mut outages, mut fenced) = (Vec::new(), false);
    for vip in VIPS {
        let owner = bed.owner(vip);
        let (client, capture) = (bed.client(vip), Capture::start(&bed.site.client).unwrap());
        let event = Instant::now();
        bed.site.nodes[owner].kill();
        outages.push(bed.outage(&client, event));
        drop(client);

        // The address stays on the dead node for seconds, behind its fence.
        let dead = bed.site.nodes[owner].host.mac();
        let answering = bed.site.client.who_has(vip).unwrap();
        assert!(!answering.contains(&dead), "{vip} is answered for by {dead}");
        fenced |= bed.site.holders(vip).unwrap().contains(&owner);
        let next = bed.owner(vip);
        assert_ne!(next, owner, "{vip} has moved");
        let mac = bed.site.nodes[next].host.mac();
        assert!(
            capture.claimants(vip, event..Instant::now()).contains(&mac),
            "{vip} is announced by {mac}"
        );
        // The kernel has taken the address off the dead node: nobody is left to do so.
        bed.assert_sole_owner(vip, next);
        bed.whole();
    }
    assert_short(&outages, "killed");
    assert!(fenced, "the addresses had been taken off before anybody asked for them");
}

#[test]
fn a_hung_owner_is_replaced_and_does_not_disturb_when_it_wakes_up() {
    let mut bed = Bed::start(&options());
    let mut outages = Vec::new();
    for vip in VIPS {
        let owner = bed.owner(vip);
        let (client, capture) = (bed.client(vip), Capture::start(&bed.site.client).unwrap());
        let event = Instant::now();
        bed.site.nodes[owner].signal(Signal::STOP);
        outages.push(bed.outage(&client, event));
        let others: Vec<usize> = (0..3).filter(|node| *node != owner).collect();
        let taken = wait::look(|| {
            bed.site.holders(vip).unwrap().into_iter().find(|node| others.contains(node))
        });
        let next = taken.unwrap_or_else(|| panic!("{vip} has moved:\n{}", bed.site.describe()));
        bed.site.wait_holders(vip, &[next]).unwrap();

        let woken = Instant::now();
        bed.site.nodes[owner].signal(Signal::CONT);
        // Shorter than the hold-down after which it may have the address back, by a planned move.
        let watched = woken + Duration::from_secs(3);
        std::thread::sleep(watched.saturating_duration_since(Instant::now()));
        let claimants = capture.claimants(vip, woken..watched);
        let mac = bed.site.nodes[owner].host.mac();
        assert!(!claimants.contains(&mac), "{vip} is claimed by the one that hung: {claimants:?}");
        bed.assert_unnoticed(&client, woken, &format!("{vip}, after it woke up"));
        drop(client);
        bed.whole();
        bed.assert_sole_owner(vip, owner);
    }
    assert_short(&outages, "stopped");
}

#[test]
fn an_owner_without_a_link_is_replaced_and_comes_back_in_peace() {
    let mut bed = Bed::start(&options());
    let mut outages = Vec::new();
    for vip in VIPS {
        let owner = bed.owner(vip);
        let client = bed.client(vip);
        let event = Instant::now();
        bed.site.lan.unplug(&bed.site.nodes[owner].host.clone()).unwrap();
        outages.push(bed.outage(&client, event));
        let others: Vec<usize> = (0..3).filter(|node| *node != owner).collect();
        let moved = || bed.site.holders(vip).unwrap().iter().any(|node| others.contains(node));
        assert!(wait::comes_true(moved), "{vip} has moved:\n{}", bed.site.describe());

        let back = Instant::now();
        bed.site.lan.plug(&bed.site.nodes[owner].host.clone()).unwrap();
        bed.whole();
        bed.assert_unnoticed(&client, back, &format!("{vip}, when the cable came back"));
        bed.assert_sole_owner(vip, owner);
    }
    assert_short(&outages, "unplugged");
}

#[test]
fn an_owner_that_is_restarted_at_once_leaves_one_owner() {
    let mut bed = Bed::start(&options());
    let vip = VIPS[0];
    let owner = bed.owner(vip);
    let client = bed.client(vip);
    let event = Instant::now();
    bed.site.nodes[owner].kill();
    bed.site.nodes[owner].start().unwrap();
    bed.outage(&client, event);
    bed.whole();
    for (vip, owner) in VIPS.into_iter().zip(bed.homes) {
        bed.assert_sole_owner(vip, owner);
    }
}

#[test]
fn a_flapping_link_ends_with_one_owner_that_serves() {
    let mut bed = Bed::start(&options());
    let vip = VIPS[0];
    let owner = bed.owner(vip);
    let client = bed.client(vip);
    let event = Instant::now();
    let host = bed.site.nodes[owner].host.clone();
    for _ in 0..4 {
        bed.site.lan.unplug(&host).unwrap();
        std::thread::sleep(Duration::from_millis(150));
        bed.site.lan.plug(&host).unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    bed.outage(&client, event);
    bed.whole();
    for (vip, owner) in VIPS.into_iter().zip(bed.homes) {
        bed.assert_sole_owner(vip, owner);
    }
}

#[test]
fn an_interface_that_was_down_and_up_serves_again() {
    let mut bed = Bed::start(&options());
    let mut outages = Vec::new();
    for vip in VIPS {
        let owner = bed.owner(vip);
        let client = bed.client(vip);
        let event = Instant::now();
        let host = bed.site.nodes[owner].host.clone();
        host.run(&["ip", "link", "set", "eth0", "down"]).unwrap();
        outages.push(bed.outage(&client, event));
        host.run(&["ip", "link", "set", "eth0", "up"]).unwrap();
        // The kernel takes IPv6 addresses off an interface that goes down; a host's network setup puts
        // them back.
        let own = format!("{}/64", host.v6());
        host.run(&["ip", "address", "replace", &own, "dev", "eth0"]).unwrap();
        bed.whole();
        bed.assert_sole_owner(vip, owner);
    }
    assert_short(&outages, "interface down");
}
