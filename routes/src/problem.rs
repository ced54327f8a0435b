//! What is wrong with a Kubernetes object: [`gatehouse_problem`]'s diagnostic, about an [`ObjectRef`].

pub use gatehouse_problem::Severity;
use gatehouse_problem::Subject;

use crate::objects::ObjectRef;

/// One thing wrong with one object.
pub type Problem = gatehouse_problem::Problem<ObjectRef>;

impl Subject for ObjectRef {}
