//! What the page about troubleshooting says: every reason that the program gives is explained there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Camel case that is no reason: kinds, values of fields, names of types.
const NO_REASONS: [&str; 19] = [
    "BgpSpeakerOptions",
    "CertCache",
    "CertTable",
    "CiliumL2AnnouncementPolicy",
    "ConfigMap",
    "DoesNotExist",
    "EndpointSlice",
    "ExternalName",
    "ImplementationSpecific",
    "IngressClass",
    "L2Advertisement",
    "LoadBalancer",
    "NetScaler",
    "NotIn",
    "PreferDualStack",
    "RequireDualStack",
    "RoutePrefix",
    "ServiceL2Status",
    "SpeakerOptions",
];

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(name)).unwrap()
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
