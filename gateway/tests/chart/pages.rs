//! What the pages say: their commands are run as they stand, and every reason that the program gives is explained.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use gatehouse_testbed::cluster::Cluster;
use tempfile::TempDir;

use super::site::Site;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Blocks of commands in the pages about an installation, by their first words. A test runs each, as
/// [`Shell::run`] has it.
pub(crate) const BLOCKS: [(&str, &str); 9] = [
    (INSTALL, "kubectl create namespace"),
    (INSTALL, "helm install gatehouse"),
    (INSTALL, "helm upgrade gatehouse"),
    (INSTALL, "kubectl create secret"),
    (MIGRATION, "kubectl get ingresses"),
    (MIGRATION, "helm install gatehouse"),
    (ROUTER, "oc get routes"),
    (ROUTER, "gatehouse convert"),
    (TROUBLES, "kubectl exec"),
];
pub(crate) const INSTALL: &str = "docs/install.md";
pub(crate) const MIGRATION: &str = "docs/migrate-from-metallb-and-ingress-nginx.md";
pub(crate) const ROUTER: &str = "docs/migrate-from-openshift-router.md";
pub(crate) const TROUBLES: &str = "docs/troubleshooting.md";

/// Camel case that is no reason: kinds, values of fields, names of types.
const NO_REASONS: [&str; 28] = [
    "BackendTlsTable",
    "BgpSpeakerOptions",
    "CertCache",
    "CertTable",
    "CiliumL2AnnouncementPolicy",
    "ClientTrust",
    "ConfigMap",
    "DoesNotExist",
    "EndpointSlice",
    "ExternalName",
    "HttpOnly",
    "ImplementationSpecific",
    "IngressClass",
    "InterNamespaceAllowed",
    "KeyText",
    "L2Advertisement",
    "LoadBalancer",
    "NetScaler",
    "NotIn",
    "PreferClose",
    "PreferDualStack",
    "PreferSameNode",
    "PreferSameZone",
    "RequireDualStack",
    "RoutePrefix",
    "ServiceL2Status",
    "SpeakerOptions",
    "WriteStatus",
];

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(name)).unwrap()
}

/// The commands of a page, each block with its indentation taken off.
fn blocks(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(indent) = line.strip_suffix("```sh") else { continue };
        let inside = lines.by_ref().take_while(|line| line.trim() != "```");
        let inside = inside.map(|line| format!("{}\n", line.strip_prefix(indent).unwrap_or(line)));
        found.push(inside.collect());
    }
    found
}

/// The block of a page that begins with these words.
pub(crate) fn block(name: &str, begin: &str) -> String {
    let block = blocks(&page(name)).into_iter().find(|block| block.starts_with(begin));
    block.unwrap_or_else(|| panic!("{name} has no commands that begin with {begin}"))
}

#[test]
fn every_block_of_commands_is_known() {
    for name in [INSTALL, MIGRATION, ROUTER, TROUBLES] {
        let begins = BLOCKS.iter().filter(|(page, _)| *page == name).map(|(_, begin)| *begin);
        let (begins, found) = (begins.collect::<Vec<_>>(), blocks(&page(name)));
        assert_eq!(found.len(), begins.len(), "{name}: {found:#?}");
        for (block, begin) in found.iter().zip(begins) {
            assert!(block.starts_with(begin), "{name}: {block}");
        }
    }
    let first = "kubectl create namespace";
    assert_eq!(block("charts/gatehouse/README.md", first), block(INSTALL, first));
}

/// The shell of a reader of the pages: in a folder with the chart and the examples, with the programs that the
/// pages use.
pub(crate) struct Shell<'a> {
    site: &'a Site,
    folder: TempDir,
}

