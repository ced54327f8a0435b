//! Reference pages in Markdown, made from the tables that the program itself uses.

use std::fmt::Write as _;

use gatehouse_routes::annotations::{
    Annotation, FAMILIES, PROGRAMS, PROTECTING_WORDS, Status,
    nginx_config::{KEYS, Means, Message, Tls},
};

use crate::{
    access_log,
    admin::metrics::{self, METRICS, Metric},
    cli,
};

const ANNOTATIONS_HEAD: &str = "\
# Annotations

Made by `gatehouse docs annotations`. `gatehouse check` says the same of the objects it is given.

| verdict | what happens |
|---|---|
| honoured | it does what it says |
| honoured or closes | it does what it says; a value that cannot be honoured closes |
| harmless | it has no effect; the object is served, with a warning |
| **closes** | it protects and is not built: every path of the object answers 503, with an error |
| **closes the host** | the same, and what other objects of the namespace have on its hosts answers 503, too |

A value that asks for nothing closes nothing: an empty one, and those in the table. An allow-list asks for
nothing only if it holds every IPv4 and every IPv6 address, in any order: `0.0.0.0/0` alone keeps IPv6 clients
out, so it closes. An open path of an older object of the namespace does not answer in the place of a closed one;
one of another namespace does, and an error says so. A name that belongs to a protection closes even where it would do nothing alone.

A name on a kind of object that its row does not have protects nothing there: on an Ingress or a Route it closes if its row
protects (`whitelist-source-range` on a Route), otherwise it has no effect, and a warning says so. On a Service names that begin
`gatehouse.io/` do the same: no port of it is passed on, and one that serves Ingresses admits no client.

A name that is not in the table has no effect, and a warning says so. On an Ingress or a Route, and on
a Service where it begins `gatehouse.io/`, it closes if it is nearly the name of a protection, or if a part of it says that it protects: ";

const OTHER_PROGRAMS: &str = "
## Of other controllers

Nothing with these prefixes is read on an Ingress or a Route. What limits, authenticates, verifies or chooses another
protocol for the backend closes the object, as far as its name says so; what redirects, rewrites or changes answers
otherwise is an error; the rest is a warning, as is what an annotation of ingress-nginx on the same Ingress says with the same
value. One line for each prefix and effect.

| prefix | read by |
|---|---|
";

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
    out.push_str(
        "\n## Names in a pattern of the access log\n\n\
         `--access-log-format '$client \"$request\" $status'`: a name follows a dollar, `${name}` where a \
         letter follows it, `$$` is a dollar. What is absent is `-`; quotes, backslashes and whatever is not \
         printable ASCII is `\\xHH`.\n\n| name | value |\n|---|---|\n",
    );
    for (names, value) in access_log::NAMES {
        let names = names.iter().map(|name| code(&format!("${name}"))).collect::<Vec<_>>();
        let _ = writeln!(out, "| {} | {value} |", names.join(", "));
    }
    out
}

/// The page `docs/annotations.md`.
pub fn annotations() -> String {
    let words = PROTECTING_WORDS.iter().map(|word| code(word)).collect::<Vec<_>>().join(", ");
    let mut out = format!("{ANNOTATIONS_HEAD}{words}.\n");
    for family in FAMILIES {
        let _ = writeln!(out, "\n## {}\n", code(family.prefix));
        if let Some(older) = family.older_prefix {
            let _ = writeln!(out, "`{older}` is the older spelling; a warning says so.\n");
        }
        if !family.exclusive {
            out.push_str("Other names with this prefix are left alone.\n\n");
        }
        out.push_str(
            "| annotation | on | verdict | default | asks for nothing | meaning | difference |\n\
             |---|---|---|---|---|---|---|\n",
        );
        let mut rows: Vec<_> = family.rows().collect();
        rows.sort_unstable_by_key(|row| row.name);
        for annotation in rows {
            let _ = writeln!(out, "{}", annotation_row(annotation));
        }
    }
    out.push_str(OTHER_PROGRAMS);
    for (prefix, program) in PROGRAMS {
        let _ = writeln!(out, "| {} | {program} |", code(prefix));
    }
    out
}

const NGINX_CONFIG_HEAD: &str = "\
# The ConfigMap of ingress-nginx

Made by `gatehouse docs nginx-config`. `--nginx-config NAMESPACE/NAME` names the ConfigMap that an ingress-nginx was
configured with; `gatehouse check --nginx-config …` says what becomes of it.

- A key that stands for an annotation holds for every Ingress that does not have the annotation itself. The Ingress
  wins, then the ConfigMap, then what ingress-nginx does of itself (1 MiB of body, HSTS over TLS). Routes are not asked.
- A protection that cannot be read or is not built closes every Ingress (503). So does a ConfigMap that is not there.
- TLS of clients is narrowed, never widened: the command line (`--tls-profile`, `--tls-min-version`, `--tls-ciphers`) says what
  there is, the ConfigMap takes from that, for Routes and unknown names, too, and the annotations of a host
  (`ssl-ciphers`, `gatehouse.io/tls-min-version`) take from the rest. The order of ciphers is that of the last list. TLS at
  the ports of Services is the command line's alone.
- Changes are live at once, as those of any object.

| key | what becomes of it |
|---|---|
";

