//! Reference pages in Markdown, made from the tables that the program itself uses.

use std::fmt::Write as _;

use gatehouse_routes::annotations::{Kind, PREFIX, TABLE};

use crate::{
    admin::metrics::{METRICS, Metric},
    cli,
};

/// Annotations of other kinds than Ingress: kind, name, meaning.
const OTHER_ANNOTATIONS: [(&str, &str, &str); 7] = [
    (
        "Ingress",
        "kubernetes.io/ingress.class",
        "Class of the Ingress, where `spec.ingressClassName` is not set.",
    ),
    (
        "IngressClass",
        "ingressclass.kubernetes.io/is-default-class",
        "`true`: the class of Ingresses that name none.",
    ),
    (
        "IPAddressPool",
        "gatehouse.io/drain",
        "`true`: the pool keeps what it gave and gives nothing new.",
    ),
    (
        "Service",
        "metallb.io/loadBalancerIPs",
        "Addresses to get, at most one of each family, separated by a comma.",
    ),
    ("Service", "metallb.io/address-pool", "The pool to get addresses from."),
    (
        "Service",
        "metallb.io/allow-shared-ip",
        "Services of the same value may share an address, see [Addresses](ADDRESSES.md).",
    ),
    ("Service", "metallb.universe.tf/…", "Older names of these three; a warning says so."),
];

/// The page `docs/flags.md`.
pub fn flags() -> String {
    let mut out = String::from(
        "# Command line\n\nMade by `gatehouse docs flags`. A command line that makes no sense ends with \
         exit code 64.\n",
    );
    let definition = cli::definition();
    for command in definition.get_subcommands().filter(|command| !command.is_hide_set()) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "\n## gatehouse {}\n\n{about}", command.get_name());
        let shown = |argument: &&clap::Arg| !argument.is_hide_set() && argument.get_id() != "help";
        let arguments: Vec<_> = command.get_arguments().filter(shown).collect();
        if arguments.is_empty() {
            continue;
        }
        out.push_str("\n| argument | default | meaning |\n|---|---|---|\n");
        for argument in arguments {
            let _ = writeln!(out, "| {} |", row(argument));
        }
    }
    out
}

/// The page `docs/annotations.md`.
pub fn annotations() -> String {
    let mut out = format!(
        "# Annotations\n\nMade by `gatehouse docs annotations`.\n\n## Ingress\n\nEach begins with \
         `{PREFIX}`. Any other annotation with this prefix is ignored, and a problem of the Ingress says \
         so.\n\n| annotation | default | meaning |\n|---|---|---|\n",
    );
    for annotation in TABLE {
        let effect = match annotation.kind {
            Kind::Bool | Kind::RewriteTarget => "",
            Kind::Protects => " Not supported yet: every path of the Ingress is denied with 503.",
            Kind::Excludes => " Not supported yet: the Ingress is not served.",
        };
        let default = code(annotation.default);
        let _ = writeln!(out, "| `{}` | {default} | {}{effect} |", annotation.name, annotation.doc);
    }
    out.push_str("\n## Others\n\n| kind | annotation | meaning |\n|---|---|---|\n");
    for (kind, name, meaning) in OTHER_ANNOTATIONS {
        let _ = writeln!(out, "| {kind} | `{name}` | {meaning} |");
    }
    out
}

/// The page `docs/metrics.md`.
pub fn metrics() -> String {
    let mut out = String::from(
        "# Metrics\n\nServed at `/metrics` of the admin address. Made by `gatehouse docs metrics`.\n\n\
         | name | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for Metric { name, kind, labels, help } in METRICS {
        let kind = kind.name();
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "| `{name}` | {kind} | {labels} | {help} |");
    }
    out
}

fn row(argument: &clap::Arg) -> String {
    let values: Vec<String> = match argument.get_action().takes_values() {
        true => {
            argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect()
        }
        false => Vec::new(),
    };
    let name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, None) => String::new(),
    };
    let usage = format!("{name} {}", values.join(" "));
    let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy());
    let default = defaults.collect::<Vec<_>>().join(", ");
    let default = if argument.get_action().takes_values() { default } else { String::new() };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    format!("{} | {} | {}", code(usage.trim()), code(&default), help.replace('\n', " "))
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Compares a page with the file in the repository; `DOCS_UPDATE=1` writes the file instead.
    fn compare(name: &str, page: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
        if std::env::var_os("DOCS_UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, page).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(written, page, "docs/{name} is stale: run the test with DOCS_UPDATE=1");
    }

    #[test]
    fn the_pages_in_docs_are_what_the_program_prints() {
        compare("flags.md", &super::flags());
        compare("annotations.md", &super::annotations());
        compare("metrics.md", &super::metrics());
    }
}
