//! The table against a model that keeps a plain list, and what a flood of lies does to those who talk.

use proptest::prelude::*;

use super::*;

const LISTENER: ListenerId = ListenerId(1);

fn flow(source: u8, port: u16) -> Flow {
    Flow { client: SocketAddr::from(([192, 0, 2, source], port)), listener: LISTENER }
}

fn put(table: &mut Table<u32>, flow: Flow, value: u32, now: Tick) -> Option<SessionId> {
    match table.make_room(flow.client.ip()) {
        Room::Free | Room::Made(_) => Some(table.insert(flow, value, now)),
        Room::None => None,
    }
}

/// A session of this stage.
fn at(table: &mut Table<u32>, stage: Stage, flow: Flow, value: u32, now: Tick) -> SessionId {
    let id = put(table, flow, value, now).unwrap();
    if stage != Stage::Fresh {
        table.backend_spoke(id, now);
    }
    if stage == Stage::Established {
        table.client_spoke(id, now);
    }
    id
}

#[test]
fn a_flood_of_lies_pushes_out_nobody_who_talks() {
    let mut table = Table::new(Bounds { all: 1000, source: 250 });
    let talking: Vec<_> =
        (0..200).map(|n| at(&mut table, Stage::Established, flow(1, n), 0, 1)).collect();
    let (mut evicted, mut answered) = (0, 0);
    for n in 0..100_000u32 {
        let client = SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + n), 53));
        match table.make_room(client.ip()) {
            Room::Free => (),
            Room::Made(_) => evicted += 1,
            Room::None => panic!("there are others to take the place of"),
        }
        let id = table.insert(Flow { client, listener: LISTENER }, n, 2 + u64::from(n));
        // The backend answers every second of them; nobody hears it.
        if n.is_multiple_of(2) {
            table.backend_spoke(id, 2 + u64::from(n));
            answered += 1;
        }
    }
    assert_eq!((table.len(), evicted, answered), (1000, 100_000 - 800, 50_000));
    assert!(talking.iter().all(|id| table.get_mut(*id).is_some()));
}

#[test]
fn a_source_beyond_its_share_gives_way_to_itself_alone() {
    let mut table = Table::new(Bounds { all: 100, source: 10 });
    let other = at(&mut table, Stage::Fresh, flow(2, 1), 7, 0);
    for port in 0..1000 {
        put(&mut table, flow(1, port), 0, 1).unwrap();
    }
    assert_eq!(table.len(), 11);
    assert!(table.get_mut(other).is_some());
    // One /64 is one source.
    for n in 0..1000u128 {
        let client = (std::net::Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | n), 1).into();
        put(&mut table, Flow { client, listener: LISTENER }, 0, 2).unwrap();
    }
    assert_eq!(table.len(), 21);
}

#[test]
fn answered_sessions_give_way_before_waiting_ones_and_silent_ones_before_others() {
    let mut table = Table::new(Bounds { all: 4, source: 4 });
    let [first, second] = [1, 2].map(|n| at(&mut table, Stage::Fresh, flow(n, 1), n.into(), 0));
    let [third, fourth] = [3, 4].map(|n| at(&mut table, Stage::Answered, flow(n, 1), n.into(), 1));
    // The third hears more and is no longer the silent one.
    table.backend_spoke(third, 5);
    table.client_spoke(first, 6);
    let mut gone = Vec::new();
    for n in 5..=8 {
        let Room::Made(out) = table.make_room(flow(n, 1).client.ip()) else { panic!() };
        gone.push(out);
        let id = table.insert(flow(n, 1), n.into(), 10);
        table.backend_spoke(id, 10);
        table.client_spoke(id, 10);
    }
    assert_eq!(gone, [4, 3, 2, 1]);
    assert!([first, second, third, fourth].iter().all(|id| table.get_mut(*id).is_none()));
    assert!(put(&mut table, flow(9, 1), 9, 11).is_none(), "all of them talk");
}

#[test]
fn silence_ends_sessions_and_a_sweep_goes_on_where_it_stopped() {
    let mut table = Table::new(Bounds { all: 100, source: 100 });
    for n in 0..10 {
        at(&mut table, Stage::Fresh, flow(n, 1), u32::from(n), 0);
    }
    let talking = at(&mut table, Stage::Established, flow(20, 1), 20, 0);
    let idle = |_: &u32, stage: Stage| if stage == Stage::Established { 120 } else { 30 };
    assert!(table.sweep(29, 1000, idle).is_empty());
    let first = table.sweep(30, 6, idle);
    let mut all = [first.clone(), table.sweep(30, 5, idle)].concat();
    all.sort_unstable();
    assert!(first.len() >= 5, "{first:?}");
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    assert!(table.get_mut(talking).is_some());
    assert_eq!(table.sweep(120, 1000, idle), [20]);
    assert_eq!(table.len(), 0);
}

