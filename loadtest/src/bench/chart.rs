//! The chart of a benchmark: CPU per request relative to nginx, one group of bars per scenario.
//!
//! Written by hand as SVG; it follows the reader's light or dark scheme. A bar longer than the scale is
//! cut and tells its true ratio. Called by [`super::report`].

use std::fmt::Write as _;

use super::{figures::Section, kind::Kind, scenario::Unit};

/// Measures in SVG units.
const MARGIN: f64 = 16.0;
const LABELS: f64 = 206.0;
const BARS: f64 = 480.0;
const NUMBERS: f64 = 96.0;
const BAR: f64 = 13.0;
const GAP: f64 = 16.0;
const TOP: f64 = 78.0;

/// The scale ends at most at this many times nginx, lest one bar dwarf all others.
const LONGEST: f64 = 4.0;

/// Draws the sections in which nginx has run. Without, there is nothing to relate to, so the chart says only that.
pub(super) fn svg(sections: &[Section]) -> String {
    let related = |section: &&Section| {
        section.measure == Some(Kind::Nginx) && section.unit == Unit::Request.title()
    };
    let sections: Vec<&Section> = sections.iter().filter(related).collect();
    let sections = sections.as_slice();
    let end = scale_end(sections);
    let bars: usize = sections.iter().map(|section| section.figures.len()).sum();
    let (width, height) =
        (LABELS + BARS + NUMBERS, TOP + bars as f64 * BAR + sections.len() as f64 * GAP + 26.0);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="system-ui, sans-serif" font-size="12">
<title>CPU per request relative to nginx; shorter is better</title>
<style>
  .page {{ fill: #ffffff; }} text {{ fill: #24292f; stroke: #ffffff; stroke-width: 3px; paint-order: stroke; }} .soft {{ fill: #57606a; }} .grid {{ stroke: #d0d7de; }} .one {{ stroke: #57606a; }}
  .gatehouse {{ fill: #0b6e99; }} .nginx {{ fill: #8c959f; }} .haproxy {{ fill: #b7bfc7; }} .envoy {{ fill: #d3d9df; }}
  .strong {{ font-weight: 600; }}
  @media (prefers-color-scheme: dark) {{
    .page {{ fill: #0d1117; }} text {{ fill: #e6edf3; stroke: #0d1117; }} .soft {{ fill: #9198a1; }} .grid {{ stroke: #30363d; }} .one {{ stroke: #9198a1; }}
    .gatehouse {{ fill: #4cb3de; }} .nginx {{ fill: #7d8590; }} .haproxy {{ fill: #565d66; }} .envoy {{ fill: #3d444d; }}
  }}
</style>
<rect class="page" width="{width}" height="{height}" rx="6"/>
<text class="strong" font-size="14" x="{MARGIN}" y="28">CPU per request relative to nginx</text>
<text class="soft" x="{MARGIN}" y="46">shorter is better; the number is µs of CPU per request</text>
"##
    );
    legend(&mut svg, sections, width);
    if !sections.is_empty() {
        grid(&mut svg, height, end);
    } else {
        let _ =
            writeln!(svg, r#"<text class="soft" x="{LABELS}" y="{TOP}">nginx was not run</text>"#);
    }
    let mut y = TOP + 8.0;
    for section in sections {
        group(&mut svg, section, y, end);
        y += section.figures.len() as f64 * BAR + GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String, sections: &[&Section], width: f64) {
    let Some(first) = sections.first() else { return };
    let mut x = width - MARGIN - 96.0 * first.figures.len() as f64;
    for figures in &first.figures {
        let _ = writeln!(
            svg,
            r#"<rect class="{}" x="{x}" y="18" width="11" height="11" rx="2"/><text x="{}" y="28">{}</text>"#,
            class(figures.peer),
            x + 16.0,
            figures.peer
        );
        x += 96.0;
    }
}

/// Vertical lines at whole multiples of nginx.
fn grid(svg: &mut String, height: f64, end: f64) {
    let mut multiple = 0.0;
    while multiple <= end {
        let x = LABELS + BARS * multiple / end;
        let class = if multiple == 1.0 { "one" } else { "grid" };
        let _ = writeln!(
            svg,
            r#"<line class="{class}" x1="{x}" x2="{x}" y1="{TOP}" y2="{}"/><text class="soft" x="{x}" y="{}" text-anchor="middle">{multiple}×</text>"#,
            height - 22.0,
            TOP - 6.0
        );
        multiple += 1.0;
    }
}

fn group(svg: &mut String, section: &Section, y: f64, end: f64) {
    let middle = y + section.figures.len() as f64 * BAR / 2.0 + 4.0;
    let _ = writeln!(
        svg,
        r#"<text x="{}" y="{middle}" text-anchor="end">{}</text>"#,
        LABELS - 10.0,
        section.title
    );
    for (at, figures) in section.figures.iter().enumerate() {
        let y = y + at as f64 * BAR;
        let ratio = figures.relative.unwrap_or(0.0);
        let length = BARS * ratio.min(end) / end;
        let strong = if figures.peer == Kind::Gatehouse { "strong" } else { "soft" };
        let note = if ratio > end { format!(" ({ratio:.1}×)") } else { String::new() };
        let _ = writeln!(
            svg,
            r#"<rect class="{}" x="{LABELS}" y="{y}" width="{length:.1}" height="{}" rx="2"/><text class="{strong}" font-size="11" x="{:.1}" y="{}">{:.1}{note}</text>"#,
            class(figures.peer),
            BAR - 2.0,
            LABELS + length + 5.0,
            y + BAR - 3.5,
            figures.cost
        );
    }
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Gatehouse => "gatehouse",
        Kind::Nginx => "nginx",
        Kind::Haproxy => "haproxy",
        Kind::Envoy => "envoy",
    }
}

/// A whole multiple of nginx that holds all bars, within reason.
fn scale_end(sections: &[&Section]) -> f64 {
    let figures = sections.iter().flat_map(|section| &section.figures);
    let longest = figures.filter_map(|one| one.relative).fold(0.0, f64::max);
    longest.ceil().clamp(2.0, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Figures;

    fn figures(peer: Kind, ratio: f64) -> Figures {
        Figures {
            peer,
            requests_per_second: 0.0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            cost: ratio * 10.0,
            cost_by_round: Vec::new(),
            relative: Some(ratio),
            relative_to_without: None,
            memory_mib: 0.0,
            requests: 0,
            failed: 0,
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_ratio_and_one_beyond_the_scale_says_so() {
        let all = vec![figures(Kind::Nginx, 1.0), figures(Kind::Envoy, 8.0)];
        let section = Section {
            scenario: "plain",
            title: "plain",
            unit: Unit::Request.title(),
            measure: Some(Kind::Nginx),
            adds_to: None,
            figures: all,
        };
        let svg = svg(&[section]);
        assert!(svg.contains(&format!(r#"width="{:.1}""#, BARS / LONGEST)), "{svg}");
        assert!(
            svg.contains(&format!(r#"width="{BARS:.1}""#)) && svg.contains("80.0 (8.0×)"),
            "{svg}"
        );
    }
}
