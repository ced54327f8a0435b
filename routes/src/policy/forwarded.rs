//! What becomes of the fields that say where a request comes from: `X-Forwarded-*`, and `Forwarded` (RFC 7239).

/// What an object asks for beyond the process's own rule: that sets `X-Forwarded-*`, replaces what strangers sent and
/// appends to what trusted proxies sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedFields {
    /// The gateway adds itself to the chains that anybody sent; host, port and scheme are what it has seen itself.
    Append,
    /// The gateway's own alone, whatever the client sent.
    Replace,
    /// Each of them is set where the client sent none.
    IfNone,
    /// They go on as the client sent them, and none is added.
    Never,
    /// `Forwarded` beside what the process's rule sets, and with the same hops.
    Beside,
    /// `Forwarded` instead of X-Forwarded-For, -Host, -Proto and -Port.
    Only,
}
