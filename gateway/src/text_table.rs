//! Aligned columns for people: the one form of tables that commands print.

use std::fmt::Write as _;

/// A title and aligned columns below it, or that there are none.
pub(crate) fn section<const N: usize>(
    out: &mut String,
    title: &str,
    head: [&str; N],
    rows: Vec<[String; N]>,
) {
    let _ = writeln!(out, "{title}");
    if rows.is_empty() {
        let _ = writeln!(out, "  none\n");
        return;
    }
    let mut all = vec![head.map(str::to_owned)];
    all.extend(rows);
    columns(out, &all);
    out.push('\n');
}

/// Rows with two spaces between columns and none at the end of a line.
pub(crate) fn columns<const N: usize>(out: &mut String, rows: &[[String; N]]) {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let mut line = String::from(" ");
        for (text, width) in row.iter().zip(widths) {
            // Writing to a String cannot fail, here and above.
            let _ = write!(line, " {text:width$} ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}
