use super::*;

struct Bed {
    start: Instant,
    journal: Journal,
}

fn bed() -> Bed {
    let start = Instant::now();
    Bed { start, journal: Journal::new("node-1_x".to_owned(), start) }
}

fn object(name: &str) -> ObjectRef {
    ObjectRef::new("Service", ObjectKey::new("shop", name))
}

fn regarding(name: &str) -> Regarding {
    Regarding { object: object(name), api_version: "v1", uid: format!("uid-of-{name}") }
}

fn exhausted(name: &str) -> Problem {
    Problem::error(&object(name), "PoolExhausted", "", "no free address (3 used)", "add some")
}

impl Bed {
    fn problems(&mut self, problems: &[Problem], first: bool, seconds: u64) {
        let now = self.start + Duration::from_secs(seconds);
        let of = |problem: &Problem| regarding(&problem.object.key.name);
        let all = problems.iter().map(|problem| (problem, of(problem)));
        self.journal.problems(all, first, now);
    }

    fn happened(&mut self, seconds: u64) {
        let happened = Happened {
            regarding: regarding("a"),
            normal: true,
            reason: "nodeAssigned",
            action: "Announce",
            note: "announcing from node \"node-1\" with protocol \"layer2\"".to_owned(),
        };
        self.journal.happened(happened, self.start + Duration::from_secs(seconds));
    }

    /// All requests at a time, each answered in the same way.
    fn requests(&mut self, seconds: u64, answer: Answer) -> Vec<Request> {
        let now = self.start + Duration::from_secs(seconds);
        let mut all = Vec::new();
        while let Ok(request) = self.journal.next("2026-11-29T10:00:00.000000Z", now) {
            self.journal.answered(request.clone(), answer);
            all.push(request);
            assert!(all.len() < 10_000, "without end");
        }
        all
    }
}

#[test]
fn a_problem_is_one_event_on_its_object() {
    let mut bed = bed();
    bed.problems(&[exhausted("a")], false, 0);
    bed.problems(&[exhausted("a")], false, 1);
    let requests = bed.requests(1, Answer::Done);
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert!(request.name.starts_with("a.") && request.namespace == "shop", "{request:?}");
    let Verb::Create(event) = &request.verb else { panic!("{request:?}") };
    let expected = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": request.name, "namespace": "shop" },
        "eventTime": "2026-11-29T10:00:00.000000Z",
        "reportingController": "gatehouse.io/gateway",
        "reportingInstance": "node-1_x",
        "type": "Warning",
        "reason": "AllocationFailed",
        "action": "Configure",
        "note": "no free address (3 used) [PoolExhausted]; add some",
        "regarding": {
            "apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "a", "uid": "uid-of-a",
        },
    });
    assert_eq!(*event, expected);
}

#[test]
fn a_message_that_changes_is_no_transition_but_going_and_coming_is_and_counts() {
    let mut bed = bed();
    bed.problems(&[exhausted("a")], false, 0);
    bed.requests(0, Answer::Done);
    let mut other = exhausted("a");
    other.message = "no free address (4 used)".to_owned();
    bed.problems(&[other], false, 1);
    assert_eq!(bed.requests(1, Answer::Done), []);
    for count in [2, 3] {
        bed.problems(&[], false, count * 10);
        bed.problems(&[exhausted("a")], false, count * 10 + 1);
        let requests = bed.requests(count * 10 + 1, Answer::Done);
        let time = "2026-11-29T10:00:00.000000Z";
        let patch = json!({ "series": { "count": count, "lastObservedTime": time } });
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].verb, Verb::Count(patch));
    }
}

