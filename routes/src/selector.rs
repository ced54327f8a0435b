//! Label and field selectors as `kubectl --selector` writes them: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
//!
//! The settings of the process hold them; [`crate::compile`] asks them which Routes are served here.

use std::str::FromStr;

/// Requirements that must all hold. The empty one holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that it asks for.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|requirement| &*requirement.key)
    }

    /// Whether it holds for an object, whose value of each key `value_of` tells.
    pub fn matches<'v>(&self, value_of: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.0.iter().all(|Requirement { key, test }| {
            let value = value_of(key);
            let among =
                |values: &[String]| value.is_some_and(|value| values.iter().any(|v| v == value));
            match test {
                Test::In(values) => among(values),
                // As in Kubernetes, what has no such label is not in the set.
                Test::NotIn(values) => !among(values),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let (mut start, mut within) = (0, false);
        for (at, letter) in text.char_indices() {
            match letter {
                '(' => within = true,
                ')' => within = false,
                ',' if !within => {
                    parts.push(&text[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
        }
        parts.push(&text[start..]);
        let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
        parts.map(requirement).collect::<Result<_, _>>().map(Self)
    }
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let wrong = || format!("{text:?} is not a selector such as a=b, a!=b, a in (b,c), a or !a");
    let made = |key: &str, test| {
        let key = key.trim();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        let sound = !key.is_empty() && key.bytes().all(plain);
        sound.then(|| Requirement { key: key.to_owned(), test }).ok_or_else(wrong)
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some(key) = text.strip_prefix('!') {
        return made(key, Test::Absent);
    }
    if let Some((key, value)) = text.split_once("!=") {
        return made(key, Test::NotIn(one(value)));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return made(key, Test::In(one(value)));
    }
    if let Some((left, values)) = text.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(wrong)?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match left.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => made(key, Test::In(values)),
            Some((key, "notin")) => made(key, Test::NotIn(values)),
            _ => Err(wrong()),
        };
    }
    made(text, Test::Exists)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_holds_as_in_kubernetes() {
        let holds = |selector: &str, labels: &[(&str, &'static str)]| {
            let selector: Selector = selector.parse().unwrap();
            selector.matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
        };
        let blue: &[_] = &[("shard", "blue"), ("app/tier", "web")];
        for (selector, held) in [
            ("", true),
            ("shard=blue", true),
            ("shard==blue,app/tier=web", true),
            ("shard=green", false),
            ("shard=blue, app/tier!=web", false),
            ("shard in (green, blue)", true),
            ("shard notin (green,blue)", false),
            ("other notin (green)", true),
            ("other!=green", true),
            ("shard", true),
            ("!shard", false),
            ("!other", true),
            ("other", false),
        ] {
            assert_eq!(holds(selector, blue), held, "{selector}");
        }
        for wrong in ["a b", "a in b", "=b", "a in (b", "a is (b)", "a b=c"] {
            assert!(wrong.parse::<Selector>().is_err(), "{wrong}");
        }
    }
}
