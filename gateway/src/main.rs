//! The `gatehouse` command.

use std::{io::IsTerminal as _, process::ExitCode};

use gatehouse::{
    admin::status,
    app,
    cli::{self, Command},
    plan,
};
use tracing_subscriber::EnvFilter;

/// Small allocations of many cores at once are what a proxy does all day.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is logged unless the environment says otherwise.
const LOG: &str = "info";
/// What the client of the API server sees is said in the words of the source.
const QUIET: &str = "kube_client=error,kube_runtime=error";

fn main() -> ExitCode {
    let command = cli::parse();
    let asked = std::env::var("GATEHOUSE_LOG");
    let filter = EnvFilter::try_new(format!("{QUIET},{}", asked.as_deref().unwrap_or(LOG)));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(format!("{QUIET},{LOG}")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let ended = match command {
        Command::Run(settings) => app::run(&settings),
        Command::Status(arguments) => status::run(&arguments),
        command => plan::run(command),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("gatehouse: {error:#}");
        ExitCode::FAILURE
    })
}
