//! Objects in, tables out: the one entry point of this crate.
//!
//! `gather` translates what changed, `claims` says which Routes get their hosts, `assemble` puts the tables together;
//! `kept` is what one compile leaves for the next. This file holds the public types and the order of the steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    annotations::{Defaults, nginx_config},
    class::Classes,
    filter::{error_pages::ErrorPages, tls_terms::GlobalTls},
    model::{BackendKey, BackendSlot, BackendTable, CertBinding, Scope, ScopeSlot},
    objects::{ObjectKey, ObjectRef, Objects},
    options::Options,
    passthrough::PassThroughTable,
    problem::Problem,
    slots::Slots,
    table::RouteTable,
    translate::Translation,
};

mod assemble;
mod backends;
mod by_age;
mod canaries;
mod claims;
mod demands;
mod error_pages;
mod facts;
mod fallback;
mod gather;
mod hosts;
mod kept;
mod own;
mod passthrough;
mod remarks;
mod resolve;
mod served;

use gather::Run;
use kept::Cache;

pub use crate::translate::openshift::CertificateFault;

/// Routes whose certificates may not be used, as the owner of TLS has judged them.
pub type CertificateFaults = BTreeMap<ObjectKey, CertificateFault>;

/// The rules and certificates of the listeners of one scope.
#[derive(Clone, Debug)]
pub struct GatewayTable {
    /// Which listeners.
    pub scope: Scope,
    /// How they find it.
    pub slot: ScopeSlot,
    /// Their rules.
    pub routes: Arc<RouteTable>,
    /// Their certificates, oldest first. Of several for one host the first is the one, unless it is there only for
    /// what the certificate names.
    pub certs: Arc<[CertBinding]>,
    /// The server names whose TLS is passed on.
    pub passthrough: Arc<PassThroughTable>,
}

impl GatewayTable {
    /// Whether the rules of all tables are these, which were kept of former ones.
    pub fn are_of(tables: &[Self], routes: &[Arc<RouteTable>]) -> bool {
        routes.len() == tables.len()
            && routes.iter().zip(tables).all(|(a, b)| Arc::ptr_eq(a, &b.routes))
    }
}

/// What becomes of an Ingress of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressOutcome {
    /// Which Ingress.
    pub object: ObjectKey,
    /// Name of its class, if it names one.
    pub class: Option<String>,
    /// The gateway Service that serves it, besides plain addresses; its addresses become the status.
    pub gateway: Option<ObjectKey>,
}

/// What becomes of a Route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOutcome {
    /// Which Route.
    pub object: ObjectKey,
    /// Its host, also if it is not in `spec.host`; empty if it has none.
    pub host: String,
    /// Whether it is served.
    pub admitted: bool,
    /// Reason of the `Admitted` condition; empty if admitted.
    pub reason: &'static str,
    /// Message of the `Admitted` condition; empty if admitted.
    pub message: String,
}

/// All that a set of objects means for routing.
#[derive(Debug)]
pub struct Compiled {
    /// `[0]` is [`Scope::Plain`] with the rules of every gateway, then one per gateway Service by key.
    pub tables: Vec<GatewayTable>,
    /// Backends of all rules.
    pub backends: Arc<BackendTable>,
    /// Slots of the backends that were asked for besides.
    pub asked: Vec<BackendSlot>,
    /// Ingresses of ours, by key; the same `Arc` as before where nothing else becomes of one, or of all.
    pub ingresses: Arc<[Arc<IngressOutcome>]>,
    /// Routes, by key, likewise.
    pub routes: Arc<[Arc<RouteOutcome>]>,
    /// Texts of errors where no object has its own.
    pub error_pages: Option<Arc<ErrorPages>>,
    /// What the ConfigMap of ingress-nginx says of TLS.
    pub tls: Option<GlobalTls>,
    /// Everything that is wrong, in a stable order.
    pub problems: Vec<Problem>,
    /// The Secrets that what is served refers to, whether or not they exist; the same `Arc` as before if
    /// no reference changed.
    pub wanted_secrets: Arc<BTreeSet<ObjectKey>>,
    /// The ConfigMaps that objects refer to, in the same way.
    pub wanted_config_maps: Arc<BTreeSet<ObjectKey>>,
    cache: Cache,
}

