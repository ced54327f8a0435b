#![allow(clippy::disallowed_methods, reason = "tests on a real network have sockets and a clock")]

use std::{
    net::{Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    bgp::{Peer, Secret, spec::BgpPeerSpec},
    kernel::{
        sockets::bgp::Listener,
        tests::wire::{Wire, on_a_wire},
    },
    links::tests::links,
    pool::ranges::Family,
};

/// A peer that is not dialled, on `eth<index>` or at an address.
fn peer(spec: BgpPeerSpec, password: Option<&str>, context: &Context<'_>) -> PeerDriver {
    let spec = BgpPeerSpec { my_asn: 64512, peer_asn: 64501, ..spec };
    let peer = Peer::parse("router", &spec).unwrap();
    let settings =
        Settings { passive: true, ..Settings::new(&peer, Ipv4Addr::new(10, 0, 0, 2), true, false) };
    let password = password.map(|text| Secret(text.as_bytes().to_vec()));
    let config = Arc::new(PeerConfig { peer, password, bfd: None });
    PeerDriver::start(7, "router", config, settings, context)
}

/// A connection from `b` to `a` that nothing has signed.
fn unsigned(wire: &Wire, to: &str) -> Incoming {
    wire.enter("a");
    let listener = Listener::open(Family::V6, 179).unwrap();
    wire.enter("b");
    let _open = TcpStream::connect(to).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(incoming) = listener.accept().unwrap() {
            return incoming;
        }
        assert!(Instant::now() < deadline, "nobody dialled");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn who_has_a_password_is_not_expected_without_it_though_the_kernel_has_let_it_in() {
    on_a_wire(|wire| {
        let index = wire.scope("a");
        let links = links(&[(index, true), (index + 1, true)], &[]);
        let unnumbered = Unnumbered::new(0);
        let context = Context { links: &links, unnumbered: &unnumbered, now: Instant::now() };
        let on =
            |index: u32| BgpPeerSpec { interface: format!("eth{index}"), ..BgpPeerSpec::default() };
        let at = |ip: &str| BgpPeerSpec { peer_address: ip.into(), ..BgpPeerSpec::default() };
        let near = unsigned(&wire, &format!("[fe80::1%{}]:179", wire.scope("b")));
        let far = unsigned(&wire, "[2001:db8:78::1]:179");
        let far_ip = far.from.ip().to_string();
        let cases = [
            (on(index), None, &near, true),
            (on(index), Some("s3cret"), &near, false),
            (on(index + 1), None, &near, false),
            (on(index), None, &far, false),
            (at(&far_ip), None, &far, true),
            (at(&far_ip), Some("s3cret"), &far, false),
            (at("2001:db8:78::99"), None, &far, false),
        ];
        for (spec, password, incoming, expected) in cases {
            let router = format!("{}{} {password:?}", spec.interface, spec.peer_address);
            let peer = peer(spec, password, &context);
            assert_eq!(peer.expects(incoming, &links), expected, "{router}");
        }
    });
}
