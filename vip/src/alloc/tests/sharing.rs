//! Which claims may share one address.

use super::*;

/// `key`, `TCP/80 UDP/53`.
fn sharing(key: &str, ports: &str) -> Option<Sharing> {
    let ports = ports.split(' ').map(|port| {
        let (protocol, number) = port.split_once('/').unwrap();
        (protocol.to_owned(), number.parse().unwrap())
    });
    Some(Sharing { key: key.into(), policy: TrafficPolicy::Cluster, ports: ports.collect() })
}

fn local(selector: &str) -> TrafficPolicy {
    TrafficPolicy::Local(BTreeMap::from([("app".to_owned(), selector.to_owned())]))
}

fn pools() -> [Pool; 1] {
    [pool("default", &["10.0.0.1-10.0.0.9"])]
}

#[test]
fn claims_of_one_key_with_other_ports_and_one_policy_share_an_address() {
    let mail = Claim { sharing: sharing("k", "TCP/25"), ..v4("mail") };
    let with = |sharing: Option<Sharing>| Claim { sharing, ..v4("web") };
    let policy =
        |policy: TrafficPolicy| sharing("k", "TCP/80").map(|sharing| Sharing { policy, ..sharing });
    // the second claim, and why it cannot have the address of the first
    let cases = [
        (with(sharing("k", "TCP/80")), None),
        (with(sharing("k", "UDP/25")), None),
        (
            with(sharing("k", "TCP/80 TCP/25")),
            Some("10.0.0.1 is in use by ns/mail, on TCP port 25 too"),
        ),
        (
            with(sharing("other", "TCP/80")),
            Some("10.0.0.1 is in use by ns/mail, which shares it under the key \"k\""),
        ),
        (with(None), Some("10.0.0.1 is in use by ns/mail")),
        (
            with(policy(local("web"))),
            Some(
                "10.0.0.1 is in use by ns/mail, whose externalTrafficPolicy is Cluster, while this \
                 Service's is Local",
            ),
        ),
    ];
    for (web, why) in cases {
        let result = allocate(&pools(), &[mail.clone(), web.clone()]);
        let expected = if why.is_none() { "default:10.0.0.1" } else { "default:10.0.0.2" };
        assert_eq!(got(&result, "web"), expected, "{why:?}");

        let asking = Claim { requested: ips(&["10.0.0.1"]), ..web };
        let holding = Claim { recorded: ips(&["10.0.0.1"]), ..mail.clone() };
        let result = allocate(&pools(), &[holding, asking]);
        let message = result.refused.get(&id("web")).map(|refused| refused[0].message.as_str());
        assert_eq!(message, why);
    }
    let result = allocate(&pools(), &[v4("mail"), with(sharing("k", "TCP/80"))]);
    assert_eq!(got(&result, "web"), "default:10.0.0.2", "who names no key shares with nobody");
}

#[test]
fn with_the_local_policy_only_services_of_one_selector_share() {
    let at = |name: &str, port: &str, selector: &str| {
        let sharing = sharing("k", port).map(|one| Sharing { policy: local(selector), ..one });
        Claim { sharing, ..v4(name) }
    };
    let claims = [at("a", "TCP/1", "x"), at("b", "TCP/2", "x"), at("c", "TCP/3", "y")];
    let result = allocate(&pools(), &claims);
    let got = ["a", "b", "c"].map(|name| got(&result, name));
    assert_eq!(got, ["default:10.0.0.1", "default:10.0.0.1", "default:10.0.0.2"]);
}

#[test]
fn a_sharer_gets_the_lowest_address_that_is_free_or_has_its_ports_to_spare() {
    let at = |name: &str, port: &str| Claim { sharing: sharing("k", port), ..v4(name) };
    let claims = [
        recorded("alone", &["10.0.0.1"]),
        at("a", "TCP/80"),
        at("b", "TCP/80"),
        at("c", "TCP/443"),
        at("d", "TCP/443"),
        at("e", "TCP/443"),
        at("f", "TCP/80"),
    ];
    let result = allocate(&pools(), &claims);
    let got = ["a", "b", "c", "d", "e", "f"].map(|name| got(&result, name));
    let last = |number: u8| format!("default:10.0.0.{number}");
    assert_eq!(got, [2, 3, 2, 3, 4, 4].map(last));
}

