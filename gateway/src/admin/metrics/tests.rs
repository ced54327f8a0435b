use std::{collections::BTreeMap, time::Duration};

use gatehouse_vip::{
    BfdPackets, BfdState, BfdStatus, BgpStatus, LocalState, MemberState, MemberStatus, Messages,
    PeerStatus, PoolUsage, Prefixes, SpeakerCounters, SpeakerStatus, VipStatus,
};

use super::{series::Number, *};
use crate::source::kube::health::{Facts, Stale};

fn render(metrics: &Metrics) -> String {
    metrics.render(&ControlFacts {
        addresses: addresses(),
        ejected: [("x/one".to_owned(), "10.0.0.1:80".to_owned())].into(),
        shares: Some(Arc::default()),
        spool: SpoolFacts { memory: 1, disk: 2, files: 3, spilled: 4 },
        source: Some(source()),
        reloaded: 1_700_000_000.25,
        reload_successful: true,
        certificates: vec![("a.example".to_owned(), 1_800_000_000)],
        failures: [(("x/one".to_owned(), "10.0.0.1:80".to_owned()), 3)].into(),
        ejections: [(("x/one".to_owned(), "10.0.0.1:80".to_owned()), 2)].into(),
        node_problems: [("ListenerClosed", 2)].into(),
        l4: vec![L4Row { service: "x/dns".into(), protocol: "udp".into(), ..L4Row::default() }],
        kernel: vec![KernelFact { service: "x/dns".into(), ..KernelFact::default() }],
        ..ControlFacts::default()
    })
}

/// An API server that cannot be watched at the moment and does not know Routes.
fn source() -> Facts {
    Facts {
        missing: vec!["Route"],
        objects: [("Service", 3)].into(),
        stale: Some(Stale {
            age: Duration::from_secs(5),
            remembered: false,
            kinds: vec!["services"],
            why: "connection refused".to_owned(),
        }),
        requests: [(("watch", 200), 7), (("watch", 0), 1)].into(),
        ..Facts::default()
    }
}

#[test]
fn it_is_shown_how_things_stand_with_the_api_server() {
    let text = render(&Metrics::new(1, &[], 10));
    assert_eq!(value(&text, "gatehouse_source_stale_seconds"), "5");
    assert_eq!(value(&text, "gatehouse_source_objects{kind=\"Service\"}"), "3");
    assert_eq!(value(&text, "gatehouse_source_kind_missing{kind=\"Route\"}"), "1");
    assert_eq!(value(&text, "gatehouse_api_requests_total{verb=\"watch\",code=\"200\"}"), "7");
    assert_eq!(value(&text, "gatehouse_api_requests_total{verb=\"watch\",code=\"0\"}"), "1");
}

/// A router that is up and has heard of one of two prefixes.
fn router(address: &str) -> PeerStatus {
    PeerStatus {
        router: address.to_owned(),
        port: 179,
        up_seconds: Some(60),
        established: 2,
        announced: Prefixes { v4: 1, v6: 0 },
        wanted: Prefixes { v4: 1, v6: 1 },
        received: 4,
        sent_messages: Messages { update: 5, ..Messages::default() },
        bfd: Some(BfdStatus { state: BfdState::Up, error: None, ups: 1 }),
        ..PeerStatus::default()
    }
}

