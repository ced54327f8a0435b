//! Neighbour Discovery on the wire: the frame that asks an IPv6 link whether a neighbour has an address,
//! and the one that tells it where an address lives now.
//!
//! Frames in, frames out, no socket: the speaker sends what this returns, and `neighbour` hands in
//! what it hears. RFC 4861 §4.3, §4.4 and §7.2.6, RFC 4862 §5.4.2.

use std::net::Ipv6Addr;

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Message,
        Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
        RawHardwareAddress,
    },
};

use crate::{l2::claim::ClaimKind, links::Mac};

/// Of every message of Neighbour Discovery: 255 cannot have passed a router (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;
/// `ff02::1`, all nodes on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// An unsolicited neighbour advertisement to all nodes, with the override flag, so that caches that
/// hold another link-layer address change it.
pub(crate) fn unsolicited(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let own = EthernetAddress(mac);
    let advertisement = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: ip,
        lladdr: Some(own.into()),
    });
    multicast(mac, ip, ALL_NODES, &advertisement)
}

/// A probe: a solicitation from no address, without a link-layer address (RFC 4861 §4.3), to all nodes
/// whose address ends as this one does.
pub(crate) fn probe(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let solicitation =
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: ip, lladdr: None });
    multicast(mac, Ipv6Addr::UNSPECIFIED, solicited_node(ip), &solicitation)
}

/// What an IPv6 packet says of an address, received in a frame from `from`. A sender that advertises an
/// address or solicits from it uses it; a solicitation from no address is a probe. Validated as RFC
/// 4861 §7.1.1 and §7.1.2 say.
pub(crate) fn parse(from: Mac, packet: &[u8]) -> Option<(Ipv6Addr, Mac, ClaimKind)> {
    let packet = Ipv6Packet::new_checked(packet).ok()?;
    if packet.next_header() != IpProtocol::Icmpv6 || packet.hop_limit() != HOP_LIMIT {
        return None;
    }
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
    let kinds = [Icmpv6Message::NeighborAdvert, Icmpv6Message::NeighborSolicit];
    if !kinds.contains(&message.msg_type()) {
        return None;
    }
    let checksums = ChecksumCapabilities::default();
    let Icmpv6Repr::Ndisc(message) =
        Icmpv6Repr::parse(&source, &destination, &message, &checksums).ok()?
    else {
        return None;
    };
    let (ip, lladdr, kind) = match message {
        NdiscRepr::NeighborAdvert { target_addr, lladdr, flags } => {
            // A solicited answer cannot be meant for all nodes (§7.1.2).
            let to_all = destination.is_multicast();
            if to_all && flags.contains(NdiscNeighborFlags::SOLICITED) {
                return None;
            }
            (target_addr, lladdr, ClaimKind::Claim)
        }
        NdiscRepr::NeighborSolicit { target_addr, lladdr } if source.is_unspecified() => {
            if lladdr.is_some() || destination != solicited_node(target_addr) {
                return None;
            }
            (target_addr, None, ClaimKind::Probe)
        }
        NdiscRepr::NeighborSolicit { lladdr, .. } => (source, lladdr, ClaimKind::Claim),
        _ => return None,
    };
    let mac = lladdr.map_or(Some(from), ethernet)?;
    (!ip.is_multicast() && !ip.is_unspecified()).then_some((ip, mac, kind))
}

/// The first six bytes: an option is as long as eight-byte units allow, an Ethernet address fills one.
fn ethernet(address: RawHardwareAddress) -> Option<Mac> {
    address.as_bytes().first_chunk().copied()
}

/// The group of all addresses that end in the same 24 bits (RFC 4291 §2.7.1).
fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = ip.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low)
}