#[test]
fn what_is_listed_first_is_given_first_and_shared_first() {
    let pools = [pool("listed", &["10.0.0.9/32", "10.0.0.1-10.0.0.2"])];
    let at = |name: &str, port: &str| Claim { sharing: sharing("k", port), ..v4(name) };
    let claims =
        [at("a", "TCP/80"), at("b", "TCP/80"), at("c", "TCP/443"), at("d", "TCP/443"), v4("e")];
    let result = allocate(&pools, &claims);
    let got = ["a", "b", "c", "d", "e"].map(|name| got(&result, name));
    assert_eq!(got, [9, 1, 9, 1, 2].map(|last| format!("listed:10.0.0.{last}")));
    // Next to 10.0.0.9, though 10.0.0.1 is the lower one.
    let alone = allocate(&pools, &claims[..3]);
    let told = &refusal(&alone, "b").message;
    assert!(told.starts_with("10.0.0.1 is not shared: 10.0.0.9 "), "{told}");
}

#[test]
fn a_claim_that_gives_up_its_key_keeps_the_address_only_if_it_is_alone_there() {
    let holding = |name: &str, sharing| Claim { sharing, ..recorded(name, &["10.0.0.5"]) };
    let result = allocate(&pools(), &[holding("a", None)]);
    assert_eq!(got(&result, "a"), "default:10.0.0.5");
    // The first by name keeps it, whatever the order.
    let claims = [holding("b", sharing("k", "TCP/2")), holding("a", None)];
    let result = allocate(&pools(), &claims);
    assert_eq!(got(&result, "a"), "default:10.0.0.5");
    assert_eq!(got(&result, "b"), "default:10.0.0.1");
    assert_eq!(refusal(&result, "b").reason, "AddressReleased");
}

#[test]
fn an_address_rests_only_when_its_last_holder_leaves() {
    let at = |name: &str, port: &str, to: &[&str]| Claim {
        sharing: sharing("k", port),
        requested: ips(to),
        ..recorded(name, &["10.0.0.5"])
    };
    let result = allocate(&pools(), &[at("a", "TCP/1", &["10.0.0.6"]), at("b", "TCP/2", &[])]);
    assert_eq!(
        (got(&result, "a"), got(&result, "b")),
        ("default:10.0.0.6".into(), "default:10.0.0.5".into())
    );
    assert_eq!(result.quarantined, Quarantined::new());
    let both = [at("a", "TCP/1", &["10.0.0.6"]), at("b", "TCP/2", &["10.0.0.6"])];
    let result = allocate(&pools(), &both);
    assert_eq!(got(&result, "b"), "default:10.0.0.6");
    assert_eq!(result.quarantined, quarantined(&[("10.0.0.5", "b")]));
}

