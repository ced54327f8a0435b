//! The type of a `route.openshift.io/v1` Route.
//!
//! It holds every field of the API, so that nothing is lost between reading and writing an object; what
//! the fields mean is said in `translate/openshift.rs`.

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A `route.openshift.io/v1` Route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Name, namespace, labels, annotations.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is asked for.
    #[serde(default)]
    pub spec: RouteSpec,
    /// What routers have said about it; kept as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// `status` of a [`Route`], as text: as a value the words of one router take 2.5 KB, and there are thousands of Routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status(Box<str>);

impl Status {
    /// What it says.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Value::deserialize(deserializer)?.to_string().into()))
    }
}

impl Route {
    /// The value of a field by which Routes can be selected.
    pub fn field(&self, name: &str) -> Option<&str> {
        Some(match name {
            "metadata.name" => self.metadata.name.as_deref()?,
            "metadata.namespace" => self.metadata.namespace.as_deref()?,
            "spec.host" => self.spec.host.as_deref().unwrap_or_default(),
            "spec.path" => self.spec.path.as_deref().unwrap_or_default(),
            "spec.to.name" => &self.spec.to.name,
            _ => return None,
        })
    }
}

/// `spec` of a [`Route`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// DNS name; empty: made of `subdomain`, or of name and namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Labels in front of the router's domain; used only if `host` is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdomain: Option<String>,
    /// Path prefix; empty: every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The first backend.
    #[serde(default)]
    pub to: RouteTargetReference,
    /// Up to three more backends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternate_backends: Vec<RouteTargetReference>,
    /// Which port of the endpoints; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<RoutePort>,
    /// How TLS is terminated; none: clear text only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// `None` (default) or `Subdomain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wildcard_policy: Option<String>,
    /// Changes to the headers of requests and responses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_headers: Option<RouteHttpHeaders>,
}

/// One backend of a [`Route`], always in the Route's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTargetReference {
    /// `Service`, which is also what an empty text means.
    #[serde(default)]
    pub kind: String,
    /// Name of the Service.
    #[serde(default)]
    pub name: String,
    /// Share of the traffic, 0 to 256, relative to the sum; default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

/// `spec.port` of a [`Route`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutePort {
    /// Number or name of the endpoints' port, not of the Service's.
    #[serde(default)]
    pub target_port: IntOrString,
}

/// `spec.tls` of a [`Route`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsConfig {
    /// `edge` (default), `reencrypt` or `passthrough`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination: Option<String>,
    /// Certificate in PEM, possibly with its chain and key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Private key in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Rest of the chain in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "caCertificate")]
    pub ca_certificate: Option<String>,
    /// What the pods' certificates must chain to (`reencrypt`).
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "destinationCACertificate")]
    pub destination_ca_certificate: Option<String>,
    /// `None` (default), `Allow` or `Redirect`: what becomes of requests in clear text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_edge_termination_policy: Option<String>,
    /// Secret of type `kubernetes.io/tls` instead of `certificate` and `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_certificate: Option<LocalObjectReference>,
}

impl TlsConfig {
    /// Certificate chain and key that stand here; no key: there is none. `None`: no certificate, be there a key.
    pub fn pair(&self) -> Option<(String, Option<String>)> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let mut certificate = given(&self.certificate)?;
        // The key may come in the same text.
        let bundled = || certificate.contains("PRIVATE KEY-----").then(|| certificate.clone());
        let key = given(&self.key).or_else(bundled);
        if let Some(chain) = given(&self.ca_certificate) {
            certificate = format!("{}\n{chain}", certificate.trim_end());
        }
        Some((certificate, key))
    }

    /// Whether it brings certificates to be judged, here or in a Secret.
    pub fn has_certificates(&self) -> bool {
        let given =
            |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
        self.external_certificate.is_some()
            || given(&self.certificate)
            || given(&self.destination_ca_certificate)
    }
}

/// Name of an object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LocalObjectReference {
    /// The name.
    #[serde(default)]
    pub name: String,
}

/// `spec.httpHeaders` of a [`Route`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteHttpHeaders {
    /// What to do with which header.
    #[serde(default)]
    pub actions: RouteHttpHeaderActions,
}

/// `spec.httpHeaders.actions` of a [`Route`], at most 20 each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteHttpHeaderActions {
    /// On the way to the backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<RouteHttpHeader>,
    /// On the way to the client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response: Vec<RouteHttpHeader>,
}

/// One header and its action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteHttpHeader {
    /// Name of the header.
    #[serde(default)]
    pub name: String,
    /// What to do with it.
    #[serde(default)]
    pub action: RouteHttpHeaderAction,
}

/// Set a header or delete it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteHttpHeaderAction {
    /// `Set` or `Delete`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The new value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<RouteSetHttpHeader>,
}

/// The value of a `Set` action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteSetHttpHeader {
    /// Literal text with `%%` and `%[…]` expressions, 1 to 16384 bytes.
    #[serde(default)]
    pub value: String,
}

#[cfg(test)]
mod tests;
