//! The one diagnostic of this project: what is wrong with which object, and what to do about it.
//!
//! A `Problem` becomes a status condition, an Event, a log line, a line of `gatehouse check` and a row
//! of the admin page; whoever finds one describes it completely, once.

use std::fmt;

use serde::Serialize;

use crate::objects::ObjectRef;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Part of what the object asks for is not done, or is done in a way that may surprise.
    Warning,
    /// What the object asks for is refused; `gatehouse check` exits with 1.
    Error,
}

/// One thing wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The object that has to change.
    pub object: ObjectRef,
    /// Whether something is refused or only to be noticed.
    pub severity: Severity,
    /// Machine-readable reason in CamelCase, as in a Kubernetes condition.
    pub reason: &'static str,
    /// Path of the field within the object (`spec.rules[0].host`), empty for the whole object.
    pub field: String,
    /// What is wrong, with the offending value; lower case, no full stop.
    pub message: String,
    /// What to do about it; empty if the message says it all.
    pub hint: String,
}

impl Problem {
    /// A problem that refuses what the object asks for.
    pub fn error(
        object: &ObjectRef,
        reason: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            object: object.clone(),
            severity: Severity::Error,
            reason,
            field: field.into(),
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// A problem that leaves the rest of the object working.
    pub fn warning(
        object: &ObjectRef,
        reason: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(object, reason, field, message, hint) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}", self.object)?;
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {} [{}]", self.message, self.reason)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}
