//! More nodes on one link than one datagram can name. Heartbeats take no seals here: there are millions of them.

use super::*;

/// Nodes on one link; time passes in steps of 10 ms, and what is claimed is held.
struct Crowd {
    now: Instant,
    nodes: Vec<Group>,
    /// Nodes that have been killed.
    dead: BTreeSet<usize>,
    holders: BTreeSet<usize>,
    /// Percent of the messages that do not arrive.
    loss: u64,
    chance: u64,
    /// Datagrams that were composed, and how many of them name some members only.
    sent: (usize, usize),
}

impl Crowd {
    fn new(count: usize) -> Self {
        let now = Instant::now();
        let nodes = (0..count).map(|number| {
            let mut incarnation = [7; 16];
            incarnation[..2].copy_from_slice(&(number as u16).to_be_bytes());
            let name = format!("node-{number}");
            let mut group =
                Group::new(name, Some(key()), incarnation, Vec::new(), Timing::default(), now);
            group.links(BTreeMap::from([(LINK, facts(number as u8))]), now);
            group.offers(offers(0), now);
            group
        });
        let (dead, holders) = (BTreeSet::new(), BTreeSet::new());
        Self { now, nodes: nodes.collect(), dead, holders, loss: 0, chance: 1, sent: (0, 0) }
    }

    fn arrives(&mut self) -> bool {
        // Knuth's generator: the same story every time.
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.chance >> 33) % 100 >= self.loss
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += ms(10);
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now;
        let mut sent = Vec::new();
        for number in (0..self.nodes.len()).filter(|number| !self.dead.contains(number)) {
            let node = &mut self.nodes[number];
            for (ip, decision) in node.decisions(now) {
                let claims = matches!(decision, Decision::Claim { .. });
                node.role(ip, claims.then_some(Role::Active), now);
                if claims {
                    self.holders.insert(number)
                } else {
                    self.holders.remove(&number)
                };
            }
            sent.extend(node.compose(now).into_iter().map(|(_, message)| (number, message)));
        }
        for (from, message) in sent {
            assert!(message.length() <= wire::LONGEST);
            self.sent.0 += 1;
            self.sent.1 += usize::from(message.partial);
            let address = SocketAddr::from(([192, 0, 2, from as u8], 7471));
            for to in 0..self.nodes.len() {
                if !self.dead.contains(&to) && self.arrives() {
                    self.nodes[to].accept(&message, address, LINK, now);
                }
            }
        }
    }

    /// How many members each live node takes for alive, if all agree.
    fn alive(&self) -> Option<usize> {
        let live = (0..self.nodes.len()).filter(|number| !self.dead.contains(number));
        let counts: BTreeSet<usize> = live
            .map(|number| self.nodes[number].alive()[0].iter().filter(|alive| **alive).count())
            .collect();
        (counts.len() == 1).then(|| counts.into_iter().next()).flatten()
    }
}

#[test]
fn two_hundred_nodes_know_each_other_and_replace_an_owner_as_fast_as_three_do() {
    let mut crowd = Crowd::new(200);
    crowd.pass(ms(1000));
    assert_eq!(crowd.alive(), Some(199));
    let owner = *crowd.holders.first().unwrap();
    assert_eq!(crowd.holders.len(), 1);
    let (datagrams, partial) = crowd.sent;
    assert_eq!(datagrams, partial + 200, "the first heartbeat knows nobody");
    crowd.sent = (0, 0);
    crowd.pass(ms(1000));
    assert_eq!(crowd.sent, (4000, 4000), "two each with every heartbeat, none out of turn");
    assert_eq!(crowd.holders, BTreeSet::from([owner]));

    crowd.dead.insert(owner);
    crowd.holders.remove(&owner);
    crowd.pass(ms(330));
    assert_eq!(crowd.holders.len(), 1, "{:?}", crowd.holders);
    crowd.pass(ms(500));
    assert_eq!((crowd.alive(), crowd.holders.len()), (Some(198), 1));
}

#[test]
fn a_crowd_that_loses_many_heartbeats_has_one_owner_again_when_it_loses_none() {
    let mut crowd = Crowd::new(130);
    crowd.loss = 20;
    crowd.pass(ms(2000));
    assert!(!crowd.holders.is_empty());
    crowd.loss = 0;
    crowd.pass(ms(1500));
    assert_eq!((crowd.alive(), crowd.holders.len()), (Some(129), 1));
}

#[test]
fn up_to_sixty_five_nodes_speak_as_releases_do_that_know_no_more() {
    let mut crowd = Crowd::new(65);
    crowd.pass(ms(1000));
    assert_eq!((crowd.alive(), crowd.sent.1), (Some(64), 0));
}
