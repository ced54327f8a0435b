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
                "10.0.0.1 is in use by ns/mail, of another externalTrafficPolicy, or of another \
                 selector with Local",
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
