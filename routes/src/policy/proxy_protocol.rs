//! Whether a backend is told by the PROXY protocol who its client is.

use std::str::FromStr;

/// Version of the header that a connection to the backend begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl FromStr for ProxyProtocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err(()),
        }
    }
}
