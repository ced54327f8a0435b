//! Where TLS ends, as `route.openshift.io/termination` says it.

/// Where TLS of an Ingress ends that OpenShift makes a Route of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Termination {
    /// Here.
    Edge,
    /// Here, and the pods are spoken to in TLS again.
    Reencrypt,
    /// At the pods; clients keep their endpoints.
    PassThrough,
}
