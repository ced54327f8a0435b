//! Objects of an API server: one watch for each kind, one for each object that is referred to by name.
//!
//! [`KubeSource`] runs on a thread of its own. The watches (`list`, `reference`) hear, `world` knows
//! what of it counts, `collector` tells the owner of the cluster state. Secrets and ConfigMaps are never
//! listed: [`Wants`] says which ones are referred to.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, mpsc::Sender},
    thread::{self, JoinHandle},
};

use gatehouse_routes::objects::SourceTrust;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Event, Kind, References, Source, SourceId};

mod cache;
pub mod client;
mod collector;
mod decode;
mod definitions;
pub mod health;
mod list;
mod pause;
mod reference;
mod world;

use cache::Cache;
use client::{Access, Requests};
use collector::Collector;
use health::Health;
use list::Watching;
use world::{Scope, World};

/// What the watches have heard and nobody has taken yet.
const HEARD: usize = 1024;

/// This source, to be told to the owner of the cluster state. A user who may write an EndpointSlice does not
/// own the node, and what has an address is recorded in the status of its Service.
pub const SOURCE: Source = Source {
    id: SourceId("cluster"),
    trust: SourceTrust { loopback_endpoints: false, standalone: false },
    kinds: &[
        Kind::EndpointSlice,
        Kind::Ingress,
        Kind::IngressClass,
        Kind::Namespace,
        Kind::Node,
        Kind::Route,
        Kind::Service,
        Kind::BfdProfile,
        Kind::BgpAdvertisement,
        Kind::BgpPeer,
        Kind::Community,
        Kind::IpAddressPool,
        Kind::L2Advertisement,
    ],
    by_name: &[Kind::ConfigMap, Kind::Secret],
    whole_batches: false,
};

/// What is asked of which API server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which one, and as whom.
    pub access: Access,
    /// Namespaces whose objects are read; empty: all.
    pub namespaces: Vec<String>,
    /// Labels of the namespaces in which Ingresses and Routes count; none: all.
    pub namespace_selector: Option<String>,
    /// Where the objects are kept over a restart.
    pub state_dir: Option<PathBuf>,
    /// Private keys are kept there too.
    pub cache_secrets: bool,
}

/// Follows an API server on a thread of its own until it is dropped.
#[derive(Debug)]
pub struct KubeSource {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    wants: Wants,
    health: Arc<Health>,
}

/// Says which objects are referred to by name.
#[derive(Clone, Debug)]
pub struct Wants(watch::Sender<Arc<References>>);

impl Wants {
    /// From now on it is these.
    pub fn set(&self, wanted: &Arc<References>) {
        self.0.send_if_modified(|now| {
            let changed = **now != **wanted;
            if changed {
                now.clone_from(wanted);
            }
            changed
        });
    }
}

impl KubeSource {
    /// Begins to watch. Whether the API server answers is not waited for.
    ///
    /// # Errors
    /// There is no usable configuration, or no thread.
    pub fn start(options: Options, events: Sender<Event>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let requests = Arc::new(Requests::default());
        let health = Arc::new(Health::new(Arc::clone(&requests)));
        let client = runtime.block_on(options.access.connect(&requests, client::WATCHES))?;
        let (stop, stopped) = oneshot::channel();
        let (wanted, wants) = watch::channel(Arc::default());
        let (heard, hears) = mpsc::channel(HEARD);
        let (defined, definitions) = watch::channel(Default::default());
        let watching =
            Watching { client: client.clone(), heard, health: Arc::clone(&health), definitions };
        let scope = Scope {
            namespaces: options.namespaces.iter().map(|name| name.as_str().into()).collect(),
            selected: options.namespace_selector.is_some(),
        };
        let secrets = options.cache_secrets;
        let cache = options.state_dir.map(|folder| Cache { folder, secrets });
        let selector = options.namespace_selector;
        let thread = spawn(move || {
            runtime.block_on(async move {
                let world = World::new(SOURCE.kinds, scope);
                tokio::spawn(definitions::follow(client, defined));
                for list in world.lists() {
                    let selector = selector.clone().filter(|_| list.kind == Kind::Namespace);
                    tokio::spawn(list::follow(list, selector, watching.clone()));
                }
                let collector = Collector { world, watching, wants, cache, events };
                collector::run(collector, hears, stopped).await;
            });
            // Watches that are open do not end by themselves.
            runtime.shutdown_background();
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread), wants: Wants(wanted), health })
    }

    /// Where to say which objects are referred to.
    pub fn wants(&self) -> Wants {
        self.wants.clone()
    }

    /// How things stand.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }
}

impl Drop for KubeSource {
    fn drop(&mut self) {
        // Dropping the sender is the signal.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already, and there is nothing left to tear down.
            let _ = thread.join();
        }
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("kube".to_owned()).spawn(run)
}
