//! What nodes tell each other beside heartbeats.

use super::{super::*, lab::*};

/// What a node hears: from whom, and what.
fn heard(lab: &mut Lab, node: &str) -> Vec<(String, Vec<u8>)> {
    let notes = lab.group(node).take_notes();
    notes.into_iter().map(|note| (note.node.to_string(), note.bytes)).collect()
}

#[test]
fn a_note_reaches_every_member_once_and_nobody_else() {
    let mut lab = Lab::with(&["node-1", "node-2", "node-3"]);
    lab.start_as("node-4", "node-4", 1, Some(GroupKey::new(&[7; 16]).unwrap()));
    lab.pass(ms(500));
    lab.group("node-1").tell([b"one".to_vec(), b"two".to_vec()]);
    lab.pass(ms(100));
    let notes = [b"one", b"two"].map(|it| ("node-1".to_owned(), it.to_vec()));
    assert_eq!(heard(&mut lab, "node-2"), notes);
    assert_eq!(heard(&mut lab, "node-3"), notes);
    assert_eq!(heard(&mut lab, "node-1"), []);
    assert_eq!(heard(&mut lab, "node-4"), [], "another key");
    // Heartbeats go on as before.
    lab.pass(ms(1000));
    let now = lab.now;
    let members = lab.group("node-2").status(now).members;
    assert!(members.iter().filter(|it| it.state == MemberState::Alive).count() == 2, "{members:?}");
}

#[test]
fn recorded_and_changed_notes_are_not_heard_again() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(500));
    lab.recorded.clear();
    lab.group("node-1").tell([b"one".to_vec()]);
    lab.pass(ms(10));
    let (_, note) = lab.recorded.iter().find(|(_, bytes)| Group::is_note(bytes)).cloned().unwrap();
    assert_eq!(heard(&mut lab, "node-2").len(), 1);
    let (now, from) = (lab.now, SocketAddr::from(([192, 0, 2, b'1'], 7471)));
    lab.group("node-2").receive(&note, from, LINK, now);
    assert_eq!(heard(&mut lab, "node-2"), [], "a copy");
    lab.group("node-1").tell((0..16).map(|n| vec![n]));
    lab.pass(ms(10));
    assert_eq!(heard(&mut lab, "node-2").len(), 16);
    let now = lab.now;
    lab.group("node-2").receive(&note, from, LINK, now);
    for byte in 0..note.len() {
        let mut changed = note.clone();
        changed[byte] ^= 1;
        lab.group("node-2").receive(&changed, from, LINK, now);
        lab.group("node-2").receive(&note[..byte], from, LINK, now);
    }
    assert_eq!(heard(&mut lab, "node-2"), [], "replayed, changed or cut");
    assert!(lab.group("node-2").status(now).counters.refused["Replayed"] >= 1);
}

#[test]
fn a_member_is_heard_until_it_is_dead_and_a_recording_never() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.group("node-1").tell([b"early".to_vec()]);
    lab.pass(ms(10));
    assert_eq!(heard(&mut lab, "node-2"), [], "not proven yet");
    lab.pass(ms(500));
    let now = lab.now;
    lab.group("node-1").drain(true, now);
    lab.pass(ms(100));
    lab.recorded.clear();
    lab.group("node-1").tell([b"bye".to_vec()]);
    lab.pass(ms(10));
    let note = lab.group("node-2").take_notes().remove(0);
    assert!(note.draining && note.bytes == b"bye");
    let recorded = lab.recorded.clone();
    lab.nodes.remove("node-1");
    lab.pass(ms(2000));
    lab.start("node-2", 2);
    lab.pass(ms(500));
    let (now, from) = (lab.now, SocketAddr::from(([192, 0, 2, b'1'], 7471)));
    for (_, bytes) in recorded {
        lab.group("node-2").receive(&bytes, from, LINK, now);
    }
    assert_eq!(heard(&mut lab, "node-2"), []);
}

#[test]
fn what_is_too_long_or_too_much_is_not_sent() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    lab.pass(ms(500));
    let longest = vec![1; LONGEST_NOTE];
    lab.group("node-1").tell([vec![0; LONGEST_NOTE + 1], longest.clone()]);
    lab.recorded.clear();
    lab.pass(ms(10));
    assert_eq!(heard(&mut lab, "node-2"), [("node-1".to_owned(), longest)]);
    assert!(lab.recorded.iter().all(|(_, bytes)| bytes.len() <= wire::LONGEST));
    lab.group("node-1").tell((0..100).map(|n| vec![n]));
    lab.pass(ms(10));
    let last = heard(&mut lab, "node-2").pop().unwrap();
    assert_eq!(last.1, [99], "the newest count");
}
