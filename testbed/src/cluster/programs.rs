//! Where the programs of a cluster are: `$KUBEBUILDER_ASSETS`, then what `testbed/cluster/build` has made.

use std::{env, path::PathBuf};

use anyhow::bail;

/// The path of a program.
pub(super) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let found = folders().map(|folder| folder.join(name)).find(|program| program.is_file());
    let Some(program) = found else {
        bail!(
            "{name} is missing: run testbed/cluster/build, or set KUBEBUILDER_ASSETS to a folder with it"
        );
    };
    Ok(program)
}

fn folders() -> impl Iterator<Item = PathBuf> {
    let given = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    // Tests run from target/debug/deps.
    let own = env::current_exe().unwrap_or_default();
    let above: Vec<PathBuf> = own.ancestors().skip(1).take(3).map(PathBuf::from).collect();
    let built = target.into_iter().chain(above).map(|target| target.join("tools/cluster"));
    given.into_iter().chain(built)
}
