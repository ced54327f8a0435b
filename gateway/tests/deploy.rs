//! What `deploy/` makes: the image of a binary, and the unit of a bare host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use gatehouse::cli;
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Runs a command that has to succeed; what it has written.
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn image(binary: &Path, output: &Path) -> Command {
    let mut command = Command::new(format!("{ROOT}/deploy/image"));
    command.arg("--binary").arg(binary).arg("--output").arg(output).args(["--revision", "abc"]);
    command
}

/// A static program, as small as there is one.
fn static_program(folder: &Path) -> PathBuf {
    let source = folder.join("program.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let program = folder.join("program");
    run(Command::new("cc").args(["-static", "-o"]).arg(&program).arg(&source));
    program
}

/// A blob of an unpacked image, its digest checked.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let file = layout.join("blobs/sha256").join(digest);
    let sum = run(Command::new("sha256sum").arg(&file));
    assert_eq!(sum.split_whitespace().next(), Some(digest));
    assert_eq!(fs::metadata(&file).unwrap().len(), descriptor["size"].as_u64().unwrap());
    file
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn an_image_holds_the_binary_its_parts_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let program = static_program(folder.path());
    let archive = folder.path().join("image.tar");
    let bill = folder.path().join("bill.json");
    run(image(&program, &archive).arg("--sbom").arg(&bill));
    let again = folder.path().join("again.tar");
    run(&mut image(&program, &again));
    assert!(fs::read(&archive).unwrap() == fs::read(again).unwrap(), "not the same twice");

    let layout = folder.path().join("layout");
    fs::create_dir(&layout).unwrap();
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&layout));
    assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let manifest = json(&blob(&layout, &json(&layout.join("index.json"))["manifests"][0]));
    let config = json(&blob(&layout, &manifest["config"]));
    assert_eq!(config["config"]["Entrypoint"][0], "/gatehouse");
    assert_eq!(config["config"]["User"], "65532:65532");
    let labels = &config["config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(labels["org.opencontainers.image.revision"], "abc");
    let dockerfile = fs::read_to_string(format!("{ROOT}/deploy/Dockerfile")).unwrap();
    for (label, value) in labels.as_object().unwrap() {
        let value = value.as_str().unwrap().replace("abc", "${REVISION}");
        assert!(
            dockerfile.contains(&format!("{label}=\"{value}\"")),
            "deploy/Dockerfile: {label} is not {value}"
        );
    }

    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let layer = blob(&layout, &manifest["layers"][0]);
    let unzipped =
        run(Command::new("sh").arg("-c").arg(format!("gzip -dc {} | sha256sum", layer.display())));
    let digest = config["rootfs"]["diff_ids"][0].as_str().unwrap();
    assert_eq!(unzipped.split_whitespace().next(), digest.strip_prefix("sha256:"));
    run(Command::new("tar").arg("-xzf").arg(&layer).arg("-C").arg(&root));
    let mut names: Vec<_> =
        fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["gatehouse", "gatehouse.cdx.json"]);
    assert_eq!(fs::metadata(root.join("gatehouse")).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(Command::new(root.join("gatehouse")).status().unwrap().success());

    let bill = json(&bill);
    let part = |name: &str| {
        let parts = bill["components"].as_array().unwrap();
        parts.iter().find(|part| part["name"] == name).cloned()
    };
    assert_eq!(part("hyper").unwrap()["licenses"][0]["expression"], "MIT");
    assert!(part("gatehouse-testbed").is_none() && part("proptest").is_none(), "parts of tests");
}

#[test]
fn a_debian_package_holds_what_the_manifest_of_the_program_says() {
    let folder = tempfile::tempdir().unwrap();
    let program = static_program(folder.path());
    let package = |name: &str| {
        let file = folder.path().join(name);
        let mut command = Command::new(format!("{ROOT}/deploy/deb"));
        run(command.arg("--binary").arg(&program).arg("--output").arg(&file));
        file
    };
    let (deb, again) = (package("one.deb"), package("two.deb"));
    assert!(fs::read(&deb).unwrap() == fs::read(again).unwrap(), "not the same twice");
    let field = |name: &str| run(Command::new("dpkg-deb").arg("--field").arg(&deb).arg(name));
    assert_eq!(field("Package").trim(), "gatehouse");
    assert_eq!(field("Version").trim(), concat!(env!("CARGO_PKG_VERSION"), "-1"));
    assert_eq!(field("Depends").trim(), "", "a static binary needs no other package");

    let root = folder.path().join("root");
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(&deb).arg(&root));
    assert!(Command::new(root.join("usr/bin/gatehouse")).status().unwrap().success());
    for (file, source) in [
        ("usr/lib/systemd/system/gatehouse.service", "deploy/gatehouse.service"),
        ("etc/default/gatehouse", "deploy/gatehouse.default"),
        ("usr/share/doc/gatehouse/examples/00-class.yaml", "examples/quickstart/00-class.yaml"),
    ] {
        let source = fs::read(format!("{ROOT}/{source}")).unwrap();
        assert!(fs::read(root.join(file)).unwrap() == source, "{file}");
    }
    let kept = fs::read_to_string(root.join("DEBIAN/conffiles")).unwrap();
    assert_eq!(kept, "/etc/default/gatehouse\n");
}

#[test]
fn a_binary_that_needs_what_the_image_has_not_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    let dynamic = Path::new(env!("CARGO_BIN_EXE_gatehouse"));
    let refused = image(dynamic, &archive).output().unwrap();
    assert!(!refused.status.success() && !archive.exists());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("linked dynamically"), "{said}");
}

#[test]
fn the_unit_of_a_bare_host_starts_the_program_with_flags_that_it_has() {
    let unit = fs::read_to_string(format!("{ROOT}/deploy/gatehouse.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words = start.split_whitespace().filter(|word| *word != "$GATEHOUSE_ARGS");
    let command = cli::try_parse(words);
    assert!(matches!(command, Ok(cli::Command::Run(_))), "{command:?}");
    let (stop, drains) = (unit.contains("\nTimeoutStopSec=90\n"), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
    assert!(stop && drains.iter().all(|capability| unit.contains(capability)));
}
