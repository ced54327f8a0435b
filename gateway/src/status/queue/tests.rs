use gatehouse_routes::objects::ObjectKey;
use serde_json::json;

use super::*;
use crate::status::{contest::Rival, diff::How};

fn patch(kind: &'static str, name: &str, seen: u64, says: &str) -> Patch {
    Patch {
        object: ObjectRef::new(kind, ObjectKey::new("default", name)),
        api_version: "v1",
        seen: seen.to_string(),
        uid: String::new(),
        how: How::Apply,
        body: json!({ "says": says }).to_string().into(),
        assigned: None,
        finds: 0,
        leaves: None,
        asks: false,
    }
}

/// Everything that may be sent now, as `name:says`.
fn sent(queue: &mut Queue, now: Instant) -> (Vec<Patch>, String) {
    let mut all = Vec::new();
    while let Next::Send(patch) = queue.next(now) {
        all.push(*patch);
    }
    let words = all.iter().map(|it| {
        format!("{}:{}", it.object.key.name, it.says()["says"].as_str().unwrap_or("").to_owned())
    });
    let words = words.collect::<Vec<_>>().join(" ");
    (all, words)
}

fn done(queue: &mut Queue, patches: Vec<Patch>, version: u64, now: Instant) {
    for patch in patches {
        queue.answered(patch, &Outcome::Done(version.to_string()), now);
    }
}

#[test]
fn addresses_go_first_and_the_newest_patch_counts() {
    let now = Instant::now();
    let mut queue = Queue::new(now);
    let host = || patch("Ingress", "web", 1, "host");
    queue.submit(vec![
        patch("IPAddressPool", "pool", 1, "count"),
        host(),
        patch("Service", "a", 1, "old"),
    ]);
    queue.submit(vec![
        patch("IPAddressPool", "pool", 1, "count"),
        host(),
        patch("Service", "a", 1, "new"),
    ]);
    assert_eq!(sent(&mut queue, now).1, "a:new web:host pool:count");
    // What does not differ any more is not written.
    queue.submit(vec![patch("Service", "b", 1, "b")]);
    queue.submit(vec![]);
    assert_eq!(queue.next(now), Next::Idle);
}

#[test]
fn an_object_has_one_request_under_way() {
    let now = Instant::now();
    let mut queue = Queue::new(now);
    queue.submit(vec![patch("Service", "a", 1, "one")]);
    let (first, _) = sent(&mut queue, now);
    queue.submit(vec![patch("Service", "a", 1, "two")]);
    assert_eq!(queue.next(now), Next::Idle);
    assert!(queue.is_busy());
    queue.answered(first[0].clone(), &Outcome::Failed("no".into(), None), now);
    let later = now + Duration::from_secs(1);
    assert_eq!(sent(&mut queue, later).1, "a:two", "not what failed");
}

#[test]
fn nothing_is_written_over_what_the_state_has_not_seen_yet() {
    let now = Instant::now();
    let mut queue = Queue::new(now);
    queue.submit(vec![patch("Service", "a", 10, "one")]);
    let (first, _) = sent(&mut queue, now);
    // The same again, and something else, both from the version before our write.
    queue.submit(vec![patch("Service", "a", 10, "one")]);
    done(&mut queue, first, 12, now);
    queue.submit(vec![patch("Service", "a", 10, "one")]);
    assert_eq!(queue.next(now), Next::Idle);
    queue.submit(vec![patch("Service", "a", 10, "two")]);
    assert_eq!(queue.next(now), Next::Idle);
    queue.submit(vec![patch("Service", "a", 12, "two")]);
    assert_eq!(sent(&mut queue, now).1, "a:two");
}

#[test]
fn what_changed_nothing_is_not_said_again_until_the_object_changes() {
    let now = Instant::now();
    let mut queue = Queue::new(now);
    for (seen, says, expected) in [(5, "x", "a:x"), (5, "x", ""), (5, "y", "a:y"), (6, "y", "a:y")]
    {
        queue.submit(vec![patch("Service", "a", seen, says)]);
        let (patches, words) = sent(&mut queue, now);
        assert_eq!(words, expected);
        done(&mut queue, patches, seen, now);
    }
}

#[test]
fn counts_that_another_controller_writes_over_are_said_once() {
    let now = Instant::now();
    let mut queue = Queue::new(now);
    // What is said over which version; its write makes the next one, the other controller's the one after.
    for (seen, says, expected) in [
        (1, "3 used", "pool:3 used"),
        (3, "3 used", ""),
        (5, "4 used", "pool:4 used"),
        (7, "4 used", ""),
    ] {
        queue.submit(vec![patch("IPAddressPool", "pool", seen, says)]);
        let (patches, words) = sent(&mut queue, now);
        assert_eq!(words, expected);
        done(&mut queue, patches, seen + 1, now);
    }
    // It says the same as we do for once, and then something else again.
    queue.submit(Vec::new());
    queue.submit(vec![patch("IPAddressPool", "pool", 9, "4 used")]);
    assert_eq!(sent(&mut queue, now).1, "pool:4 used");
}

#[test]
fn a_conflict_waits_for_the_newer_object() {
    let now = Instant::now();
    let mut queue = Queue::new(now);
    queue.submit(vec![patch("Service", "a", 10, "one")]);
    let (patches, _) = sent(&mut queue, now);
    queue.answered(patches[0].clone(), &Outcome::Conflict, now);
    queue.submit(vec![patch("Service", "a", 10, "one")]);
    assert_eq!(queue.next(now), Next::Idle);
    queue.submit(vec![patch("Service", "a", 11, "one")]);
    assert_eq!(sent(&mut queue, now).1, "a:one");
}

