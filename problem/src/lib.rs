//! The one diagnostic of this project: what is wrong with which object, and what to do about it.
//!
//! A [`Problem`] becomes a status condition, an Event, a log line, a line of `gatehouse check` and a row of
//! the admin page; the code that finds one describes it completely, once. The crate is apart because `routes`
//! and `vip` may not import each other. What names an object is a parameter: `routes` knows Kubernetes
//! objects; `vip` leaves it open (`Problem<()>`) and its caller says which object it is ([`Problem::about`]).

#![forbid(unsafe_code)]

use std::fmt;

use serde::Serialize;

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
pub struct Problem<O = ()> {
    /// The object that has to change; `()` where the caller knows it.
    #[serde(skip_serializing_if = "is_open")]
    pub object: O,
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

/// What names an object in a line of text.
pub trait Subject: fmt::Display {}

impl<O: Clone> Problem<O> {
    /// A problem that refuses what the object asks for.
    pub fn error(
        object: &O,
        reason: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Problem::refused(reason, field, message, hint).about(object.clone())
    }

    /// A problem that leaves the rest of the object working.
    pub fn warning(
        object: &O,
        reason: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Problem::noted(reason, field, message, hint).about(object.clone())
    }
}

impl Problem {
    /// An error about an object that the caller knows.
    pub fn refused(
        reason: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            object: (),
            severity: Severity::Error,
            reason,
            field: field.into(),
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// A warning about an object that the caller knows.
    pub fn noted(
        reason: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::refused(reason, field, message, hint) }
    }

    /// Says which object it is about.
    pub fn about<O>(self, object: O) -> Problem<O> {
        let Self { object: (), severity, reason, field, message, hint } = self;
        Problem { object, severity, reason, field, message, hint }
    }
}

impl<O> Problem<O> {
    /// True if what the object asks for is refused.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

fn is_open<O>(_: &O) -> bool {
    size_of::<O>() == 0
}

/// `field: message [Reason]; hint`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        tail(&self.message, self.reason, &self.hint, f)
    }
}

/// `severity: object: field: message [Reason]; hint`
impl<O: Subject> fmt::Display for Problem<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}: ", self.object)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        tail(&self.message, self.reason, &self.hint, f)
    }
}

fn tail(message: &str, reason: &str, hint: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{message} [{reason}]")?;
    if hint.is_empty() { Ok(()) } else { write!(f, "; {hint}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Name;

    impl fmt::Display for Name {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Ingress default/shop")
        }
    }

    impl Subject for Name {}

    #[test]
    fn a_problem_reads_as_one_line_with_and_without_its_object() {
        let open = Problem::noted("Odd", "spec.x", "value 3 is odd", "write 4");
        assert_eq!(open.to_string(), "spec.x: value 3 is odd [Odd]; write 4");
        assert_eq!(
            open.about(Name).to_string(),
            "warning: Ingress default/shop: spec.x: value 3 is odd [Odd]; write 4"
        );
        let whole = Problem::error(&Name, "Gone", "", "it is gone", "");
        assert_eq!(whole.to_string(), "error: Ingress default/shop: it is gone [Gone]");
    }
}
