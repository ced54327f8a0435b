//! The table of [`crate::forwarding`] in the kernel: one netlink socket that changes it, reads its counters and makes the
//! kernel forget flows of UDP that lead to endpoints which are gone.
//!
//! The gateway calls this. What the table is made of is decided by [`crate::forwarding`].
//! It belongs to no socket, so that a successor can replace it and a killed process leaves it behind.
//! Needs `CAP_NET_ADMIN` in the network namespace's user namespace, and Linux 5.13 (`ct`, `fib`, `numgen`, `hash` and
//! `nat` of nf_tables with the family inet).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use super::Transactions;
use crate::{
    forwarding::{self, Clients, Left, Made, Rules, TABLE, Totals},
    kernel::sysctl,
    nftables::{
        TableFamily, ask_generation,
        conntrack::{self, Flow},
        count_elements, count_rules, elements, generation, list_elements, list_rules,
    },
};

/// Clients of all endpoints that a table goes on with at most: a transaction of ten megabytes.
const CLIENTS: usize = 1 << 18;

/// The kernel's table; its socket is opened at the first need, in the network namespace of the calling thread.
#[derive(Debug, Default)]
pub struct ForwardingTable {
    transactions: Option<Transactions>,
    /// What this process has made of it; `None`: nothing yet, or nobody knows.
    standing: Option<Made>,
    /// The generation of nf_tables in which all of it was found there; `None`: nobody has looked since it was changed.
    found: Option<u32>,
}

impl ForwardingTable {
    /// Makes the table as wanted, whether or not there is one, and has no packet lost by that: it changes what this process
    /// has made, leaves alone what is as wanted by whomever it was made, and replaces anything else. On an error it is
    /// as it was, or is replaced by the next call.
    pub fn apply(&mut self, wanted: &Rules) -> io::Result<()> {
        if self.standing.as_ref().is_some_and(|standing| standing.rules == *wanted) {
            return Ok(());
        }
        let wanted = Made::of(wanted);
        if self.standing.is_some() {
            if self.commit(&wanted, &Left::default()).is_ok() {
                return Ok(());
            }
            // Another program may have changed it.
            self.forget();
        }
        // That of a predecessor, or of one that was killed.
        let listed = self.transactions()?.counters(TABLE)?;
        if listed.iter().any(|counter| counter.name == wanted.mark) && self.is(&wanted)? {
            self.standing = Some(wanted);
            return Ok(());
        }
        // Its counters go on, and clients keep their endpoints.
        let totals = forwarding::counters_of(&listed);
        let left = Left { totals, clients: self.clients(&wanted.rules)? };
        self.commit(&wanted, &left)
    }

    /// The clients that endpoints of the table have, where the rules ask for them as well.
    fn clients(&mut self, rules: &Rules) -> io::Result<Clients> {
        let (mut clients, mut room) = (Clients::new(), CLIENTS);
        for set in forwarding::sets_of_clients(rules) {
            let mut found = Vec::new();
            let request = list_elements(TableFamily::Inet, TABLE, &set);
            let listed = self.transactions()?.list(&request, "list clients", |datagram| {
                let (some, end) = elements(datagram);
                found.extend(some);
                end
            });
            match listed {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                listed => listed?,
            }
            found.truncate(room);
            room -= found.len();
            clients.insert(set, found);
        }
        Ok(clients)
    }

    /// Has this host pass packets of others on. An error says what to do about it.
    pub fn let_through(&self, rules: &Rules) -> io::Result<()> {
        let has = |v6| rules.ports.keys().any(|(ip, ..)| ip.is_ipv6() == v6);
        if has(false)
            && let Err(error) = sysctl::forward_ipv4()
        {
            let hint = "set net.ipv4.ip_forward=1 on this host";
            return Err(io::Error::new(
                error.kind(),
                format!("forwarding of IPv4 is off ({error}); {hint}"),
            ));
        }
        if has(true) && !sysctl::forwards_ipv6() {
            let hint = "set net.ipv6.conf.all.forwarding=1 on this host, and accept_ra=2 on interfaces whose routes \
                        are a router's";
            return Err(io::Error::other(format!("forwarding of IPv6 is off; {hint}")));
        }
        Ok(())
    }

    fn commit(&mut self, wanted: &Made, left: &Left) -> io::Result<()> {
        for batch in forwarding::change(self.standing.as_ref(), wanted, left) {
            self.found = None;
            self.transactions()?.commit(batch)?;
        }
        self.standing = Some(wanted.clone());
        Ok(())
    }

    /// What the table has counted. There are none if it is gone.
    pub fn totals(&mut self) -> io::Result<Totals> {
        Ok(forwarding::counters_of(&self.transactions()?.counters(TABLE)?))
    }

