//! Routers that break the rules, over TCP, against the speaker as a process: every message is
//! answered as the RFC says, no session suffers for another, and no memory is had by it.
//!
//! The messages are those of the tests of the session machine. Needs root and iproute2; fails
//! without them.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests on the real network have threads and clocks"
)]

mod process;
mod router;

use gatehouse_testbed::{
    hostile_router::{
        messages::{self, NOTIFICATION, ROUTE_REFRESH, Stage, UPDATE, frame, keepalive, open, raw},
        updates::{self, Class, Terms},
    },
    wait::eventually,
};
use gatehouse_vip::bgp::Notification;

use process::VIP;
use router::{Router, Scene, Wire};

/// What a session is like once the router has had its say.
struct Aftermath {
    /// The connection, which is to last until the status has been looked at.
    _wire: Wire,
    /// How often it came up.
    established: u64,
    /// How its last error, or its last fault, ends or begins.
    error: Option<String>,
    fault: Option<(String, &'static str)>,
}

/// Not a test by itself: the process that the tests start on the node.
#[test]
#[ignore = "the speaker's process of the other tests"]
fn speaker_process() {
    process::run();
}

/// A router that says something, and whether it got the right answer.
type Case = Box<dyn FnOnce(&Play) -> Aftermath + Send>;

/// One router's part.
struct Play {
    name: &'static str,
    router: Router,
    terms: Terms,
}

impl Play {
    /// A router that is the speaker's in all but its manners.
    fn external(name: &'static str, router: Router) -> Self {
        Self { name, router, terms: Terms::External }
    }

    /// The speaker dials, and the session gets as far as this.
    fn reach(&self, stage: Stage) -> Wire {
        let mut wire = self.router.meet(self.name);
        assert_eq!(wire.next().0, 1, "{}: the speaker's OPEN", self.name);
        if stage != Stage::OpenSent {
            wire.say(&self.open());
            assert_eq!(wire.next(), (messages::KEEPALIVE, vec![]), "{}", self.name);
        }
        if stage == Stage::Established {
            wire.say(&keepalive());
            wire.hears_of(VIP);
        }
        wire
    }

