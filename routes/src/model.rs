//! The vocabulary that `Ingress` and `Route` both compile into: hosts, schemes, backends, certificates.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    objects::{ObjectKey, ObjectRef},
    stats::EndpointStats,
    transport::{Alpn, BackendTls, Speaks},
};

/// Which requests a rule or a certificate is for, by host name. Always lower case, without trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// One DNS name.
    Exact(Arc<str>),
    /// `*.rest`: exactly one label in front of `rest` (the field holds `rest`).
    OneLabel(Arc<str>),
    /// Every host that has no entry of its own.
    Any,
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::OneLabel(rest) => write!(f, "*.{rest}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which table of a listener a request is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS, terminated here.
    Https,
}

/// Index into the [`BackendTable`]; stays the same for a key as long as some rule refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendSlot(pub u32);

/// A Service and the port of it that a rule refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    /// The Service.
    pub service: ObjectKey,
    /// Which of its ports.
    pub port: BackendPort,
    /// What is spoken there.
    pub protocol: BackendProtocol,
    /// The address of the Service stands for its endpoints: the cluster chooses among them. Where the Service has none,
    /// the endpoints themselves are used.
    pub whole: bool,
}

/// How it is known what a backend speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendProtocol {
    /// The `appProtocol` of the port says it; HTTP/1.1 in clear text where it says nothing.
    #[default]
    Declared,
    /// The same, with this where it says TLS.
    DeclaredWith(Arc<BackendTls>),
    /// The rule says so: HTTP/1.1 in clear text, whatever the port says.
    ClearText,
    /// Whatever the client speaks: bytes are passed on as they are.
    Bytes,
    /// Whatever the client speaks over UDP: datagrams are passed on as they are.
    Datagrams,
    /// The rule says so: HTTP/2 in clear text.
    Http2,
    /// The rule says so: TLS.
    Tls(Alpn, Arc<BackendTls>),
}

impl BackendProtocol {
    /// What the rule says is spoken.
    pub(crate) fn stated(&self) -> Option<Speaks> {
        match self {
            Self::Declared | Self::DeclaredWith(_) => None,
            Self::ClearText | Self::Bytes | Self::Datagrams => Some(Speaks::Http1),
            Self::Http2 => Some(Speaks::Http2),
            Self::Tls(alpn, _) => Some(Speaks::Tls(*alpn)),
        }
    }

    /// How TLS is done, where the rule says that.
    pub fn tls(&self) -> Option<&Arc<BackendTls>> {
        match self {
            Self::DeclaredWith(tls) | Self::Tls(_, tls) => Some(tls),
            Self::Declared | Self::ClearText | Self::Bytes | Self::Datagrams | Self::Http2 => None,
        }
    }

    /// Over what it is spoken, which the ports of Service and EndpointSlices have to be of.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Datagrams => Transport::Udp,
            _ => Transport::Tcp,
        }
    }
}

/// A protocol that ports are of (`protocol` of a Service's port).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP, the default of a port.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// As Kubernetes writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// That of a port that says `protocol`; `None`: another one.
    pub fn of_port(protocol: Option<&str>) -> Option<Self> {
        match protocol {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some(_) => None,
        }
    }
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

/// How an object names a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendPort {
    /// `service.port.number` of an Ingress: the Service's port.
    Number(u16),
    /// `service.port.name` of an Ingress: the Service's port name.
    Name(Arc<str>),
    /// `port.targetPort` of a Route: the endpoint's port, by number or by name.
    Target(Arc<str>),
    /// The first TCP port of the Service.
    First,
    /// A Route without `port`: every TCP port of the endpoints.
    All,
    /// No port of a Service: the name of the key is that of a host elsewhere, or its address.
    Outside {
        /// Its port.
        number: u16,
        /// Whether it may lead to this host itself.
        loopback: bool,
    },
}

impl fmt::Display for BackendPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) | Self::Outside { number, .. } => write!(f, "{number}"),
            Self::Name(name) | Self::Target(name) => f.write_str(name),
            Self::First => f.write_str("1st"),
            Self::All => f.write_str("*"),
        }
    }
}

/// Where the requests for one [`BackendKey`] go.
#[derive(Debug)]
pub struct Backend {
    /// What it is.
    pub key: BackendKey,
    /// Its endpoints that get traffic; shared with the previous snapshot if nothing about them changed.
    pub endpoints: Arc<EndpointSet>,
}

