//! How many requests of one worker wait for a backend's answer, and how many of them are second tries.
//!
//! A second try that another endpoint answers takes nothing but the place of the first one. Where second tries fail
//! as well, each is one more request for a backend in trouble: from then on the share of them is bounded ([`Budget`]),
//! until most are answered again.

use std::cell::{RefCell, RefMut};

use gatehouse_routes::{model::BackendSlot, policy::retries::Budget};

/// All backends, by slot. What comes to a slot later finds the requests of its predecessor.
#[derive(Default)]
pub(crate) struct Budgets(RefCell<Vec<Waiting>>);

#[derive(Clone, Copy, Default)]
struct Waiting {
    all: u32,
    again: u32,
    /// Further tries that failed, less those that were answered; from 0 to [`FRUITLESS`].
    fruitless: u8,
}

/// So many more failed tries than answered ones, and the budget holds.
const FRUITLESS: u8 = 10;

/// A request that waits, until it is dropped.
pub(crate) struct Wait<'w> {
    budgets: &'w Budgets,
    slot: usize,
    again: bool,
    answered: bool,
}

impl Budgets {
    /// One more request for a backend.
    pub(crate) fn begin(&self, slot: BackendSlot) -> Wait<'_> {
        let (slot, mut slots) = (slot.0 as usize, self.0.borrow_mut());
        if slot >= slots.len() {
            slots.resize(slot + 1, Waiting::default());
        }
        slots[slot].all += 1;
        Wait { budgets: self, slot, again: false, answered: false }
    }
}

impl Wait<'_> {
    /// Whether the request may be sent to another endpoint after one that got it. It counts as a second try from
    /// then on.
    pub(crate) fn may_go_on(&mut self, budget: Budget) -> bool {
        let mut waiting = self.waiting();
        if self.again {
            waiting.failed();
            return true;
        }
        let may = waiting.is_fruitful(budget) || budget.admits(waiting.all, waiting.again);
        waiting.again += u32::from(may);
        drop(waiting);
        self.again = may;
        may
    }

    /// An endpoint has answered.
    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }

    fn waiting(&self) -> RefMut<'_, Waiting> {
        RefMut::map(self.budgets.0.borrow_mut(), |slots| &mut slots[self.slot])
    }
}

impl Waiting {
    /// Whether second tries are answered, so that there is nothing to bound.
    fn is_fruitful(self, budget: Budget) -> bool {
        budget.percent > 0 && self.fruitless < FRUITLESS
    }

    fn failed(&mut self) {
        self.fruitless = (self.fruitless + 1).min(FRUITLESS);
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiting();
        waiting.all -= 1;
        match (self.again, self.answered) {
            (false, _) => return,
            (true, true) => waiting.fruitless = waiting.fruitless.saturating_sub(1),
            (true, false) => waiting.failed(),
        }
        waiting.again -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: BackendSlot = BackendSlot(3);

    /// Of the tries of `waits`, that many may go on.
    fn going(waits: &mut [Wait<'_>], budget: Budget) -> usize {
        waits.iter_mut().filter_map(|wait| wait.may_go_on(budget).then_some(())).count()
    }

    /// Second tries have failed until the budget holds.
    fn fruitless() -> Budgets {
        let budgets = Budgets::default();
        for _ in 0..FRUITLESS {
            assert!(budgets.begin(SLOT).may_go_on(Budget::default()));
        }
        budgets
    }

    #[test]
    fn where_second_tries_fail_too_they_are_a_share_of_what_waits_or_a_few_and_are_given_back() {
        let budgets = fruitless();
        let budget = Budget { percent: 20, minimum: 3 };
        let mut waits: Vec<_> = (0..10).map(|_| budgets.begin(SLOT)).collect();
        assert_eq!(going(&mut waits, budget), 3, "20 % of 10 are fewer than the minimum");
        assert_eq!(going(&mut waits, budget), 3, "the same ones may go on further");
        waits.extend((0..90).map(|_| budgets.begin(SLOT)));
        assert_eq!(going(&mut waits, budget), 20);
        let mut other = budgets.begin(BackendSlot(1));
        assert!(other.may_go_on(budget), "another backend has a budget of its own");
        drop(waits);
        assert!(budgets.begin(SLOT).may_go_on(budget));
        assert!(!budgets.begin(SLOT).may_go_on(Budget { percent: 0, minimum: 0 }));
        assert!(budgets.begin(SLOT).may_go_on(Budget { percent: 100, minimum: 0 }));
    }

    /// Three of ten endpoints hang, and all that wait for them give up at one time.
    #[test]
    fn where_other_endpoints_answer_every_request_is_tried_again_at_once() {
        let (budgets, budget) = (Budgets::default(), Budget::default());
        let mut waits: Vec<_> = (0..100).map(|_| budgets.begin(SLOT)).collect();
        assert_eq!(going(&mut waits, budget), 100);
        waits.iter_mut().for_each(Wait::answered);
        drop(waits);
        assert!(!budgets.begin(SLOT).may_go_on(Budget { percent: 0, minimum: 0 }), "none at all");
    }

    #[test]
    fn a_backend_that_answers_again_gets_all_second_tries_again() {
        let budgets = fruitless();
        let mut wait = budgets.begin(SLOT);
        assert!(wait.may_go_on(Budget::default()), "within the budget");
        wait.answered();
        drop(wait);
        let mut waits: Vec<_> = (0..10).map(|_| budgets.begin(SLOT)).collect();
        assert_eq!(going(&mut waits, Budget::default()), 10);
    }

    /// A backend all of whose answers are failures that clients want tried on three endpoints.
    #[test]
    fn a_backend_that_fails_every_request_gets_a_fifth_more_not_three_times_as_many() {
        let (budgets, budget) = (Budgets::default(), Budget::default());
        // Every millisecond ten requests come, and each try takes 100 ms.
        let mut waiting: std::collections::VecDeque<(u32, Wait<'_>, u32)> = Default::default();
        let (mut first, mut further) = (0u32, 0u32);
        for now in 0..5_000u32 {
            while waiting.front().is_some_and(|(due, ..)| *due <= now) {
                let Some((_, mut wait, tries)) = waiting.pop_front() else { break };
                if tries < 3 && Wait::may_go_on(&mut wait, budget) {
                    further += 1;
                    waiting.push_back((now + 100, wait, tries + 1));
                }
            }
            for _ in 0..10 {
                first += 1;
                waiting.push_back((now + 100, budgets.begin(SLOT), 1));
            }
        }
        assert_eq!(first, 50_000);
        let share = further * 100 / first;
        assert!((15..=30).contains(&share), "{further} further tries of {first} requests");
    }
}
