//! Somebody who has no part in the group uses one of its addresses.

use std::time::{Duration, Instant};

use gatehouse_testbed::group::{PATIENCE, VIPS};

use super::{Bed, options};

/// The pause between two looks for a stranger grows up to a minute.
const LOOKS_AGAIN: Duration = Duration::from_secs(100);

#[test]
fn an_address_that_a_stranger_uses_is_left_alone_until_the_stranger_leaves() {
    for (taken, other) in [(VIPS[0], VIPS[1]), (VIPS[1], VIPS[0])] {
        let mut bed = Bed::empty(&options());
        let stranger = bed.site.stranger.clone();
        stranger.run(&["ip", "address", "add", &taken.to_string(), "dev", "eth0"]).unwrap();
        for node in &mut bed.site.nodes {
            node.start().unwrap();
        }
        for node in &mut bed.site.nodes {
            node.wait_ready(PATIENCE).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        let says = |bed: &Bed| {
            let pages =
                bed.site.nodes.iter().map(|node| node.page("/snapshot").unwrap_or_default());
            pages.filter(|page| page.contains("AddressInUse")).collect::<String>()
        };
        while !says(&bed).contains(&taken.to_string()) {
            assert!(Instant::now() < deadline, "AddressInUse:\n{}", bed.site.describe());
            std::thread::sleep(Duration::from_millis(50));
        }
        // The other address is served all the while.
        drop(bed.client(other));
        assert_eq!(bed.site.holders(taken).unwrap(), [0; 0], "{taken} is left alone");
        let mac = std::collections::BTreeSet::from([stranger.mac()]);
        assert_eq!(bed.answering(taken), mac, "nobody else answers for {taken}");

        stranger.run(&["ip", "address", "del", &taken.to_string(), "dev", "eth0"]).unwrap();
        let deadline = Instant::now() + LOOKS_AGAIN;
        while bed.site.holders(taken).unwrap().is_empty() {
            assert!(Instant::now() < deadline, "{taken} is claimed:\n{}", bed.site.describe());
            std::thread::sleep(Duration::from_millis(100));
        }
        let owners = bed.settle();
        bed.assert_sole_owner(taken, owners[usize::from(taken.is_ipv6())]);
        drop(bed.client(taken));
    }
}
