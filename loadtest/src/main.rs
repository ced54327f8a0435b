//! `gatehouse-loadtest`: the echo backend, the quickstart, the side-by-side benchmark and the scale test.
//!
//! This file owns the command line only. Nothing here is part of the product: the gateway never
//! depends on this crate, and all traffic stays on loopback.

#![forbid(unsafe_code)]

mod bench;
mod certificate;
mod client;
mod echo;
mod manifests;
mod ports;
mod process;
mod quickstart;
mod scale;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load and peers for gatehouse.
#[derive(Debug, Parser)]
#[command(name = "gatehouse-loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// An HTTP/1.1 backend that says which service and endpoint answered.
    Echo(echo::Options),
    /// Echo backends and a gateway on the quickstart's manifests, until Ctrl-C.
    Quickstart(quickstart::Options),
    /// The same job for gatehouse, nginx, HAProxy and Envoy, side by side.
    Bench(bench::Options),
    /// Many hosts in one gateway: start, change, memory.
    Scale(scale::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Echo(options) => echo::run(options),
        Command::Quickstart(options) => quickstart::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Scale(options) => scale::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gatehouse-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
