//! Where the programs of a cluster are: `$KUBEBUILDER_ASSETS`, then what `testbed/cluster/build` has made; and
//! MetalLB's, which `testbed/metallb/build` makes.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// The path of a program.
pub(super) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let given = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let folders = given.into_iter().chain(built("cluster"));
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    let Some(program) = found else {
        bail!(
            "{name} is missing: run testbed/cluster/build, or set KUBEBUILDER_ASSETS to a folder with it"
        );
    };
    Ok(program)
}

/// The folder of MetalLB: `controller`, `speaker`, and `crds/`.
pub(super) fn metallb() -> anyhow::Result<PathBuf> {
    let found = built("metallb").find(|folder| folder.is_dir());
    found.context("MetalLB is missing: run testbed/metallb/build")
}

/// Where folders of this name are looked for: in `$TOOLS`, then in the target folder.
fn built(name: &'static str) -> impl Iterator<Item = PathBuf> {
    let tools = env::var_os("TOOLS").map(PathBuf::from);
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    // Tests run from target/debug/deps.
    let own = env::current_exe().unwrap_or_default();
    let above: Vec<PathBuf> = own.ancestors().skip(1).take(3).map(Path::to_owned).collect();
    let targets = target.into_iter().chain(above).map(|target| target.join("tools"));
    tools.into_iter().chain(targets).map(move |tools| tools.join(name))
}
