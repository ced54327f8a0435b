//! What a change of rules changes in the kernel, and that what did not change is left alone.

use super::*;
use crate::nftables::Batch;

fn group(endpoints: &[u8]) -> Group {
    let endpoint = |n: &u8| Endpoint { ip: [10, 1, 0, *n].into(), port: 80, weight: 1 };
    Group {
        transport: Transport::Tcp,
        v6: false,
        endpoints: endpoints.iter().map(endpoint).collect(),
        draining: Vec::new(),
        by_client: None,
        by_flow: true,
        keeps_client: false,
        keeps_port: false,
        sources: None,
    }
}

fn rules(groups: &[(&str, &[u8])]) -> Rules {
    let mut rules = Rules::default();
    for (at, (name, endpoints)) in groups.iter().enumerate() {
        let name: Arc<str> = (*name).into();
        let port = ([10, 9, 0, 200].into(), Transport::Tcp, 80 + at as u16);
        rules.ports.insert(port, Arc::clone(&name));
        rules.groups.insert(name, group(endpoints));
    }
    rules
}

/// What the transactions of a change try, in words, but for their marks.
fn transactions(standing: Option<&Rules>, wanted: &Rules) -> Vec<Vec<String>> {
    let standing = standing.map(Made::of);
    let batches = change(standing.as_ref(), &Made::of(wanted), &Left::default());
    let words = |batch: Batch| {
        let attempts = batch.finish().1.into_iter().skip(1).map(|attempt| attempt.what);
        attempts.filter(|what| !what.contains("made-of-")).collect()
    };
    batches.into_iter().map(words).collect()
}

fn attempts(standing: Option<&Rules>, wanted: &Rules) -> Vec<String> {
    transactions(standing, wanted).concat()
}

#[test]
fn what_stands_as_wanted_is_left_alone() {
    let one = rules(&[("a", &[1])]);
    assert!(attempts(Some(&one), &one.clone()).is_empty());
}

#[test]
fn without_knowledge_the_table_is_replaced_in_one_transaction() {
    let attempts = attempts(None, &rules(&[("a", &[1])]));
    assert_eq!(
        attempts[..3],
        [
            "create table inet gatehouse-l4",
            "delete table inet gatehouse-l4",
            "create table inet gatehouse-l4"
        ]
    );
    assert!(attempts.contains(&"create chain a".to_owned()));
}

#[test]
fn a_table_that_replaces_another_one_goes_on_with_the_clients_of_endpoints_that_are_left() {
    let mut rules = rules(&[("a", &[1])]);
    rules.groups.get_mut("a").unwrap().by_client = Some(Duration::from_secs(60));
    assert_eq!(sets_of_clients(&rules).collect::<Vec<_>>(), ["a/10.1.0.1/80"]);
    let client = |n: u8| (vec![10, 9, 0, n], 30_000);
    let clients =
        [("a/10.1.0.1/80", vec![client(1), client(2)]), ("a/10.1.0.2/80", vec![client(3)])];
    let clients = clients.map(|(set, clients)| (set.to_owned(), clients)).into();
    let left = Left { totals: Totals::new(), clients };
    let batch = change(None, &Made::of(&rules), &left).pop().unwrap();
    let attempts: Vec<_> = batch.finish().1.into_iter().map(|attempt| attempt.what).collect();
    let clients: Vec<_> = attempts.iter().filter(|what| what.contains("of set a/10.")).collect();
    assert_eq!(clients, ["add 2 elements of set a/10.1.0.1/80"]);
}

#[test]
fn an_endpoint_that_goes_changes_the_elements_of_its_group_s_map_alone() {
    let (before, after) =
        (rules(&[("a", &[1, 2]), ("b", &[3])]), rules(&[("a", &[1]), ("b", &[3])]));
    assert_eq!(
        transactions(Some(&before), &after),
        [["delete the elements of set a/endpoints4", "add 2 elements of set a/endpoints4"]]
    );
}

#[test]
fn what_packets_are_led_to_is_there_before_and_goes_after_what_leads_to_it() {
    let kept = |endpoints: &[u8]| {
        let mut rules = rules(&[("a", endpoints)]);
        rules.groups.get_mut("a").unwrap().by_client = Some(Duration::from_secs(60));
        rules
    };
    let words = transactions(Some(&kept(&[1])), &kept(&[2]));
    assert_eq!(
        words,
        [
            vec![
                "create chain a/10.1.0.2/80",
                "create set a/10.1.0.2/80",
                "append a rule to chain a/10.1.0.2/80",
                "append a rule to chain a/10.1.0.2/80",
            ],
            vec![
                "delete the elements of set a/hashes4",
                "add 2 elements of set a/hashes4",
                "delete the rules of chain a",
                "append a rule to chain a",
                "append a rule to chain a",
                "append a rule to chain a",
            ],
            vec!["delete chain a/10.1.0.1/80", "delete set a/10.1.0.1/80"],
        ]
    );
    // From one way to choose to another.
    let words = transactions(Some(&kept(&[1])), &rules(&[("a", &[1])]));
    assert_eq!(words[0], ["create set a/endpoints4", "add 2 elements of set a/endpoints4"]);
    assert_eq!(
        words[2],
        ["delete set a/hashes4", "delete chain a/10.1.0.1/80", "delete set a/10.1.0.1/80"]
    );
}

