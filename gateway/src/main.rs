//! The `gatehouse` command.

use std::process::ExitCode;

use gatehouse::{
    admin::status,
    app,
    cli::{self, Command},
    config::LogFormat,
    logging, plan,
};

/// Small allocations of many cores at once are what a proxy does all day.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = cli::parse();
    let (asked, format) = match &command {
        Command::Run(settings) => (settings.log.as_deref(), settings.log_format),
        _ => (None, LogFormat::Text),
    };
    let complaint = logging::start(asked, format);
    let ended = match command {
        Command::Run(settings) => app::run(&settings, complaint.as_ref()),
        Command::Status(arguments) => status::run(&arguments),
        command => plan::run(command),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("gatehouse: {error:#}");
        ExitCode::FAILURE
    })
}
