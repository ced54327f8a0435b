//! Rows of `route.openshift.io/`: what OpenShift's ingress-to-route controller reads on an Ingress.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    table::{Annotation, Family, ObjectKind},
    value::{FLAG, IGNORED, OWN_SECRET, TERMINATION},
};

const INGRESS: &[ObjectKind] = &[ObjectKind::Ingress];
const ROUTE: &[ObjectKind] = &[ObjectKind::Route];

/// Annotations of ingress-to-route and of the Route API.
pub(super) static FAMILY: Family = Family::new(
    "route.openshift.io/",
    &[ObjectKind::Ingress, ObjectKind::Route],
    &[&[
        Annotation::harmless(
            "allow-non-dns-compliant-host",
            ROUTE,
            FLAG,
            "Labels of the host need not be DNS labels.",
        ),
        Annotation::honoured(
            "destination-ca-certificate-secret",
            INGRESS,
            OWN_SECRET,
            "",
            "With termination `reencrypt`: Secret of the same namespace whose `tls.crt`, or else `ca.crt`, has the authorities \
             that the pods' certificates must chain to.",
        )
        .protecting()
        .but("a Secret that is missing, or has neither, closes the path"),
        Annotation::honoured(
            "reconcile-labels",
            INGRESS,
            IGNORED,
            "",
            "Keep the labels of a generated Route; none is generated here.",
        ),
        Annotation::honoured(
            "termination",
            INGRESS,
            TERMINATION,
            "",
            "What a Route of that termination does, with clear text redirected to https (302): `edge`, `reencrypt` (TLS to the pods) or \
             `passthrough` (TLS goes to the backend of `/` as it is).",
        )
        .protecting(),
    ]],
);

/// How OpenShift's controller is to terminate the TLS of an Ingress, if it says so.
pub(crate) fn termination(metadata: &ObjectMeta) -> Option<&str> {
    let row = FAMILY.row("termination")?;
    FAMILY.find(row, metadata).map(|found| found.value)
}
