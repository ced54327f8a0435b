//! `if (…) { return …; }` and `rewrite … redirect`: requests that are answered at once.

use super::Directive;
use crate::{
    action::Redirect,
    annotations::{nginx, value::Setting},
    filter::cases::{Answer, Case, Pattern, Rewritten, Subject, Test},
    template::{Piece, pieces},
};

/// Statuses without an answer: nginx ends the connection, or logs one that has ended.
const NO_ANSWERS: [u16; 2] = [444, 499];

/// Reads the words behind `if`, and its block; `None`: it says more than has a setting here.
pub(super) fn case(words: &[&str], block: &[Directive]) -> Option<Case> {
    let (subject, test, negated) = condition(words)?;
    let [Directive { words, block: None }] = block else { return None };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let answer = match *words {
        ["return", code @ ("301" | "302" | "303" | "307" | "308"), url] => {
            let status = code.parse().ok()?;
            let read = nginx::FAMILY.row("permanent-redirect")?.parser.read;
            let Ok(Setting::Permanent(to)) = read(url) else { return None };
            Answer::Redirect(Redirect { status, to })
        }
        ["return", code] => {
            let code = code.parse().ok().filter(|code| (400..600).contains(code))?;
            Answer::Refuse(Some(code).filter(|code| !NO_ANSWERS.contains(code))?)
        }
        _ => return None,
    };
    Some(Case { subject, test, negated, answer })
}

/// Reads the words behind `rewrite`; `None`: clients are not sent elsewhere by it, or it says more than has a setting here.
pub(super) fn rewrite(words: &[&str]) -> Option<Case> {
    let (pattern, to, status) = match *words {
        [pattern, to, "redirect"] => (pattern, to, 302),
        [pattern, to, "permanent"] => (pattern, to, 301),
        _ => return None,
    };
    // nginx matches the path with its escapes decoded, this gateway one where what needs an escape has one.
    let same = pattern.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%')
        && !["\\s", "\\x"].iter().any(|class| pattern.contains(class));
    let pattern = Pattern::new(pattern, false).filter(|_| same)?;
    let to = Rewritten::new(status, pattern.clone(), to)?;
    let (subject, test) = (Subject::Path, Test::Matches(pattern));
    Some(Case { subject, test, negated: false, answer: Answer::Rewritten(to) })
}

/// What is between the parentheses, which may stand apart or be part of the first and the last word.
fn condition(words: &[&str]) -> Option<(Subject, Test, bool)> {
    let [first, rest @ ..] = words else { return None };
    let inner = first.strip_prefix('(')?;
    let mut words: Vec<&str> = Some(inner).into_iter().chain(rest.iter().copied()).collect();
    let last = words.pop()?.strip_suffix(')')?;
    words.push(last);
    // A parenthesis that stands apart leaves nothing; the text between quotes may be empty.
    if words.first() == Some(&"") {
        words.remove(0);
    }
    if words.last() == Some(&"") {
        words.pop();
    }
    let subject = |word: &str| match &*pieces(word) {
        [Piece::Name(name)] => Subject::named(name),
        _ => None,
    };
    match *words {
        [name] => Some((subject(name)?, Test::Given, false)),
        [name, sign @ ("=" | "!="), value] => {
            let plain = !value.contains('$');
            Some((subject(name)?, Test::Is(value.into()), sign == "!=")).filter(|_| plain)
        }
        [name, sign @ ("~" | "~*" | "!~" | "!~*"), value] => {
            let test = Test::Matches(Pattern::new(value, sign.ends_with('*'))?);
            Some((subject(name)?, test, sign.starts_with('!')))
        }
        _ => None,
    }
}
