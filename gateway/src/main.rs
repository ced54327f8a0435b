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

#[expect(
    unsafe_code,
    reason = "the crate of the allocator declares this along with much else, and a library"
)]
unsafe extern "C" {
    // As in mimalloc.h: it may be called at any time, from any thread.
    safe fn mi_collect(force: bool);
}

/// Gives memory that the calling thread has freed back to the kernel. The allocator does so when it is asked for more,
/// which may be never.
fn give_back() {
    mi_collect(true);
}

fn main() -> ExitCode {
    // The allocator asks for no huge pages (`no_thp`), but some hosts give them to everybody: an idle process is twice as
    // large with them, and no request is cheaper. A kernel without such a switch has none to give.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let command = cli::parse();
    let (asked, format) = match &command {
        Command::Run(settings) => (settings.log.as_deref(), settings.log_format),
        _ => (None, LogFormat::Text),
    };
    let complaint = logging::start(asked, format);
    let ended = match command {
        Command::Run(settings) => app::run(&settings, complaint.as_ref(), give_back),
        Command::Status(arguments) => status::run(&arguments),
        command => plan::run(command),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("gatehouse: {error:#}");
        ExitCode::FAILURE
    })
}
