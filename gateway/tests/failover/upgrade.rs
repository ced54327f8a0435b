//! An upgrade on one node: the new process starts beside the old one, which is asked to end when it is ready. No
//! client and no other node may notice.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    group::{NAME, NODES, VIPS},
    lan::Host,
    process::Signal,
    wait,
};

use super::{Bed, QUIET, options};

/// A client that keeps its connection for as long as the server lets it.
struct Keeper {
    ended: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

impl Keeper {
    fn start(host: &Host, vip: IpAddr) -> Self {
        let (ended, answered) = (Arc::default(), Arc::default());
        let (host, until, count) = (host.clone(), Arc::clone(&ended), Arc::clone(&answered));
        let thread = thread::spawn(move || {
            let mut failures = Vec::new();
            host.enter(|| ask_on(vip, &until, &count, &mut failures)).unwrap();
            failures
        });
        Self { ended, answered, thread }
    }

    /// What went wrong.
    fn end(self) -> Vec<String> {
        let before = self.answered.load(Ordering::Relaxed);
        assert!(wait::comes_true(|| self.answered.load(Ordering::Relaxed) > before + 10));
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn ask_on(vip: IpAddr, until: &AtomicBool, count: &AtomicU64, failures: &mut Vec<String>) {
    let mut kept = None;
    while !until.load(Ordering::Relaxed) {
        match ask(&mut kept, vip) {
            Ok(()) => drop(count.fetch_add(1, Ordering::Relaxed)),
            Err(why) => {
                failures.push(why);
                kept = None;
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn ask(kept: &mut Option<TcpStream>, vip: IpAddr) -> Result<(), String> {
    let reused = kept.is_some();
    let failed = |what: &str, error: std::io::Error| format!("{what} (reused: {reused}): {error}");
    if kept.is_none() {
        let stream = TcpStream::connect_timeout(&SocketAddr::new(vip, 80), wait::LIMIT);
        let stream = stream.map_err(|error| failed("connect", error))?;
        stream.set_read_timeout(Some(wait::LIMIT)).map_err(|error| failed("set", error))?;
        *kept = Some(stream);
    }
    let Some(stream) = kept else { return Ok(()) };
    let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| failed("write", error))?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    let head = loop {
        let read = stream.read(&mut part).map_err(|error| failed("read", error))?;
        if read == 0 {
            return Err(failed("end", std::io::ErrorKind::UnexpectedEof.into()));
        }
        answer.extend(&part[..read]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.trim().parse::<usize>().ok());
        if length.is_some_and(|length| body.len() >= length) {
            break head.to_owned();
        }
    };
    if head.contains("connection: close") {
        *kept = None;
    }
    if head.starts_with("http/1.1 200") { Ok(()) } else { Err(head) }
}

/// Upgrades a node that holds these addresses, several times under load.
fn upgrade(bed: &mut Bed, number: usize, vips: &[IpAddr], rounds: usize) {
    for round in 0..rounds {
        let clients: Vec<_> = vips.iter().map(|vip| bed.client(*vip)).collect();
        let keepers: Vec<_> =
            vips.iter().map(|vip| Keeper::start(&bed.site.client, *vip)).collect();
        let begun = Instant::now();
        let node = &mut bed.site.nodes[number];
        let mut before = node.start_beside().unwrap().unwrap();
        let ready = begun.elapsed();
        thread::sleep(Duration::from_millis(300));
        let stopped = Instant::now();
        before.signal(Signal::TERM);
        assert!(before.wait(wait::LIMIT).is_some_and(|status| status.success()), "it ends");
        println!("round {round}: ready after {ready:?}, gone after {:?}", stopped.elapsed());
        for vip in vips {
            bed.assert_sole_owner(*vip, number);
        }
        // In the last round longer than the kernel keeps an address that nobody renews.
        thread::sleep(Duration::from_secs(if round + 1 == rounds { 17 } else { 1 }));
        for (client, vip) in clients.iter().zip(vips) {
            assert!(client.wait_quiet(Instant::now(), QUIET), "{vip}: {}", bed.site.describe());
            bed.assert_unnoticed(client, begun, "upgraded");
        }
        for keeper in keepers {
            let failures = keeper.end();
            assert!(failures.is_empty(), "{failures:?}\n{}", bed.site.describe());
        }
        let text = bed.site.nodes[number].log();
        assert!(text.contains("the predecessor is over"), "{text}");
    }
}

#[test]
fn on_a_host_that_is_alone_an_upgrade_costs_no_request() {
    let mut options = options();
    options.keys = [""; NODES];
    let mut bed = Bed::empty(&options);
    bed.site.nodes[0].start().unwrap();
    bed.settle();
    upgrade(&mut bed, 0, &VIPS, 5);
}

#[test]
fn an_owner_in_a_group_is_upgraded_and_no_address_moves() {
    let mut bed = Bed::start(&options());
    let owner = bed.homes[0];
    let vips: Vec<IpAddr> = VIPS
        .into_iter()
        .zip(bed.homes)
        .filter(|(_, home)| *home == owner)
        .map(|(vip, _)| vip)
        .collect();
    upgrade(&mut bed, owner, &vips, 3);
    assert_eq!(bed.settle(), bed.homes);
    for (number, node) in bed.site.nodes.iter().enumerate().filter(|(number, _)| *number != owner) {
        let log = node.log();
        for vip in &vips {
            let announced = log
                .lines()
                .any(|line| line.contains("announced") && line.contains(&format!("vip={vip}")));
            assert!(!announced, "{vip} came to node {number}:\n{log}");
        }
    }
}