#[test]
fn failures_wait_longer_each_time_and_hold_up_nobody_else() {
    let now = Instant::now();
    let mut queue = Queue::new(now);
    let both = || vec![patch("Service", "a", 1, "a"), patch("Service", "b", 1, "b")];
    queue.submit(both());
    let (patches, _) = sent(&mut queue, now);
    let [a, b] = patches.try_into().unwrap();
    queue.answered(b, &Outcome::Done("2".into()), now);
    let mut at = now;
    let mut failed = a;
    for pause in [200, 400, 800] {
        queue.answered(failed, &Outcome::Failed("timeout".into(), None), at);
        assert_eq!(queue.next(at), Next::Later(at + Duration::from_millis(pause)));
        at += Duration::from_millis(pause);
        let (patches, words) = sent(&mut queue, at);
        assert_eq!(words, "a:a");
        failed = patches[0].clone();
    }
    let pause = Some(Duration::from_secs(7));
    queue.answered(failed.clone(), &Outcome::Failed("throttled".into(), pause), at);
    assert_eq!(queue.next(at), Next::Later(at + Duration::from_secs(7)), "as the server asks");
    let (_, words) = sent(&mut queue, at + Duration::from_secs(7));
    assert_eq!(words, "a:a");
    queue.answered(failed, &Outcome::Refused("forbidden".into()), at);
    assert_eq!(queue.next(at), Next::Later(at + LONGEST));
}

#[test]
fn what_differs_no_more_is_forgotten() {
    let now = Instant::now();
    let mut queue = Queue::new(now);
    queue.submit(vec![patch("Route", "a", 1, "a"), patch("Route", "b", 1, "b")]);
    let (patches, _) = sent(&mut queue, now);
    done(&mut queue, patches, 2, now);
    // The watch has brought the write to one of them.
    queue.submit(vec![patch("Route", "b", 1, "b")]);
    assert_eq!(queue.next(now), Next::Idle);
    assert_eq!(queue.written.len(), 1);
    queue.submit(Vec::new());
    assert_eq!(queue.written.len(), 0);
}

#[test]
fn an_object_that_is_gone_is_forgotten() {
    let now = Instant::now();
    let mut queue = Queue::new(now);
    queue.submit(vec![patch("Service", "a", 1, "a")]);
    let (patches, _) = sent(&mut queue, now);
    queue.answered(patches[0].clone(), &Outcome::Gone, now);
    assert_eq!(queue.next(now), Next::Idle);
    assert!(!queue.is_busy());
}

#[test]
fn two_thousand_services_take_a_bounded_rate_and_less_than_four_seconds_of_it() {
    let start = Instant::now();
    let mut queue = Queue::new(start);
    let all = (0..2000).map(|at| patch("Service", &at.to_string(), 1, "x")).collect();
    queue.submit(all);
    let (mut now, mut sent, mut most) = (start, 0, 0);
    while sent < 2000 {
        let mut batch = Vec::new();
        loop {
            match queue.next(now) {
                Next::Send(patch) => batch.push(*patch),
                Next::Later(at) if batch.is_empty() => now = at,
                Next::Later(_) | Next::Idle => break,
            }
        }
        (sent, most) = (sent + batch.len(), most.max(batch.len()));
        done(&mut queue, batch, 2, now);
    }
    assert_eq!(most, CONCURRENCY);
    let took = (now - start).as_secs_f64();
    assert!((2.9..4.0).contains(&took), "{took}");
}

/// Two gateways of which each finds wrong what the other one has written; in turns, as the watch shows it to them.
fn contest(prevails: bool, time: Duration) -> (usize, usize) {
    let start = Instant::now();
    let (mut now, mut version) = (start, 1);
    let mut queue = Queue::new(start);
    let (mut written, mut asked) = (0, 0);
    while now < start + time {
        let mut ours = patch("Ingress", "web", version, "ours");
        (ours.finds, ours.leaves) = (2, Some(1));
        queue.submit(vec![ours]);
        match queue.next(now) {
            Next::Send(patch) if patch.asks => {
                asked += 1;
                let rival = Rival { manager: "gatehouse:a/b".to_owned(), prevails };
                queue.answered(*patch, &Outcome::Contested(rival), now);
            }
            Next::Send(patch) => {
                written += 1;
                queue.answered(*patch, &Outcome::Done((version + 1).to_string()), now);
                // The other one answers at once.
                version += 2;
            }
            Next::Later(at) => now = at,
            Next::Idle => now += Duration::from_millis(20),
        }
    }
    (written, asked)
}

#[test]
fn a_status_that_somebody_else_insists_on_is_left_to_him_and_tried_again_at_times() {
    let hour = Duration::from_secs(3600);
    assert_eq!(contest(true, Duration::from_secs(60)), (4, 1));
    let (written, asked) = contest(true, hour);
    assert!((9..=10).contains(&written) && (6..=7).contains(&asked), "{written} {asked}");
    // One that should yield and does not, as it is of an older release.
    let (written, _) = contest(false, hour);
    assert!((60..=90).contains(&written), "{written}");
}
