//! Watches on both ends of a real wire, one of which panics.

#![allow(clippy::disallowed_methods, reason = "tests wait")]

use std::time::Duration;

use super::*;
use crate::{
    bgp::bfd::Settings,
    kernel::tests::wire::{Wire, on_a_wire},
};

/// For anything that should happen soon; generous, as the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One end, and what it would have ended of BGP.
struct End {
    client: BfdClient,
    news: mpsc::Receiver<(u32, News<Liveness>)>,
    lost: Vec<String>,
    /// Where its time stands still: what lasts a second can be looked at for as long as it takes.
    still: Option<Instant>,
}

impl End {
    /// Watches the other end over both families.
    fn start(wire: &Wire, host: &str, first: u32, [here, there]: [u8; 2]) -> Self {
        wire.enter(host);
        let (sender, news) = mpsc::channel();
        let mailbox = Mailbox::new().unwrap();
        let mut client = BfdClient::new(sender, Arc::new(mailbox), first);
        let settings = Settings {
            transmit_interval: Duration::from_millis(200),
            receive_interval: Duration::from_millis(200),
            // No stall of the machine is to take a session down.
            detect_multiplier: 100,
            passive: false,
            minimum_ttl: 255,
        };
        for (peer, prefix) in [("v4", "10.78.0."), ("v6", "2001:db8:78::")] {
            let ip = |number| format!("{prefix}{number}").parse::<IpAddr>().unwrap();
            let ends = (ip(here), SocketAddr::new(ip(there), 179));
            client.follow(peer, settings, ends, false, Instant::now());
        }
        Self { client, news, lost: Vec::new(), still: None }
    }

    fn turn(&mut self) {
        let now = self.still.unwrap_or_else(Instant::now);
        while let Ok((discriminator, news)) = self.news.try_recv() {
            self.lost.extend(self.client.heard(discriminator, news, now));
        }
        self.client.expire(now);
    }

    fn status(&self, peer: &str) -> BfdStatus {
        self.client.status(peer).unwrap()
    }
}

fn until(ends: &mut [End; 2], what: &str, is: impl Fn(&[End; 2]) -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        ends.iter_mut().for_each(End::turn);
        if is(ends) {
            return;
        }
        let status = ends.each_ref().map(|end| [end.status("v4"), end.status("v6")]);
        assert!(Instant::now() < deadline, "{what}: {status:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ups(ends: &[End; 2], peer: &str) -> [(BfdState, u64); 2] {
    ends.each_ref().map(|end| (end.status(peer).state, end.status(peer).ups))
}

#[test]
fn a_session_that_panics_is_told_started_again_and_costs_neither_its_router_nor_another_one() {
    on_a_wire(|wire| {
        let mut ends = [End::start(&wire, "a", 100, [1, 2]), End::start(&wire, "b", 200, [2, 1])];
        until(&mut ends, "both are up", |ends| {
            ups(ends, "v4") == [(BfdState::Up, 1); 2] && ups(ends, "v6") == [(BfdState::Up, 1); 2]
        });
        for round in 1..3 {
            let broken = ends[0].client.routers["v4"].discriminator;
            let thread = ends[0].client.thread.as_ref().unwrap();
            thread.change(broken, |_, _| panic!("injected"));
            ends[0].still = Some(Instant::now());
            until(&mut ends, "this end says what has happened", |[this, _]| {
                let status = this.status("v4");
                let error = status.error.unwrap_or_default();
                let wait = format!("after {round}s");
                status.state == BfdState::Down
                    && error.contains("injected")
                    && error.contains(&wait)
            });
            until(&mut ends, "the other end is told", |[_, other]| {
                let status = other.status("v4");
                status.state == BfdState::Down
                    && status.error.is_some_and(|why| why.contains("operator"))
            });
            ends[0].still = None;
            until(&mut ends, "it is up again", |ends| {
                ups(ends, "v4") == [(BfdState::Up, round + 1); 2]
            });
            assert_eq!(ups(&ends, "v6"), [(BfdState::Up, 1); 2], "nothing is wrong with this one");
            assert_eq!(ends[0].status("v4").error, None);
        }
        ends.iter().for_each(|end| assert_eq!(end.lost, [""; 0], "no BGP session ends by it"));
    });
}

#[test]
fn a_session_that_keeps_panicking_is_started_again_less_and_less_often() {
    let mut panics = Panics::default();
    let start = Instant::now();
    let mut waits = (0..9).map(|_| panics.another(start).as_secs()).collect::<Vec<_>>();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    waits = vec![panics.another(start + LASTING - Duration::from_secs(1)).as_secs()];
    waits.push(panics.another(start + LASTING * 3).as_secs());
    assert_eq!(waits, [60, 1], "after a long good time it begins anew");
}
