//! What must hold of everything that reads BGP, but for the session: the targets `bgp_message`,
//! `bgp_open`, `bgp_update` and `bgp_text` of [`fuzzing`](crate::testing::fuzzing).

use std::{net::Ipv4Addr, time::Duration};

use crate::{
    bgp::{
        Community, Families, Notification, RemoteAsn, Settings,
        attribute::{Class, Terms},
        capability::Capabilities,
        header::{HEADER, Kind, LONGEST, LONGEST_EXTENDED},
        message::Framer,
        open::Open,
        spec::go_duration_nanos,
        update,
    },
    testing::fuzzing::Input,
};

/// What came of a stream: the messages, the error that ended it, the octets that are left of one.
type Read = (Vec<(Kind, Vec<u8>)>, Option<Notification>, usize);

/// An octet of flags, the size of the pieces, and the stream of one connection.
pub(crate) fn stream(data: &[u8]) {
    let mut input = Input::new(data);
    let extended = input.octet() & 1 != 0;
    let size = usize::from(input.octet()).max(1);
    let stream = input.rest();
    let whole = read(stream, stream.len().max(1), extended);
    assert_eq!(whole, read(stream, size, extended), "pieces of {size}");
    let (messages, error, _) = whole;
    error.iter().for_each(check_notification);
    for (kind, body) in messages {
        match kind {
            Kind::Open => open(&body),
            Kind::Update => (0..32).for_each(|flags| check(flags, &body)),
            Kind::Notification => check_notification(&Notification::decode(&body)),
            Kind::Keepalive => assert_eq!(body, b""),
            Kind::RouteRefresh => assert_eq!(body.len(), 4),
        }
    }
}

fn read(stream: &[u8], size: usize, extended: bool) -> Read {
    let mut framer = Framer::default();
    if extended {
        framer.allow_extended();
    }
    let longest = if extended { LONGEST_EXTENDED } else { LONGEST };
    let mut messages = Vec::new();
    for mut piece in stream.chunks(size) {
        loop {
            let before = piece.len();
            let mut scratch = Vec::new();
            match framer.next(&mut piece, &mut scratch) {
                Ok(Some(message)) => messages.push((message.kind, message.body.to_vec())),
                Ok(None) => break,
                Err(error) => return (messages, Some(error), 0),
            }
            assert!(piece.len() < before, "a message of no octets");
            assert!(framer.held() <= longest, "{} octets are kept", framer.held());
        }
        assert!(piece.is_empty() && framer.held() < longest);
    }
    (messages, None, framer.held())
}

/// A NOTIFICATION, of either side's.
pub(super) fn check_notification(notification: &Notification) {
    let shown = notification.to_string();
    assert!(!shown.contains(char::is_control) && shown.len() < 1000, "{shown:?}");
    let bytes = notification.encode();
    assert!(bytes.len() <= LONGEST, "{} octets", bytes.len());
    let read = Notification::decode(&bytes[HEADER..]);
    assert_eq!((read.code, read.subcode), (notification.code, notification.subcode));
    assert!(notification.data.starts_with(&read.data));
}

/// The body of an OPEN message.
pub(crate) fn open(body: &[u8]) {
    let open = match Open::decode(body) {
        Ok(open) => open,
        Err(error) => return refused(&error, 2),
    };
    assert!(open.asn != 0 && !open.id.is_unspecified() && ![1, 2].contains(&open.hold_time));
    let bytes = open.encode();
    assert!(bytes.len() <= LONGEST);
    // Neither "no families that we know" nor "no word of families" can be said otherwise.
    let families = open.capabilities.families.filter(|families| !families.is_empty());
    let said =
        Open { capabilities: Capabilities { families, ..open.capabilities.clone() }, ..open };
    assert_eq!(Open::decode(&bytes[HEADER..]), Ok(said), "from {open:?}");
    for flags in 0..8 {
        agree(&open, &settings(flags));
    }
}