#[test]
fn a_table_is_known_by_what_it_is_made_of() {
    let mark = |rules: &Rules| Made::of(rules).mark;
    let one = rules(&[("a", &[1, 2])]);
    let mut other = one.clone();
    assert_eq!(mark(&one), mark(&rules(&[("a", &[2, 1])])), "in whatever order");
    // What the kernel does not see of them.
    other.groups.get_mut("a").unwrap().draining.push(one.groups["a"].endpoints[0]);
    assert_eq!(mark(&one), mark(&other));
    assert!(attempts(Some(&one), &other).is_empty());
    let weighs = |rules: &mut Group| rules.endpoints[0].weight = 2;
    let keeps = |rules: &mut Group| rules.by_client = Some(Duration::from_secs(60));
    let lets_in = |rules: &mut Group| rules.sources = Some(Vec::new());
    let local = |rules: &mut Group| rules.keeps_client = true;
    let changes: [&dyn Fn(&mut Group); 4] = [&weighs, &keeps, &lets_in, &local];
    let mut marks: Vec<_> = changes
        .iter()
        .map(|change| {
            let mut rules = one.clone();
            change(rules.groups.get_mut("a").unwrap());
            mark(&rules)
        })
        .chain([mark(&one)])
        .collect();
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), 5);
}

#[test]
fn a_group_without_endpoints_is_refused() {
    let (before, after) = (rules(&[("a", &[1])]), rules(&[("a", &[])]));
    let attempts = attempts(Some(&before), &after);
    assert!(attempts.contains(&"delete 1 elements of set services4".to_owned()), "{attempts:?}");
    assert!(attempts.contains(&"add 1 elements of set refused4".to_owned()), "{attempts:?}");
    // Endpoints that a kernel cannot reach for others are none.
    let mut loopback = rules(&[("a", &[1])]);
    let group = loopback.groups.get_mut("a").unwrap();
    group.endpoints[0].ip = [127, 0, 0, 1].into();
    assert!(datagrams(&loopback).is_empty(), "TCP has none");
    group_is_refused(&loopback);
}

fn group_is_refused(rules: &Rules) {
    let attempts = attempts(None, rules);
    assert!(attempts.contains(&"add 1 elements of set refused4".to_owned()), "{attempts:?}");
}

#[test]
fn a_group_that_goes_takes_its_elements_its_chain_and_its_counters() {
    let (before, after) = (rules(&[("a", &[1]), ("b", &[3])]), rules(&[("a", &[1])]));
    let attempts = attempts(Some(&before), &after);
    let elements = attempts.iter().filter(|what| what.starts_with("delete 1 elements")).count();
    assert_eq!(elements, 4);
    assert_eq!(
        attempts[elements..],
        [
            "delete chain b",
            "delete set b/endpoints4",
            "delete counter b/in",
            "delete counter b/out",
            "delete counter b/new"
        ]
    );
}

#[test]
fn an_endpoint_that_serves_on_gets_nothing_new_and_keeps_flows_of_datagrams() {
    let mut rules = rules(&[("a", &[1])]);
    let group = rules.groups.get_mut("a").unwrap();
    group.transport = Transport::Udp;
    group.draining = vec![Endpoint { ip: [10, 1, 0, 2].into(), port: 80, weight: 1 }];
    assert_eq!(share::shares(group).ranges.len(), 1);
    let vip = IpAddr::from([10, 9, 0, 200]);
    rules.ports = [((vip, Transport::Udp, 80), "a".into())].into();
    let flows = datagrams(&rules);
    let of = flows[&(vip, 80)].endpoints.iter().map(|(ip, _)| ip.to_string()).collect::<Vec<_>>();
    assert_eq!(of, ["10.1.0.1", "10.1.0.2"]);
}

#[test]
fn a_flow_of_datagrams_goes_on_while_its_client_may_come_in_and_its_endpoint_serves() {
    let mut rules = rules(&[("a", &[1])]);
    let group = rules.groups.get_mut("a").unwrap();
    group.transport = Transport::Udp;
    let range = |first: [u8; 4], last: [u8; 4]| (first.into(), last.into());
    group.sources =
        Some(vec![range([10, 0, 0, 1], [10, 0, 0, 9]), range([10, 0, 1, 0], [10, 0, 1, 255])]);
    let vip = IpAddr::from([10, 9, 0, 200]);
    rules.ports = [((vip, Transport::Udp, 80), "a".into())].into();
    let flows = &datagrams(&rules)[&(vip, 80)];
    let endpoint = *flows.endpoints.first().unwrap();
    for (client, goes_on) in [
        ("10.0.0.0", false),
        ("10.0.0.1", true),
        ("10.0.0.9", true),
        ("10.0.0.10", false),
        ("10.0.1.7", true),
        ("10.0.2.0", false),
        ("fd00::1", false),
    ] {
        assert_eq!(flows.allow(client.parse().unwrap(), endpoint), goes_on, "{client}");
    }
    assert!(!flows.allow([10, 0, 0, 1].into(), (endpoint.0, endpoint.1 + 1)));
}
