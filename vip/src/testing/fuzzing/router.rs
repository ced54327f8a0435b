//! What must hold of router discovery whatever neighbours send: see `testing::fuzzing`.

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use crate::{
    bgp::unnumbered::{
        BETWEEN_ADVERTISEMENTS, Discovery, ROUTERS,
        message::{Kind, parse},
    },
    testing::fuzzing::Input,
};

/// Ticks of one script: enough for some hours.
const TICKS: usize = 5000;

/// A link: a script of messages, sessions and times. Each step begins with an octet that says which.
pub(crate) fn link(data: &[u8], mut now: Instant) {
    let mut input = Input::new(data);
    let own = link_local(input.octet());
    let mut discovery = Discovery::new(own, input.octet().into(), now);
    let mut advertised: Option<Instant> = None;
    let mut ticks = 0;
    while !input.is_empty() && ticks < TICKS {
        let step = input.octet();
        match step % 4 {
            0 | 1 => {
                let from = match step % 4 {
                    0 => link_local(input.octet()),
                    _ => Ipv6Addr::from(input.octets::<16>()),
                };
                let message = input.piece();
                if let Some(kind) = parse(from, message) {
                    assert_sound(from, kind, message);
                    discovery.heard(from, kind, now);
                }
            }
            2 => {
                let with = input.octet();
                discovery.set_session((with != 0).then(|| link_local(with)), now);
            }
            _ => {
                let end = now
                    + Duration::from_millis(100) * u32::from(u16::from_be_bytes(input.octets()));
                while discovery.deadline() <= end && ticks < TICKS {
                    ticks += 1;
                    now = now.max(discovery.deadline());
                    if discovery.tick(now).contains(&Kind::Advertisement) {
                        let since = advertised.replace(now).map(|last| now - last);
                        assert!(
                            since.is_none_or(|since| since >= BETWEEN_ADVERTISEMENTS),
                            "{since:?}"
                        );
                    }
                    assert!(discovery.deadline() > now, "a tick leaves nothing due");
                }
                now = end;
            }
        }
        let routers: Vec<_> = discovery.routers().collect();
        assert!(routers.len() <= ROUTERS, "{routers:?}");
        assert!(routers.iter().all(|router| router.is_unicast_link_local()), "{routers:?}");
        assert!(discovery.has_session() || !routers.contains(&own), "its own router");
        assert!(routers.is_empty() || discovery.router().is_some(), "{routers:?}");
    }
}

fn link_local(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last.into())
}

/// What a message has to be that is taken: options and all.
fn assert_sound(from: Ipv6Addr, kind: Kind, message: &[u8]) {
    let bare = kind.write(None);
    assert_eq!((message[0], message[1]), (bare[0], 0));
    assert!(message.len() >= bare.len() && message.len().is_multiple_of(8), "{message:02x?}");
    assert!(kind == Kind::Solicitation || from.is_unicast_link_local(), "{from}");
    let longer = [message, &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(parse(from, &longer), None, "an option without a length");
    assert_eq!(parse(from, &message[..message.len() - 1]), None, "cut");
}
