//! Who says on the link that an address is theirs: ARP and neighbour discovery as tcpdump sees them.
//!
//! Used by the fail-over tests and benchmark. Sees what reaches one host: everything that is sent to all,
//! and the answers to what this host itself asked.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    net::IpAddr,
    ops::Range,
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::namespace::Namespace;

/// One frame in which somebody claims an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// When it was read, up to a few milliseconds after it arrived.
    pub at: Instant,
    /// The address that is claimed.
    pub address: IpAddr,
    /// Source MAC address of the frame, in lower case.
    pub mac: String,
}

/// A running tcpdump. Ends when dropped.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Child,
    claims: Arc<Mutex<Vec<Claim>>>,
}

impl Capture {
    /// Begins to listen on the host's `eth0`; what is sent after this returns is seen.
    pub fn start(host: &Namespace) -> anyhow::Result<Self> {
        let mut tcpdump = host
            .command("tcpdump")
            .args(["-Z", "root", "-i", "eth0", "-e", "-n", "-l", "--immediate-mode"])
            .args(["-B", "16384", "arp or icmp6"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start tcpdump")?;
        let (Some(frames), Some(words)) = (tcpdump.stdout.take(), tcpdump.stderr.take()) else {
            bail!("no pipe from tcpdump");
        };
        let mut words = BufReader::new(words).lines();
        let mut said = String::new();
        loop {
            let Some(Ok(line)) = words.next() else { bail!("tcpdump ended: {said}") };
            if line.contains("listening on") {
                break;
            }
            said += &line;
        }
        // Its last words must go somewhere, or it may block on them.
        thread::Builder::new().name("tcpdump-words".to_owned()).spawn(move || words.count())?;
        let claims = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&claims);
        thread::Builder::new().name("tcpdump".to_owned()).spawn(move || {
            for line in BufReader::new(frames).lines().map_while(Result::ok) {
                if let Some((address, mac)) = claim(&line) {
                    let claim = Claim { at: Instant::now(), address, mac };
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
                }
            }
        })?;
        Ok(Self { tcpdump, claims })
    }

    /// The claims so far, in order.
    pub fn claims(&self) -> Vec<Claim> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who has claimed `address` within that time, by MAC address.
    pub fn claimants(&self, address: IpAddr, within: Range<Instant>) -> BTreeSet<String> {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let of =
            claims.iter().filter(|claim| claim.address == address && within.contains(&claim.at));
        of.map(|claim| claim.mac.clone()).collect()
    }

    /// Forgets the claims so far.
    pub fn clear(&self) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits at most `limit` until `mac` has claimed `address` after `since`; says when it did first.
    pub fn wait_for(
        &self,
        address: IpAddr,
        mac: &str,
        since: Instant,
        limit: Duration,
    ) -> Option<Instant> {
        let deadline = Instant::now() + limit;
        loop {
            let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
            let mut after = claims.iter().filter(|claim| claim.at >= since);
            if let Some(first) = after.find(|one| one.address == address && one.mac == mac) {
                return Some(first.at);
            }
            drop(claims);
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

/// Address and source MAC of a frame that claims one: an ARP reply, a gratuitous ARP request, a
/// neighbour advertisement.
fn claim(line: &str) -> Option<(IpAddr, String)> {
    let words: Vec<&str> =
        line.split_whitespace().map(|word| word.trim_end_matches([',', ':'])).collect();
    let mac = words.get(1)?.to_ascii_lowercase();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse::<IpAddr>().ok()
    };
    if line.contains("neighbor advertisement") {
        let at = words.iter().position(|word| *word == "tgt")?;
        return Some((words.get(at + 2)?.parse().ok()?, mac));
    }
    if let Some(address) = after("Reply").or_else(|| after("Announcement")) {
        return Some((address, mac));
    }
    let (asked, asker) = (after("who-has")?, after("tell")?);
    (asked == asker).then_some((asked, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_announcements_and_advertisements_are_claims_and_questions_are_not() {
        let arp = "07:00:00.000001 02:77:00:00:00:02 > ff:ff:ff:ff:ff:ff, ethertype ARP (0x0806), length 42: ";
        let icmp = "07:00:00.000001 02:77:00:00:00:02 > 33:33:00:00:00:01, ethertype IPv6 (0x86dd), length 86: fd77::2 > ff02::1: ICMP6, ";
        #[rustfmt::skip]
        let cases = [
            (arp, "Reply 10.77.0.200 is-at 02:77:00:00:00:02, length 28", Some("10.77.0.200")),
            (arp, "Request who-has 10.77.0.200 tell 10.77.0.200, length 28", Some("10.77.0.200")),
            (arp, "Request who-has 10.77.0.200 (ff:ff:ff:ff:ff:ff) tell 10.77.0.200, length 28", Some("10.77.0.200")),
            (arp, "Announcement 10.77.0.200, length 28", Some("10.77.0.200")),
            (arp, "Request who-has 10.77.0.200 tell 10.77.0.1, length 28", None),
            (arp, "Probe 10.77.0.200, length 28", None),
            (icmp, "neighbor advertisement, tgt is fd77::200, length 32", Some("fd77::200")),
            (icmp, "neighbor solicitation, who has fd77::200, length 32", None),
        ];
        for (head, text, expected) in cases {
            let expected =
                expected.map(|address| (address.parse().unwrap(), "02:77:00:00:00:02".to_owned()));
            assert_eq!(claim(&format!("{head}{text}")), expected, "{text}");
        }
    }
}