/// All but the count of an Event stays as it was written.
#[test]
fn a_problem_that_comes_again_for_another_cause_has_an_event_that_names_it() {
    let mut bed = bed();
    let of = |message: &str| Problem { message: message.to_owned(), ..exhausted("a") };
    let mut names = BTreeSet::new();
    for (at, message) in (1..).zip(["no tls.crt", "no tls.key", "no tls.crt"]) {
        bed.problems(&[of(message)], false, at * 10);
        let requests = bed.requests(at * 10, Answer::Done);
        let [Request { name, verb: Verb::Create(event), .. }] = &requests[..] else {
            panic!("{requests:?}")
        };
        let note = event["note"].as_str().unwrap();
        assert!(note.starts_with(message) && names.insert(name.clone()), "{note} {names:?}");
        bed.problems(&[], false, at * 10 + 1);
    }
    bed.problems(&[of("no tls.crt")], false, 50);
    let counts = bed.requests(50, Answer::Done);
    assert!(matches!(counts[..], [Request { verb: Verb::Count(_), .. }]), "{counts:?}");
    // While the first one waits still, the last one counts.
    bed.problems(&[], false, 60);
    bed.problems(&[of("one")], false, 61);
    bed.problems(&[], false, 62);
    bed.problems(&[of("two")], false, 63);
    let requests = bed.requests(63, Answer::Done);
    let [Request { verb: Verb::Create(event), .. }] = &requests[..] else { panic!("{requests:?}") };
    assert!(event["note"].as_str().unwrap().starts_with("two"));
}

#[test]
fn another_leader_finds_the_event_of_a_problem_that_it_finds() {
    let (mut a, mut b) = (bed(), bed());
    a.problems(&[exhausted("a")], true, 0);
    let made = a.requests(0, Answer::Done);
    b.journal.instance = "node-2_y".to_owned();
    b.problems(&[exhausted("a")], true, 0);
    let again = b.requests(0, Answer::Exists);
    assert_eq!(made[0].name, again[0].name);
    assert_eq!(again.len(), 1, "that is how it should be");
    // What comes later is news, even if an older Event says the same.
    b.problems(&[], false, 1);
    b.problems(&[exhausted("b")], false, 2);
    let tries = b.requests(2, Answer::Exists);
    assert!(tries.len() > 1 && tries[0].name != tries[1].name, "{tries:?}");
}

#[test]
fn an_object_made_anew_has_events_of_its_own() {
    let mut bed = bed();
    bed.problems(&[exhausted("a")], false, 0);
    let first = bed.requests(0, Answer::Done);
    let mut again = regarding("a");
    again.uid = "another".to_owned();
    let problem = exhausted("a");
    bed.journal.problems([(&problem, again)].into_iter(), false, bed.start);
    let second = bed.requests(0, Answer::Done);
    assert!(matches!(second[0].verb, Verb::Create(_)));
    assert_ne!(first[0].name, second[0].name);
}

#[test]
fn what_happens_again_counts_and_begins_anew_when_the_api_server_has_forgotten_it() {
    let mut bed = bed();
    bed.happened(0);
    assert_eq!(bed.requests(0, Answer::Done).len(), 1);
    bed.happened(60);
    let requests = bed.requests(60, Answer::Done);
    assert!(matches!(requests[0].verb, Verb::Count(_)), "{requests:?}");
    bed.happened(120);
    let now = bed.start + Duration::from_secs(120);
    let count = bed.journal.next("t", now).unwrap();
    bed.journal.answered(count, Answer::Missing);
    let requests = bed.requests(120, Answer::Done);
    assert!(matches!(requests[0].verb, Verb::Create(_)), "{requests:?}");
}

#[test]
fn the_rate_is_bounded_and_nothing_is_lost() {
    let mut bed = bed();
    let problems: Vec<Problem> = (0..1000).map(|at| exhausted(&at.to_string())).collect();
    bed.problems(&problems, false, 0);
    assert_eq!(bed.requests(0, Answer::Done).len(), 100);
    assert_eq!(bed.requests(2, Answer::Done).len(), 50);
    let mut all = 150;
    for second in (4..100).step_by(2) {
        all += bed.requests(second, Answer::Done).len();
    }
    assert_eq!((all, bed.journal.dropped()), (1000, 0));
}

#[test]
fn names_and_notes_fit() {
    let long = "x".repeat(253);
    let mut bed = bed();
    let mut problem = exhausted(&long);
    problem.message = "ä".repeat(2000);
    bed.problems(&[problem], false, 0);
    let requests = bed.requests(0, Answer::Done);
    assert!(requests[0].name.len() <= 253);
    let Verb::Create(event) = &requests[0].verb else { panic!() };
    assert_eq!(event["note"].as_str().unwrap().len(), 1024);
}
