//! Neighbour Discovery on the wire: the frame that tells an IPv6 link where an address lives now.
//!
//! Frames in, frames out, no socket: the speaker sends what this returns. RFC 4861 §4.4 and §7.2.6.

use std::net::Ipv6Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet, Icmpv6Repr,
    IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

use crate::links::Mac;

/// `ff02::1`, all nodes on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Where Ethernet takes `ff02::1` (RFC 2464 §7).
const ALL_NODES_MAC: EthernetAddress = EthernetAddress([0x33, 0x33, 0, 0, 0, 1]);

/// An unsolicited neighbour advertisement to all nodes, with the override flag, so that caches that
/// hold another link-layer address change it.
pub(crate) fn unsolicited(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let own = EthernetAddress(mac);
    let advertisement = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: ip,
        lladdr: Some(own.into()),
    });
    let ipv6 = Ipv6Repr {
        src_addr: ip,
        dst_addr: ALL_NODES,
        next_header: IpProtocol::Icmpv6,
        payload_len: advertisement.buffer_len(),
        // Receivers drop anything else (RFC 4861 §7.1.2): 255 cannot have passed a router.
        hop_limit: 255,
    };
    let ethernet =
        EthernetRepr { src_addr: own, dst_addr: ALL_NODES_MAC, ethertype: EthernetProtocol::Ipv6 };
    let length = ethernet.buffer_len() + ipv6.buffer_len() + advertisement.buffer_len();
    let mut bytes = vec![0; length];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.emit(&mut frame);
    let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
    ipv6.emit(&mut packet);
    advertisement.emit(
        &ipv6.src_addr,
        &ipv6.dst_addr,
        &mut Icmpv6Packet::new_unchecked(packet.payload_mut()),
        &ChecksumCapabilities::default(),
    );
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsolicited_advertisement_has_the_fields_of_rfc_4861() {
        let mac = [0x02, 0x42, 0xac, 0x11, 0x00, 0x02];
        let vip: Ipv6Addr = "2001:db8::200".parse().unwrap();
        let mut expected = vec![0x33, 0x33, 0, 0, 0, 1]; // destination: all nodes
        expected.extend(mac); // source
        expected.extend([0x86, 0xdd]); // ethertype: IPv6
        expected.extend([0x60, 0, 0, 0]); // version, traffic class, flow label
        expected.extend([0, 32]); // payload length: 24 + one option of 8
        expected.extend([58, 255]); // next header: ICMPv6; hop limit
        expected.extend(vip.octets());
        expected.extend(ALL_NODES.octets());
        let icmp = expected.len();
        expected.extend([136, 0, 0, 0]); // type, code, checksum (below)
        expected.extend([0x20, 0, 0, 0]); // not a router, not solicited, override
        expected.extend(vip.octets()); // target
        expected.extend([2, 1]); // option: target link-layer address, in units of 8 bytes
        expected.extend(mac);
        let sum = checksum(&vip, &expected[icmp..]);
        expected[icmp + 2..icmp + 4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(unsolicited(mac, vip), expected);
    }

    /// RFC 4443 §2.3, written out again so that the library's sum is not checked by itself.
    fn checksum(source: &Ipv6Addr, message: &[u8]) -> u16 {
        let mut bytes = source.octets().to_vec();
        bytes.extend(ALL_NODES.octets());
        bytes.extend((message.len() as u32).to_be_bytes());
        bytes.extend([0, 0, 0, 58]);
        bytes.extend(message);
        let mut sum: u32 =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}
