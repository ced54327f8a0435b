//! Rows of connections that are passed on as they are.

use super::PASSED_ON;
use crate::annotations::{
    table::Annotation,
    value::{self, IDLE_TIMEOUT},
};

pub(super) const ROWS: &[Annotation] = &[
    Annotation::honoured(
        "idle-timeout",
        PASSED_ON,
        IDLE_TIMEOUT,
        "",
        "How long nothing may move on a connection that is passed on as it is: seconds, or a time such as `5m`. \
         By default an hour, a day for TCP of a Service, and 120 seconds for its UDP (30 until a client has spoken after \
         an answer).",
    ).tuning(),
    PROXY_PROTOCOL,
];

/// Has connections and datagrams begin with a PROXY header.
pub const PROXY_PROTOCOL: Annotation = Annotation::honoured(
    "proxy-protocol",
    PASSED_ON,
    value::PROXY_PROTOCOL,
    "",
    "`v1` or `v2`: connections that are passed on as they are begin with a PROXY header of that version, \
     which tells the backend who its client is. For UDP `v2` alone, before every datagram. With any other value, \
     an empty one too, no port of a Service is passed on here and every path of an Ingress or a Route is closed: a backend \
     that waits for a header would believe what a client writes in its place.",
)
.protecting();