/// The endpoints of a backend that get traffic: those that are ready or, if none is, those that still serve while
/// they terminate.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// In a stable order (address, then port).
    pub endpoints: Box<[Endpoint]>,
    /// Those that serve on while they terminate, beside ready ones: they keep the clients that they have, and get no
    /// other.
    pub draining: Box<[Endpoint]>,
    /// Those of `endpoints` that are near and get all requests while one of them is fit; empty: it does not matter.
    pub near: Box<[Endpoint]>,
    /// A client keeps its endpoint where no rule says otherwise (`sessionAffinity: ClientIP`).
    pub by_client: bool,
    /// An `ExternalName` Service: resolve this name at run time instead, `endpoints` is empty.
    pub external: Option<ExternalName>,
}

impl EndpointSet {
    /// True if no request can be sent anywhere.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.external.is_none()
    }

    /// Every endpoint, whether or not it gets new clients.
    pub fn all(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().chain(&self.draining)
    }
}

/// Target of an `ExternalName` Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExternalName {
    /// DNS name.
    pub host: Arc<str>,
    /// Port of the Service.
    pub port: u16,
    /// What is spoken there.
    pub speaks: Speaks,
    /// Whether it may lead to this host itself: the trust of the Service's source.
    pub loopback: bool,
}

/// One address that answers.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Address and port to connect to.
    pub address: SocketAddr,
    /// What is spoken there.
    pub speaks: Speaks,
    /// Counters, carried over by address as long as the backend has it.
    pub stats: Arc<EndpointStats>,
}

/// All backends by [`BackendSlot`]; a free slot is `None`.
#[derive(Debug, Default)]
pub struct BackendTable {
    /// Indexed by `BackendSlot.0`.
    pub slots: Box<[Option<Arc<Backend>>]>,
    /// Whether any Service keeps its clients by their address ([`EndpointSet::by_client`]).
    pub by_client: bool,
}

impl BackendTable {
    /// Those backends.
    pub fn new(slots: Box<[Option<Arc<Backend>>]>) -> Self {
        let by_client = slots.iter().flatten().any(|backend| backend.endpoints.by_client);
        Self { slots, by_client }
    }

    /// The backend in a slot that a rule of the same snapshot refers to.
    pub fn get(&self, slot: BackendSlot) -> Option<&Arc<Backend>> {
        self.slots.get(slot.0 as usize).and_then(Option::as_ref)
    }
}

/// Which listeners a table is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Plain bind addresses (`--http`, `--https`): the rules of every gateway.
    Plain,
    /// The addresses of one gateway Service: the rules of the classes that name it.
    Gateway(ObjectKey),
}

/// Number of a [`Scope`], by which a listener finds its rules without a look at names. A scope keeps its
/// number for as long as one compile follows the other, also while it is away, and no other ever gets it:
/// a listener that outlives its scope finds nothing, never another one's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeSlot(pub u32);

impl ScopeSlot {
    /// That of [`Scope::Plain`].
    pub const PLAIN: Self = Self(0);
    /// That of listeners that serve no rules.
    pub const NONE: Self = Self(u32::MAX);
}

/// A certificate that a host asks for. The pair is parsed where TLS lives, not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertBinding {
    /// For which server names.
    pub host: HostPattern,
    /// Only for those among them that the certificate itself names: the object does not say which it is for.
    pub if_named: bool,
    /// Where the pair is.
    pub source: CertSource,
    /// The object that asks for it.
    pub object: ObjectRef,
    /// Field of that object that names the pair.
    pub field: String,
}

impl CertBinding {
    /// What clients are shown where the pair is of no use.
    pub fn instead(&self) -> &'static str {
        match self.host {
            HostPattern::Any if !self.if_named => "one that nobody trusts",
            _ => "the default certificate",
        }
    }
}

/// Where a certificate and its key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertSource {
    /// A Secret of type `kubernetes.io/tls`.
    Secret(ObjectKey),
    /// PEM text in the object itself (`spec.tls.certificate` of a Route).
    Inline {
        /// Certificate chain, leaf first.
        certificate: Arc<str>,
        /// Private key.
        key: Arc<str>,
    },
}
