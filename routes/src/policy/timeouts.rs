//! How long a client and a backend may take; what is `None` is the process's to say.

use std::time::Duration;

/// Times that an object sets for its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// A connection to an endpoint.
    pub connect: Option<Duration>,
    /// The head of the answer, and each pause within its body.
    pub read: Option<Duration>,
    /// A backend that takes nothing of the request's body.
    pub send: Option<Duration>,
    /// A tunnel (an upgraded connection) on which nothing moves.
    pub tunnel: Option<Duration>,
    /// How far a client may fall behind the rate of its body.
    pub body: Option<Duration>,
    /// Bytes per second that a client sends of its body; 0: any byte will do.
    pub body_rate: Option<u32>,
}