/// A backend that no rule refers to.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The object that does.
    pub object: ObjectRef,
    /// Which backend.
    pub key: BackendKey,
    /// Field of the object that names it.
    pub field: String,
    /// What becomes of its clients while nobody is there; `None`: as of requests.
    pub so: Option<&'static str>,
}

/// The gateway Services of all classes of ours and the default one.
pub fn gateways(objects: &Objects, options: &Options) -> BTreeSet<ObjectKey> {
    Classes::new(objects, options).0.gateways()
}

/// Compiles the objects. Pure: the same objects and options give the same result; `previous` only saves
/// work and lends its counters.
///
/// Work is proportional to what changed: an object behind the same `Arc` as before keeps its rules, a host
/// with the same rules its [`HostRoutes`](crate::table::HostRoutes), a Service with the same
/// EndpointSlices its [`Backend`](crate::model::Backend).
pub fn compile(objects: &Objects, options: &Options, previous: Option<&Compiled>) -> Compiled {
    compile_judged(objects, options, &CertificateFaults::new(), &[], previous)
}

/// The same, where the certificates of Routes have been judged, and with the backends that are asked for besides.
pub fn compile_judged(
    objects: &Objects,
    options: &Options,
    faults: &CertificateFaults,
    asked: &[Asked],
    previous: Option<&Compiled>,
) -> Compiled {
    let (classes, problems) = Classes::new(objects, options);
    let own = own::listeners(objects, options, &classes.gateways());
    let (defaults, tls, unread) = defaults(objects, options);
    let (error_pages, unworded) = error_pages::read(options, objects);
    let same_defaults = |kept: &&Cache| kept.options == *options && kept.defaults == defaults;
    let kept = previous.map(|previous| &previous.cache).filter(same_defaults);
    let mut run = Run {
        own,
        faults,
        objects,
        options,
        classes: &classes,
        previous,
        // Translations depend on the options; counters and slots do not.
        kept,
        same_classes: kept.is_some_and(|kept| gather::classes(objects).eq(kept.classes())),
        defaults: defaults.clone(),
        same_secrets: previous.is_some_and(|previous| {
            objects.secrets.keys().eq(&*previous.cache.secrets)
                && objects.refused == previous.cache.refused
        }),
        slots: Slots::new(previous.map(|previous| (&previous.cache.slots, &*previous.backends))),
        failed_claims: Arc::default(),
        scopes: previous.map(|previous| previous.cache.scopes.clone()).unwrap_or_default(),
        problems: problems.into_iter().chain(unread).chain(unworded).collect(),
    };
    let default_backend = fallback::asked(options);
    let asked = asked.iter().chain(&default_backend).map(|asked| {
        let mut translation = Translation::new(asked.object.clone(), Vec::new());
        translation.backend(asked.key.clone(), 1, asked.field.clone(), &mut run.slots);
        translation.so = asked.so;
        translation
    });
    let asked = asked.collect();
    let ingresses = run.ingresses();
    let routes = run.routes();
    Compiled { error_pages, tls, ..run.finish(ingresses, routes, asked) }
}

/// What the ConfigMap of ingress-nginx says of every Ingress, if there is to be one.
fn defaults(
    objects: &Objects,
    options: &Options,
) -> (Option<Defaults>, Option<GlobalTls>, Vec<Problem>) {
    let Some(key) = &options.nginx_config else { return (None, None, Vec::new()) };
    let (defaults, tls, problems) = nginx_config::read(key, objects);
    (Some(defaults), Some(tls), problems)
}

#[cfg(test)]
mod tests;