/// Two addresses, one of them held, and a group of three others.
fn addresses() -> AddressFacts {
    let vip = |here, owner: &str| VipStatus {
        owner: Some(owner.to_owned()),
        here,
        interface: None,
        eligible: Vec::new(),
    };
    let member = |node: &str, state, port| MemberStatus {
        node: node.to_owned(),
        address: ([192, 0, 2, 9], port).into(),
        interface: "eth0".to_owned(),
        draining: false,
        serving: true,
        holds: 0,
        state,
    };
    let held = "192.0.2.1".parse().unwrap();
    AddressFacts {
        speaker: SpeakerStatus {
            node: "a".to_owned(),
            draining: false,
            members: vec![
                member("b", MemberState::Dead, 1),
                member("b", MemberState::Alive, 2),
                member("c", MemberState::Unproven, 3),
                member("d", MemberState::Alive, 4),
            ],
            vips: BTreeMap::from([
                (held, vip(LocalState::Holding, "a")),
                ("2001:db8::2".parse().unwrap(), vip(LocalState::Standby, "b")),
            ])
            .into(),
            counters: SpeakerCounters {
                sent: 5,
                received: 6,
                refused: [("replay", 7)].into(),
                announcements: 8,
                transitions: 9,
            },
            problems: Vec::new(),
        },
        bgp: BgpStatus {
            peers: [("tor".to_owned(), router("2001:db8::9"))].into(),
            bfd_packets: BfdPackets { strange: 3, ..BfdPackets::default() },
            ..BgpStatus::default()
        },
        routed: [("192.0.2.7".parse().unwrap(), vec!["x/one".to_owned()])].into(),
        excluded: true,
        services: [(held, vec!["x/one".to_owned(), "x/two".to_owned()])].into(),
        pools: vec![PoolUsage {
            pool: "p".to_owned(),
            assigned_v4: 2,
            available_v4: 3,
            quarantined_v4: 1,
            available_v6: 1 << 64,
            assigned_v6: 0,
            quarantined_v6: 0,
            draining: false,
        }],
    }
}

#[test]
fn addresses_the_group_pools_and_ejected_endpoints_are_counted() {
    let text = render(&Metrics::new(1, &[], 10));
    for (series, expected) in [
        ("gatehouse_endpoint_ejected{service=\"x/one\",endpoint=\"10.0.0.1:80\"}", "1"),
        ("gatehouse_node_excluded", "1"),
        ("gatehouse_vip_owned{vip=\"192.0.2.1\"}", "1"),
        ("gatehouse_vip_owned{vip=\"2001:db8::2\"}", "0"),
        ("gatehouse_vip_transitions_total", "9"),
        ("gatehouse_vip_announcements_total", "8"),
        ("gatehouse_group_members{state=\"alive\"}", "2"),
        ("gatehouse_group_members{state=\"unproven\"}", "1"),
        ("gatehouse_group_members{state=\"dead\"}", "0"),
        ("gatehouse_group_datagrams_total{direction=\"sent\",reason=\"\"}", "5"),
        ("gatehouse_group_datagrams_total{direction=\"received\",reason=\"\"}", "6"),
        ("gatehouse_group_datagrams_total{direction=\"refused\",reason=\"replay\"}", "7"),
        ("gatehouse_pool_addresses{pool=\"p\",family=\"ipv4\",state=\"resting\"}", "1"),
        (
            "gatehouse_pool_addresses{pool=\"p\",family=\"ipv6\",state=\"available\"}",
            "18446744073709551616",
        ),
        ("metallb_allocator_addresses_total{pool=\"p\"}", "18446744073709551622"),
        ("metallb_allocator_addresses_in_use_total{pool=\"p\"}", "2"),
        (
            "metallb_speaker_announced{service=\"x/two\",protocol=\"layer2\",node=\"a\",ip=\"192.0.2.1\"}",
            "1",
        ),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    assert!(!text.contains(",ip=\"2001:db8::2\""), "only what this node announces");
}

#[test]
fn routers_are_counted_by_the_name_of_the_peer_and_as_metallb_does_by_address() {
    let text = render(&Metrics::new(1, &[], 10));
    for (series, expected) in [
        ("gatehouse_bgp_session_up{peer=\"tor\"}", "1"),
        ("gatehouse_bgp_session_uptime_seconds{peer=\"tor\"}", "60"),
        ("gatehouse_bgp_sessions_established_total{peer=\"tor\"}", "2"),
        ("gatehouse_bgp_prefixes{peer=\"tor\",family=\"ipv4\",state=\"announced\"}", "1"),
        ("gatehouse_bgp_prefixes{peer=\"tor\",family=\"ipv6\",state=\"pending\"}", "1"),
        ("gatehouse_bgp_prefixes_received_total{peer=\"tor\"}", "4"),
        ("gatehouse_bgp_messages_total{peer=\"tor\",direction=\"sent\",type=\"update\"}", "5"),
        ("gatehouse_bfd_session_up{peer=\"tor\"}", "1"),
        ("gatehouse_bfd_packets_total{result=\"strange\"}", "3"),
        ("metallb_bgp_session_up{peer=\"[2001:db8::9]:179\"}", "1"),
        ("metallb_bgp_updates_total{peer=\"[2001:db8::9]:179\"}", "5"),
        ("metallb_bgp_announced_prefixes_total{peer=\"[2001:db8::9]:179\"}", "1"),
        ("metallb_bgp_pending_prefixes_total{peer=\"[2001:db8::9]:179\"}", "1"),
        (
            "metallb_speaker_announced{service=\"x/one\",protocol=\"bgp\",node=\"a\",ip=\"192.0.2.7\"}",
            "1",
        ),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
}

fn value<'t>(text: &'t str, series: &str) -> &'t str {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no series {series} in\n{text}"))
}

