use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Paths on eth0 (2) and eth1 (3): `device via vip…` in each line.
fn paths(lines: &[&str]) -> ForwardPaths {
    let mut paths = ForwardPaths::new();
    for line in lines {
        let mut words = line.split(' ');
        let device = match words.next().unwrap() {
            "eth0" => (2, "eth0".to_owned()),
            "eth1" => (3, "eth1".to_owned()),
            other => (2, other.to_owned()),
        };
        let via = ip(words.next().unwrap());
        paths.entry(ForwardPath::on(device, via)).or_default().extend(words.map(ip));
    }
    paths
}

/// What the batch for a new set of paths tries, and the rules after it.
fn change(rules: &Ruleset, wanted: &[&str]) -> (Vec<String>, Ruleset) {
    match rules.change("t", &paths(wanted)).unwrap() {
        None => (Vec::new(), rules.clone()),
        Some((batch, rules)) => {
            let (_, attempts) = batch.finish();
            (attempts.into_iter().skip(1).map(|attempt| attempt.what).collect(), rules)
        }
    }
}

#[test]
fn nothing_wanted_is_nothing_done() {
    assert_eq!(Ruleset::default().change("t", &ForwardPaths::new()), Ok(None));
    assert_eq!(Ruleset::default().change("t", &paths(&["eth0 10.0.0.2"])), Ok(None));
}

#[test]
fn the_first_path_makes_the_table_and_the_chains_of_its_device() {
    let (done, rules) = change(&Ruleset::default(), &["eth0 10.0.0.2 10.0.0.9"]);
    let mut expected = vec!["create table netdev t".to_owned()];
    expected.extend(["create set mine4-0", "create set mine6-0"].map(str::to_owned));
    for version in [4, 6] {
        for set in ["moved", "out", "via", "nextout", "nextvia", "stay"] {
            expected.push(format!("create set {set}{version}-2.0"));
        }
        expected.push(format!("create chain forward{version}-2.0"));
        expected.extend(vec![format!("append a rule to chain forward{version}-2.0"); 5]);
    }
    expected.push("create chain in-2.0-eth0".to_owned());
    expected.extend(vec!["append a rule to chain in-2.0-eth0".to_owned(); 2]);
    for set in ["moved", "out", "via"] {
        expected.push(format!("add 1 elements of set {set}4-2.0"));
    }
    assert_eq!(done, expected);
    assert_eq!(change(&rules, &["eth0 10.0.0.2 10.0.0.9"]), (vec![], rules));
}

#[test]
fn more_and_fewer_paths_are_a_matter_of_elements() {
    let (_, rules) = change(&Ruleset::default(), &["eth0 10.0.0.2 10.0.0.9"]);
    let (done, rules) =
        change(&rules, &["eth0 10.0.0.2 10.0.0.9", "eth0 10.0.0.3 10.0.0.7 10.0.0.8"]);
    let two = |set| format!("add 2 elements of set {set}4-2.0");
    assert_eq!(done, ["moved", "out", "via"].map(two));
    let (done, rules) = change(&rules, &["eth0 10.0.0.2 10.0.0.9", "eth0 fe80::2 2001:db8::9"]);
    let expected = [
        "delete 2 elements of set moved4-2.0",
        "delete 2 elements of set out4-2.0",
        "delete 2 elements of set via4-2.0",
        "add 1 elements of set moved6-2.0",
        "add 1 elements of set out6-2.0",
        "add 1 elements of set via6-2.0",
    ];
    assert_eq!(done, expected);
    assert_eq!(change(&rules, &[]), (vec!["delete table netdev t".to_owned()], Ruleset::default()));
}

#[test]
fn another_way_replaces_the_neighbour_and_keeps_the_notes() {
    let (_, rules) = change(&Ruleset::default(), &["eth0 10.0.0.2 10.0.0.9"]);
    let (done, _) = change(&rules, &["eth0 10.0.0.3 10.0.0.9"]);
    assert_eq!(done, ["delete 1 elements of set via4-2.0", "add 1 elements of set via4-2.0"]);
}

