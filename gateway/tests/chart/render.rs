//! What sets of values are rendered to.

use std::fs;

use gatehouse::cli::{self, Command};

use super::{CHART, Case, cluster, documents, yaml};

/// The rendered objects as they are compared: without what is a copy of a file of the chart.
fn comparable(rendered: &str) -> Vec<String> {
    const COPIES: [&str; 5] = [
        "kind: CustomResourceDefinition",
        "kind: ValidatingAdmissionPolicy",
        "kind: ValidatingAdmissionPolicyBinding",
        "kind: PrometheusRule",
        "kind: ConfigMap",
    ];
    let of_document = |document: &str| {
        let is_copy = document.lines().any(|line| COPIES.contains(&line));
        let own = document.trim_end().lines();
        let own = own.take_while(|line| !(is_copy && matches!(*line, "spec:" | "data:")));
        let shown: String = own.flat_map(|line| [line, "\n"]).collect();
        format!("---\n{shown}")
    };
    documents(rendered).into_iter().map(of_document).collect()
}

#[test]
fn values_are_rendered_to_the_objects_beside_them() {
    let update = std::env::var_os("GOLDEN_UPDATE").is_some();
    let cases = Case::all();
    let defaults = cases.iter().find(|case| case.name() == "defaults").unwrap();
    let defaults = comparable(&defaults.rendered());
    for case in cases {
        // Beside the objects that are the same with no values at all.
        let is_own = |document: &String| case.name() == "defaults" || !defaults.contains(document);
        let text: String = comparable(&case.rendered()).into_iter().filter(is_own).collect();
        let file = case.folder.join("rendered.yaml");
        if update {
            fs::write(&file, &text).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        let different = expected.lines().zip(text.lines()).position(|(old, new)| old != new);
        assert!(
            expected == text,
            "{}: line {different:?} differs; GOLDEN_UPDATE=1 accepts this:\n{text}",
            case.name()
        );
    }
}

#[test]
fn the_chart_and_all_values_pass_helms_own_rules() {
    for case in Case::all() {
        let words = ["lint", "--strict", CHART, "--values", &case.values()];
        if let Err(error) = cluster().helm(&words) {
            panic!("{}: {error:#}", case.name());
        }
    }
}

/// A flag that the chart writes and the program does not know keeps every Pod from starting.
#[test]
fn the_program_takes_every_argument_that_is_rendered() {
    for case in Case::all() {
        let rendered = case.rendered();
        let daemon_set = documents(&rendered)
            .into_iter()
            .find(|document| document.contains("\nkind: DaemonSet\n"))
            .unwrap();
        let container = &yaml(daemon_set)["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap().iter();
        let arguments = arguments.map(|argument| argument.as_str().unwrap().to_owned());
        let words = ["gatehouse".to_owned()].into_iter().chain(arguments);
        match cli::try_parse(words) {
            Ok(Command::Run(settings)) => {
                assert_eq!(settings.node.as_deref(), Some("$(NODE_NAME)"))
            }
            other => panic!("{}: {other:?}", case.name()),
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let words = container[probe]["exec"]["command"].as_array().unwrap().iter();
            let words = words.map(|word| word.as_str().unwrap().to_owned());
            assert!(matches!(cli::try_parse(words), Ok(Command::Status(_))), "{probe}");
        }
        assert!(container.get("ports").is_none(), "a port keeps a second Pod off the node");
    }
}
