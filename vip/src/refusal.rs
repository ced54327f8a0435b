//! The one diagnostic of this crate: what is not done as asked, why, and what to do about it.
//!
//! Pure values; the caller attaches the object they belong to and turns them into its own problems.

use std::fmt;

use serde::Serialize;

/// One thing that is not done as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Machine-readable reason in CamelCase, as in a Kubernetes condition.
    pub reason: &'static str,
    /// The field that has to change: a path in the spec for pools and advertisements
    /// (`spec.addresses[1]`), or the name of a field of [`Claim`](crate::Claim) (`requested`, `pool`,
    /// `families`) that the caller translates; empty for the whole object.
    pub field: String,
    /// What is wrong, with the offending value; lower case, no full stop.
    pub message: String,
    /// What to do about it; empty if the message says it all.
    pub hint: String,
    /// True: the thing asked for is refused. False: it works, but not wholly as asked.
    pub severe: bool,
}

impl Refusal {
    /// Refuses what was asked for.
    pub fn error(
        reason: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            reason,
            field: field.into(),
            message: message.into(),
            hint: hint.into(),
            severe: true,
        }
    }

    /// Notes something that does not keep the rest from working.
    pub fn warning(
        reason: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severe: false, ..Self::error(reason, field, message, hint) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{} [{}]", self.message, self.reason)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}