fn multicast(mac: Mac, source: Ipv6Addr, group: Ipv6Addr, message: &Icmpv6Repr) -> Vec<u8> {
    let ipv6 = Ipv6Repr {
        src_addr: source,
        dst_addr: group,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: HOP_LIMIT,
    };
    let [.., a, b, c, d] = group.octets();
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(mac),
        dst_addr: EthernetAddress([0x33, 0x33, a, b, c, d]), // RFC 2464 §7
        ethertype: EthernetProtocol::Ipv6,
    };
    let length = ethernet.buffer_len() + ipv6.buffer_len() + message.buffer_len();
    let mut bytes = vec![0; length];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.emit(&mut frame);
    let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
    ipv6.emit(&mut packet);
    message.emit(
        &source,
        &group,
        &mut Icmpv6Packet::new_unchecked(packet.payload_mut()),
        &ChecksumCapabilities::default(),
    );
    bytes
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const MAC: Mac = [0x02, 0x42, 0xac, 0x11, 0x00, 0x02];
    const OTHER: Mac = [0x02, 0x42, 0xac, 0x11, 0x00, 0x03];

    fn vip() -> Ipv6Addr {
        "2001:db8::abcd:200".parse().unwrap()
    }

    /// An IPv6 frame, written out by hand; the checksum is filled in.
    fn frame(to: Mac, hops: u8, source: Ipv6Addr, group: Ipv6Addr, message: &[u8]) -> Vec<u8> {
        let mut frame = to.to_vec();
        frame.extend(MAC);
        frame.extend([0x86, 0xdd]); // ethertype: IPv6
        frame.extend([0x60, 0, 0, 0]); // version, traffic class, flow label
        frame.extend((message.len() as u16).to_be_bytes());
        frame.extend([58, hops]); // next header: ICMPv6; hop limit
        frame.extend(source.octets());
        frame.extend(group.octets());
        frame.extend(message);
        let sum = checksum(&source, &group, message);
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// A message without its checksum.
    fn message(kind: u8, flags: u8, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
        message.extend(target.octets());
        message.extend(options);
        message
    }

    /// RFC 4443 §2.3, written out again so that the library's sum is not checked by itself.
    fn checksum(source: &Ipv6Addr, group: &Ipv6Addr, message: &[u8]) -> u16 {
        let mut bytes = source.octets().to_vec();
        bytes.extend(group.octets());
        bytes.extend((message.len() as u32).to_be_bytes());
        bytes.extend([0, 0, 0, 58]);
        bytes.extend(message);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        let mut sum: u32 =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// A message of this file with other options, and a checksum that is right again.
    pub(crate) fn with_options(of: &[u8], options: &[u8]) -> Vec<u8> {
        let at = |from: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&of[from..from + 16]).unwrap());
        let mut message = of[54..78].to_vec();
        message[2..4].fill(0);
        message.extend(options);
        frame(of[..6].try_into().unwrap(), HOP_LIMIT, at(22), at(38), &message)
    }

    #[test]
    fn an_unsolicited_advertisement_has_the_fields_of_rfc_4861() {
        let mut option = vec![2, 1]; // target link-layer address, in units of 8 bytes
        option.extend(MAC);
        // Not a router, not solicited, override.
        let message = message(136, 0x20, vip(), &option);
        let expected = frame([0x33, 0x33, 0, 0, 0, 1], 255, vip(), ALL_NODES, &message);
        assert_eq!(unsolicited(MAC, vip()), expected);
    }

    #[test]
    fn a_probe_has_the_fields_of_rfc_4862() {
        let group = "ff02::1:ffcd:200".parse().unwrap();
        let to = [0x33, 0x33, 0xff, 0xcd, 0x02, 0x00];
        let expected = frame(to, 255, Ipv6Addr::UNSPECIFIED, group, &message(135, 0, vip(), &[]));
        assert_eq!(probe(MAC, vip()), expected);
    }

    #[test]
    fn only_valid_messages_of_neighbour_discovery_count() {
        let (none, us) = (Ipv6Addr::UNSPECIFIED, "2001:db8::1".parse().unwrap());
        let group = solicited_node(vip());
        let lladdr = |kind: u8| [&[kind, 1][..], &OTHER].concat();
        let nonce = [14, 1, 1, 2, 3, 4, 5, 6]; // RFC 7527: what Linux adds to its probes
        let advert = |flags| message(136, flags, vip(), &lladdr(2));
        let claim = |mac| Some((vip(), mac, ClaimKind::Claim));
        let probe = Some((vip(), MAC, ClaimKind::Probe));
        let ask = |options: &[u8]| message(135, 0, vip(), options);
        let mut wrong_code = advert(0x20);
        wrong_code[1] = 1;
        let cases = [
            ("advertisement", 255, vip(), ALL_NODES, advert(0x20), claim(OTHER)),
            ("answer to us", 255, vip(), us, advert(0x60), claim(OTHER)),
            ("from another address", 255, us, ALL_NODES, advert(0x20), claim(OTHER)),
            ("no option", 255, vip(), us, message(136, 0x60, vip(), &[]), claim(MAC)),
            (
                "solicitation from it",
                255,
                vip(),
                group,
                message(135, 0, us, &lladdr(1)),
                claim(OTHER),
            ),
            ("probe", 255, none, group, ask(&[]), probe),
            ("probe with a nonce", 255, none, group, ask(&nonce), probe),
            ("probe with an address", 255, none, group, ask(&lladdr(1)), None),
            ("probe to one node", 255, none, us, ask(&[]), None),
            ("passed a router", 254, vip(), ALL_NODES, advert(0x20), None),
            ("solicited by everybody", 255, vip(), ALL_NODES, advert(0x60), None),
            ("wrong code", 255, vip(), ALL_NODES, wrong_code, None),
            ("for a group", 255, us, ALL_NODES, message(136, 0x20, group, &[]), None),
            ("option of length 0", 255, vip(), us, message(136, 0x60, vip(), &[2, 0]), None),
            ("echo request", 255, vip(), us, message(128, 0, vip(), &[]), None),
        ];
        for (name, hops, source, group, message, expected) in cases {
            let frame = frame([0; 6], hops, source, group, &message);
            assert_eq!(parse(MAC, &frame[14..]), expected, "{name}");
        }
        let mut wrong_sum = unsolicited(OTHER, vip());
        wrong_sum[57] ^= 1;
        assert_eq!(parse(MAC, &wrong_sum[14..]), None);
    }
}
