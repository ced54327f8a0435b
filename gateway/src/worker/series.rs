//! The series of the rules that this worker has met, so that a request finds its own by one address.
//!
//! The names of a series are put together, and the lock of the registry is taken, when a rule is met for the
//! first time: once per worker and version of the rule, never per request.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use gatehouse_routes::{rule::RouteRule, table::HostRoutes};

use crate::{
    admin::metrics::series::{Number, SeriesRegistry, Totals},
    worker::counters::{Counters, Counts},
};

type Known<T, V> = RefCell<HashMap<*const T, V, foldhash::fast::RandomState>>;

/// A rule and what is counted of it here. It holds the rule for requests under way, too: to clone the `Arc` of
/// a rule is to write a cache line that all cores share.
pub(crate) struct RuleSeries {
    pub(crate) rule: Arc<RouteRule>,
    /// By backend; never empty.
    counts: Box<[Rc<Counts<Totals>>]>,
}

impl RuleSeries {
    /// What is counted for a backend, by its index in the rule.
    pub(crate) fn counts(&self, backend: usize) -> &Rc<Counts<Totals>> {
        self.counts.get(backend).unwrap_or(&self.counts[0])
    }
}

/// All that one worker has met.
pub(crate) struct LocalSeries {
    registry: Arc<SeriesRegistry>,
    counters: Counters<Totals>,
    rules: Known<RouteRule, Rc<RuleSeries>>,
    hosts: Known<HostRoutes, (Arc<HostRoutes>, Rc<Counts<Totals>>)>,
    strangers: Rc<Counts<Totals>>,
}

impl LocalSeries {
    pub(super) fn new(registry: Arc<SeriesRegistry>) -> Self {
        let counters = Counters::default();
        let strangers = counters.of(&registry.of_host(""));
        let (rules, hosts) = (Known::default(), Known::default());
        Self { registry, counters, rules, hosts, strangers }
    }

    /// The series of a rule.
    pub(crate) fn of_rule(&self, rule: &Arc<RouteRule>) -> Rc<RuleSeries> {
        if let Some(known) = self.rules.borrow().get(&Arc::as_ptr(rule)) {
            return Rc::clone(known);
        }
        let totals = self.registry.of_rule(rule);
        let counts = totals.iter().map(|totals| self.counters.of(totals)).collect();
        let series = Rc::new(RuleSeries { rule: Arc::clone(rule), counts });
        self.rules.borrow_mut().insert(Arc::as_ptr(rule), Rc::clone(&series));
        series
    }

    /// The series of a host for requests that none of its rules matches.
    pub(crate) fn of_host(&self, host: &Arc<HostRoutes>) -> Rc<Counts<Totals>> {
        let mut hosts = self.hosts.borrow_mut();
        let (_, counts) = hosts.entry(Arc::as_ptr(host)).or_insert_with(|| {
            (Arc::clone(host), self.counters.of(&self.registry.of_host(&host.name)))
        });
        Rc::clone(counts)
    }

    /// The series of requests whose host is in no table.
    pub(crate) fn of_strangers(&self) -> &Rc<Counts<Totals>> {
        &self.strangers
    }

    /// Counts so many of a number.
    pub(crate) fn add(&self, counts: &Rc<Counts<Totals>>, number: Number, amount: u64) {
        self.counters.add_amount(counts, number.index(), amount);
    }

    /// Adds everything to the totals.
    pub(super) fn flush(&self) {
        self.counters.flush();
    }

    /// Forgets rules and hosts that no snapshot and no request has any more. Call after [`Self::flush`].
    pub(super) fn forget(&self) {
        self.rules.borrow_mut().retain(|_, series| {
            Arc::strong_count(&series.rule) > 1 || Rc::strong_count(series) > 1
        });
        self.hosts.borrow_mut().retain(|_, (host, _)| Arc::strong_count(host) > 1);
        self.counters.forget();
    }
}
