//! The API server as this run uses it: many objects at a time, and what became of them.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Client, Config,
    api::{Api as Objects, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::objects::{BALANCERS, PUBLISHED};

/// Requests under way at one time.
const AT_ONCE: usize = 32;
/// Objects in one answer to a list.
const PAGE: u32 = 1000;

/// A client for an administrator.
pub(super) struct Api {
    runtime: Runtime,
    client: Client,
}

impl Api {
    pub(super) fn connect(kubeconfig: &Path) -> anyhow::Result<Self> {
        // The first one counts, and they are all the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async {
            let read = Kubeconfig::read_from(kubeconfig)?;
            let config =
                Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self { runtime, client })
    }

    /// Where changes are made: a client, and what it lives on.
    pub(super) fn parts(&self) -> (&Runtime, &Client) {
        (&self.runtime, &self.client)
    }

    /// Creates objects, some of them at a time.
    pub(super) fn create(&self, objects: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
        let requests = stream::iter(objects).map(|object| async move {
            let object: DynamicObject = serde_json::from_value(object)?;
            let types = object.types.clone().context("an object without a kind")?;
            let api = of(
                &self.client,
                &types.api_version,
                &types.kind,
                object.metadata.namespace.as_deref(),
            );
            let named = object.metadata.name.clone().unwrap_or_default();
            let made = api.create(&PostParams::default(), &object).await;
            made.map(drop).with_context(|| format!("{} {named}", types.kind))
        });
        self.runtime.block_on(requests.buffer_unordered(AT_ONCE).try_collect::<()>())
    }

    /// Gives the Service that is published its name, as a cloud does.
    pub(super) fn publish(&self) -> anyhow::Result<()> {
        let (namespace, name) = PUBLISHED.split_once('/').context("namespace/name")?;
        let api = of(&self.client, "v1", "Service", Some(namespace));
        let status = json!({ "status": { "loadBalancer": { "ingress": [{ "hostname": "edge.example.com" }] } } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(status));
        self.runtime.block_on(api.patch_status(name, &params, &patch))?;
        Ok(())
    }

    /// How many Ingresses and Routes say where they are served.
    pub(super) fn told(&self) -> anyhow::Result<usize> {
        let mut told = 0;
        for (version, kind, pointer) in [
            ("networking.k8s.io/v1", "Ingress", "/status/loadBalancer/ingress/0/hostname"),
            ("route.openshift.io/v1", "Route", "/status/ingress/0/routerCanonicalHostname"),
        ] {
            let all = self.list(&of(&self.client, version, kind, None))?;
            told += all.iter().filter(|it| it.data.pointer(pointer).is_some()).count();
        }
        Ok(told)
    }

    /// The addresses of the Services of type LoadBalancer that have some.
    pub(super) fn addresses(&self) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        let all = self.list(&of(&self.client, "v1", "Service", Some(BALANCERS)))?;
        let found = all.into_iter().filter_map(|service| {
            let entries = service.data.pointer("/status/loadBalancer/ingress")?.as_array()?;
            let ips = entries.iter().filter_map(|it| Some(it["ip"].as_str()?.to_owned()));
            Some((service.metadata.name?, ips.collect()))
        });
        Ok(found.collect())
    }

    fn list(&self, api: &Objects<DynamicObject>) -> anyhow::Result<Vec<DynamicObject>> {
        self.runtime.block_on(async {
            let mut params = ListParams::default().limit(PAGE);
            let mut all = Vec::new();
            loop {
                let page = api.list(&params).await?;
                all.extend(page.items);
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params.continue_token = Some(token),
                    None => return Ok(all),
                }
            }
        })
    }
}

/// Changes a part of an object.
pub(super) async fn patch(
    client: Client,
    (version, kind): (&str, &str),
    (namespace, name): (String, String),
    patch: Value,
) -> anyhow::Result<()> {
    let api = of(&client, version, kind, Some(&namespace));
    let changed = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
    changed.map(drop).with_context(|| format!("{kind} {namespace}/{name}"))
}

fn of(
    client: &Client,
    version: &str,
    kind: &str,
    namespace: Option<&str>,
) -> Objects<DynamicObject> {
    let (group, number) = version.split_once('/').unwrap_or(("", version));
    let lower = kind.to_lowercase();
    let plural = if kind.ends_with('s') { format!("{lower}es") } else { format!("{lower}s") };
    let resource = ApiResource {
        group: group.to_owned(),
        version: number.to_owned(),
        api_version: version.to_owned(),
        kind: kind.to_owned(),
        plural,
    };
    match namespace {
        Some(namespace) => Objects::namespaced_with(client.clone(), namespace, &resource),
        None => Objects::all_with(client.clone(), &resource),
    }
}
