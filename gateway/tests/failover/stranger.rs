//! Somebody who has no part in the group uses one of its addresses.

use std::time::Duration;

use gatehouse_testbed::{
    group::VIPS,
    wait::{self, eventually},
};

use super::{Bed, options};

/// The pause between two looks for a stranger grows up to a minute.
const LOOKS_AGAIN: Duration = Duration::from_secs(180);

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
            node.wait_ready().unwrap();
        }
        let says =
            |page: &String| page.contains("AddressInUse") && page.contains(&taken.to_string());
        eventually("AddressInUse", || {
            let nodes = bed.site.nodes.iter();
            let mut pages = nodes.map(|node| node.page("/snapshot").unwrap_or_default());
            if pages.any(|page| says(&page)) { Ok(()) } else { Err(bed.site.describe()) }
        });
        // The other address is served all the while.
        drop(bed.client(other));
        assert_eq!(bed.site.holders(taken).unwrap(), [0; 0], "{taken} is left alone");
        let mac = std::collections::BTreeSet::from([stranger.mac()]);
        assert_eq!(bed.answering(taken), mac, "nobody else answers for {taken}");

        stranger.run(&["ip", "address", "del", &taken.to_string(), "dev", "eth0"]).unwrap();
        let claimed = wait::look_for(LOOKS_AGAIN, || {
            (!bed.site.holders(taken).unwrap().is_empty()).then_some(())
        });
        assert!(claimed.is_some(), "{taken} is claimed:\n{}", bed.site.describe());
        let owners = bed.settle();
        bed.assert_sole_owner(taken, owners[usize::from(taken.is_ipv6())]);
        drop(bed.client(taken));
    }
}
