//! Who is ejected for answers, and how many at most.

use std::{net::SocketAddr, num::NonZeroU32};

use gatehouse_routes::transport::Speaks;

use super::*;

fn endpoints(count: u16) -> Vec<Endpoint> {
    let endpoint = |n: u16| Endpoint {
        address: SocketAddr::from(([10, 0, 0, 1], 8_000 + n)),
        speaks: Speaks::Http1,
        stats: Arc::default(),
    };
    (0..count).map(endpoint).collect()
}

fn rule(share: u8) -> Ejection {
    Ejection { errors: NonZeroU32::new(5), success: None, time: Duration::from_secs(30), share }
}

#[test]
fn threads_that_eject_at_the_same_time_keep_to_the_share() {
    for _ in 0..50 {
        let (endpoints, rule) = (endpoints(10), rule(30));
        let judge = Judge { rule: &rule, endpoints: &endpoints };
        std::thread::scope(|scope| {
            for endpoint in &endpoints {
                scope.spawn(move || judge.eject(endpoint, 0, 1.0));
            }
        });
        let failing =
            endpoints.iter().filter(|endpoint| health::why_ejected(&endpoint.stats).is_some());
        assert_eq!(failing.count(), 3);
    }
}

#[test]
fn the_last_endpoint_that_gets_requests_stays_whatever_took_the_others() {
    let (endpoints, rule) = (endpoints(3), rule(100));
    let judge = Judge { rule: &rule, endpoints: &endpoints };
    health::checked(&endpoints[0].stats, false);
    assert!(judge.eject(&endpoints[1], 0, 1.0));
    assert!(!judge.eject(&endpoints[2], 0, 1.0));
    assert_eq!(health::of(&endpoints[2].stats), Health::Good);
}

#[test]
fn the_worst_of_those_below_the_rate_go_first() {
    let rate = SuccessRate {
        percent: 90,
        interval: Duration::from_secs(10),
        requests: NonZeroU32::new(20).unwrap_or(NonZeroU32::MIN),
    };
    let counts = [(100, 5), (100, 50), (19, 19), (40, 40), (0, 0), (1_000, 500), (100, 11)];
    assert_eq!(below(&rate, &counts), [3, 1, 5, 6]);
    assert_eq!(below(&rate, &[]), [0; 0]);
}
