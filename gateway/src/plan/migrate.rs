//! `migrate`: object by object, how close this gateway comes to the controller that serves it today.
//!
//! Made of what everything else is made of: the compile's problems, and the annotation table's verdict on each
//! annotation. [`page`] draws the report.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use anyhow::bail;
use gatehouse_routes::{
    annotations::{self, Judged, Verdict},
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::{Planned, Unplanned, check, files, json_text, node_context};
use crate::{
    cli::{MigrateArgs, ReportForm},
    compile::{NodeContext, Role, compile},
    source::{
        References,
        kube::{self, KubeSource, client::Access},
    },
    state::ClusterState,
};

mod page;
mod place;
mod shadow;

use shadow::Shadowed;

/// Controller of ingress-nginx' IngressClass, and the usual name of that.
const NGINX: (&str, &str) = ("k8s.io/ingress-nginx", "nginx");
/// How long an API server is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of everything.
#[derive(Debug, Serialize)]
struct Report {
    objects: Vec<Object>,
    /// Ingresses of classes that are not read.
    others: Vec<ObjectRef>,
    totals: Totals,
    /// What the controller that serves today answered otherwise, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<Shadowed>,
}

/// What becomes of one object.
#[derive(Debug, Serialize)]
struct Object {
    object: ObjectRef,
    /// `file:line`, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// The worst of all below.
    verdict: Verdict,
    annotations: Vec<Judged>,
    /// What is wrong besides.
    problems: Vec<Problem>,
}

/// Objects by their verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Totals {
    honoured: usize,
    noted: usize,
    differs: usize,
    closed: usize,
}

/// Runs the command.
///
/// # Errors
/// Paths that are not there, or an API server that does not answer.
pub(super) fn run(arguments: &MigrateArgs, out: &mut String) -> anyhow::Result<ExitCode> {
    let mut node = node_context(&arguments.manifests)?;
    let read = match &arguments.context {
        None => files(&arguments.paths)?,
        Some(context) => {
            let (kubeconfig, context) = (arguments.kubeconfig.clone(), Some(context.clone()));
            cluster(Access { kubeconfig, context }, &node)?
        }
    };
    if node.options.claim_classes.is_empty() {
        node.options.claim_classes = classes_of_nginx(&read.state);
    }
    let planned = read.planned(node);
    let mut report = report(&planned);
    report.shadow = shadow::run(&arguments.shadow, &planned)?;
    match arguments.output {
        ReportForm::Table => {
            page::text(&report, check::Page::of_stdout(), out);
            if let Some(shadowed) = &report.shadow {
                shadow::print(shadowed, out);
            }
        }
        ReportForm::Json => json_text(&serde_json::to_value(&report)?, out),
        ReportForm::Html => page::html(&report, out),
    }
    for line in &planned.unreadable {
        eprintln!("gatehouse: {line}");
    }
    let same = report.shadow.as_ref().is_none_or(|it| it.differences.is_empty());
    let whole =
        same && planned.unreadable.is_empty() && report.totals.differs + report.totals.closed == 0;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn classes_of_nginx(state: &ClusterState) -> Vec<String> {
    let classes = state.objects.ingress_classes.iter().filter(|(_, stored)| {
        let spec = stored.object.spec.as_ref();
        spec.and_then(|spec| spec.controller.as_deref()) == Some(NGINX.0)
    });
    let mut names: Vec<_> = classes.map(|(key, _)| key.name.to_string()).collect();
    names.push(NGINX.1.to_owned());
    names.dedup();
    names
}

/// All that an API server has, and what is referred to by name.
fn cluster(access: Access, node: &NodeContext) -> anyhow::Result<Unplanned> {
    let (events, heard) = mpsc::channel();
    let source = KubeSource::start(kube::Options { access, ..kube::Options::default() }, events)?;
    let mut state = ClusterState::new([kube::SOURCE]);
    let mut wanted: Option<Arc<References>> = None;
    let until = Instant::now() + PATIENCE;
    loop {
        if state.synced() {
            match &wanted {
                Some(wanted) if state.has_answers(wanted) => break,
                Some(_) => {}
                None => {
                    let compiled = compile(&state, node, Role::Follow, None);
                    let references = compiled.references();
                    let references: References =
                        references.map(|(kind, key)| (kind, key.clone())).collect();
                    let references = Arc::new(references);
                    source.wants().set(&references);
                    wanted = Some(references);
                }
            }
        }
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(event) => drop(state.apply(event)),
            Err(_) => {
                let problems = state.problems();
                let why = problems.first().map(|problem| format!(": {problem}"));
                bail!(
                    "the API server has not told everything within {PATIENCE:?}{}",
                    why.unwrap_or_default()
                );
            }
        }
    }
    Ok(Unplanned { state, unreadable: Vec::new(), places: BTreeMap::new() })
}

fn report(planned: &Planned) -> Report {
    let Planned { state, compiled, places, .. } = planned;
    let mut problems: BTreeMap<&ObjectRef, Vec<&Problem>> = BTreeMap::new();
    for problem in &compiled.problems {
        problems.entry(&problem.object).or_default().push(problem);
    }
    let snippets = planned.node.options.understand_snippets;
    let judged = |object: ObjectRef, metadata: &ObjectMeta| {
        let annotations = annotations::each(&object, metadata, snippets);
        let besides = problems.get(&object).into_iter().flatten();
        let besides = besides.filter(|problem| !problem.field.starts_with("metadata.annotations"));
        let problems: Vec<Problem> = besides.map(|problem| (*problem).clone()).collect();
        let of_problem = |problem: &Problem| match problem.is_error() {
            true => Verdict::Differs,
            false => Verdict::Noted,
        };
        let verdicts = annotations.iter().map(|judged| judged.verdict);
        let worst = verdicts.chain(problems.iter().map(of_problem)).max();
        Object {
            place: places.get(&object).cloned(),
            verdict: worst.unwrap_or(Verdict::Honoured),
            annotations,
            problems,
            object,
        }
    };
    let reference = |kind, key: &ObjectKey| ObjectRef::new(kind, key.clone());
    let served: Vec<_> = compiled.routes.ingresses.iter().map(|outcome| &outcome.object).collect();
    let (ours, others): (Vec<_>, Vec<_>) =
        state.objects.ingresses.iter().partition(|(key, _)| served.contains(key));
    let ingresses = ours
        .into_iter()
        .map(|(key, stored)| judged(reference("Ingress", key), &stored.object.metadata));
    let routes = state.objects.routes.iter();
    let routes =
        routes.map(|(key, stored)| judged(reference("Route", key), &stored.object.metadata));
    let mut objects: Vec<_> = ingresses.chain(routes).collect();
    let mut totals = Totals::default();
    for object in &objects {
        *match object.verdict {
            Verdict::Honoured => &mut totals.honoured,
            Verdict::Noted => &mut totals.noted,
            Verdict::Differs => &mut totals.differs,
            Verdict::Closed => &mut totals.closed,
        } += 1;
    }
    // The worst first; among equals the order of names.
    objects.sort_by_key(|object| std::cmp::Reverse(object.verdict));
    let others = others.into_iter().map(|(key, _)| reference("Ingress", key)).collect();
    Report { objects, others, totals, shadow: None }
}

#[cfg(test)]
mod tests;
