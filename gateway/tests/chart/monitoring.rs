//! Alerts and dashboards speak of metrics that exist, and alerts fire when they should.

use std::{path::Path, process::Command};

use gatehouse::admin::metrics::METRICS;

use super::{CHART, chart_file};

/// Names of metrics in an expression or a file of them.
fn metric_names(text: &str) -> Vec<&str> {
    let words = text.split(|char: char| !(char.is_ascii_lowercase() || char == '_'));
    words.filter(|word| word.starts_with("gatehouse_") || word.starts_with("process_")).collect()
}

#[test]
fn alerts_and_dashboards_use_metrics_that_the_program_has() {
    let files =
        ["files/alerts.yaml", "files/dashboards/traffic.json", "files/dashboards/addresses.json"];
    for file in files {
        let text = chart_file(file);
        let names = metric_names(&text);
        assert!(names.len() > 10, "{file} names no metrics");
        for name in names {
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(METRICS.iter().any(|metric| metric.name == family), "{file}: {name}");
        }
    }
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart"))
        .output()
        .expect("promtool is missing: run .ci/setup test");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}{failed}");
}

#[test]
fn prometheus_takes_the_alerts() {
    promtool(&["check", "rules", &format!("{CHART}/files/alerts.yaml")]);
}

#[test]
fn alerts_fire_when_they_should_and_not_before() {
    promtool(&["test", "rules", "alerts.yaml"]);
}
