//! What `check` prints: what is wrong, object by object, for people at a terminal and for the log of a pipeline.
//!
//! One heading for each object, with the place where it is written; below it a line for each thing that is wrong,
//! errors first, as are the objects that have some.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use gatehouse_routes::{
    annotations::gatehouse::UNREADABLE_REASON as UNREADABLE,
    objects::ObjectRef,
    problem::{Problem, Severity},
};

use super::Planned;
use crate::source::files;

/// What is printed on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Page {
    /// Columns, where lines are to be broken.
    pub(super) width: Option<usize>,
    pub(super) colour: bool,
}

impl Page {
    /// Lines are broken, and coloured unless `NO_COLOR` is set, on a terminal only.
    pub(super) fn of_stdout() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Self::default();
        }
        let width = rustix::termios::tcgetwinsize(&stdout).map(|size| usize::from(size.ws_col));
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { width: width.ok().filter(|width| *width > 0), colour }
    }

    fn severity(self, severity: Severity) -> String {
        let (word, code) = match severity {
            Severity::Error => ("error", 31),
            Severity::Warning => ("warning", 33),
        };
        if self.colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
    }

    /// Prints a line after `indent` blanks, broken between words, with further ones four deeper.
    pub(super) fn line(self, indent: usize, text: &str, out: &mut String) {
        let width = self.width.unwrap_or(usize::MAX);
        let mut column = indent;
        let _ = write!(out, "{:indent$}", "");
        for (at, word) in text.split(' ').enumerate() {
            let length = visible(word);
            if at > 0 && column + 1 + length > width {
                let deeper = indent + 4;
                let _ = write!(out, "\n{:deeper$}", "");
                column = deeper;
            } else if at > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += length;
        }
        out.push('\n');
    }
}

/// How many problems there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) errors: usize,
    pub(super) warnings: usize,
}

/// All problems of a plan.
pub(super) fn report(planned: &Planned, page: Page, out: &mut String) -> Found {
    let mut objects: BTreeMap<&ObjectRef, Vec<&Problem>> = BTreeMap::new();
    // What stands in for an object says again what its file has said, with the line.
    let told = || planned.compiled.problems.iter().filter(|it| it.reason != UNREADABLE);
    for problem in told() {
        objects.entry(&problem.object).or_default().push(problem);
    }
    let mut objects: Vec<_> = objects.into_iter().collect();
    for (_, problems) in &mut objects {
        problems.sort_by_key(|problem| !problem.is_error());
    }
    objects.sort_by_key(|(object, problems)| (!problems[0].is_error(), files::place(object)));
    for (object, problems) in &objects {
        if object.kind != files::PROBLEM_KIND {
            let place = planned.places.get(object).map(|place| format!("{place}: "));
            page.line(0, &format!("{}{object}", place.unwrap_or_default()), out);
        }
        for problem in problems {
            print(problem, page, out);
        }
    }
    let errors = told().filter(|problem| problem.is_error()).count();
    let found = Found { errors, warnings: told().count() - errors };
    total(found, out);
    found
}

/// Paths that are not there.
pub(super) fn missing(errors: &[String], out: &mut String) -> Found {
    for error in errors {
        let _ = writeln!(out, "error: {error}");
    }
    let found = Found { errors: errors.len(), warnings: 0 };
    total(found, out);
    found
}

fn print(problem: &Problem, page: Page, out: &mut String) {
    let Problem { object, severity, reason, field, message, hint } = problem;
    // A place in a file is one line with what is wrong there; other objects have a line of their own above.
    let (indent, place) = match object.kind == files::PROBLEM_KIND {
        true => (0, format!("{}: ", object.key)),
        false => (2, String::new()),
    };
    let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    let severity = page.severity(*severity);
    page.line(indent, &format!("{severity}: {place}{field}{message} [{reason}]{hint}"), out);
}

fn total(found: Found, out: &mut String) {
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let _ = writeln!(out, "{}, {}", count(found.errors, "error"), count(found.warnings, "warning"));
}

/// Columns of a word, without what colours it.
fn visible(word: &str) -> usize {
    let mut escaped = false;
    let shown = word.chars().filter(|char| {
        let hidden = escaped || *char == '\x1b';
        escaped = hidden && *char != 'm';
        !hidden
    });
    shown.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_and_coloured_only_where_asked() {
        let text = |page: Page| {
            let mut out = String::new();
            let text = format!("{}: spec.x: one two three four", page.severity(Severity::Error));
            page.line(2, &text, &mut out);
            out
        };
        assert_eq!(text(Page::default()), "  error: spec.x: one two three four\n");
        let narrow = Page { width: Some(20), colour: false };
        assert_eq!(text(narrow), "  error: spec.x: one\n      two three four\n");
        let coloured = Page { colour: true, ..narrow };
        assert_eq!(text(coloured), "  \x1b[31merror\x1b[0m: spec.x: one\n      two three four\n");
        assert_eq!(text(Page { width: Some(1), colour: false }).lines().count(), 6);
    }
}
