//! Everything the command line does without serving: `plan`, `check`, `explain`, and printing of
//! reference material.
//!
//! These commands take the very path of the running process (files, state, compile) and print what comes
//! out; nothing is decided here. The admin server uses [`snapshot_json`].

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use gatehouse_routes::{objects::ObjectRef, options::Options};
use serde_json::Value;

use crate::{
    cli::{CheckArgs, Command, ManifestArgs, Output, Page, PlanArgs},
    compile::{Compiled, NodeContext, Role, compile},
    config, crds, docs,
    source::files::{self, LoadError},
    state::ClusterState,
    state_file,
    tls::profile::{self, Profile},
};

mod check;
mod convert;
mod explain;
mod json;
mod migrate;
mod table;

pub use json::{plan_json, snapshot_json};

/// Runs any command but `run` and `status` (which belong to the process) and prints to standard output.
///
/// # Errors
/// Manifests that cannot be read, a URL that is none, or standard output that cannot be written.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    let code = match command {
        Command::Plan(arguments) => plan(&arguments, &mut text)?,
        Command::Check(arguments) => check(&arguments, check::Page::of_stdout(), &mut text)?,
        Command::Migrate(arguments) => migrate::run(&arguments, &mut text)?,
        Command::Convert(arguments) => convert::run(&arguments, &mut text)?,
        Command::Explain(arguments) => explain::run(&arguments, &mut text)?,
        Command::Crds(arguments) => {
            text = crds::yaml(arguments.only);
            ExitCode::SUCCESS
        }
        Command::Version => {
            text = format!("gatehouse {}\n", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Command::Docs(arguments) => {
            text = match arguments.page {
                Page::Flags => docs::flags(),
                Page::Annotations => docs::annotations(),
                Page::Metrics => docs::metrics(),
                Page::NginxConfig => docs::nginx_config(),
            };
            ExitCode::SUCCESS
        }
        Command::Run(_) | Command::Status(_) => anyhow::bail!("this command reads no manifests"),
    };
    print(&text)?;
    Ok(code)
}

/// What manifests mean: the state they give, and what it compiles to.
#[derive(Debug)]
pub struct Planned {
    /// The objects.
    pub state: ClusterState,
    /// What they mean.
    pub compiled: Compiled,
    /// The node that they were compiled for.
    pub node: NodeContext,
    /// What could not be read, a line each.
    pub unreadable: Vec<String>,
    /// `file:line` of the objects.
    pub places: BTreeMap<ObjectRef, String>,
}

/// Loads and compiles manifests for a node.
///
/// # Errors
/// Paths that are not there.
pub fn planned(paths: &[PathBuf], node: NodeContext) -> Result<Planned, LoadError> {
    let read = files(paths)?;
    Ok(read.planned(node))
}

/// Objects that have been read and not been compiled.
struct Unplanned {
    state: ClusterState,
    unreadable: Vec<String>,
    places: BTreeMap<ObjectRef, String>,
}

impl Unplanned {
    fn planned(self, node: NodeContext) -> Planned {
        let Self { state, unreadable, places } = self;
        let compiled = compile(&state, &node, Role::Allocate, None);
        Planned { state, compiled, node, unreadable, places }
    }
}

fn files(paths: &[PathBuf]) -> Result<Unplanned, LoadError> {
    let mut loaded = files::load(paths)?;
    let mut state = ClusterState::new([files::SOURCE]);
    for event in loaded.events() {
        state.apply(event);
    }
    Ok(Unplanned { state, unreadable: loaded.unreadable(), places: loaded.places() })
}

/// The node that the arguments describe.
///
/// # Errors
/// They leave TLS without a cipher.
pub fn node_context(arguments: &ManifestArgs) -> anyhow::Result<NodeContext> {
    let recorded = match &arguments.state_dir {
        Some(folder) => state_file::load(folder),
        None => Default::default(),
    };
    if let Some(complaint) = recorded.1 {
        tracing::warn!("{complaint}");
    }
    let plain = config::PlainAddresses {
        http: &arguments.http,
        https: &arguments.https,
        gateway_service: arguments.gateway_service.as_ref(),
    };
    let (profile, absent) = Profile::new(&arguments.tls)?;
    if let Some(absent) = absent {
        tracing::warn!("{}", profile::reduced(&absent));
    }
    Ok(NodeContext {
        node: arguments.node.clone().unwrap_or_else(config::host_name),
        options: arguments.routes.applied_to(Options {
            claim_classes: arguments.claim_classes.clone(),
            default_gateway: arguments.gateway_service.clone(),
            route_domain: arguments.route_domain.clone(),
            encoded_slashes: arguments.encoded_slashes,
            nginx_config: arguments.nginx_config.clone(),
            error_pages: arguments.error_pages.clone(),
            default_backend: arguments.default_backend.clone(),
            understand_snippets: arguments.understand_snippets,
            ..Options::default()
        }),
        http: plain.http(),
        https: plain.https(),
        external_ips: arguments.external_ips.iter().copied().collect(),
        recorded: recorded.0.addresses,
        quarantined: recorded.0.quarantined,
        tls: Arc::new(profile),
        ..NodeContext::default()
    })
}

fn plan(arguments: &PlanArgs, out: &mut String) -> anyhow::Result<ExitCode> {
    let planned = planned(&arguments.paths, node_context(&arguments.manifests)?)?;
    match arguments.output {
        Output::Json => json_text(&plan_json(&planned), out),
        Output::Table => table::plan(&planned, out),
    }
    // A plan of a part of the manifests is not the plan that was asked for.
    Ok(if planned.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(arguments: &CheckArgs, page: check::Page, out: &mut String) -> anyhow::Result<ExitCode> {
    let found = match planned(&arguments.paths, node_context(&arguments.manifests)?) {
        Ok(planned) => check::report(&planned, page, out),
        Err(LoadError { errors }) => check::missing(&errors, out),
    };
    let failed = found.errors > 0 || (arguments.strict && found.warnings > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn json_text(value: &Value, out: &mut String) {
    out.push_str(&format!("{value:#}\n"));
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader of our output (`head`) may stop when it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
