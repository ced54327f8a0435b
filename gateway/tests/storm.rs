//! Everything at once (P11): hostile clients play the corpus in random order on many connections
//! while honest ones check that every answer is their own. Nothing may be mixed up, and nothing may
//! stay behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corpus;

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Record, describe, ok},
        bed::Bed,
        client::{Want, dial, exchange, listen},
        gateway::Gateway,
        h2raw::{self, H2},
        show,
    },
    wait::{self, Until, comes_true},
};

const TIME: Duration = Duration::from_secs(6);
/// At least so many rounds of honest requests.
const ROUNDS: u64 = 100;
/// Printed by a failure; the order of the cases follows from it.
const SEED: u64 = 0x6761_7465_686f_7573;

#[test]
fn honest_clients_get_their_own_answers_amid_hostile_ones() {
    let app = Backend::scripted("app", |request| {
        let body = String::from_utf8_lossy(&request.body);
        let text = format!("{} {} {body}", request.method, request.target);
        vec![Act::Send(ok(&text, request.method == "HEAD"))]
    });
    let bed =
        Bed::around(app, Backend::echo("other"), Backend::echo("secret"), &["--time-scale=0.3"]);
    let gateway = bed.gateway.as_ref().unwrap();
    honest(bed.http, bed.https, 0).unwrap();
    let (memory, files) = (gateway.rss(), open_files(gateway));
    let done = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let until = Until::dropped(&done);
        for n in 0..6 {
            let (done, http) = (&done, bed.http);
            scope.spawn(move || hostile(http, SEED + n, done));
        }
        let clients: Vec<_> = (0..4u64)
            .map(|n| {
                let (done, answered, http, https) = (&done, &answered, bed.http, bed.https);
                scope.spawn(move || {
                    let mut token = n << 32;
                    while !done.load(Ordering::Relaxed) {
                        token += 10;
                        honest(http, https, token)?;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<(), String>(())
                })
            })
            .collect();
        std::thread::sleep(TIME);
        let ended = || clients.iter().any(|client| client.is_finished());
        comes_true(|| answered.load(Ordering::Relaxed) > ROUNDS || ended());
        drop(until);
        clients.into_iter().filter_map(|c| c.join().unwrap().err()).collect()
    });
    assert!(failures.is_empty(), "seed {SEED:#x}: {}", failures.join("\n"));
    let rounds = answered.load(Ordering::Relaxed);
    assert!(rounds > ROUNDS, "only {rounds} rounds of honest requests");
    let violations: Vec<Record> = [&bed.app, &bed.other, &bed.secret]
        .into_iter()
        .flat_map(Backend::take)
        .filter(|r| matches!(r, Record::Violation { .. }))
        .collect();
    assert!(violations.is_empty(), "seed {SEED:#x}:\n{}", describe(&violations));

    let settled = || open_files(gateway) <= files + 8;
    assert!(comes_true(settled), "{files} files became {}", open_files(gateway));
    let grown = gateway.rss().saturating_sub(memory);
    assert!(grown < 32 * 1024, "the gateway grew by {grown} KiB");
    bed.app.take();
    honest(bed.http, bed.https, 1).unwrap();
}

/// Plays random cases, from all forms of the corpus, without waiting long for answers.
fn hostile(http: SocketAddr, seed: u64, done: &AtomicBool) {
    let cases = [corpus::all(), corpus::all_after_an_honest_one(), corpus::all_in_pieces()];
    let mut random = seed;
    while !done.load(Ordering::Relaxed) {
        // xorshift64 (Marsaglia 2003)
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let form = &cases[random as usize % 3];
        let case = &form[(random >> 8) as usize % form.len()];
        let limit = Duration::from_millis(random >> 16 & 127);
        drop(exchange(http, &case.steps, Want { limit, ..Want::responses(case.statuses.len()) }));
    }
}

/// A round of honest requests in every way there is; each must be answered with its own token.
fn honest(http: SocketAddr, https: SocketAddr, token: u64) -> Result<(), String> {
    let mut client = dial(http);
    let (a, b, c) = (token, token + 1, token + 2);
    let requests = format!(
        "GET /{a} HTTP/1.1\r\nHost: good.test\r\n\r\n\
         POST /{b} HTTP/1.1\r\nHost: good.test\r\nContent-Length: 6\r\n\r\nbody-b\
         PUT /{c} HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbody-c\r\n0\r\n\r\n"
    );
    client.write_all(requests.as_bytes()).map_err(|e| format!("/{a}: {e}"))?;
    let seen = listen(&mut client, Want::responses(3), false);
    let texts: Vec<String> = seen.responses.iter().map(|r| r.text()).collect();
    let wanted = [format!("GET /{a} "), format!("POST /{b} body-b"), format!("PUT /{c} body-c")];
    if texts != wanted {
        return Err(format!("wanted {wanted:?}, got {texts:?}: {}", show(&seen.received)));
    }
    // The last word of a connection must arrive, too.
    let request =
        format!("GET /{a}-close HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).map_err(|e| format!("/{a}-close: {e}"))?;
    client.set_read_timeout(Some(wait::LIMIT)).unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).map_err(|e| format!("/{a}-close: {e}"))?;
    if !rest.ends_with(format!("GET /{a}-close ").as_bytes()) {
        return Err(format!("/{a}-close: {}", show(&rest)));
    }
    let path = format!("/{a}-h2");
    let answer = H2::connect(https, "good.test").request(1, &h2raw::get("good.test", &path), None);
    if answer.body != format!("GET {path} ").as_bytes() {
        return Err(format!("{path}: {answer:?}"));
    }
    Ok(())
}

fn open_files(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count()
}
