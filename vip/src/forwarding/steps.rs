//! The transactions that a change is made of, in the order in which no packet is lost.
//!
//! A transaction is not one moment for a packet that is on its way through the rules: it goes on by the rules of before,
//! while lookups find the elements of after; a chain that is new is empty to it, and a map that is gone has nothing. So
//! what is led to comes in a transaction before, what nothing leads to any more goes in one after, and between them
//! a chain looks into maps that stay while their elements change.

use crate::nftables::{Batch, TableFamily};

use super::TABLE;

/// Up to three transactions.
pub(super) struct Steps {
    begin: Batch,
    /// Without, all is one.
    later: Option<[Batch; 2]>,
}

impl Steps {
    /// One transaction, for a table that replaces another one.
    pub(super) fn at_once() -> Self {
        Self { begin: batch(), later: None }
    }

    /// One after the other.
    pub(super) fn apart() -> Self {
        Self { begin: batch(), later: Some([batch(), batch()]) }
    }

    /// What nothing leads to yet.
    pub(super) fn begin(&mut self) -> &mut Batch {
        &mut self.begin
    }

    /// What packets notice.
    pub(super) fn turn(&mut self) -> &mut Batch {
        self.later.as_mut().map_or(&mut self.begin, |[turn, _]| turn)
    }

    /// What nothing leads to any more.
    pub(super) fn end(&mut self) -> &mut Batch {
        self.later.as_mut().map_or(&mut self.begin, |[_, end]| end)
    }

    /// Those that change anything, in order.
    pub(super) fn batches(self) -> Vec<Batch> {
        let all = [self.begin].into_iter().chain(self.later.into_iter().flatten());
        all.filter(|batch| !batch.is_empty()).collect()
    }
}

pub(super) fn batch() -> Batch {
    Batch::of(TableFamily::Inet, TABLE)
}