#[test]
fn silence_ends_a_session_in_time_after_a_flood_as_well() {
    let mut table = Table::new(Bounds { all: 100_000, source: 100_000 });
    let flood: Vec<_> = (0..50_000).map(|n| put(&mut table, flow(1, n), 0, 0).unwrap()).collect();
    let silent = put(&mut table, flow(2, 1), 7, 0).unwrap();
    for id in flood {
        table.remove(id);
    }
    let ended = (0..20).flat_map(|_| {
        let places = table.share(20);
        table.sweep(30, places, |_, _| 30)
    });
    assert_eq!(ended.collect::<Vec<_>>(), [7]);
    assert!(table.get_mut(silent).is_none());
}

#[test]
fn a_question_is_open_until_it_is_answered_or_too_old() {
    let mut table = Table::new(Bounds { all: 10, source: 10 });
    let id = at(&mut table, Stage::Fresh, flow(1, 1), 0, 100);
    assert!(table.awaiting(104, 5).contains(&LISTENER));
    assert!(table.awaiting(105, 5).is_empty());
    table.backend_spoke(id, 101);
    assert!(table.awaiting(101, 5).is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u16),
    Client(u8, u16),
    Backend(u8, u16),
    Remove(u8, u16),
    Sweep(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let flow = || (0u8..4, 0u16..6);
    prop_oneof![
        4 => flow().prop_map(|(a, b)| Step::Insert(a, b)),
        3 => flow().prop_map(|(a, b)| Step::Client(a, b)),
        3 => flow().prop_map(|(a, b)| Step::Backend(a, b)),
        1 => flow().prop_map(|(a, b)| Step::Remove(a, b)),
        1 => (0usize..20).prop_map(Step::Sweep),
        2 => (0u64..20).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens: bounds hold, established sessions go by silence or removal alone, and both lines hold just
    /// the sessions that may have to go.
    #[test]
    fn bounds_hold_and_no_established_session_gives_way(
        steps in prop::collection::vec(step(), 1..300),
        all in 1usize..12,
        source in 1usize..6,
    ) {
        let mut table = Table::new(Bounds { all, source });
        let mut now = 0;
        for step in steps {
            let established = |table: &Table<(u8, u16)>| -> BTreeSet<(u8, u16)> {
                let entries = table.entries.iter().flatten();
                entries.filter(|e| e.stage == Stage::Established).map(|e| e.value).collect()
            };
            let before = established(&table);
            let mut may_go = BTreeSet::new();
            match step {
                Step::Insert(a, b) => {
                    let flow = flow(a, b);
                    if table.find(&flow).is_none()
                        && !matches!(table.make_room(flow.client.ip()), Room::None)
                    {
                        table.insert(flow, (a, b), now);
                    }
                }
                Step::Client(a, b) => {
                    if let Some(id) = table.find(&flow(a, b)) { table.client_spoke(id, now); }
                }
                Step::Backend(a, b) => {
                    if let Some(id) = table.find(&flow(a, b)) { table.backend_spoke(id, now); }
                }
                Step::Remove(a, b) => {
                    if let Some(id) = table.find(&flow(a, b)) { table.remove(id); }
                    may_go.insert((a, b));
                }
                Step::Sweep(places) => {
                    may_go.extend(table.sweep(now, places, |_, _| 30));
                }
                Step::Wait(time) => now += time,
            }
            let after = established(&table);
            prop_assert!(before.difference(&after).all(|gone| may_go.contains(gone)));
            prop_assert!(table.len() <= all);
            let mut of_sources: HashMap<Source, usize> = HashMap::new();
            let mut line = BTreeSet::new();
            for (slot, entry) in table.entries.iter().enumerate() {
                let Some(entry) = entry else { continue };
                *of_sources.entry(Source::of(entry.flow.client.ip())).or_default() += 1;
                prop_assert_eq!(table.index[&entry.flow], slot as u32);
                prop_assert!(entry.queued <= entry.last);
                if entry.stage != Stage::Established {
                    line.insert((entry.stage, entry.queued, slot as u32));
                }
            }
            prop_assert!(of_sources.values().all(|count| *count <= source));
            prop_assert_eq!(&table.line, &line);
            prop_assert_eq!(table.lines.len(), line.len());
            prop_assert_eq!(of_sources.len(), table.sources.len());
            prop_assert_eq!(table.free.len() + table.len(), table.entries.len());
        }
    }
}
