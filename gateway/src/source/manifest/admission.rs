//! Which documents are read, and what their metadata must say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{ManifestError, document::Head};
use crate::source::Kind;

/// API groups whose objects a user may expect us to honour: they bring traffic in, or say who may.
const EXPECTED_GROUPS: [&str; 22] = [
    "configuration.konghq.com",
    "core.haproxy.org",
    "gatehouse.io",
    "gateway.envoyproxy.io",
    "gateway.networking.k8s.io",
    "gateway.networking.x-k8s.io",
    "gateway.nginx.org",
    "getambassador.io",
    "hub.traefik.io",
    "ingress.v1.haproxy.org",
    "ingress.v3.haproxy.org",
    "k8s.nginx.org",
    "metallb.io",
    "networking.istio.io",
    "operator.openshift.io",
    "projectcontour.io",
    "route.openshift.io",
    "security.istio.io",
    "traefik.containo.us",
    "traefik.io",
    "x.getambassador.io",
    "zalando.org",
];
/// Kinds of other groups of which the same is true.
const EXPECTED_KINDS: [(&str, &str); 4] = [
    ("", "Endpoints"),
    ("cilium.io", "CiliumBGPPeeringPolicy"),
    ("cilium.io", "CiliumL2AnnouncementPolicy"),
    ("cilium.io", "CiliumLoadBalancerIPPool"),
];

/// What to do with a document.
pub(super) enum Understood {
    /// Read it.
    Kind(Kind),
    /// One of ours by its group or kind, but not in this version of the program.
    NotYet,
    /// Another program's.
    Foreign,
}

/// What a document is to us.
pub(super) fn understand(head: &Head) -> Understood {
    let (group, _) = head.api_version.split_once('/').unwrap_or_default();
    if let Some(kind) = meant(&head.kind) {
        if kind.name() == head.kind && kind.api_versions().contains(&&*head.api_version) {
            return Understood::Kind(kind);
        }
        let mut groups = kind.api_versions().iter().map(|version| {
            let (group, _) = version.split_once('/').unwrap_or_default();
            group
        });
        // An old version of a kind of ours, or one that nobody has made. `extensions` is where Ingress came from, and
        // what is not of Kubernetes may well have a kind of its own that is called a Route.
        if !group.contains('.')
            || group.ends_with("k8s.io")
            || groups.any(|known| is_near(group, known))
        {
            return Understood::NotYet;
        }
    }
    let expected =
        EXPECTED_GROUPS.contains(&group) || EXPECTED_KINDS.contains(&(group, &*head.kind));
    if expected { Understood::NotYet } else { Understood::Foreign }
}

/// The kind of this name, whatever its capitals and its number, or that of which the name is a slip of the pen.
pub(super) fn meant(name: &str) -> Option<Kind> {
    let same = |one: &str| one.eq_ignore_ascii_case(name);
    let all = || Kind::ALL.iter().copied();
    all().find(|kind| same(kind.name()) || same(kind.plural())).or_else(|| {
        let near = all().filter_map(|kind| Some((slips(name, kind.name())?, kind)));
        near.min_by_key(|(slips, _)| *slips).map(|(_, kind)| kind)
    })
}

/// How many letters a name has wrong that may be meant for another; two letters of a short name make another word.
fn slips(name: &str, meant: &str) -> Option<usize> {
    let most = meant.len() / 4;
    if name.len().abs_diff(meant.len()) > most {
        return None;
    }
    let edits = strsim::osa_distance(&name.to_ascii_lowercase(), &meant.to_ascii_lowercase());
    (edits <= most).then_some(edits)
}

/// Whether a group is another by a slip of the pen at most.
fn is_near(group: &str, known: &str) -> bool {
    const MOST: usize = 3;
    group.len().abs_diff(known.len()) <= MOST && strsim::osa_distance(group, known) <= MOST
}

/// True for the list form that `kubectl get -o yaml` prints, of any kind that a user may expect us to honour.
pub(super) fn is_list(head: &Head) -> bool {
    let item = |item: &str| {
        let head = Head { kind: item.to_owned(), ..head.clone() };
        !matches!(understand(&head), Understood::Foreign)
    };
    head.kind == "List" || head.kind.strip_suffix("List").is_some_and(item)
}

/// Sets the namespace that the API server would set, and checks both names.
pub(super) fn complete(kind: Kind, metadata: &mut ObjectMeta) -> Result<(), ManifestError> {
    let namespace = metadata.namespace.take().filter(|namespace| !namespace.is_empty());
    if kind.is_namespaced() {
        metadata.namespace = Some(namespace.unwrap_or_else(|| "default".to_owned()));
    }
    for (field, value) in
        [("metadata.namespace", &metadata.namespace), ("metadata.name", &metadata.name)]
    {
        let message = match value.as_deref() {
            Some(value) if is_dns_name(value) => continue,
            None if field == "metadata.namespace" => continue,
            None | Some("") => "is missing".to_owned(),
            Some(value) => {
                format!("{value:?} is not a name of lower-case letters, digits, '-' and '.'")
            }
        };
        let (kind, name) = (kind.name(), metadata.name.as_deref().unwrap_or_default());
        let object = match (&metadata.namespace, name) {
            (_, "") => kind.to_owned(),
            (Some(namespace), name) => format!("{kind} {namespace}/{name}"),
            (None, name) => format!("{kind} {name}"),
        };
        let field = field.to_owned();
        return Err(ManifestError { object, field, ..ManifestError::at(0, message) });
    }
    Ok(())
}

/// RFC 1123 subdomain, as the API server asks of the names of all these kinds.
pub(super) fn is_dns_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            let (first, last) = (label.bytes().next(), label.bytes().next_back());
            first.is_some_and(inner)
                && last.is_some_and(inner)
                && label.bytes().all(|byte| inner(byte) || byte == b'-')
        })
}
