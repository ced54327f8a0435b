use super::*;

fn render(metrics: &Metrics, hosts: &[(&str, &HostStats)]) -> String {
    metrics.render(hosts.iter().copied(), &ControlFacts::default())
}

fn value<'t>(text: &'t str, series: &str) -> &'t str {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no series {series} in\n{text}"))
}

#[test]
fn every_metric_of_the_table_is_exposed_with_its_head() {
    let metrics = Metrics::new(2, &["no_route"]);
    let stats = HostStats::default();
    stats.responses[1].store(1, Relaxed);
    let text = render(&metrics, &[("a", &stats)]);
    for metric in METRICS {
        let head = format!("# TYPE {} {}\n", metric.name, kind_name(metric.kind));
        assert_eq!(text.matches(&head).count(), 1, "{}", metric.name);
        let series = text.lines().filter(|line| line.starts_with(metric.name)).count();
        assert!(series > 0, "{} has no value", metric.name);
    }
}

#[test]
fn cores_are_summed_up() {
    let metrics = Metrics::new(2, &["no_route", "connect"]);
    for index in 0..2 {
        let core = metrics.core(index);
        core.add(Counter::UpstreamReused);
        core.add(Counter::Retry);
        core.connection_opened();
        core.connection_opened();
        core.connection_closed();
        core.error(1);
    }
    let text = render(&metrics, &[]);
    assert_eq!(value(&text, "gatehouse_upstream_connections_total{state=\"reused\"}"), "2");
    assert_eq!(value(&text, "gatehouse_upstream_connections_total{state=\"new\"}"), "0");
    assert_eq!(value(&text, "gatehouse_retries_total"), "2");
    assert_eq!(value(&text, "gatehouse_connections"), "2");
    assert_eq!(value(&text, "gatehouse_errors_total{reason=\"connect\"}"), "2");
    assert_eq!(value(&text, "gatehouse_errors_total{reason=\"no_route\"}"), "0");
}

#[test]
fn latencies_fall_into_cumulative_buckets() {
    let metrics = Metrics::new(1, &[]);
    let core = metrics.core(0);
    for millis in [0, 1, 3, 20_000] {
        core.observe(Duration::from_millis(millis));
    }
    let text = render(&metrics, &[]);
    let bucket = |bound: &str| {
        let series = format!("gatehouse_request_duration_seconds_bucket{{le=\"{bound}\"}}");
        value(&text, &series).parse::<u64>().unwrap()
    };
    assert_eq!(
        ["0.0005", "0.001", "0.0025", "0.005", "10", "+Inf"].map(bucket),
        [1, 2, 2, 3, 3, 4],
        "the upper bound belongs to the bucket"
    );
    assert_eq!(value(&text, "gatehouse_request_duration_seconds_sum"), "20.004");
    assert_eq!(value(&text, "gatehouse_request_duration_seconds_count"), "4");
}

#[test]
fn a_host_that_several_tables_share_is_counted_once() {
    let (one, two) = (HostStats::default(), HostStats::default());
    one.responses[1].store(3, Relaxed);
    two.responses[1].store(4, Relaxed);
    two.responses[4].store(5, Relaxed);
    let hosts = [("a.example", &one), ("a.example", &one), ("a.example", &two)];
    let text = render(&Metrics::new(1, &[]), &hosts);
    assert_eq!(value(&text, "gatehouse_requests_total{host=\"a.example\",code=\"2xx\"}"), "7");
    assert_eq!(value(&text, "gatehouse_requests_total{host=\"a.example\",code=\"5xx\"}"), "5");
    assert!(!text.contains("code=\"4xx\""), "series without a count are left out");
}

#[test]
fn label_values_are_escaped() {
    let stats = HostStats::default();
    stats.responses[0].store(1, Relaxed);
    let text = render(&Metrics::new(1, &[]), &[("a\"b\\c\nd", &stats)]);
    assert!(text.contains("{host=\"a\\\"b\\\\c\\nd\",code=\"1xx\"} 1"), "{text}");
}

#[test]
fn the_process_is_measured() {
    let text = render(&Metrics::new(1, &[]), &[]);
    let number = |name| value(&text, name).parse::<f64>().unwrap();
    assert!(number("process_resident_memory_bytes") > 100_000.0);
    assert!(number("process_open_fds") >= 3.0);
    assert!(number("process_max_fds") >= number("process_open_fds"));
    assert!(number("process_threads") >= 1.0);
    // 2020-01-01: the clock of a host that runs this is past it.
    assert!(number("process_start_time_seconds") > 1_577_836_800.0);
    assert!(number("process_cpu_seconds_total") >= 0.0);
}
