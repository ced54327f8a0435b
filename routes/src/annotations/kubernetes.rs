//! Rows of Kubernetes' own annotations about Ingresses, which the judge of classes reads.
//! Others use these prefixes too, so names without a row are left alone.

use super::{
    table::{Annotation, Family, ObjectKind},
    value::READ_BY_OWNER,
};

/// Annotations of an Ingress.
pub(crate) static INGRESS: Family =
    Family { exclusive: false, ..Family::new("kubernetes.io/", CLASS.objects, &[&[CLASS]]) };
/// Annotations of an IngressClass.
pub(crate) static INGRESS_CLASS: Family = Family {
    exclusive: false,
    ..Family::new("ingressclass.kubernetes.io/", IS_DEFAULT_CLASS.objects, &[&[IS_DEFAULT_CLASS]])
};

/// The class of an Ingress from before `spec.ingressClassName`.
pub(crate) const CLASS: Annotation = Annotation::honoured(
    "ingress.class",
    &[ObjectKind::Ingress],
    READ_BY_OWNER,
    "",
    "Class of the Ingress, where `spec.ingressClassName` is not set.",
);
/// Marks the class of Ingresses that name none.
pub(crate) const IS_DEFAULT_CLASS: Annotation = Annotation::honoured(
    "is-default-class",
    &[ObjectKind::IngressClass],
    READ_BY_OWNER,
    "false",
    "`true`: the class of Ingresses that name none.",
);