#[test]
fn every_metric_of_the_table_is_exposed_with_its_head() {
    let metrics = Metrics::new(2, &["no_route"], 10);
    count(&metrics.series.of_host("a"), Number::Class(1), 1);
    let text = render(&metrics);
    for metric in METRICS {
        let head = format!("# TYPE {} {}\n", metric.name, metric.kind.name());
        assert_eq!(text.matches(&head).count(), 1, "{}", metric.name);
        let series = text.lines().filter(|line| line.starts_with(metric.name)).count();
        assert!(series > 0, "{} has no value", metric.name);
    }
}

#[test]
fn cores_are_summed_up() {
    let metrics = Metrics::new(2, &["no_route", "connect"], 10);
    for index in 0..2 {
        let worker = metrics.worker(index);
        worker.add(Counter::UpstreamReused);
        worker.add(Counter::Retry);
        worker.connection_opened();
        worker.connection_opened();
        worker.connection_closed();
        worker.error(1);
    }
    let text = render(&metrics);
    assert_eq!(value(&text, "gatehouse_upstream_connections_total{state=\"reused\"}"), "2");
    assert_eq!(value(&text, "gatehouse_upstream_connections_total{state=\"new\"}"), "0");
    assert_eq!(value(&text, "gatehouse_retries_total"), "2");
    assert_eq!(value(&text, "gatehouse_connections"), "2");
    assert_eq!(value(&text, "gatehouse_errors_total{reason=\"connect\"}"), "2");
    assert_eq!(value(&text, "gatehouse_errors_total{reason=\"no_route\"}"), "0");
}

