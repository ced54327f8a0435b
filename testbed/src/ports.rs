//! Free ports on loopback, and waiting until one answers.
//!
//! Used wherever a run starts servers. All addresses that this crate gives out are 127.0.0.1.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    client::{self, Target},
    process::{self, Process},
};

/// Longest time for one answer while waiting: another program on that port may accept and stay silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// `N` addresses on 127.0.0.1 with ports that nobody listens on. All are held until all are known, so
/// they differ.
pub fn free<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address).context("no free port on 127.0.0.1")?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

/// Waits until `address` accepts a connection, at most for `limit`; an error when the server ends before.
pub fn wait_open(address: SocketAddr, server: &mut Process, limit: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    while let Err(error) = TcpStream::connect_timeout(&address, ANSWER_LIMIT) {
        process::check_stopping()?;
        server.check()?;
        if started.elapsed() > limit {
            bail!("{address} accepts no connection ({error}){}", server.log_tail());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Asks `target` until it answers 200, at most for `limit`; an error when the server ends before.
/// Returns how long it took.
pub fn wait_for(
    target: &Target,
    server: &mut Process,
    limit: Duration,
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    loop {
        process::check_stopping()?;
        server.check()?;
        let last = match client::get(target, ANSWER_LIMIT) {
            Ok(answer) if answer.status == 200 => return Ok(started.elapsed()),
            Ok(answer) => {
                format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body).trim())
            }
            Err(error) => format!("{error:#}"),
        };
        if started.elapsed() > limit {
            let tail = server.log_tail();
            bail!("{}{} does not answer 200 ({last}){tail}", target.address, target.path);
        }
        thread::sleep(Duration::from_millis(2));
    }
}
