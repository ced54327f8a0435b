//! The operational log: what the process says of itself on standard error.
//!
//! `main` starts it before anything else; everybody writes to it by `tracing`. What is asked for comes from
//! `--log`, else from `GATEHOUSE_LOG`, else from `RUST_LOG`. A filter that makes no sense is no reason not
//! to start: the default applies, and [`Complaint`] says so.

use std::{env, io::IsTerminal as _};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{config::LogFormat, process::ProcessProblems};

/// What is logged unless something else is asked for.
const DEFAULT: &str = "info";
/// What the client of the API server sees is said in the words of the source.
const QUIET: &str = "kube_client=error,kube_runtime=error";
/// Environment variables, the first that is set counts.
const VARIABLES: [&str; 2] = ["GATEHOUSE_LOG", "RUST_LOG"];
/// Beginnings of the names that write to the log. A word that is none of them, nor a level, is a mistake: as
/// the name of a target it would silence everything else.
const TARGETS: [&str; 9] =
    ["gatehouse", "kube", "hyper", "h2", "rustls", "tokio", "tower", "hickory", "mio"];

/// Why the filter that was asked for does not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    origin: &'static str,
    why: String,
}

impl Complaint {
    /// Has it shown.
    pub fn raise(&self, problems: &ProcessProblems) {
        let Self { origin, why } = self;
        problems.warning(
            "LogFilterInvalid",
            origin,
            format!("{why}; \"{DEFAULT}\" applies"),
            "write a level (error, warn, info, debug, trace, off) or a list such as \
             warn,gatehouse::status=debug",
        );
    }
}

/// Starts the log. `asked` is the value of `--log`.
pub fn start(asked: Option<&str>, format: LogFormat) -> Option<Complaint> {
    let (filter, complaint) = choose(asked, |name| env::var(name).ok());
    // What cannot be written is lost: to complain of it on standard error would fail just so.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    complaint
}

fn choose(
    asked: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> (EnvFilter, Option<Complaint>) {
    let variables = VARIABLES.iter().filter_map(|name| Some((*name, variable(name)?)));
    let asked = asked.map(|text| ("--log", text.to_owned())).into_iter().chain(variables);
    let Some((origin, text)) = asked.into_iter().find(|(_, text)| !text.trim().is_empty()) else {
        return (default(), None);
    };
    match understand(&text) {
        Ok(filter) => (filter, None),
        Err(why) => (default(), Some(Complaint { origin, why })),
    }
}

fn default() -> EnvFilter {
    EnvFilter::new(format!("{QUIET},{DEFAULT}"))
}

fn understand(text: &str) -> Result<EnvFilter, String> {
    // Spans may hold commas; an author of spans knows the language.
    let words = if text.contains('[') { "" } else { text };
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let target = word.split('=').next().unwrap_or(word);
        let known = TARGETS.iter().any(|known| target.starts_with(known));
        if !known && (word.contains('=') || target.parse::<LevelFilter>().is_err()) {
            return Err(format!("\"{target}\" is neither a level nor a part of this program"));
        }
    }
    EnvFilter::try_new(format!("{QUIET},{text}")).map_err(|error| format!("\"{text}\": {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filter and the complaint for a flag and the two variables.
    fn chosen(asked: Option<&str>, own: &str, rust: &str) -> (String, Option<Complaint>) {
        let (filter, complaint) = choose(asked, |name| match name {
            "GATEHOUSE_LOG" => Some(own.to_owned()),
            _ => Some(rust.to_owned()).filter(|rust| !rust.is_empty()),
        });
        (filter.to_string(), complaint)
    }

    #[test]
    fn the_flag_goes_before_the_own_variable_and_that_before_the_one_of_all_rust_programs() {
        for (asked, own, rust, level) in [
            (Some("trace"), "debug", "warn", "trace"),
            (None, "debug", "warn", "debug"),
            (None, "", "warn", "warn"),
            (Some(" "), "", "WARN", "warn"),
            (None, "", "", "info"),
            (None, "off", "", "off"),
            (None, "warn,gatehouse::status=debug", "", "gatehouse::status=debug"),
        ] {
            let (filter, complaint) = chosen(asked, own, rust);
            assert!(
                filter.contains(level) && complaint.is_none(),
                "{asked:?} {own} {rust}: {filter}"
            );
        }
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_named_with_where_it_comes_from() {
        for (asked, own, rust, origin, word) in [
            (None, "debgu", "", "GATEHOUSE_LOG", "\"debgu\""),
            (None, "", "info,gatehuose=debug", "RUST_LOG", "\"gatehuose\""),
            (Some("gatehouse=loud"), "debug", "", "--log", "gatehouse=loud"),
            (None, "info;debug", "", "GATEHOUSE_LOG", "\"info;debug\""),
        ] {
            let (filter, complaint) = chosen(asked, own, rust);
            let complaint = complaint.unwrap();
            assert_eq!(complaint.origin, origin);
            assert!(complaint.why.contains(word), "{}", complaint.why);
            assert!(filter.contains("info"), "the default applies: {filter}");
        }
    }
}
