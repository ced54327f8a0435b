//! The program `gatehouse-testbed-node`; everything is in the library.

#![forbid(unsafe_code)]

use clap::Parser as _;
use gatehouse_testbed::node::{Options, run};

fn main() -> anyhow::Result<()> {
    run(&Options::parse())
}
