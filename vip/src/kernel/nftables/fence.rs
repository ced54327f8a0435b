//! The fence in the kernel: one table of nf_tables, and one socket that turns its key.
//!
//! Only the speaker calls this. What has to stand and when the key is turned is decided by
//! [`crate::l2::fence`]. The table outlives its process, as it must; a successor replaces it. Needs
//! `CAP_NET_ADMIN` and `CAP_NET_RAW` in the network namespace's user namespace.

use std::io::{self, Read};

use socket2::Socket;

use super::Transactions;
use crate::{
    kernel::sockets::frames,
    l2::fence::{ETHERTYPE_OF_KEY, Echo, FenceRules, Fenced, Key, echo, turn},
    nftables::Batch,
};

/// Echoes read in one go: more than there are turns between two.
const ECHOES: usize = 16;

/// The kernel's fence; its sockets are opened at the first need, in the network namespace of the
/// calling thread.
#[derive(Debug)]
pub(crate) struct FenceTable {
    name: String,
    key: Key,
    transactions: Option<Transactions>,
    rules: FenceRules,
    /// Index of the loopback interface, and a socket there.
    frames: Option<(u32, Socket)>,
}

impl FenceTable {
    /// `name`: the same for a successor of this process, and for no other process.
    pub(crate) fn new(name: String, key: Key) -> Self {
        Self { name, key, transactions: None, rules: FenceRules::default(), frames: None }
    }

    /// Makes the fence as wanted, in one transaction, whether or not there is one; does nothing if it is
    /// so by this process' doing. On an error there is none, as far as that can be helped.
    pub(crate) fn apply(&mut self, wanted: &Fenced) -> io::Result<()> {
        let Some((batch, rules)) = self.rules.change(&self.name, self.key, wanted) else {
            return Ok(());
        };
        let standing = self.rules != FenceRules::default();
        match self.transactions().and_then(|nft| Ok(nft.commit(batch)?)) {
            Ok(()) => {
                self.rules = rules;
                Ok(())
            }
            // Another program may have removed it.
            Err(_) if standing => {
                self.forget();
                self.apply(wanted)
            }
            Err(error) => {
                // Neither what this process built before nor what a predecessor left.
                self.remove_whatever_stands();
                Err(error)
            }
        }
    }

    /// The table is not what it was, or not there at all: the next call of [`apply`](Self::apply) builds
    /// it anew.
    pub(crate) fn forget(&mut self) {
        self.rules = FenceRules::default();
        // An answer may still be on its way to the old one.
        self.transactions = None;
    }

    /// Removes the table, if there is one of this process.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        let removed = match self.rules.removal(&self.name) {
            Some(batch) => self.transactions().and_then(|nft| Ok(nft.commit(batch)?)),
            None => Ok(()),
        };
        self.forget();
        removed
    }

    /// Turns the key by a frame on the loopback interface.
    pub(crate) fn turn(&mut self, loopback: u32) -> io::Result<()> {
        let frame = turn(self.key);
        let sent = self.frames(loopback).and_then(|socket| socket.send(&frame));
        // One that fails may be of an interface that has gone.
        if sent.is_err() {
            self.frames = None;
        }
        sent.map(drop)
    }

    /// What was heard of the turns since the last call, in order.
    pub(crate) fn echoes(&self) -> Vec<Echo> {
        let Some((_, socket)) = &self.frames else { return Vec::new() };
        let mut frame = [0; 64];
        let mut heard = Vec::new();
        for _ in 0..ECHOES {
            match (&*socket).read(&mut frame) {
                Ok(length) => heard.extend(echo(self.key, &frame[..length])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        heard
    }

    fn remove_whatever_stands(&mut self) {
        let mut batch = Batch::new(&self.name);
        batch.delete_table();
        // Refused if there is none, which is as well.
        if let Ok(transactions) = self.transactions() {
            drop(transactions.commit(batch));
        }
        self.forget();
    }

    fn transactions(&mut self) -> io::Result<&Transactions> {
        match &mut self.transactions {
            Some(transactions) => Ok(transactions),
            closed => Ok(closed.insert(Transactions::open("fence", "nf_tables with netdev")?)),
        }
    }

    fn frames(&mut self, loopback: u32) -> io::Result<&Socket> {
        if self.frames.as_ref().is_none_or(|(index, _)| *index != loopback) {
            self.frames = Some((loopback, frames::frames_of(ETHERTYPE_OF_KEY, loopback)?));
        }
        let (_, socket) = self.frames.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok(socket)
    }
}
