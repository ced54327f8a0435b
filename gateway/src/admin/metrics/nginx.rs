//! What is counted, once more in the names of ingress-nginx (`--nginx-metrics`), so that dashboards and alerts that were
//! made for it go on.
//!
//! Of Ingresses only, as there. The status is a class (`2xx`) and neither path nor method stands on a series: their
//! number stays bounded.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    ControlFacts, Exposition, Kind, Metric, Metrics, metric, process,
    series::{LATENCIES, Labels, Number, Totals},
};

use Kind::{Counter as C, Gauge as G, Histogram as H};

/// Names on which dashboards group.
const OF_ANSWERS: &[&str] = &["host", "namespace", "ingress", "service"];

/// Every metric, in the order of the exposition.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    metric("nginx_ingress_controller_requests", C, &["host", "namespace", "ingress", "service", "status"], "Answers by the Ingress of the rule, its Service, and status class (`2xx`)."),
    metric("nginx_ingress_controller_request_duration_seconds", H, OF_ANSWERS, "From the head of a request to the end of its answer."),
    metric("nginx_ingress_controller_request_size", H, OF_ANSWERS, "Bytes of the bodies of requests: sum and count only."),
    metric("nginx_ingress_controller_response_size", H, OF_ANSWERS, "Bytes of the bodies of answers: sum and count only."),
    metric("nginx_ingress_controller_nginx_process_connections", G, &["state"], "Client connections: `active`."),
    metric("nginx_ingress_controller_nginx_process_connections_total", C, &["state"], "Client connections: `accepted`."),
    metric("nginx_ingress_controller_nginx_process_cpu_seconds_total", C, &[], "CPU time of this process."),
    metric("nginx_ingress_controller_nginx_process_resident_memory_bytes", G, &[], "Resident memory."),
    metric("nginx_ingress_controller_config_last_reload_successful", G, &[], "1: all that was read made sense."),
    metric("nginx_ingress_controller_config_last_reload_successful_timestamp_seconds", G, &[], "When the configuration was last compiled, seconds since 1970."),
    metric("nginx_ingress_controller_success", C, &[], "Generations of the configuration that were published."),
    metric("nginx_ingress_controller_ssl_expire_time_seconds", G, &["host"], "Until when the certificate of the server name is valid, seconds since 1970."),
];

/// Counts of one Ingress, host and Service.
#[derive(Default)]
struct Sum([u64; super::series::NUMBERS]);

impl Sum {
    fn of(&self, number: Number) -> u64 {
        self.0[number.index()]
    }

    fn answers(&self) -> u64 {
        (0..5).map(|class| self.of(Number::Class(class))).sum()
    }
}

/// Adds all of them to the page.
pub(super) fn render(
    metrics: &Metrics,
    series: &[(Labels, Arc<Totals>)],
    (facts, process): (&ControlFacts, &process::Facts),
    out: &mut Exposition,
) {
    let mut of_ingresses: BTreeMap<[&str; 4], Sum> = BTreeMap::new();
    for (labels, totals) in series {
        let Some(ingress) = labels.object.strip_prefix("Ingress/") else { continue };
        let names = [&*labels.host, &*labels.namespace, ingress, &*labels.service];
        let sum = of_ingresses.entry(names).or_default();
        for (sum, total) in sum.0.iter_mut().zip(&totals.0) {
            *sum += total.load(std::sync::atomic::Ordering::Relaxed);
        }
    }
    for metric in METRICS {
        out.head(metric);
        match metric.name {
            "nginx_ingress_controller_nginx_process_connections" => {
                out.value(metric, &["active"], metrics.connections());
            }
            "nginx_ingress_controller_nginx_process_connections_total" => {
                out.value(metric, &["accepted"], metrics.accepted());
            }
            "nginx_ingress_controller_config_last_reload_successful" => {
                out.value(metric, &[], u8::from(facts.reload_successful));
            }
            "nginx_ingress_controller_config_last_reload_successful_timestamp_seconds" => {
                out.value(metric, &[], facts.reloaded);
            }
            "nginx_ingress_controller_success" => out.value(metric, &[], facts.generation),
            "nginx_ingress_controller_ssl_expire_time_seconds" => {
                for (host, end) in &facts.certificates {
                    out.value(metric, &[host], *end);
                }
            }
            name => {
                for (names, sum) in &of_ingresses {
                    answers(metric, names, sum, out);
                }
                let of_process = name.strip_prefix("nginx_ingress_controller_nginx_");
                if let Some(value) = of_process.and_then(|name| process.get(name)) {
                    out.value(metric, &[], value);
                }
            }
        }
    }
}

/// The values of a metric of answers; none if it is another one.
fn answers(metric: &Metric, names: &[&str; 4], sum: &Sum, out: &mut Exposition) {
    let sized = |number, out: &mut Exposition| {
        out.distribution(metric, names, &[(sum.answers(), "+Inf")], sum.of(number) as f64);
    };
    match metric.name {
        "nginx_ingress_controller_requests" => {
            for (class, status) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().enumerate() {
                let count = sum.of(Number::Class(class));
                if count > 0 {
                    let [host, namespace, ingress, service] = *names;
                    out.value(metric, &[host, namespace, ingress, service, status], count);
                }
            }
        }
        "nginx_ingress_controller_request_duration_seconds" => {
            let bounds = super::bounds();
            let buckets: Vec<_> =
                (0..LATENCIES).map(|bucket| sum.of(Number::Latency(bucket))).zip(bounds).collect();
            out.distribution(metric, names, &buckets, sum.of(Number::Micros) as f64 / 1e6);
        }
        "nginx_ingress_controller_request_size" => sized(Number::BytesIn, out),
        "nginx_ingress_controller_response_size" => sized(Number::BytesOut, out),
        _ => (),
    }
}
