//! Answers by host, object and Service: the totals, by the names that stand on them.
//!
//! A worker asks for the totals of a rule when it meets the rule for the first time ([`SeriesRegistry::of`]), and
//! adds to them at its clock ticks. Totals stay for as long as the process runs, so an object that goes and
//! comes back goes on counting. Names come from the configuration, never from a request, and no more than so
//! many hosts have totals of their own: the others share one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use gatehouse_routes::{objects::ObjectKey, rule::RouteRule};

use super::{BUCKETS, Exposition, Metric};

/// Host of the totals that hosts beyond the limit share.
const OTHERS: &str = "(others)";
/// Objects and Services of one host that have totals of their own.
const OF_A_HOST: usize = 1000;

/// Upper bounds of the buckets, and one for what is beyond.
pub(crate) const LATENCIES: usize = BUCKETS.len() + 1;
/// How many numbers [`Totals`] has.
pub(crate) const NUMBERS: usize = 5 + LATENCIES + 3;

/// Where a number stands among those of [`Totals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// Answers of a status class: 0 is 1xx.
    Class(usize),
    /// Requests of a bucket.
    Latency(usize),
    /// Duration of all of them, in microseconds.
    Micros,
    /// Bytes of requests.
    BytesIn,
    /// Bytes of answers.
    BytesOut,
}

impl Number {
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Class(class) => class,
            Self::Latency(bucket) => 5 + bucket,
            Self::Micros => 5 + LATENCIES,
            Self::BytesIn => 6 + LATENCIES,
            Self::BytesOut => 7 + LATENCIES,
        }
    }
}

/// What is counted of the answers of one series.
#[derive(Debug)]
pub(crate) struct Totals(pub(crate) [AtomicU64; NUMBERS]);

impl Default for Totals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// What a series is about; texts are empty where there is nothing to name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels {
    /// Host of the route table: `foo.com`, `*.foo.com` or `*`; empty: a host that is in no table.
    pub(crate) host: String,
    /// Namespace of the object.
    pub(crate) namespace: String,
    /// Kind and name of the object.
    pub(crate) object: String,
    /// Name of the Service.
    pub(crate) service: String,
}

impl Labels {
    fn texts(&self) -> [&str; 4] {
        [&self.host, &self.namespace, &self.object, &self.service]
    }
}

/// All series.
#[derive(Debug)]
pub(crate) struct SeriesRegistry {
    /// Hosts that may have series of their own.
    limit: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    series: BTreeMap<Labels, Arc<Totals>>,
    /// By host, how many.
    hosts: BTreeMap<String, usize>,
}

impl SeriesRegistry {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// The totals of a rule, one for each of its backends; one if it has none.
    pub(crate) fn of_rule(&self, rule: &RouteRule) -> Vec<Arc<Totals>> {
        let services: Vec<&str> = match rule.forward() {
            Some(forward) if !forward.spec.backends.is_empty() => {
                forward.spec.backends.iter().map(|backend| &*backend.key.service.name).collect()
            }
            _ => vec![""],
        };
        let ObjectKey { namespace, .. } = &rule.object.key;
        let of = |service: &str| {
            self.of(Labels {
                host: rule.host.to_string(),
                namespace: namespace.to_string(),
                object: format!("{}/{}", rule.object.kind, rule.object.key.name),
                service: service.to_owned(),
            })
        };
        services.into_iter().map(of).collect()
    }

    /// The totals of a host for requests that no rule of it matches.
    pub(crate) fn of_host(&self, host: &str) -> Arc<Totals> {
        self.of(Labels { host: host.to_owned(), ..Labels::default() })
    }

