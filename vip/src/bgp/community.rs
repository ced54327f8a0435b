//! BGP communities and the names that `Community` objects give them.
//!
//! Standard communities (RFC 1997) and large ones (RFC 8092), written as MetalLB writes them; there
//! are no extended ones. [`Advertisement::parse`](super::Advertisement::parse) resolves texts here.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::spec::CommunitySpec;
use crate::problem::Problem;

/// A mark on a route; what it means is between the networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// RFC 1997: `65000:1`.
    Standard(u16, u16),
    /// RFC 8092: `large:65000:1:2`.
    Large(u32, u32, u32),
}

impl Community {
    /// RFC 8326: this route is about to go away, prefer any other.
    pub const GRACEFUL_SHUTDOWN: Self = Self::Standard(0xffff, 0);

    /// Reads `65000:1` or `large:65000:1:2`. `Err` says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let wide = |part: &str| {
            decimal(part).ok_or_else(|| {
                format!("\"{part}\" in community \"{text}\" is not a number from 0 to 4294967295")
            })
        };
        let narrow = |part: &str| {
            decimal(part).and_then(|number| u16::try_from(number).ok()).ok_or_else(|| {
                format!("\"{part}\" in community \"{text}\" is not a number from 0 to 65535")
            })
        };
        match parts[..] {
            [high, low] => Ok(Self::Standard(narrow(high)?, narrow(low)?)),
            ["large", global, one, two] => Ok(Self::Large(wide(global)?, wide(one)?, wide(two)?)),
            _ => Err(format!(
                "\"{text}\" is neither a community (65000:1 or large:65000:1:2) nor an alias"
            )),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(high, low) => write!(f, "{high}:{low}"),
            Self::Large(global, one, two) => write!(f, "large:{global}:{one}:{two}"),
        }
    }
}

impl Serialize for Community {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The names of all `Community` objects together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases {
    by_name: BTreeMap<String, Community>,
}

impl Aliases {
    /// Reads objects given as (name of the object, spec), in order of age: of two that give the same
    /// name to different communities the older one has it. The refusals are (name of the object,
    /// refusal); what is refused is one alias each, never the object.
    pub fn new(objects: &[(String, CommunitySpec)]) -> (Self, Vec<(String, Problem)>) {
        let mut aliases = Self::default();
        let mut refusals = Vec::new();
        for (object, spec) in objects {
            for (index, alias) in spec.communities.iter().enumerate() {
                if let Err(refusal) = aliases.add(index, &alias.name, &alias.value) {
                    refusals.push((object.clone(), refusal));
                }
            }
        }
        (aliases, refusals)
    }

    /// The community that a text of an advertisement means: an alias, or the community itself.
    pub fn resolve(&self, text: &str) -> Result<Community, String> {
        self.by_name.get(text).copied().map_or_else(|| Community::parse(text), Ok)
    }

    fn add(&mut self, index: usize, name: &str, value: &str) -> Result<(), Problem> {
        if name.is_empty() {
            return Err(Problem::refused(
                "InvalidAlias",
                format!("spec.communities[{index}].name"),
                "the alias has no name",
                "give it the name that advertisements are to use",
            ));
        }
        let community = Community::parse(value).map_err(|message| {
            Problem::refused(
                "InvalidCommunity",
                format!("spec.communities[{index}].value"),
                message,
                "write 65000:1, or large:65000:1:2",
            )
        })?;
        match self.by_name.get(name) {
            Some(other) if *other != community => Err(Problem::refused(
                "DuplicateAlias",
                format!("spec.communities[{index}].name"),
                format!("\"{name}\" already means {other}"),
                "give every community a name of its own",
            )),
            Some(_) => Err(Problem::noted(
                "Duplicate",
                format!("spec.communities[{index}].name"),
                format!("\"{name}\" means {community} already"),
                "remove one of the two",
            )),
            None => {
                self.by_name.insert(name.to_owned(), community);
                Ok(())
            }
        }
    }
}

/// Digits only: `parse` alone would take a sign.
fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::spec::CommunityAlias;

    #[test]
    fn communities_are_read_and_written_as_metallb_writes_them() {
        let cases = [
            ("65000:1", Ok(Community::Standard(65000, 1))),
            ("0:0", Ok(Community::Standard(0, 0))),
            ("65535:0", Ok(Community::GRACEFUL_SHUTDOWN)),
            ("large:4294967295:1:2", Ok(Community::Large(u32::MAX, 1, 2))),
            ("65536:1", Err("\"65536\"")),
            ("65000:-1", Err("\"-1\"")),
            ("65000:+1", Err("\"+1\"")),
            ("65000:", Err("\"\"")),
            ("large:1:2:4294967296", Err("\"4294967296\"")),
            ("small:1:2:3", Err("neither a community")),
            ("1:2:3", Err("neither a community")),
            ("no-export", Err("neither a community")),
            ("", Err("neither a community")),
        ];
        for (text, expected) in cases {
            match (Community::parse(text), expected) {
                (Ok(community), Ok(expected)) => {
                    assert_eq!(community, expected);
                    assert_eq!(community.to_string(), text);
                }
                (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn an_alias_resolves_and_a_bad_one_does_not_take_the_good_ones_along() {
        let object = |name: &str, aliases: &[(&str, &str)]| {
            let communities = aliases
                .iter()
                .map(|(name, value)| CommunityAlias {
                    name: (*name).into(),
                    value: (*value).into(),
                })
                .collect();
            (name.to_owned(), CommunitySpec { communities })
        };
        let (aliases, refusals) = Aliases::new(&[
            object("one", &[("blue", "65000:1"), ("red", "65000"), ("", "65000:2")]),
            object("two", &[("blue", "65000:9"), ("green", "large:1:2:3"), ("blue", "65000:1")]),
        ]);
        assert_eq!(aliases.resolve("blue"), Ok(Community::Standard(65000, 1)));
        assert_eq!(aliases.resolve("green"), Ok(Community::Large(1, 2, 3)));
        assert_eq!(aliases.resolve("65000:7"), Ok(Community::Standard(65000, 7)));
        assert!(aliases.resolve("red").is_err());
        let reported: Vec<_> = refusals
            .iter()
            .map(|(object, refusal)| (object.as_str(), refusal.field.as_str(), refusal.reason))
            .collect();
        assert_eq!(
            reported,
            [
                ("one", "spec.communities[1].value", "InvalidCommunity"),
                ("one", "spec.communities[2].name", "InvalidAlias"),
                ("two", "spec.communities[0].name", "DuplicateAlias"),
                ("two", "spec.communities[2].name", "Duplicate"),
            ]
        );
    }
}
