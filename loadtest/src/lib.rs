//! `gatehouse-loadtest`: the echo backend, the quickstart, the side-by-side benchmark, the scale tests and
//! the fail-over test.
//!
//! This file owns the command line only. Nothing here is part of the product. What runs are made
//! of is the test bed's ([`gatehouse_testbed`]).
//! All traffic stays on loopback or within network namespaces that a run has made.

#![forbid(unsafe_code)]

mod bench;
mod chaos;
mod cluster;
mod failover;
mod forwarding;
mod quickstart;
mod scale;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gatehouse_testbed::echo;

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
    /// Many objects in a real cluster: start, statuses, changes, memory.
    Cluster(cluster::Options),
    /// What clients notice of backends that fail: gatehouse beside HAProxy and Envoy.
    Chaos(chaos::Options),
    /// One of the backends of `chaos`.
    #[command(hide = true)]
    ChaosBackend(chaos::BackendOptions),
    /// How long an address is away when its owner dies: gatehouse beside keepalived.
    Failover(failover::Options),
    /// What it costs a node to pass traffic on: in the process and by the kernel, beside rules by hand and proxies.
    Forwarding(forwarding::Options),
}

/// What the program does: one of its subcommands.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Echo(options) => echo::run(options),
        Command::Quickstart(options) => quickstart::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Scale(options) => scale::run(&options),
        Command::Cluster(options) => cluster::run(&options),
        Command::Chaos(options) => chaos::run(&options),
        Command::ChaosBackend(options) => chaos::serve_backend(&options),
        Command::Failover(options) => failover::run(&options),
        Command::Forwarding(options) => forwarding::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gatehouse-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