impl<'a> Shell<'a> {
    pub(crate) fn new(site: &'a Site) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("bin")).unwrap();
        for name in ["charts", "examples"] {
            symlink(Path::new(ROOT).canonicalize().unwrap().join(name), at(name)).unwrap();
        }
        let gatehouse = env!("CARGO_BIN_EXE_gatehouse");
        symlink(gatehouse, at("bin/gatehouse")).unwrap();
        symlink(Cluster::program("helm").unwrap(), at("bin/helm")).unwrap();
        let kubectl = Cluster::program("kubectl").unwrap();
        symlink(&kubectl, at("bin/oc")).unwrap();
        // The agents of the nodes run no commands in Pods: the same program runs beside the Pod instead.
        let node = site.nodes[0].host().prefix().join(" ");
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = exec ] || exec {kubectl} \"$@\"\n\
             while [ \"$1\" != -- ]; do shift; done\nshift 2\nexec {node} {gatehouse} \"$@\"\n",
            kubectl = kubectl.display(),
        );
        fs::write(at("bin/kubectl"), script).unwrap();
        fs::set_permissions(at("bin/kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { site, folder }
    }

    /// Runs a block of a page as it stands; what it has written.
    pub(crate) fn run(&self, page: &str, begin: &str) -> String {
        assert!(BLOCKS.contains(&(page, begin)), "{page}: {begin}");
        self.sh(&block(page, begin))
    }

    /// Runs a script.
    pub(crate) fn sh(&self, script: &str) -> String {
        let own = self.folder.path().join("bin").display().to_string();
        let path = format!("{own}:{}", std::env::var("PATH").unwrap_or_default());
        let mut command = self.site.cluster.command("bash");
        command.args(["-e", "-o", "pipefail", "-c", script]).env("PATH", path);
        let output = command.current_dir(self.folder.path()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{script}\n{text}\n{}", self.site.describe());
        text
    }
}

/// Sources of the program, without tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["tests", "testing"].contains(&name.as_str()) {
            sources(&path, found);
        } else if name.ends_with(".rs") && !["tests.rs", "testing.rs"].contains(&name.as_str()) {
            found.push(path);
        }
    }
}

/// Texts in camel case of two words or more.
fn camel_case(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').filter(|word| {
        let humps = word.chars().filter(char::is_ascii_uppercase).count();
        let starts = word.starts_with(|first: char| first.is_ascii_uppercase());
        let letters = word.chars().all(|char| char.is_ascii_alphanumeric());
        starts
            && letters
            && humps > 1
            && word.contains(|char: char| char.is_ascii_lowercase())
            && !word.as_bytes().windows(2).any(|two| two.iter().all(u8::is_ascii_uppercase))
    })
}

#[test]
fn every_reason_is_explained_and_no_other() {
    let page = page("docs/troubleshooting.md");
    let by_reason = page.split("\n## By reason\n").nth(1).unwrap();
    let cells = by_reason.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let explained: BTreeSet<&str> =
        cells.flat_map(|cell| cell.split(", ")).map(|reason| reason.trim_matches('`')).collect();
    let mut files = Vec::new();
    for part in ["problem/src", "routes/src", "vip/src", "gateway/src"] {
        sources(&Path::new(ROOT).join(part), &mut files);
    }
    assert!(files.len() > 100, "sources are missing");
    let mut given: BTreeMap<String, PathBuf> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code = own.lines().filter(|line| !line.trim_start().starts_with("//"));
        for word in code.flat_map(camel_case) {
            given.insert(word.to_owned(), file.clone());
        }
    }
    for word in NO_REASONS {
        assert!(given.remove(word).is_some(), "{word} is no longer in the sources");
    }
    for (reason, file) in &given {
        let named = file.strip_prefix(ROOT).unwrap().display();
        assert!(
            explained.contains(reason.as_str()),
            "{reason} ({named}) is not explained in docs/troubleshooting.md, and none of NO_REASONS"
        );
    }
    for reason in explained {
        let own = given.contains_key(reason) || EVENTS.contains(&reason);
        assert!(own, "docs/troubleshooting.md explains {reason}, which nothing says");
    }
}

/// Reasons of Events in MetalLB's spelling, which is no camel case.
const EVENTS: [&str; 4] = ["IPAllocated", "announceFailed", "deprecatedAnnotation", "nodeAssigned"];