fn agree(open: &Open, settings: &Settings) {
    let agreed = match open.negotiate(settings) {
        Ok(agreed) => agreed,
        Err(error) => return refused(&error, 2),
    };
    assert!(settings.remote_asn.allows(agreed.remote_asn, settings.local_asn));
    assert_eq!(agreed.internal, agreed.remote_asn == settings.local_asn);
    assert!(!agreed.families.is_empty());
    assert_eq!(agreed.families, agreed.families.and(settings.families));
    assert!(agreed.hold_time <= settings.hold_time);
    assert!(agreed.hold_time <= Duration::from_secs(open.hold_time.into()));
    assert!(agreed.hold_time.is_zero() || agreed.hold_time >= Duration::from_secs(3));
    assert!(agreed.keepalive_time <= agreed.hold_time / 3);
    assert!(settings.over_v6 || !agreed.extended_next_hop);
}

/// Settings of eight kinds.
pub(super) fn settings(flags: u8) -> Settings {
    let set = |bit: u8| flags & bit != 0;
    Settings {
        local_asn: 64512,
        remote_asn: if set(1) { RemoteAsn::External } else { RemoteAsn::Internal },
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        hold_time: Duration::from_secs(90),
        keepalive_time: Duration::from_secs(30),
        connect_time: Duration::from_secs(5),
        families: Families { v4: true, v6: set(2) },
        graceful_restart: set(2),
        restarted: set(2) && set(4),
        over_v6: set(4),
        passive: false,
    }
}

/// An octet of terms and the body of an UPDATE message.
pub(crate) fn update(data: &[u8]) {
    let mut input = Input::new(data);
    check(input.octet(), input.rest());
}

fn check(flags: u8, body: &[u8]) {
    let set = |bit: u8| flags & bit != 0;
    let families = Families { v4: set(8), v6: set(16) };
    let terms =
        Terms { internal: set(1), four_octet_asn: set(2), extended_next_hop: set(4), families };
    let summary = match update::check(body, &terms) {
        Ok(summary) => summary,
        Err(error) => return refused(&error, 3),
    };
    let prefixes = u64::from(summary.announced) + u64::from(summary.withdrawn);
    assert!(prefixes <= body.len() as u64, "{summary:?} of {} octets", body.len());
    assert!(summary.faults.is_sorted_by(|one, next| one.1 >= next.1), "{summary:?}");
    assert!(summary.faults.len() <= body.len() + 3);
    let worst = summary.faults.first().map(|(_, class, _)| *class);
    assert!(worst < Some(Class::TreatAsWithdraw) || summary.announced == 0, "{summary:?}");
    assert_eq!(!summary.disabled.is_empty(), worst == Some(Class::Disable), "{summary:?}");
    assert_eq!(summary.disabled, summary.disabled.and(families), "{summary:?}");
    if !summary.end_of_rib.is_empty() {
        assert_eq!(prefixes, 0, "{summary:?}");
    }
}

/// What this end tells the router about a message of this kind.
fn refused(error: &Notification, code: u8) {
    assert_eq!(error.code, code);
    assert!(error.to_string().len() < 100 && !error.to_string().contains("unknown"), "{error}");
    check_notification(error);
}

/// What users write into fields of `metallb.io` objects.
pub(crate) fn text(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Community::parse(text) {
        Ok(community) => {
            assert_eq!(Community::parse(&community.to_string()), Ok(community));
            let given: Vec<u128> = text.split(':').filter_map(|part| part.parse().ok()).collect();
            let read = match community {
                Community::Standard(high, low) => vec![high.into(), low.into()],
                Community::Large(global, one, two) => vec![global.into(), one.into(), two.into()],
            };
            assert_eq!(given, read, "{text}");
        }
        Err(message) => assert!(message.contains(text), "{message}"),
    }
    if let Some(nanos) = go_duration_nanos(text) {
        assert!(text.contains(|c: char| c.is_ascii_digit()), "{text:?} is no duration");
        assert_eq!(go_duration_nanos(&format!("{nanos}ns")), Some(nanos), "{text:?}");
    }
}
