//! ARP on the wire: the frames that tell an IPv4 subnet where an address lives now.
//!
//! Frames in, frames out, no socket: the speaker sends what this returns. RFC 826 is the format, RFC
//! 5944 §4.6 the gratuitous use of it.

use std::net::Ipv4Addr;

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr,
};

use crate::links::Mac;

/// A gratuitous request and a gratuitous reply, both to everybody: some hosts update their cache on
/// the one only, some on the other.
pub(crate) fn gratuitous(mac: Mac, ip: Ipv4Addr) -> [Vec<u8>; 2] {
    let own = EthernetAddress(mac);
    // RFC 5944 §4.6: unused (zero, RFC 5227 §3) in the request; in the reply the address that the
    // cache shall hold. Linux takes a reply for gratuitous only if it equals the sender's.
    [(ArpOperation::Request, EthernetAddress([0; 6])), (ArpOperation::Reply, own)].map(
        |(operation, target_hardware_addr)| {
            broadcast(ArpRepr::EthernetIpv4 {
                operation,
                source_hardware_addr: own,
                source_protocol_addr: ip,
                target_hardware_addr,
                target_protocol_addr: ip,
            })
        },
    )
}

fn broadcast(arp: ArpRepr) -> Vec<u8> {
    let ArpRepr::EthernetIpv4 { source_hardware_addr, .. } = arp else { return Vec::new() };
    let ethernet = EthernetRepr {
        src_addr: source_hardware_addr,
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Arp,
    };
    let mut bytes = vec![0; ethernet.buffer_len() + arp.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gratuitous_frames_have_the_fields_of_rfc_826() {
        let mac = [0x02, 0x42, 0xac, 0x11, 0x00, 0x02];
        let [request, reply] = gratuitous(mac, Ipv4Addr::new(192, 168, 1, 200));
        let expected = |operation: u8, target: [u8; 6]| {
            let mut frame = vec![0xff; 6]; // destination: everybody
            frame.extend(mac); // source
            frame.extend([0x08, 0x06]); // ethertype: ARP
            frame.extend([0x00, 0x01]); // ar$hrd: Ethernet
            frame.extend([0x08, 0x00]); // ar$pro: IPv4
            frame.extend([6, 4]); // ar$hln, ar$pln
            frame.extend([0x00, operation]); // ar$op
            frame.extend(mac); // ar$sha
            frame.extend([192, 168, 1, 200]); // ar$spa
            frame.extend(target); // ar$tha
            frame.extend([192, 168, 1, 200]); // ar$tpa
            frame
        };
        assert_eq!(request, expected(1, [0; 6]));
        assert_eq!(reply, expected(2, mac));
    }
}
