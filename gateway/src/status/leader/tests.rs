use super::*;

/// The API server's Lease, and processes that want it.
struct World {
    start: Instant,
    lease: Option<Record>,
    versions: u32,
}

impl World {
    fn new() -> Self {
        Self { start: Instant::now(), lease: None, versions: 0 }
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    fn write(&mut self, write: &Write) -> Written {
        if self.lease.as_ref().map(|lease| &lease.version) != write.over.as_ref() {
            return Written::Conflict;
        }
        self.versions += 1;
        let version = self.versions.to_string();
        let Write { holder, transitions, .. } = write.clone();
        let lease = Duration::from_secs(15);
        self.lease = Some(Record { holder, lease, transitions, version: version.clone() });
        Written::Done(version)
    }

    /// One attempt of a process that reaches the API server.
    fn attempt(&mut self, process: &mut Election, seconds: f64) {
        let now = self.at(seconds);
        let write = match process.attempt(now) {
            Step::Read => process.found(self.lease.clone(), now),
            Step::Write(write) => Some(write),
        };
        let Some(write) = write else { return };
        let outcome = self.write(&write);
        if process.written(write, outcome, now, now)
            && let Some(write) = process.found(self.lease.clone(), now)
        {
            let outcome = self.write(&write);
            process.written(write, outcome, now, now);
        }
    }

    fn leads(&self, process: &Election, seconds: f64) -> Option<(u32, bool)> {
        process.term(self.at(seconds)).map(|term| (term.number, term.clean))
    }
}

fn process(identity: &str) -> Election {
    Election::new(identity.to_owned(), Timing::default())
}

#[test]
fn the_first_one_leads_for_as_long_as_it_renews() {
    let (mut world, mut a, mut b) = (World::new(), process("a"), process("b"));
    world.attempt(&mut a, 0.0);
    world.attempt(&mut b, 0.1);
    assert_eq!(world.leads(&a, 9.9), Some((1, false)));
    assert_eq!(world.leads(&a, 10.0), None, "nothing prolonged it");
    for at in 1..50 {
        world.attempt(&mut a, f64::from(at) * 2.0);
        world.attempt(&mut b, f64::from(at) * 2.0 + 0.1);
        assert_eq!(world.leads(&a, f64::from(at) * 2.0), Some((1, false)));
        assert_eq!(world.leads(&b, f64::from(at) * 2.0 + 0.1), None);
    }
}

#[test]
fn another_one_begins_only_after_the_first_has_stopped_by_itself() {
    let (mut world, mut a, mut b) = (World::new(), process("a"), process("b"));
    world.attempt(&mut a, 0.0);
    // The last renewal that arrives, and what `b` sees of it.
    world.attempt(&mut a, 4.0);
    let mut began = None;
    for at in 0..300 {
        let at = f64::from(at) * 0.1;
        if at >= 4.0 {
            world.attempt(&mut b, at);
        }
        let both = world.leads(&a, at).is_some() && world.leads(&b, at).is_some();
        assert!(!both, "two leaders at {at}");
        began = began.or_else(|| world.leads(&b, at).map(|_| at));
    }
    let began = began.unwrap();
    assert!((19.0..19.2).contains(&began), "{began}");
    assert_eq!(world.leads(&b, began), Some((1, false)), "requests of a may be under way");
    // `a` comes back from a long pause: it finds the lease of `b`, and waits.
    world.attempt(&mut a, 20.0);
    assert_eq!(world.leads(&a, 20.0), None);
}

#[test]
fn a_paused_leader_does_not_lead_when_it_goes_on() {
    let (mut world, mut a) = (World::new(), process("a"));
    world.attempt(&mut a, 0.0);
    assert_eq!(world.leads(&a, 12.0), None);
    // It still has the lease, but what it asked for before the pause may still arrive: a new term.
    world.attempt(&mut a, 12.0);
    assert_eq!(world.leads(&a, 12.0), Some((2, false)));
}

#[test]
fn a_term_counts_from_before_the_renewal_was_asked_for() {
    let (mut world, mut a) = (World::new(), process("a"));
    world.attempt(&mut a, 0.0);
    let Step::Write(write) = a.attempt(world.at(2.0)) else { panic!("a leader renews") };
    let outcome = world.write(&write);
    a.written(write, outcome, world.at(2.0), world.at(9.0));
    assert!(world.leads(&a, 11.9).is_some());
    assert!(world.leads(&a, 12.0).is_none());
}

#[test]
fn a_renewal_that_comes_too_late_does_not_revive_a_term() {
    let (mut world, mut a) = (World::new(), process("a"));
    world.attempt(&mut a, 0.0);
    let Step::Write(write) = a.attempt(world.at(9.0)) else { panic!("a leader renews") };
    let outcome = world.write(&write);
    // The process stood still while the answer came.
    assert!(world.leads(&a, 30.0).is_none());
    a.written(write, outcome, world.at(9.0), world.at(30.0));
    assert!(world.leads(&a, 30.0).is_none());
}

#[test]
fn who_lets_go_of_it_need_not_be_waited_for() {
    let (mut world, mut a, mut b) = (World::new(), process("a"), process("b"));
    world.attempt(&mut a, 0.0);
    world.attempt(&mut b, 0.5);
    let write = a.release(world.at(1.0)).unwrap();
    assert_eq!(world.leads(&a, 1.0), None, "at once, whether or not it arrives");
    world.write(&write);
    world.attempt(&mut b, 1.1);
    assert_eq!(world.leads(&b, 1.1), Some((1, true)));
    assert_eq!(a.release(world.at(1.2)), None, "nothing is left to let go");
}

#[test]
fn a_conflict_is_read_before_it_is_believed() {
    let (mut world, mut a, mut b) = (World::new(), process("a"), process("b"));
    world.attempt(&mut a, 0.0);
    // A user labels the Lease: nothing to do with the election.
    world.lease.as_mut().unwrap().version = "labelled".to_owned();
    world.attempt(&mut a, 2.0);
    assert_eq!(world.leads(&a, 11.9), Some((1, false)));
    // Another node takes it by force.
    let stolen = b.found(world.lease.clone(), world.at(3.0));
    assert_eq!(stolen, None);
    let holder = "b".to_owned();
    world.lease = Some(Record { holder, version: "b".to_owned(), ..world.lease.clone().unwrap() });
    world.attempt(&mut a, 4.0);
    assert_eq!(world.leads(&a, 4.0), None);
}

#[test]
fn an_answer_that_is_lost_costs_no_leadership() {
    let (mut world, mut a) = (World::new(), process("a"));
    world.attempt(&mut a, 0.0);
    let Step::Write(write) = a.attempt(world.at(2.0)) else { panic!("a leader renews") };
    world.write(&write);
    a.written(write, Written::Failed, world.at(2.0), world.at(2.5));
    assert_eq!(a.attempt(world.at(4.0)), Step::Read);
    world.attempt(&mut a, 4.0);
    assert_eq!(world.leads(&a, 13.9), Some((1, false)));
}

#[test]
fn a_lease_that_somebody_deleted_is_made_anew_in_a_new_term_by_whoever_is_first() {
    let (mut world, mut a, mut b) = (World::new(), process("a"), process("b"));
    world.attempt(&mut a, 0.0);
    world.lease = None;
    world.attempt(&mut b, 1.0);
    assert_eq!(world.leads(&b, 1.0), Some((1, false)));
    world.attempt(&mut a, 2.0);
    assert_eq!(world.leads(&a, 2.0), None);
}

#[test]
fn the_lease_of_a_holder_counts_not_that_of_the_flags() {
    let mut b = process("b");
    let world = World::new();
    let lease = Duration::from_secs(60);
    let version = "7".to_owned();
    let record = Record { holder: "a".to_owned(), lease, transitions: 3, version };
    assert_eq!(b.found(Some(record.clone()), world.at(0.0)), None);
    assert_eq!(b.found(Some(record.clone()), world.at(59.9)), None);
    let write = b.found(Some(record), world.at(60.0)).unwrap();
    assert_eq!((write.transitions, write.over.as_deref()), (4, Some("7")));
}

#[test]
fn times_that_make_no_election_are_refused() {
    let seconds = Duration::from_secs;
    let timing = |lease, renew_deadline, retry_period| Timing {
        lease: seconds(lease),
        renew_deadline: seconds(renew_deadline),
        retry_period: seconds(retry_period),
    };
    assert_eq!(Timing::default().check(), Ok(()));
    for (timing, says) in [
        (timing(10, 10, 2), "--lease-duration is not longer"),
        (timing(15, 2, 2), "--renew-deadline is not longer"),
        (timing(15, 10, 0), "--renew-deadline is not longer"),
        (timing(0, 10, 2), "below 1 second"),
    ] {
        assert!(timing.check().unwrap_err().contains(says), "{timing:?}");
    }
}
