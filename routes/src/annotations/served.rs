//! Who serves a Service, which is who reads what it says.

/// What to do for a protection that kube-proxy does not know.
pub(super) const HEEDED: &str = "have this process pass the connections on (gatehouse.io/forwarding: gateway); of itself \
                                 kube-proxy heeds spec.loadBalancerSourceRanges alone";

/// Who serves what comes to the addresses of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServedBy {
    /// This process, or the kernel in its place, passes it on.
    #[default]
    Process,
    /// It ends in this process, as requests for Ingresses and Routes.
    Gateway,
    /// kube-proxy, or what stands in its place.
    Cluster,
}

impl ServedBy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Process, Self::Gateway, Self::Cluster];

    /// What becomes of clients where a protection is not in force.
    pub(super) fn unprotected(self) -> &'static str {
        match self {
            Self::Process => "no port is passed on",
            Self::Gateway => "the gateway resets every connection",
            Self::Cluster => {
                "it keeps nobody out: kube-proxy passes the connections on, of everybody whom spec.loadBalancerSourceRanges \
                 lets in"
            }
        }
    }
}