#[test]
fn latencies_fall_into_cumulative_buckets() {
    let metrics = Metrics::new(1, &[], 10);
    let worker = metrics.worker(0);
    for millis in [0, 1, 3, 20_000] {
        worker.observe(Duration::from_millis(millis));
    }
    let text = render(&metrics);
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

fn count(totals: &Totals, number: Number, amount: u64) {
    totals.0[number.index()].fetch_add(amount, Relaxed);
}

#[test]
fn answers_are_counted_by_host_object_and_service() {
    let metrics = Metrics::new(1, &[], 10);
    let labels = |service: &str| Labels {
        host: "a.example".to_owned(),
        namespace: "shop".to_owned(),
        object: "Ingress/web".to_owned(),
        service: service.to_owned(),
    };
    for (service, micros) in [("one", 1500), ("two", 20_000_000)] {
        let totals = metrics.series.of(labels(service));
        count(&totals, Number::Class(1), 3);
        count(&totals, Number::Latency(if service == "one" { 2 } else { BUCKETS.len() }), 3);
        count(&totals, Number::Micros, micros);
        count(&totals, Number::BytesOut, 7);
    }
    let text = render(&metrics);
    let of = "host=\"a.example\",namespace=\"shop\",object=\"Ingress/web\"";
    for (series, expected) in [
        (format!("gatehouse_requests_total{{{of},service=\"one\",code=\"2xx\"}}"), "3"),
        (format!("gatehouse_response_bytes_total{{{of},service=\"two\"}}"), "7"),
        (
            "gatehouse_host_request_duration_seconds_bucket{host=\"a.example\",le=\"0.001\"}"
                .to_owned(),
            "0",
        ),
        (
            "gatehouse_host_request_duration_seconds_bucket{host=\"a.example\",le=\"0.0025\"}"
                .to_owned(),
            "3",
        ),
        (
            "gatehouse_host_request_duration_seconds_bucket{host=\"a.example\",le=\"+Inf\"}"
                .to_owned(),
            "6",
        ),
        ("gatehouse_host_request_duration_seconds_sum{host=\"a.example\"}".to_owned(), "20.0015"),
        ("gatehouse_host_request_duration_seconds_count{host=\"a.example\"}".to_owned(), "6"),
    ] {
        assert_eq!(value(&text, &series), expected, "{series}");
    }
    assert!(!text.contains("code=\"4xx\""), "series without a count are left out");
}

#[test]
fn with_the_switch_what_is_counted_of_ingresses_is_shown_in_the_names_of_ingress_nginx() {
    let metrics = Metrics::new(1, &[], 10).in_names_of_nginx(true);
    for object in ["Ingress/web", "Route/web"] {
        let labels = Labels {
            host: "a.example".to_owned(),
            namespace: "shop".to_owned(),
            object: object.to_owned(),
            service: "one".to_owned(),
        };
        let totals = metrics.series.of(labels);
        count(&totals, Number::Class(1), 3);
        count(&totals, Number::Class(4), 1);
        count(&totals, Number::Latency(2), 4);
        count(&totals, Number::Micros, 6000);
        count(&totals, Number::BytesOut, 70);
    }
    metrics.worker(0).connection_opened();
    let text = render(&metrics);
    let of = "host=\"a.example\",namespace=\"shop\",ingress=\"web\",service=\"one\"";
    for (name, labels, expected) in [
        ("requests", format!("{{{of},status=\"2xx\"}}"), "3"),
        ("requests", format!("{{{of},status=\"5xx\"}}"), "1"),
        ("request_duration_seconds_bucket", format!("{{{of},le=\"0.001\"}}"), "0"),
        ("request_duration_seconds_bucket", format!("{{{of},le=\"+Inf\"}}"), "4"),
        ("request_duration_seconds_sum", format!("{{{of}}}"), "0.006"),
        ("response_size_sum", format!("{{{of}}}"), "70"),
        ("response_size_count", format!("{{{of}}}"), "4"),
        ("nginx_process_connections", "{state=\"active\"}".to_owned(), "1"),
        ("config_last_reload_successful", String::new(), "1"),
        ("ssl_expire_time_seconds", "{host=\"a.example\"}".to_owned(), "1800000000"),
    ] {
        let series = format!("nginx_ingress_controller_{name}{labels}");
        assert_eq!(value(&text, &series), expected, "{series}");
    }
    let resident = value(&text, "nginx_ingress_controller_nginx_process_resident_memory_bytes");
    assert!(resident.parse::<f64>().unwrap() > 100_000.0);
    assert!(!render(&Metrics::new(1, &[], 10)).contains("nginx_ingress_controller"));
}

#[test]
fn the_last_reload_the_certificates_and_failing_endpoints_are_shown() {
    let text = render(&Metrics::new(1, &[], 10));
    for (series, expected) in [
        ("gatehouse_config_last_reload_timestamp_seconds", "1700000000.25"),
        ("gatehouse_config_last_reload_successful", "1"),
        ("gatehouse_certificate_expiry_timestamp_seconds{host=\"a.example\"}", "1800000000"),
        ("gatehouse_endpoint_failures_total{service=\"x/one\",endpoint=\"10.0.0.1:80\"}", "3"),
        ("gatehouse_ejections_total{service=\"x/one\",endpoint=\"10.0.0.1:80\"}", "2"),
    ] {
        assert_eq!(value(&text, series), expected);
    }
}

#[test]
fn label_values_are_escaped() {
    let metrics = Metrics::new(1, &[], 10);
    count(&metrics.series.of_host("a\"b\\c\nd"), Number::Class(0), 1);
    let text = render(&metrics);
    assert!(text.contains("{host=\"a\\\"b\\\\c\\nd\",namespace=\"\""), "{text}");
    assert!(text.contains("_count{host=\"a\\\"b\\\\c\\nd\"} 0"), "{text}");
}

#[test]
fn the_process_is_measured() {
    let text = render(&Metrics::new(1, &[], 10));
    let number = |name| value(&text, name).parse::<f64>().unwrap();
    assert!(number("process_resident_memory_bytes") > 100_000.0);
    assert!(number("process_open_fds") >= 3.0);
    assert!(number("process_max_fds") >= number("process_open_fds"));
    assert!(number("process_threads") >= 1.0);
    // 2020-01-01: the clock of a host that runs this is past it.
    assert!(number("process_start_time_seconds") > 1_577_836_800.0);
    assert!(number("process_cpu_seconds_total") >= 0.0);
}
