//! What was dealt out before is taken over only where dealing anew would give the same.

use proptest::prelude::*;

use super::*;

/// A Service of the world: what it asks for, and what its status says.
#[derive(Clone, Debug, Default)]
struct Asks {
    there: bool,
    address: Option<u8>,
    shares: bool,
    foreign: bool,
    recorded: Option<u8>,
}

/// What changes from one compile to the next.
#[derive(Clone, Debug)]
enum Step {
    Asks(usize, Asks),
    Pool { small: bool, labelled: bool },
    Label(bool),
    Occupied(Option<u8>),
    Quarantined(Option<u8>),
    Role(Role),
    Ingress(u8),
    Nothing,
}

fn step() -> impl Strategy<Value = Step> {
    let asks = || {
        let number = || proptest::option::of(200u8..206);
        let asks =
            (any::<bool>(), number(), any::<bool>(), proptest::bool::weighted(0.1), number());
        asks.prop_map(|(there, address, shares, foreign, recorded)| Asks {
            there,
            address,
            shares,
            foreign,
            recorded,
        })
    };
    let number = || proptest::option::of(200u8..206);
    prop_oneof![
        4 => (0..4usize, asks()).prop_map(|(at, asks)| Step::Asks(at, asks)),
        1 => any::<(bool, bool)>().prop_map(|(small, labelled)| Step::Pool { small, labelled }),
        1 => any::<bool>().prop_map(Step::Label),
        1 => number().prop_map(Step::Occupied),
        1 => number().prop_map(Step::Quarantined),
        1 => prop_oneof![Just(Role::Allocate), Just(Role::Follow)].prop_map(Step::Role),
        2 => any::<u8>().prop_map(Step::Ingress),
        2 => Just(Step::Nothing),
    ]
}

fn ip(number: u8) -> IpAddr {
    IpAddr::from([192, 168, 1, number])
}

fn service(at: usize, asks: &Asks) -> String {
    let class = if asks.foreign { ", loadBalancerClass: other.test/lb" } else { "" };
    let address = asks.address.map(|n| format!(", loadBalancerIP: {}", ip(n))).unwrap_or_default();
    let shares = if asks.shares { "{metallb.io/allow-shared-ip: k}" } else { "{}" };
    let recorded = asks.recorded.map(|n| format!("{{ip: {}}}", ip(n))).unwrap_or_default();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{at}, annotations: {shares}}}\nspec: {{type: \
         LoadBalancer, ports: [{{port: {}}}]{class}{address}}}\nstatus: {{loadBalancer: {{ingress: \
         [{recorded}]}}}}\n",
        80 + at
    )
}

fn pool(small: bool, labelled: bool) -> String {
    let last = if small { 201 } else { 204 };
    let only = "serviceAllocation: {namespaceSelectors: [{matchLabels: {team: a}}]}, ";
    format!(
        "---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: pool}}\nspec: {{{}addresses: \
         [192.168.1.200-192.168.1.{last}]}}\n",
        if labelled { only } else { "" }
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_deal_that_is_taken_over_is_what_would_be_dealt_now(
        standalone in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..24),
    ) {
        let trust = SourceTrust { loopback_endpoints: false, standalone };
        let source = Source { trust, ..SOURCE };
        let mut state = state_of(&pool(false, false), source);
        let (mut node, mut role) = (node(), Role::Allocate);
        let mut before: Option<Compiled> = None;
        for step in steps {
            match &step {
                Step::Asks(at, asks) if asks.there => tell(&mut state, &service(*at, asks), source),
                Step::Asks(at, _) => {
                    let gone = ObjectKey::new("default", format!("s{at}").as_str());
                    let gone = vec![Change::Delete(Kind::Service, gone)];
                    state.apply(Event::Batch(source.id, gone));
                }
                Step::Pool { small, labelled } => tell(&mut state, &pool(*small, *labelled), source),
                Step::Label(is) => {
                    let team = if *is { "a" } else { "b" };
                    let namespace = format!(
                        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: default, labels: {{team: {team}}}}}\n"
                    );
                    tell(&mut state, &namespace, source);
                }
                Step::Occupied(number) => node.occupied = number.map(ip).into_iter().collect(),
                Step::Quarantined(number) => {
                    node.quarantined = number.map(|n| (ip(n), BTreeSet::new())).into_iter().collect();
                }
                Step::Role(new) => role = *new,
                Step::Ingress(n) => tell(&mut state, &format!(
                    "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: i}}\nspec: {{defaultBackend: \
                     {{service: {{name: s, port: {{number: {}}}}}}}}}\n", 1 + u16::from(*n)
                ), source),
                Step::Nothing => {}
            }
            let now = super::super::compile(&state, &node, role, before.as_ref());
            let anew = super::super::addresses::deal_anew(&state, &node, role, before.as_ref());
            prop_assert_eq!(format!("{:?}", now.deal), format!("{anew:?}"), "{:?}", step);
            let again = super::super::compile(&state, &node, role, Some(&now));
            let settled = super::super::compile(&state, &node, role, Some(&again));
            // Until what is dealt is recorded, others may be dealt something else.
            let stands = again.dealt == now.dealt;
            prop_assert!(!stands || Arc::ptr_eq(&again.deal, &settled.deal), "it is taken over");
            before = Some(now);
        }
    }
}
