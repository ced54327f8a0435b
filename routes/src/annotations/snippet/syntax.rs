//! nginx' syntax: words, quoted or not, up to a semicolon or a block; comments up to the end of the line.

use std::{iter::Peekable, str::Chars};

/// One directive.
#[derive(Debug)]
pub(super) struct Directive {
    /// Its name and what follows it.
    pub(super) words: Vec<String>,
    /// The directives between its braces, if it has them.
    pub(super) block: Option<Vec<Self>>,
}

/// The words of a value that nginx reads as those of one directive.
///
/// # Errors
/// What makes it another thing than words.
pub(in crate::annotations) fn words(value: &str) -> Result<Vec<String>, String> {
    let mut all = directives(&format!("{value}\n;"))?;
    match (all.pop(), &*all) {
        (Some(Directive { words, block: None }), []) => Ok(words),
        (Some(Directive { words, block: Some(_) }), []) => Err(format!("{} {{", words.join(" "))),
        _ => Err("a semicolon outside of quotes".to_owned()),
    }
}

/// Takes a text apart.
///
/// # Errors
/// A block within a block, a brace or a quote without an end, or a directive without a semicolon.
pub(super) fn directives(text: &str) -> Result<Vec<Directive>, String> {
    sequence(&mut text.chars().peekable(), false)
}

fn sequence(chars: &mut Peekable<Chars<'_>>, within: bool) -> Result<Vec<Directive>, String> {
    let (mut all, mut words) = (Vec::new(), Vec::new());
    while let Some(char) = chars.next() {
        match char {
            ';' => all.push(Directive { words: std::mem::take(&mut words), block: None }),
            '#' => drop(chars.by_ref().find(|char| *char == '\n')),
            '{' if !within => {
                let block = Some(sequence(chars, true)?);
                all.push(Directive { words: std::mem::take(&mut words), block });
            }
            '}' if within && words.is_empty() => return Ok(all),
            '{' | '}' => return Err(format!("{} {char}", words.join(" ")).trim().to_owned()),
            quote @ ('"' | '\'') => words.push(quoted(quote, chars)?),
            space if space.is_whitespace() => {}
            first => {
                let mut word = String::from(first);
                let goes_on = |word: &str, char: char| match char {
                    // A brace begins a block, but where it holds the name of a variable.
                    '{' => word.ends_with('$'),
                    char => char != ';' && !char.is_whitespace(),
                };
                while let Some(char) = chars.next_if(|char| goes_on(&word, *char)) {
                    word.push(char);
                }
                words.push(word);
            }
        }
    }
    match (within, words.is_empty()) {
        (true, _) => Err("a brace without an end".to_owned()),
        (false, true) => Ok(all),
        (false, false) => Err(words.join(" ")),
    }
}

fn quoted(quote: char, chars: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut word = String::new();
    loop {
        match chars.next() {
            Some(end) if end == quote => return Ok(word),
            Some('\\') => match chars.next() {
                Some(same @ ('"' | '\'' | '\\')) => word.push(same),
                Some('t') => word.push('\t'),
                Some('r') => word.push('\r'),
                Some('n') => word.push('\n'),
                // The escape is an expression's.
                other => word.extend(std::iter::once('\\').chain(other)),
            },
            Some(char) => word.push(char),
            None => return Err("a quote without an end".to_owned()),
        }
    }
}
