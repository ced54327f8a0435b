//! What neighbours say of addresses: claims and probes, read from frames of the link.
//!
//! The speaker hands each received frame to [`heard`] and the result to `vips`, which knows
//! whether the address is one of ours. Whatever comes in is from outside and unauthenticated: what
//! is not exactly as the RFCs say is nothing, and nothing here panics. Pure: frames in, values out.

use smoltcp::wire::{EthernetFrame, EthernetProtocol};

use crate::l2::{arp, claim::NeighbourClaim, ndp};

/// Reads a frame that came in by interface `index`; `None` if it claims nothing.
pub(crate) fn heard(index: u32, frame: &[u8]) -> Option<NeighbourClaim> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let (ip, mac, kind) = match frame.ethertype() {
        EthernetProtocol::Arp => {
            let (ip, mac, kind) = arp::parse(frame.payload())?;
            (ip.into(), mac, kind)
        }
        EthernetProtocol::Ipv6 => {
            let (ip, mac, kind) = ndp::parse(frame.src_addr().0, frame.payload())?;
            (ip.into(), mac, kind)
        }
        _ => return None,
    };
    // No host has such an address; a frame that says so is broken, or hides its sender.
    let unicast = mac[0] & 1 == 0 && mac != [0; 6];
    unicast.then_some(NeighbourClaim { index, ip, mac, kind })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::{l2::claim::ClaimKind, links::Mac};

    const MAC: Mac = [0x02, 0x42, 0xac, 0x11, 0x00, 0x02];
    const V4: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 200);
    const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xab, 0x200);

    /// Every frame that this crate sends, and what a neighbour makes of it.
    fn frames() -> Vec<(Vec<u8>, IpAddr, ClaimKind)> {
        let [request, reply] = arp::gratuitous(MAC, V4);
        vec![
            (request, V4.into(), ClaimKind::Claim),
            (reply, V4.into(), ClaimKind::Claim),
            (arp::probe(MAC, V4), V4.into(), ClaimKind::Probe),
            (ndp::unsolicited(MAC, V6), V6.into(), ClaimKind::Claim),
            (ndp::probe(MAC, V6), V6.into(), ClaimKind::Probe),
        ]
    }

    #[test]
    fn what_one_node_sends_another_understands() {
        for (frame, ip, kind) in frames() {
            let expected = NeighbourClaim { index: 7, ip, mac: MAC, kind };
            assert_eq!(heard(7, &frame), Some(expected), "{frame:02x?}");
            let padded = [&frame[..], &[0; 18]].concat();
            assert_eq!(heard(7, &padded), Some(expected), "Ethernet pads short frames");
        }
    }

    #[test]
    fn a_frame_that_is_cut_says_nothing() {
        for (frame, ..) in frames() {
            for length in 0..frame.len() {
                assert_eq!(heard(7, &frame[..length]), None, "{:02x?}", &frame[..length]);
            }
        }
    }

    #[test]
    fn no_host_has_a_group_address() {
        for mac in [[0xff; 6], [0x01, 0, 0x5e, 0, 0, 1], [0; 6]] {
            assert_eq!(heard(7, &arp::gratuitous(mac, V4)[0]), None);
            assert_eq!(heard(7, &ndp::unsolicited(mac, V6)), None);
        }
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(
            header in prop::sample::select(vec![[0x08, 0x06], [0x86, 0xdd], [0x08, 0x00]]),
            payload in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            heard(1, &[&[2; 12][..], &header, &payload].concat());
        }

        #[test]
        fn no_changed_byte_makes_it_panic(which in 0..5_usize, at in 0..100_usize, to: u8) {
            let (mut frame, ..) = frames().swap_remove(which);
            let at = at % frame.len();
            frame[at] = to;
            heard(1, &frame);
        }

        #[test]
        fn no_options_of_an_advertisement_make_it_panic(
            options in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            // With a right checksum, or the options were never looked at.
            let frame = ndp::tests::with_options(&ndp::unsolicited(MAC, V6), &options);
            if let Some(claim) = heard(1, &frame) {
                prop_assert_eq!((claim.ip, claim.kind), (V6.into(), ClaimKind::Claim));
            }
        }
    }
}