#[test]
fn a_second_device_shares_the_notes() {
    let (_, rules) = change(&Ruleset::default(), &["eth0 10.0.0.2 10.0.0.9"]);
    let (done, _) = change(&rules, &["eth0 10.0.0.2 10.0.0.9", "eth1 10.1.0.2 10.0.0.9"]);
    assert!(done.contains(&"create chain in-3.0-eth1".to_owned()), "{done:?}");
    assert!(!done.iter().any(|what| what.contains("mine")), "{done:?}");
}

#[test]
fn a_device_with_a_new_name_is_hooked_again_and_nothing_else() {
    let (_, rules) = change(&Ruleset::default(), &["eth0 10.0.0.2 10.0.0.9"]);
    let (done, rules) = change(&rules, &["lan0 10.0.0.2 10.0.0.9"]);
    let rule = "append a rule to chain in-2.0-lan0";
    assert_eq!(done, ["create chain in-2.0-lan0", rule, rule]);
    assert_eq!(change(&rules, &["eth0 10.0.0.2 10.0.0.9"]).0, Vec::<String>::new());
}

#[test]
fn a_path_that_comes_again_has_notes_of_its_own() {
    let other = "eth0 10.0.0.2 10.0.0.8";
    let (_, rules) = change(&Ruleset::default(), &[other, "eth0 10.0.0.2 10.0.0.9"]);
    let (_, rules) = change(&rules, &[other]);
    let (done, rules) = change(&rules, &[other, "eth0 10.0.0.3 10.0.0.9"]);
    for what in ["create set mine4-1", "add 1 elements of set moved4-2.1"] {
        assert!(done.contains(&what.to_owned()), "{what}: {done:?}");
    }
    assert!(!done.iter().any(|what| what.contains("-2.0") || what.contains("-0")), "{done:?}");
    // What was made for it stands for the next.
    let (_, rules) = change(&rules, &["eth0 10.0.0.3 10.0.0.9"]);
    let (done, _) = change(&rules, &[other, "eth0 10.0.0.3 10.0.0.9"]);
    let one = |set| format!("add 1 elements of set {set}4-2.1");
    assert_eq!(done, ["moved", "out", "via"].map(one));
}

#[test]
fn own_connections_are_noted_where_their_address_is_forwarded() {
    let (_, rules) = change(&Ruleset::default(), &["eth0 10.0.0.2 10.0.0.9"]);
    let connection = |local: &str| Connection {
        local: local.parse().unwrap(),
        remote: "192.0.2.7:40000".parse().unwrap(),
    };
    assert_eq!(rules.keep("t", &[connection("10.0.0.8:443")]), None);
    let kept = rules.keep("t", &[connection("10.0.0.8:443"), connection("10.0.0.9:443")]);
    // Source, its port, destination, its port: as the rules load them.
    let key = vec![192, 0, 2, 7, 0x9c, 0x40, 0, 0, 10, 0, 0, 9, 0x01, 0xbb, 0, 0];
    let mut expected = Batch::new("t");
    expected.add_elements("mine4-0", &[(key, Value::None)]);
    assert_eq!(kept, Some(expected));
}

/// A path of 10.0.0.9 that comes by eth0.
fn path(from: Option<Mac>, next_hop: Option<(u32, &str)>) -> (ForwardPath, BTreeSet<IpAddr>) {
    let next_hop = next_hop.map(|(link, via)| NextHop { link, via: ip(via) });
    (ForwardPath { device: (2, "eth0".to_owned()), from, next_hop }, [ip("10.0.0.9")].into())
}

fn after(rules: &Ruleset, wanted: Vec<(ForwardPath, BTreeSet<IpAddr>)>) -> (Vec<String>, Ruleset) {
    let (batch, rules) = rules.change("t", &wanted.into_iter().collect()).unwrap().unwrap();
    (batch.finish().1.into_iter().skip(1).map(|attempt| attempt.what).collect(), rules)
}

#[test]
fn noting_goes_before_passing_on_and_the_notes_stay() {
    let (done, noting) = after(&Ruleset::default(), vec![path(None, None)]);
    let elements = |done: &[String]| -> Vec<String> {
        done.iter().filter(|what| what.contains("elements")).cloned().collect()
    };
    assert_eq!(elements(&done), ["add 1 elements of set moved4-2.0"]);
    let own = Connection {
        local: "10.0.0.9:443".parse().unwrap(),
        remote: "192.0.2.7:40000".parse().unwrap(),
    };
    assert!(noting.keep("t", &[own]).is_some());
    let (done, _) = after(&noting, vec![path(None, Some((2, "10.0.0.2")))]);
    assert_eq!(done, ["add 1 elements of set out4-2.0", "add 1 elements of set via4-2.0"]);
}

