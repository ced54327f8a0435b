//! What refused heartbeats say about this node or its group, as problems of the Node.
//!
//! The speaker counts the datagrams that it drops by reason. A count that has grown lately is a problem;
//! one that stands still is history. Pure: the caller says what time it is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use gatehouse_routes::{objects::ObjectRef, problem::Problem};

/// How long a count has to stand still before its problem is over. Heartbeats come ten times a second.
const OVER: Duration = Duration::from_secs(10);

/// Reason of the speaker, reason of the problem, message, hint.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// Refusals that an operator should look into; others (replays, duplicates) are part of networks.
const PROBLEMS: [Row; 3] = [
    (
        "NotAuthentic",
        "GroupKeyMismatch",
        "heartbeats arrive that were not made with this node's group key",
        "give every node of the group the same --group-key, and other groups on the link another --group-port",
    ),
    (
        "UnknownVersion",
        "GroupVersionMismatch",
        "heartbeats arrive from a version of gatehouse that this one does not understand",
        "run versions that are next to each other; nodes that do not understand each other do not share",
    ),
    (
        "TooManyMembers",
        "GroupTooLarge",
        "more nodes send heartbeats on one link than a group may have",
        "divide the nodes into groups with keys and ports of their own",
    ),
];

/// The counts that were seen, and when each last grew.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    seen: BTreeMap<&'static str, (u64, Instant)>,
}

impl Heartbeats {
    /// What is wrong now, given the counts of now.
    pub(super) fn problems(
        &mut self,
        refused: &BTreeMap<&'static str, u64>,
        node: &ObjectRef,
        now: Instant,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (counted, reason, message, hint) in PROBLEMS {
            let Some(&count) = refused.get(counted).filter(|count| **count > 0) else { continue };
            let (seen, grew) = self.seen.entry(counted).or_insert((0, now));
            if *seen != count {
                (*seen, *grew) = (count, now);
            }
            if now.saturating_duration_since(*grew) < OVER {
                problems.push(Problem::warning(node, reason, "", message, hint));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::objects::ObjectKey;

    use super::*;

    #[test]
    fn a_refusal_is_a_problem_of_the_node_while_it_goes_on_and_for_ten_seconds() {
        let node = ObjectRef::new("Node", ObjectKey::new("", "a"));
        let start = Instant::now();
        let mut heartbeats = Heartbeats::default();
        let mut reasons = |name: &'static str, count, seconds| {
            let now = start + Duration::from_secs(seconds);
            let found = heartbeats.problems(&[(name, count)].into(), &node, now);
            found.iter().map(|problem| (problem.reason, problem.object == node)).collect::<Vec<_>>()
        };
        assert_eq!(reasons("NotAuthentic", 0, 0), []);
        assert_eq!(reasons("NotAuthentic", 1, 1), [("GroupKeyMismatch", true)]);
        assert_eq!(reasons("NotAuthentic", 9, 8), [("GroupKeyMismatch", true)]);
        assert_eq!(reasons("NotAuthentic", 9, 17), [("GroupKeyMismatch", true)]);
        assert_eq!(reasons("NotAuthentic", 9, 18), []);
        assert_eq!(reasons("NotAuthentic", 10, 60), [("GroupKeyMismatch", true)]);
        assert_eq!(reasons("Replayed", 10, 60), [], "networks do that");
    }
}
