//! Why a Service has no endpoint, in the order in which an author of EndpointSlices would look.

use std::fmt;

use super::Slice;

/// Why nobody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Empty {
    /// No EndpointSlice names the Service.
    NoSlice,
    /// None of them holds IP addresses.
    AddressType,
    /// None of them has the port.
    Port,
    /// They list nobody.
    Nobody,
    /// Nobody is ready.
    NotReady,
    /// No address may be used.
    Refused,
}

impl Empty {
    /// Looks at the EndpointSlices of a Service; `no_port`: none of them has the port that is meant.
    pub(super) fn why(slices: &[Slice<'_>], no_port: bool) -> Self {
        let usable = |slice: &&Slice<'_>| matches!(&*slice.1.object.address_type, "IPv4" | "IPv6");
        let mut endpoints =
            slices.iter().filter(usable).flat_map(|slice| &slice.1.object.endpoints).peekable();
        let not_ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
            endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(false))
        };
        match () {
            () if slices.is_empty() => Self::NoSlice,
            () if !slices.iter().any(|slice| usable(&slice)) => Self::AddressType,
            () if no_port => Self::Port,
            () if endpoints.peek().is_none() => Self::Nobody,
            () if endpoints.all(not_ready) => Self::NotReady,
            () => Self::Refused,
        }
    }
}

impl fmt::Display for Empty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlice => "no EndpointSlice of its namespace has the label kubernetes.io/service-name with its name",
            Self::AddressType => "its EndpointSlices are not of addressType IPv4 or IPv6",
            Self::Port => "no port of its EndpointSlices has the name of the Service's port",
            Self::Nobody => "its EndpointSlices list no endpoint",
            Self::NotReady => "none of its endpoints is ready",
            Self::Refused => "none of its addresses may be used",
        })
    }
}