    fn open(&self) -> Vec<u8> {
        messages::open_like(|open| match self.terms {
            Terms::External => {}
            Terms::Internal => (open.asn, open.asn4) = (64512, Some(64512)),
            Terms::TwoOctets => open.asn4 = None,
        })
    }
}

/// The message ends the connection with this NOTIFICATION, and the next session is as good as any.
fn ends(stage: Stage, bytes: Vec<u8>, notification: Notification) -> Case {
    Box::new(move |play| {
        let mut wire = play.reach(stage);
        wire.say(&bytes);
        let last = wire.until_closed();
        let notifications = last.iter().filter(|(kind, _)| *kind == NOTIFICATION).count();
        let expected = notification.encode()[19..].to_vec();
        assert_eq!(last.last(), Some(&(NOTIFICATION, expected)), "{}", play.name);
        assert_eq!(notifications, 1, "{}: {last:?}", play.name);
        let mut again = play.reach(Stage::Established);
        again.proves_alive();
        Aftermath {
            _wire: again,
            established: if stage == Stage::Established { 2 } else { 1 },
            error: Some(format!("told the router: {notification}")),
            fault: None,
        }
    })
}

/// The message leaves the session as it is.
fn stays(stage: Stage, mut bytes: Vec<u8>, fault: Option<(u8, Class)>) -> Case {
    // What is announced of a message comes in the end.
    let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    bytes.resize(bytes.len().max(length), 0);
    Box::new(move |play| {
        let mut wire = play.reach(stage);
        wire.say(&bytes);
        if stage != Stage::Established {
            assert_eq!(wire.next(), (messages::KEEPALIVE, vec![]), "{}", play.name);
            wire.say(&keepalive());
            wire.hears_of(VIP);
        }
        wire.proves_alive();
        let fault = fault.map(|(attribute, class)| {
            let done = match class {
                Class::Discard => "; discarded",
                Class::TreatAsWithdraw => "; routes treated as withdrawn",
                Class::Disable => "; family ignored from now on",
            };
            (format!("path attribute {attribute}: "), done)
        });
        Aftermath { _wire: wire, established: 1, error: None, fault }
    })
}

/// A NOTIFICATION is the end, without an answer.
fn is_notified(stage: Stage, notification: Notification) -> Case {
    Box::new(move |play| {
        let mut wire = play.reach(stage);
        wire.say(&notification.encode());
        let last = wire.until_closed();
        assert!(last.iter().all(|(kind, _)| *kind != NOTIFICATION), "{}: {last:?}", play.name);
        let mut again = play.reach(Stage::Established);
        again.proves_alive();
        Aftermath {
            _wire: again,
            established: if stage == Stage::Established { 2 } else { 1 },
            error: Some(format!("the router says: {notification}")),
            fault: None,
        }
    })
}

fn cases() -> Vec<(&'static str, Terms, Case)> {
    let mut cases = Vec::new();
    for (name, stage, bytes, (code, subcode, data)) in messages::fatal() {
        let notification = Notification { code, subcode, data };
        cases.push((name, Terms::External, ends(stage, bytes, notification)));
    }
    for (name, body, subcode, data) in updates::fatal() {
        let (notification, bytes) = (Notification { code: 3, subcode, data }, frame(UPDATE, &body));
        cases.push((name, Terms::External, ends(Stage::Established, bytes, notification)));
    }
    for (name, stage, bytes) in messages::harmless() {
        cases.push((name, Terms::External, stays(stage, bytes, None)));
    }
    for (name, body, terms, kind, class) in updates::broken() {
        let bytes = frame(UPDATE, &body);
        cases.push((name, terms, stays(Stage::Established, bytes, Some((kind, class)))));
    }
    for stage in [Stage::OpenSent, Stage::OpenConfirm, Stage::Established] {
        for (code, subcode, data) in messages::notifications() {
            let notification = Notification { code, subcode, data };
            cases.push(("NOTIFICATION", Terms::External, is_notified(stage, notification)));
        }
    }
    cases
}

#[test]
fn every_hostile_router_gets_the_answer_of_the_rfc_and_a_session_and_a_good_one_notices_nothing() {
    let cases = cases();
    assert!(cases.len() >= 150, "{}", cases.len());
    let internal: Vec<_> = cases.iter().map(|(_, terms, _)| *terms == Terms::Internal).collect();
    let scene = Scene::new(&internal);
    let good = Play::external("good", scene.router(cases.len()));
    let mut good_wire = good.reach(Stage::Established);
    let speaker = &scene.speaker;
    std::thread::scope(|scope| {
        let parts = cases.into_iter().enumerate().map(|(index, (name, terms, case))| {
            let play = Play { name, router: scene.router(index), terms };
            scope.spawn(move || {
                let aftermath = case(&play);
                let peer = process::peer(index);
                eventually(&format!("{name}, of {peer}"), || {
                    is_so(&speaker.status()["peers"][&peer], &aftermath)
                });
            })
        });
        let parts: Vec<_> = parts.collect();
        let failed = parts.into_iter().filter_map(|part| part.join().err()).count();
        assert_eq!(failed, 0, "hostile routers with another answer");
    });
    good_wire.proves_alive();
    let status = scene.speaker.status();
    let of_good = &status["peers"][process::peer(scene.routers - 1)];
    assert_eq!(of_good["established"], 1, "{of_good}");
    assert_eq!(of_good["last_error"], serde_json::Value::Null);
}

/// Whether a status shows what a session has been through.
fn is_so(status: &serde_json::Value, wanted: &Aftermath) -> Result<(), String> {
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    let fault = wanted.fault.as_ref().is_none_or(|(begins, ends)| {
        let fault = text("last_fault");
        fault.starts_with(begins) && fault.ends_with(ends)
    });
    let error = wanted.error.as_ref().is_none_or(|error| text("last_error") == *error);
    match fault && error && status["established"] == wanted.established {
        true => Ok(()),
        false => Err(status.to_string()),
    }
}

/// Messages of each flood.
const FLOOD: u32 = 100_000;

/// A route of its own for each number: 20.0.0.0/8 and following, /32.
fn announcement(number: u32) -> Vec<u8> {
    let prefix = (0x1400_0000 + number).to_be_bytes();
    let attributes = [updates::ORIGIN_IGP, updates::PATH, updates::NEXT_HOP].concat();
    frame(UPDATE, &updates::body(&[], &attributes, &[&[32][..], &prefix].concat()))
}

#[test]
fn a_router_that_floods_gets_no_memory_and_its_session_stays() {
    let scene = Scene::new(&[false]);
    let mut wire = Play::external("flood", scene.router(0)).reach(Stage::Established);
    let mut good = Play::external("good", scene.router(1)).reach(Stage::Established);
    let broken = frame(UPDATE, &updates::with(&[0xc0, 8, 3, 1, 2, 3]));
    let refresh = frame(ROUTE_REFRESH, &[0, 1, 0, 1]);
    let mut said = 0;
    let mut memory_after = |messages: u32| {
        let of = |message: &dyn Fn(u32) -> Vec<u8>| (0..messages).flat_map(message).collect();
        let floods: [Vec<u8>; 4] = [
            of(&announcement),
            of(&|_| broken.clone()),
            of(&|_| refresh.clone()),
            of(&|_| keepalive()),
        ];
        floods.iter().for_each(|flood| wire.floods(flood));
        said += messages;
        eventually("all is counted", || {
            let peer = &scene.speaker.status()["peers"][process::peer(0)];
            let received = &peer["received_messages"];
            let so = peer["received"] == said
                && received["update"] == 2 * said
                && received["route_refresh"] == said
                && peer["established"] == 1;
            if so { Ok(()) } else { Err(peer.to_string()) }
        });
        scene.speaker.memory()
    };
    // Buffers have grown to what they need.
    let before = memory_after(FLOOD / 10);
    let after = memory_after(FLOOD);
    println!("memory of the speaker: {before} KiB, after the flood {after} KiB");
    assert!(after < before + 4096, "KiB before: {before}, after: {after}");
    good.proves_alive();
    assert_eq!(scene.speaker.status()["peers"][process::peer(1)]["established"], 1);
}

#[test]
fn a_router_that_dials_without_end_has_a_few_connections_and_in_the_end_a_session() {
    let scene = Scene::new(&[false]);
    let router = scene.router(0);
    // It listens when it dials.
    drop(router.meet("dials"));
    let before = scene.speaker.files();
    let mut silent = Vec::new();
    for round in 0..300 {
        let Some(mut wire) = router.dial() else { continue };
        match round % 3 {
            0 => wire.say(b"GET / HTTP/1.1\r\n\r\n"),
            1 => wire.say(&raw(4096, 2, &[0; 99])),
            _ => {}
        }
        silent.push(wire);
    }
    eventually("connections are let go", || match scene.speaker.files() {
        files if files <= before + 10 => Ok(()),
        files => Err(format!("{files} open files, before {before}")),
    });
    assert!(!silent.is_empty(), "not one connection");
    drop(silent);
    eventually("a session", || {
        let mut wire = router.meet("dials");
        wire.say(&[open(), keepalive()].concat());
        match wire.hears(VIP) {
            true => Ok(()),
            false => Err("no route".to_owned()),
        }
    });
}