#[test]
fn a_path_may_go_by_another_link() {
    let (_, rules) = after(&Ruleset::default(), vec![path(None, Some((2, "10.0.0.2")))]);
    let (done, _) = after(&rules, vec![path(None, Some((3, "10.0.0.2")))]);
    assert_eq!(done, ["delete 1 elements of set out4-2.0", "add 1 elements of set out4-2.0"]);
}

#[test]
fn what_a_neighbour_hands_in_may_go_another_way_or_stay() {
    let all = path(None, Some((2, "10.0.0.2")));
    let (mac, other) = ([2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8]);
    let (_, rules) = after(&Ruleset::default(), vec![all.clone()]);
    let further = path(Some(mac), Some((2, "10.0.0.3")));
    let last = path(Some(other), None);
    let (done, rules) = after(&rules, vec![all.clone(), further, last.clone()]);
    let added = |set| format!("add 1 elements of set {set}4-2.0");
    assert_eq!(done, ["nextout", "nextvia", "stay"].map(added));
    let (done, rules) = after(&rules, vec![all, path(Some(mac), None), last.clone()]);
    let mut expected =
        ["nextout", "nextvia"].map(|it| format!("delete 1 elements of set {it}4-2.0")).to_vec();
    expected.push(added("stay"));
    assert_eq!(done, expected);
    // Alone it means nothing.
    assert_eq!(after(&rules, vec![last]).1, Ruleset::default());
}

#[test]
fn of_two_ways_for_an_address_the_first_counts() {
    let (_, both) =
        change(&Ruleset::default(), &["eth0 10.0.0.3 10.0.0.9", "eth0 10.0.0.2 10.0.0.9"]);
    let (_, first) = change(&Ruleset::default(), &["eth0 10.0.0.2 10.0.0.9"]);
    assert_eq!(both, first);
}

#[test]
fn an_address_cannot_go_by_the_other_family() {
    let error = Ruleset::default().change("t", &paths(&["eth0 fe80::2 10.0.0.9"])).unwrap_err();
    let expected = "10.0.0.9 via fe80::2: the two need to be of one address family";
    assert_eq!(error.to_string(), expected);
}

proptest! {
    /// Sets in any order: what stands is what was wanted last, and no address ever meets notes
    /// from before its path began.
    #[test]
    fn what_stands_is_what_is_wanted(
        sets in prop::collection::vec(prop::collection::btree_map((2..4_u32, 0..4_u8), 0..3_u8, 0..5), 1..20)
    ) {
        let vip = |number: u8| IpAddr::from([10, 0, 0, number]);
        let via = |number: u8| IpAddr::from([10, 0, 1, number]);
        let mut rules = Ruleset::default();
        let mut used: BTreeMap<Target, Generation> = BTreeMap::new();
        for set in sets {
            let mut wanted = ForwardPaths::new();
            for ((device, address), neighbour) in &set {
                let device = (*device, format!("eth{device}"));
                let path = ForwardPath::on(device, via(*neighbour));
                wanted.entry(path).or_default().insert(vip(*address));
            }
            let before = rules.clone();
            match rules.change("t", &wanted).unwrap() {
                Some((_, next)) => rules = next,
                None => prop_assert_eq!(&rules, &before),
            }
            let stands: BTreeMap<_, _> =
                rules.forwarded.iter().map(|((device, vip), (hop, _))| ((*device, *vip), *hop)).collect();
            let set: BTreeMap<_, _> = set.into_iter()
                .map(|((device, address), neighbour)| {
                    let hop = NextHop { link: device, via: via(neighbour) };
                    ((device, vip(address)), Some(hop))
                })
                .collect();
            prop_assert_eq!(stands, set);
            if rules.chains.is_empty() {
                used.clear(); // the table is gone, with all notes
            }
            for (target, (_, generation)) in &rules.forwarded {
                if !before.forwarded.contains_key(target) {
                    prop_assert!(used.get(target).is_none_or(|last| last < generation));
                }
                used.insert(*target, *generation);
            }
            prop_assert_eq!(rules.change("t", &wanted), Ok(None));
        }
    }
}