    /// Everything that was ever asked for.
    pub(super) fn all(&self) -> Vec<(Labels, Arc<Totals>)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.series.iter().map(|(labels, totals)| (labels.clone(), Arc::clone(totals))).collect()
    }

    pub(super) fn of(&self, labels: Labels) -> Arc<Totals> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { series, hosts } = &mut *known;
        if let Some(totals) = series.get(&labels) {
            return Arc::clone(totals);
        }
        let labels = match hosts.get(&labels.host) {
            // Hosts that are in no table are one.
            None if hosts.len() >= self.limit && !labels.host.is_empty() => {
                Labels { host: OTHERS.to_owned(), ..Labels::default() }
            }
            Some(count) if *count >= OF_A_HOST => Labels { host: labels.host, ..Labels::default() },
            _ => labels,
        };
        if !series.contains_key(&labels) && !matches!(&*labels.host, "" | OTHERS) {
            *hosts.entry(labels.host.clone()).or_default() += 1;
        }
        Arc::clone(series.entry(labels).or_default())
    }
}

/// The values of a metric of answers; false if it is another one.
pub(super) fn values(all: &[(Labels, Arc<Totals>)], metric: &Metric, out: &mut Exposition) -> bool {
    let of = |totals: &Totals, number: Number| totals.0[number.index()].load(Relaxed);
    match metric.name {
        "gatehouse_requests_total" => {
            for (labels, totals) in all {
                for (class, code) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().enumerate() {
                    let count = of(totals, Number::Class(class));
                    if count > 0 {
                        let [host, namespace, object, service] = labels.texts();
                        out.value(metric, &[host, namespace, object, service, code], count);
                    }
                }
            }
        }
        "gatehouse_request_bytes_total" | "gatehouse_response_bytes_total" => {
            let number = match metric.name {
                "gatehouse_request_bytes_total" => Number::BytesIn,
                _ => Number::BytesOut,
            };
            for (labels, totals) in all {
                out.value(metric, &labels.texts(), of(totals, number));
            }
        }
        "gatehouse_host_request_duration_seconds" => {
            // Series are sorted, those of a host stand together.
            for of_host in all.chunk_by(|a, b| a.0.host == b.0.host) {
                let sum =
                    |number| of_host.iter().map(|(_, totals)| of(totals, number)).sum::<u64>();
                let count = |bucket| sum(Number::Latency(bucket));
                let buckets: Vec<_> = (0..LATENCIES).map(count).zip(super::bounds()).collect();
                let seconds = sum(Number::Micros) as f64 / 1e6;
                out.distribution(metric, &[&of_host[0].0.host], &buckets, seconds);
            }
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(host: &str, service: &str) -> Labels {
        Labels { host: host.to_owned(), service: service.to_owned(), ..Labels::default() }
    }

    #[test]
    fn what_comes_back_goes_on_counting() {
        let registry = SeriesRegistry::new(10);
        let first = registry.of(labels("a.test", "one"));
        let weak = Arc::downgrade(&first);
        drop(first);
        let again = registry.of(labels("a.test", "one"));
        assert!(weak.upgrade().is_some_and(|first| Arc::ptr_eq(&first, &again)));
    }

    #[test]
    fn hosts_beyond_the_limit_share_one_series_and_those_within_keep_theirs() {
        let registry = SeriesRegistry::new(2);
        for host in ["", "a.test", "b.test", "c.test", "d.test", "a.test"] {
            registry.of(labels(host, "one"));
        }
        registry.of(labels("a.test", "two"));
        let hosts: Vec<_> = registry
            .all()
            .into_iter()
            .map(|(labels, _)| labels.host + "/" + &labels.service)
            .collect();
        assert_eq!(hosts, ["/one", "(others)/", "a.test/one", "a.test/two", "b.test/one"]);
    }

    #[test]
    fn a_host_of_very_many_services_does_not_grow_without_end() {
        let registry = SeriesRegistry::new(2);
        for service in 0..OF_A_HOST + 50 {
            registry.of(labels("a.test", &service.to_string()));
        }
        assert_eq!(registry.all().len(), OF_A_HOST + 1);
    }

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let classes = (0..5).map(Number::Class);
        let latencies = (0..LATENCIES).map(Number::Latency);
        let others = [Number::Micros, Number::BytesIn, Number::BytesOut];
        let all: Vec<_> = classes.chain(latencies).chain(others).map(Number::index).collect();
        assert_eq!(all, (0..NUMBERS).collect::<Vec<_>>());
    }
}