/// The page `docs/nginx-config.md`.
pub fn nginx_config() -> String {
    let mut out = NGINX_CONFIG_HEAD.to_owned();
    for key in KEYS {
        let means = match key.means {
            Means::Annotation(full) => {
                format!("honoured as far as the annotation {} is", code(full))
            }
            Means::Always(full) => format!("as {}, beside that of an Ingress", code(full)),
            Means::Fields(Message::Request) => {
                "honoured: fields of the ConfigMap `NAMESPACE/NAME` for backends, an empty one goes; those whose value has a variable are left out".to_owned()
            }
            Means::Fields(Message::Answer) => {
                "honoured: fields of the ConfigMap `NAMESPACE/NAME` on answers".to_owned()
            }
            Means::Block => "honoured or **closes**: such clients get 403".to_owned(),
            Means::Compression => "honoured, as far as a path does not say otherwise by `gatehouse.io/compress`; where both codings are on, what gzip's keys say holds for both".to_owned(),
            Means::Tls(part) => match part {
                Tls::Versions => "honoured for every host: `TLSv1.2` and `TLSv1.3`; older ones are not built in, and without one of the two hosts are closed over TLS (503)",
                Tls::Ciphers => "honoured for every host: ECDHE with AES-GCM or ChaCha20, in this order; where none is left TLS 1.3 is spoken",
                Tls::Groups => "honoured for every host: `X25519`, `P-256`, `P-384`, `X25519MLKEM768`; without one of them hosts are closed over TLS (503)",
                Tls::Tickets => "honoured where it is there; `false`: each process remembers the sessions of its clients. By default there are tickets",
                Tls::Cache => "honoured: `false` without `ssl-session-tickets: \"true\"` resumes no session",
                Tls::Lifetime => "honoured where it is there, up to `6h`, also of sessions that the process remembers. By default a session is resumed for 6 to 12 hours, as the keys of its ticket live",
                Tls::Http2 => "honoured: `false` offers HTTP/1.1 alone",
                Tls::KnownNames => "honoured: `true` ends handshakes for names without a rule of their own",
            }
            .to_owned(),
            Means::HttpsStatus => "honoured: 301, 302, 307 or 308".to_owned(),
            Means::Only(values, instead) => {
                let values = values.iter().map(|value| code(value)).collect::<Vec<_>>().join(", ");
                format!("as with {values}; else it differs: {instead}")
            }
            Means::Hsts => "honoured: `Strict-Transport-Security` of answers over TLS".to_owned(),
            Means::RetryNonIdempotent => {
                "honoured: `non_idempotent` of `proxy-next-upstream`".to_owned()
            }
            Means::Elsewhere(place) => format!("set elsewhere: {place}"),
            Means::NotNeeded(why) => format!("not needed: {why}"),
            Means::Differs(instead) => format!("differs: {instead}"),
            Means::Snippet => {
                "never executed: **closes** if it may protect, else an error".to_owned()
            }
            Means::Closes => "**closes**: it protects and is not built".to_owned(),
        };
        let _ = writeln!(out, "| `{}` | {means} |", key.name);
    }
    out
}

fn annotation_row(row: &Annotation) -> String {
    let list = |texts: &mut dyn Iterator<Item = String>| texts.collect::<Vec<_>>().join(", ");
    let objects = list(&mut row.objects.iter().map(|kind| kind.name().to_owned()));
    let nothing = list(&mut row.nothing().iter().map(|value| code(value)));
    let verdict = match row.status {
        Status::Honoured if row.protects => "honoured or **closes**".to_owned(),
        Status::Honoured => "honoured".to_owned(),
        Status::Harmless => "harmless".to_owned(),
        Status::Closes if row.of_host => "**closes the host**".to_owned(),
        Status::Closes => "**closes**".to_owned(),
    };
    let Annotation { name, default, doc, difference, .. } = row;
    let default = code(default);
    format!("| `{name}` | {objects} | {verdict} | {default} | {nothing} | {doc} | {difference} |")
}

/// The page `docs/metrics.md`.
pub fn metrics() -> String {
    let mut out = String::from(
        "# Metrics\n\nServed at `/metrics` of the admin address. Made by `gatehouse docs metrics`.\n\n\
         | name | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    metric_rows(METRICS, &mut out);
    out.push_str(
        "\n## In the names of ingress-nginx\n\nWith `--nginx-metrics`, of Ingresses alone: dashboards and alerts that were \
         made for ingress-nginx go on. The status is a class (`2xx`, which `status=~\"2.*\"` finds), and neither path nor \
         method stands on a series.\n\n| name | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    metric_rows(metrics::nginx::METRICS, &mut out);
    out
}

fn metric_rows(rows: &[Metric], out: &mut String) {
    for Metric { name, kind, labels, help } in rows {
        let kind = kind.name();
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "| `{name}` | {kind} | {labels} | {help} |");
    }
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
    use std::{collections::BTreeSet, fs, path::Path};

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
        compare("nginx-config.md", &super::nginx_config());
    }

    #[test]
    fn every_flag_that_a_page_sends_its_reader_to_exists() {
        let definition = super::cli::definition();
        let all = definition.get_subcommands().flat_map(clap::Command::get_arguments);
        let known: BTreeSet<_> = all.filter_map(clap::Arg::get_long).collect();
        for page in [super::annotations(), super::metrics(), super::nginx_config()] {
            let part_of_a_name = |char: char| char.is_ascii_alphanumeric() || char == '-';
            let words = page.split(|char| !part_of_a_name(char));
            for flag in words.filter_map(|word| word.strip_prefix("--")) {
                let is_flag = flag.starts_with(|char: char| char.is_ascii_lowercase());
                // ingress-nginx's own.
                let of_nginx = ["default-backend-service", "default-ssl-certificate"];
                assert!(
                    !is_flag || known.contains(flag) || of_nginx.contains(&flag),
                    "--{flag} is no flag of gatehouse"
                );
            }
        }
    }
}
