//! ARP on the wire: the frames that ask an IPv4 subnet whether a neighbour has an address, and those that
//! tell it where an address lives now.
//!
//! Frames in, frames out, no socket: the speaker sends what this returns, and `neighbour` hands in
//! what it hears. RFC 826 is the format, RFC 5944 §4.6 the gratuitous use of it, RFC 5227 the probes.

use std::net::Ipv4Addr;

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr,
};

use crate::{l2::claim::ClaimKind, links::Mac};

/// A gratuitous request and a gratuitous reply, both by broadcast: some hosts update their cache on
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

/// A probe: a request for the address that names no sender, so that no host changes its cache by it (RFC
/// 5227 §2.1.1).
pub(crate) fn probe(mac: Mac, ip: Ipv4Addr) -> Vec<u8> {
    broadcast(ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: Ipv4Addr::UNSPECIFIED,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: ip,
    })
}

/// What a packet says of an address. A host that sends from an address uses it, be it in a request, a reply
/// or to announce it (RFC 5227 §2.4); a request from no address is a probe.
pub(crate) fn parse(packet: &[u8]) -> Option<(Ipv4Addr, Mac, ClaimKind)> {
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: sender,
        target_protocol_addr: target,
        ..
    } = ArpRepr::parse(&ArpPacket::new_checked(packet).ok()?).ok()?
    else {
        return None;
    };
    match (operation, sender.is_unspecified()) {
        (ArpOperation::Request, true) => Some((target, mac, ClaimKind::Probe)),
        (ArpOperation::Request | ArpOperation::Reply, false) => {
            Some((sender, mac, ClaimKind::Claim))
        }
        _ => None,
    }
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

    const MAC: Mac = [0x02, 0x42, 0xac, 0x11, 0x00, 0x02];
    const OTHER: Mac = [0x02, 0x42, 0xac, 0x11, 0x00, 0x03];
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 200);
    const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 7);

    fn packet(operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
        let mut packet = vec![0x00, 0x01]; // ar$hrd: Ethernet
        packet.extend([0x08, 0x00]); // ar$pro: IPv4
        packet.extend([6, 4]); // ar$hln, ar$pln
        packet.extend([0x00, operation]); // ar$op
        packet.extend(sender.0); // ar$sha
        packet.extend(sender.1.octets()); // ar$spa
        packet.extend(target.0); // ar$tha
        packet.extend(target.1.octets()); // ar$tpa
        packet
    }

    #[test]
    fn frames_have_the_fields_of_rfc_826() {
        let expected = |operation, sender: Ipv4Addr, target: Mac| {
            let mut frame = vec![0xff; 6]; // destination: broadcast
            frame.extend(MAC); // source
            frame.extend([0x08, 0x06]); // ethertype: ARP
            frame.extend(packet(operation, (MAC, sender), (target, VIP)));
            frame
        };
        let [request, reply] = gratuitous(MAC, VIP);
        assert_eq!(request, expected(1, VIP, [0; 6]));
        assert_eq!(reply, expected(2, VIP, MAC));
        assert_eq!(probe(MAC, VIP), expected(1, Ipv4Addr::UNSPECIFIED, [0; 6]));
    }

    #[test]
    fn who_sends_from_an_address_claims_it_and_who_asks_from_none_probes() {
        let (none, nobody) = (Ipv4Addr::UNSPECIFIED, [0; 6]);
        let claim = |ip| Some((ip, OTHER, ClaimKind::Claim));
        let cases = [
            ("announcement", packet(1, (OTHER, VIP), (nobody, VIP)), claim(VIP)),
            ("announcement by a reply", packet(2, (OTHER, VIP), (OTHER, VIP)), claim(VIP)),
            ("answer to us", packet(2, (OTHER, VIP), (MAC, HOST)), claim(VIP)),
            ("question to another", packet(1, (OTHER, VIP), (nobody, HOST)), claim(VIP)),
            ("question for it", packet(1, (OTHER, HOST), (nobody, VIP)), claim(HOST)),
            (
                "probe",
                packet(1, (OTHER, none), (nobody, VIP)),
                Some((VIP, OTHER, ClaimKind::Probe)),
            ),
            ("answer from no address", packet(2, (OTHER, none), (MAC, VIP)), None),
            ("RARP", packet(3, (OTHER, VIP), (MAC, VIP)), None),
        ];
        for (name, packet, expected) in cases {
            assert_eq!(parse(&packet), expected, "{name}");
        }
        let mut token_ring = packet(1, (OTHER, VIP), (nobody, VIP));
        token_ring[1] = 6;
        assert_eq!(parse(&token_ring), None);
    }
}
