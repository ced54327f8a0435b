//! Whole pipeline, no sockets: the manifests of each folder in `golden/` give the plan beside them.
//!
//! A changed plan is a changed promise: read the difference, then run with `GOLDEN_UPDATE=1` to accept it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use gatehouse::{
    compile::{NodeContext, Role},
    plan,
};
use gatehouse_routes::options::Options;
use serde_json::Value;

/// The node of all cases; the class `nginx` is claimed, as a migrating user does.
fn node() -> NodeContext {
    NodeContext {
        node: "node-1".to_owned(),
        options: Options { claim_classes: vec!["nginx".to_owned()], ..Options::default() },
        http: vec!["0.0.0.0:80".parse().unwrap(), "[::]:80".parse().unwrap()],
        https: vec!["0.0.0.0:443".parse().unwrap()],
        ..NodeContext::default()
    }
}

/// Folders of cases, by name. Relative, so that messages that name files are the same everywhere.
fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir("tests/golden").unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 12, "the cases are missing");
    cases
}

fn planned(case: &Path) -> Value {
    plan::plan_json(&plan::planned(&[case.join("in.yaml")], node()).unwrap())
}

#[test]
fn manifests_give_the_plan_beside_them() {
    let update = std::env::var_os("GOLDEN_UPDATE").is_some();
    let mut changed = Vec::new();
    for case in cases() {
        let text = format!("{:#}\n", planned(&case));
        let file = case.join("plan.json");
        if update {
            fs::write(&file, &text).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if expected != text {
            changed.push(difference(&case, &expected, &text));
        }
    }
    assert!(changed.is_empty(), "GOLDEN_UPDATE=1 accepts this:\n{}", changed.join("\n"));
}

/// A recompile with everything known already must not change its mind.
#[test]
fn a_second_compile_says_the_same() {
    for case in cases() {
        let node = node();
        let first = plan::planned(&[case.join("in.yaml")], node.clone()).unwrap();
        let compiled =
            gatehouse::compile::compile(&first.state, &node, Role::Allocate, Some(&first.compiled));
        let first_json = plan::plan_json(&first);
        let second = plan::Planned { compiled, ..first };
        assert_eq!(plan::plan_json(&second), first_json, "{}", case.display());
    }
}

/// The lines around the first difference.
fn difference(case: &Path, expected: &str, got: &str) -> String {
    let (mut expected, mut got) = (expected.lines(), got.lines());
    let mut line = 0;
    loop {
        line += 1;
        let pair = (expected.next(), got.next());
        if pair.0 != pair.1 {
            let [expected, got] = [pair.0, pair.1].map(|text| text.unwrap_or("end of file"));
            return format!("{}:{line}\n  expected {expected}\n  got      {got}", case.display());
        }
    }
}
