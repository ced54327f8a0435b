//! What is wrong in this process itself, rather than with an object that it reads.
//!
//! Any thread that finds such a thing raises it here; the controller logs it and shows it with
//! all other problems. It is about the Node, as nothing else in the configuration is to blame.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};

/// The problems of this process; a clone is another handle to the same ones.
#[derive(Clone, Debug)]
pub struct ProcessProblems {
    node: ObjectRef,
    /// By reason and field: what is raised again replaces what was raised before.
    raised: Arc<Mutex<BTreeMap<(&'static str, String), Problem>>>,
}

impl ProcessProblems {
    /// None yet, of the process on this node.
    pub fn new(node: &str) -> Self {
        Self { node: ObjectRef::new("Node", ObjectKey::new("", node)), raised: Arc::default() }
    }

    /// What the problems are about.
    pub fn node(&self) -> &ObjectRef {
        &self.node
    }

    /// Something does not work.
    pub fn error(&self, reason: &'static str, field: &str, message: String, hint: &str) {
        self.raise(Problem::error(&self.node, reason, field, message, hint));
    }

    /// Something does not work as asked for.
    pub fn warning(&self, reason: &'static str, field: &str, message: String, hint: &str) {
        self.raise(Problem::warning(&self.node, reason, field, message, hint));
    }

    /// It works again.
    pub fn clear(&self, reason: &'static str) {
        self.raised().retain(|(of, _), _| *of != reason);
    }

    /// All that is wrong now.
    pub fn all(&self) -> Vec<Problem> {
        self.raised().values().cloned().collect()
    }

    fn raise(&self, problem: Problem) {
        self.raised().insert((problem.reason, problem.field.clone()), problem);
    }

    fn raised(&self) -> MutexGuard<'_, BTreeMap<(&'static str, String), Problem>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_stays_until_it_is_cleared_and_is_shown_as_it_was_raised_last() {
        let problems = ProcessProblems::new("n");
        let elsewhere = problems.clone();
        elsewhere.error("Full", "--a", "no space".to_owned(), "make some");
        elsewhere.error("Full", "--a", "still no space".to_owned(), "make some");
        elsewhere.warning("Odd", "", "odd".to_owned(), "");
        let texts: Vec<_> = problems.all().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["error: Node n: --a: still no space [Full]; make some", "warning: Node n: odd [Odd]"]
        );
        problems.clear("Full");
        assert_eq!(elsewhere.all().len(), 1);
    }
}
