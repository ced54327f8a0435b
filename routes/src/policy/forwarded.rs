//! What becomes of the fields that say where a request comes from (`X-Forwarded-*`, `Forwarded`).

use std::str::FromStr;

/// What an object asks for, where the process's own rule is not to hold: that rule replaces what strangers sent and
/// appends to what trusted proxies sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedFields {
    /// The gateway adds itself to the chains that anybody sent; host, port and scheme are what it has seen itself.
    Append,
    /// The gateway's own alone, whoever sent others.
    Replace,
    /// Each of them is set where the client sent none.
    IfNone,
    /// They go on as the client sent them, and none is added.
    Never,
}

impl FromStr for ForwardedFields {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "append" => Self::Append,
            "replace" => Self::Replace,
            "if-none" => Self::IfNone,
            "never" => Self::Never,
            _ => return Err(()),
        })
    }
}