    /// How many TCP connections to each of these addresses are open; those that have none are not there. Walks over all
    /// that the kernel tracks.
    pub fn open(&mut self, ips: &BTreeSet<IpAddr>) -> io::Result<BTreeMap<IpAddr, usize>> {
        let mut open = BTreeMap::new();
        for (local, _) in self.transactions()?.passed_on(ips)? {
            *open.entry(local.ip()).or_default() += 1;
        }
        Ok(open)
    }

    /// Whether the table has all that this process has put there. `totals`: what it has counted. Reads it only if
    /// anything of nf_tables has changed since the last time.
    pub fn stands(&mut self, totals: &Totals) -> io::Result<bool> {
        let Some(standing) = self.standing.take() else { return Ok(false) };
        let stands = self.has_all(&standing, totals);
        self.standing = Some(standing);
        stands
    }

    fn has_all(&mut self, standing: &Made, totals: &Totals) -> io::Result<bool> {
        if !standing.rules.groups.keys().all(|name| totals.contains_key(&**name)) {
            return Ok(false);
        }
        let now = self.generation()?;
        if self.found == Some(now) {
            return Ok(true);
        }
        let is_whole = self.is(standing)?;
        // Another program changes something at this very moment: the next look says.
        if self.generation()? != now {
            return Ok(true);
        }
        self.found = is_whole.then_some(now);
        Ok(is_whole)
    }

    fn generation(&mut self) -> io::Result<u32> {
        let mut number = None;
        self.transactions()?.list(&ask_generation(), "ask for the generation", |datagram| {
            let (some, end) = generation(datagram);
            number = some.or(number);
            end
        })?;
        number.ok_or_else(|| io::Error::other("nf_tables does not say its generation"))
    }

    /// Whether the kernel lists as much of the table.
    fn is(&mut self, made: &Made) -> io::Result<bool> {
        let mut rules = 0;
        self.transactions()?.list(
            &list_rules(TableFamily::Inet, TABLE),
            "list rules",
            |datagram| {
                let (some, end) = count_rules(datagram);
                rules += some;
                end
            },
        )?;
        if rules != made.len {
            return Ok(false);
        }
        for (set, wanted) in &made.elements {
            let mut count = 0;
            let request = list_elements(TableFamily::Inet, TABLE, set);
            let listed = self.transactions()?.list(&request, "list elements", |datagram| {
                let (some, end) = count_elements(datagram);
                count += some;
                end
            });
            match listed {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                listed => listed?,
            }
            if count != *wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The table is not what it was: the next call of [`apply`](Self::apply) replaces it.
    pub fn forget(&mut self) {
        self.standing = None;
        // An answer may still be on its way to the old one.
        self.transactions = None;
    }

    /// Removes the table, also one of an earlier process. There may be none.
    pub fn remove(&mut self) -> io::Result<()> {
        let removed = self.transactions()?.commit(forwarding::removal());
        self.forget();
        match removed.map_err(io::Error::from) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes the kernel forget flows of UDP that go elsewhere than the rules say, so that their next datagram is given an
    /// endpoint that there is, and those of clients that may not come in any more. How many it were.
    pub fn flush_datagrams(&mut self, rules: &Rules) -> io::Result<usize> {
        let ports = forwarding::datagrams(rules);
        let mut stale: Vec<Flow> = Vec::new();
        for v6 in [false, true] {
            if !ports.keys().any(|(ip, _)| ip.is_ipv6() == v6) {
                continue;
            }
            let request = conntrack::list_tracked(v6);
            self.transactions()?.list(&request, "list tracked connections", |datagram| {
                let (flows, end) = conntrack::flows(datagram);
                stale.extend(flows.into_iter().filter(|flow| {
                    let port = ports.get(&flow.to);
                    port.is_some_and(|port| !port.allow(flow.client, flow.answered_by))
                }));
                end
            })?;
        }
        for flow in &stale {
            let request = conntrack::forget(flow);
            let ended = self
                .transactions()?
                .list(&request, "forget a flow", |datagram| conntrack::flows(datagram).1);
            match ended {
                // It has ended meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                ended => ended?,
            }
        }
        Ok(stale.len())
    }

    fn transactions(&mut self) -> io::Result<&Transactions> {
        match &mut self.transactions {
            Some(transactions) => Ok(transactions),
            closed => {
                let needs = "Linux 5.13 with nf_tables, inet and nat";
                Ok(closed.insert(Transactions::open("kernel forwarding", needs)?))
            }
        }
    }
}

#[cfg(test)]
mod tests;
