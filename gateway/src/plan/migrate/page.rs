//! The report of `migrate` as text and as a page that stands by itself.

use std::fmt::Write as _;

use gatehouse_routes::{annotations::Verdict, problem::Problem};

use super::{Object, Report, Totals};
use crate::plan::check::Page;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1e21}\
h1{font-size:1.5rem}h2{font-size:1.05rem;margin:1.6rem 0 .3rem}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%}td{border-top:1px solid #ddd;padding:.35rem .6rem .35rem 0;vertical-align:top}\
td:first-child{width:6rem;font-weight:600}.honoured{color:#1a7f37}.noted{color:#57606a}.differs{color:#9a6700}\
.closed{color:#cf222e}small{color:#57606a;font-weight:400}";

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Honoured => "honoured",
        Verdict::Noted => "noted",
        Verdict::Differs => "differs",
        Verdict::Closed => "closed",
    }
}

/// A line of the report below its object.
struct Line {
    verdict: Verdict,
    what: String,
    note: String,
    fix: String,
}

/// The worst first.
fn lines(object: &Object) -> Vec<Line> {
    let annotations = object.annotations.iter().map(|judged| Line {
        verdict: judged.verdict,
        what: format!("{}: {:?}", judged.name, judged.value),
        note: judged.note.clone(),
        fix: judged.fix.clone(),
    });
    let problems = object.problems.iter().map(|problem| {
        let Problem { field, message, hint, .. } = problem;
        Line {
            verdict: if problem.is_error() { Verdict::Differs } else { Verdict::Noted },
            what: field.clone(),
            note: message.clone(),
            fix: hint.clone(),
        }
    });
    let mut lines: Vec<_> = annotations.chain(problems).collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.verdict));
    lines
}

/// What the numbers say, in one sentence.
fn summary(report: &Report) -> String {
    let Totals { honoured, noted, differs, closed } = report.totals;
    let objects = report.objects.len();
    let plural = if objects == 1 { "" } else { "s" };
    let mut text = format!(
        "{objects} object{plural}: {honoured} honoured, {noted} equal with a note, {differs} answered otherwise, \
         {closed} closed"
    );
    if !report.others.is_empty() {
        let others = report.others.len();
        let _ = write!(text, "; {others} of other classes not looked at (--claim-class NAME)");
    }
    text
}

/// For a terminal.
pub(super) fn text(report: &Report, page: Page, out: &mut String) {
    for object in &report.objects {
        let place = object.place.as_ref().map(|place| format!(" ({place})"));
        let head =
            format!("{}{}: {}", object.object, place.unwrap_or_default(), word(object.verdict));
        page.line(0, &head, out);
        for Line { verdict, what, note, fix } in lines(object) {
            let mut text = format!("{:<9} {what}", word(verdict));
            for part in [note, fix].iter().filter(|part| !part.is_empty()) {
                text.push_str("; ");
                text.push_str(part);
            }
            page.line(2, &text, out);
        }
    }
    let _ = writeln!(out, "{}", summary(report));
}

/// A page without anything that it would have to load.
pub(super) fn html(report: &Report, out: &mut String) {
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Migration to Gatehouse</title>\n\
         <style>{STYLE}</style>\n<h1>Migration to Gatehouse</h1>\n<p>{}.</p>\n",
        escaped(&summary(report))
    );
    for object in &report.objects {
        let verdict = word(object.verdict);
        let place = object.place.as_deref().unwrap_or_default();
        let _ = writeln!(
            out,
            "<h2>{} <small>{}</small> <span class=\"{verdict}\">{verdict}</span></h2>",
            escaped(&object.object.to_string()),
            escaped(place)
        );
        let lines = lines(object);
        if lines.is_empty() {
            continue;
        }
        out.push_str("<table>\n");
        for Line { verdict, what, note, fix } in lines {
            let verdict = word(verdict);
            let told = [note, fix].into_iter().filter(|part| !part.is_empty());
            let told: String = told.map(|part| format!("<br>{}", escaped(&part))).collect();
            let _ = writeln!(
                out,
                "<tr><td class=\"{verdict}\">{verdict}<td><code>{}</code>{told}",
                escaped(&what)
            );
        }
        out.push_str("</table>\n");
    }
    if !report.others.is_empty() {
        out.push_str("<h2>Of other classes</h2>\n<p>");
        let others = report.others.iter().map(|object| escaped(&object.to_string()));
        out.push_str(&others.collect::<Vec<_>>().join(", "));
        out.push_str("</p>\n");
    }
    out.push_str("</html>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