#[test]
fn a_full_pool_says_why_its_addresses_are_not_shared() {
    let one = [pool("one", &["10.0.0.1/32"])];
    let holder =
        Claim { recorded: ips(&["10.0.0.1"]), sharing: sharing("k", "TCP/53"), ..v4("dns") };
    let with = |sharing: Option<Sharing>| Claim { sharing, ..v4("web") };
    let policy = |policy| sharing("k", "TCP/80").map(|one| Sharing { policy, ..one });
    let full = "no pool gives an IPv4 address: pool \"one\": no free IPv4 address (1 used), and \
                10.0.0.1 is in use by ns/dns, ";
    for (web, why, remedy) in [
        (
            with(policy(local("web"))),
            "whose externalTrafficPolicy is Cluster, while this Service's is Local",
            "give both Services externalTrafficPolicy Cluster",
        ),
        (with(sharing("k", "TCP/53")), "on TCP port 53 too", "use other ports"),
        (
            with(sharing("j", "TCP/80")),
            "which shares it under the key \"k\"",
            "write metallb.io/allow-shared-ip: \"k\"",
        ),
    ] {
        let result = allocate(&one, &[holder.clone(), web]);
        let refusal = refusal(&result, "web");
        assert_eq!((refusal.reason, refusal.field.as_str()), ("ShareRefused", "sharing"));
        assert_eq!(refusal.message, format!("{full}{why}"));
        assert!(refusal.is_error() && refusal.hint.contains(remedy), "{}", refusal.hint);
    }
    let local_holder =
        Claim { sharing: policy(local("dns")), recorded: ips(&["10.0.0.1"]), ..v4("dns") };
    let web = Claim { sharing: sharing("k", "TCP/81"), ..v4("web") };
    let web =
        Claim { sharing: web.sharing.map(|one| Sharing { policy: local("web"), ..one }), ..web };
    let result = allocate(&one, &[local_holder, web]);
    let message = &refusal(&result, "web").message;
    assert!(
        message.ends_with("which has another selector, with externalTrafficPolicy Local"),
        "{message}"
    );
    let result = allocate(&one, &[holder, with(None)]);
    assert_eq!(refusal(&result, "web").reason, "PoolExhausted", "it does not ask to share");
}

#[test]
fn a_claim_that_gets_an_address_of_its_own_hears_why_it_does_not_share() {
    let at = |name: &str, ports: &str| Claim { sharing: sharing("k", ports), ..v4(name) };
    let given = |claims: &[Claim]| {
        let result = allocate(&pools(), claims);
        let told = |name: &str| {
            let refused = result.refused.get(&id(name))?;
            assert!(refused.iter().all(|one| one.reason == "ShareRefused" && !one.is_error()));
            Some(refused[0].message.clone())
        };
        (told("a"), told("b"))
    };
    let why = "10.0.0.2 is not shared: 10.0.0.1 is in use by ns/a, on TCP port 80 too";
    assert_eq!(given(&[at("a", "TCP/80"), at("b", "TCP/80")]), (None, Some(why.to_owned())));
    // The same once both hold what they got.
    let holding = |name, ip| Claim { recorded: ips(&[ip]), ..at(name, "TCP/80") };
    let both = [holding("a", "10.0.0.1"), holding("b", "10.0.0.2")];
    assert_eq!(given(&both), (None, Some(why.to_owned())));
    assert_eq!(given(&[at("a", "TCP/80"), at("b", "TCP/443")]), (None, None));
    let apart = Claim { requested: ips(&["10.0.0.5"]), ..at("b", "TCP/80") };
    assert_eq!(given(&[at("a", "TCP/80"), apart]), (None, None), "it asked for another one");
}

#[test]
fn a_port_that_is_left_is_given_to_the_claim_that_waits_for_it() {
    let at = |name: &str, port: u16| Claim {
        sharing: Some(Sharing {
            key: "k".into(),
            policy: TrafficPolicy::Cluster,
            ports: BTreeSet::from([("TCP".to_owned(), port)]),
        }),
        ..v4(name)
    };
    let pools = [pool("p", &["10.0.0.1/32"]), manual("q", &["10.0.9.1/32"])];
    let waiting = at("waiting", 80);
    let stays = Claim { recorded: ips(&["10.0.0.1"]), ..at("stays", 443) };
    let moves = Claim { recorded: ips(&["10.0.0.1"]), pool: Some("q".into()), ..at("moves", 80) };
    // However the claims are ordered, those that hold something are not served before those that do not.
    for claims in [[&waiting, &stays, &moves], [&moves, &stays, &waiting]] {
        let result = allocate(&pools, &claims.map(Clone::clone));
        let all = ["stays", "moves", "waiting"].map(|name| got(&result, name));
        assert_eq!(all, ["p:10.0.0.1", "q:10.0.9.1", "p:10.0.0.1"]);
        assert!(result.refused.is_empty(), "{:?}", result.refused);
    }
    let alone = allocate(&pools, &[waiting, stays, Claim { pool: None, ..moves }]);
    assert_eq!(got(&alone, "waiting"), "-");
}
