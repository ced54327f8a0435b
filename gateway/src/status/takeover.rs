//! What a new leader does before it deals out its first address: it reads every Service as it is now, and
//! makes sure that nothing which the leader before it has begun can still give one away ([`diff`]
//! says why that is enough).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use gatehouse_routes::objects::{ObjectKey, ObjectRef};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Error,
    api::{DynamicObject, ListParams},
};

use super::{
    Scope, contest,
    diff::{self, Patch},
    leader::Term,
    queue::Outcome,
    requests,
};
use crate::{
    compile,
    source::{Kind, key_of},
};

/// Requests under way at one time.
const CONCURRENCY: usize = 16;
/// How often one Service may change between reading and writing before all of them are read again.
const TRIES: usize = 10;

/// What a leader begins with.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The leader's term.
    pub(crate) term: u32,
    /// Every Service that may have an address of ours, and the version that has to be known before an
    /// address is dealt out.
    pub(crate) services: BTreeMap<ObjectKey, u64>,
    /// Services, Ingresses and Routes whose status our field manager has a part in.
    pub(crate) written_before: BTreeSet<ObjectRef>,
    /// Names that our router had before in the status of Routes.
    pub(crate) routers_before: BTreeSet<String>,
}

/// Whose leader takes over, and of what.
#[derive(Clone, Copy)]
pub(super) struct Realm<'r> {
    pub(super) scope: &'r Scope,
    /// The field manager.
    pub(super) manager: &'r str,
}

/// Takes over from the leader before. `again`: this term has done it already, and only what Services there
/// are is of interest.
pub(super) async fn take_over(
    client: &Client,
    Realm { scope, manager }: Realm<'_>,
    leader: &str,
    term: Term,
    again: bool,
) -> Result<Taken, String> {
    let services: Vec<Service> = everywhere(client, scope).await.map_err(text)?;
    let mut written_before = BTreeSet::new();
    let fenced = term.clean || again || !has_pools(client).await.map_err(text)?;
    let now = super::seconds(jiff::Timestamp::now());
    let ours = services.iter().filter(|it| compile::may_be_ours(scope.class.as_deref(), it));
    let ours = ours.map(|service| {
        let touch = if fenced { None } else { diff::touch(service, leader, &now) };
        let others = contest::other_gateways(&service.metadata, manager);
        let inherit = if again || others.is_empty() { None } else { diff::inherit(service) };
        let version = service.metadata.resource_version.clone();
        (key_of(&service.metadata), version, touch, inherit.map(|patches| (patches, others)))
    });
    let ours: Vec<_> = ours.collect();
    let now = now.as_str();
    let versions = stream::iter(ours).map(|(key, version, touch, inheritance)| async move {
        let touched = touch.is_some();
        let mut version = match touch {
            None => version,
            Some(patch) => fence((client, manager), patch, leader, now).await?,
        };
        if let Some((patches, others)) = inheritance {
            let written = inherit((client, manager), patches, others, touched).await;
            version = written.or(version);
        }
        Ok::<_, String>(version.and_then(|it| it.parse().ok()).map(|version| (key, version)))
    });
    let versions: Vec<_> = versions.buffer_unordered(CONCURRENCY).try_collect().await?;
    if !again {
        let of = |kind, metadata: &ObjectMeta| {
            is_written(metadata, manager).then(|| ObjectRef::new(kind, key_of(metadata)))
        };
        written_before.extend(services.iter().filter_map(|it| of("Service", &it.metadata)));
        for ingress in everywhere_metadata(client, scope, Kind::Ingress).await.map_err(text)? {
            written_before.extend(of("Ingress", &ingress));
        }
        // There may be no such kind, or no right to it, and what is left at a Route does no harm.
        match everywhere_metadata(client, scope, Kind::Route).await {
            Ok(routes) => written_before.extend(routes.iter().filter_map(|it| of("Route", it))),
            Err(error) => tracing::debug!(%error, "Routes that were served before are not known"),
        }
    }
    Ok(Taken {
        term: term.number,
        services: versions.into_iter().flatten().collect(),
        written_before,
        routers_before: BTreeSet::new(),
    })
}

/// Writes to a Service until it is certain that nothing older can be written over it; its version then.
/// `None`: it is gone.
async fn fence(
    (client, manager): (&Client, &str),
    mut patch: Patch,
    leader: &str,
    now: &str,
) -> Result<Option<String>, String> {
    for _ in 0..TRIES {
        match requests::write(client, &patch, manager).await {
            Outcome::Done(version) => return Ok(Some(version)),
            Outcome::Gone => return Ok(None),
            Outcome::Refused(why) | Outcome::Failed(why, _) => {
                return Err(format!("{}: {why}", patch.object));
            }
            // The touch is not asked about.
            Outcome::Conflict | Outcome::Contested(_) => {
                let found = requests::service(client, &patch.object.key).await.map_err(text)?;
                let Some(service) = found else { return Ok(None) };
                match diff::touch(&service, leader, now) {
                    Some(newer) => patch = newer,
                    None => return Ok(service.metadata.resource_version),
                }
            }
        }
    }
    Err(format!("{} does not stop changing", patch.object))
}

/// Has our field manager alone own what gateways of other Leases wrote, as it stands: what they own as well would stay when
/// we take it out, and of a gateway that got another Lease nobody is left to do so. One that is still there loses
/// nothing but that. `touched`: we have written all of it. The version of the Service, if there is another one then.
async fn inherit(
    (client, manager): (&Client, &str),
    [claim, leave]: [Patch; 2],
    others: BTreeSet<String>,
    touched: bool,
) -> Option<String> {
    let mut version = None;
    if !touched {
        match requests::write(client, &claim, manager).await {
            Outcome::Done(written) => version = Some(written),
            outcome => {
                tracing::debug!(?outcome, service = %claim.object, "not inherited");
                return None;
            }
        }
    }
    for other in others {
        if let Outcome::Done(written) = requests::write(client, &leave, &other).await {
            version = Some(written);
        }
    }
    version
}

/// Without pools nobody has dealt anything out.
async fn has_pools(client: &Client) -> Result<bool, Error> {
    let kind = Kind::IpAddressPool;
    let resource = requests::resource(kind.api_version(), kind.name(), kind.plural());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    match requests::in_time(api.list_metadata(&ListParams::default().limit(1))).await {
        Ok(list) => Ok(!list.items.is_empty()),
        // There is no such kind.
        Err(Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

async fn everywhere(client: &Client, scope: &Scope) -> Result<Vec<Service>, Error> {
    if scope.namespaces.is_empty() {
        return requests::all(&Api::all(client.clone())).await;
    }
    let mut all = Vec::new();
    for namespace in &scope.namespaces {
        all.extend(requests::all(&Api::namespaced(client.clone(), namespace)).await?);
    }
    Ok(all)
}

async fn everywhere_metadata(
    client: &Client,
    scope: &Scope,
    kind: Kind,
) -> Result<Vec<ObjectMeta>, Error> {
    let resource = requests::resource(kind.api_version(), kind.name(), kind.plural());
    let within = |it: &String| Api::namespaced_with(client.clone(), it, &resource);
    let apis: Vec<Api<DynamicObject>> = match scope.namespaces.is_empty() {
        true => vec![Api::all_with(client.clone(), &resource)],
        false => scope.namespaces.iter().map(within).collect(),
    };
    let mut found = Vec::new();
    for api in apis {
        let mut params = ListParams::default().limit(500);
        loop {
            let page = requests::in_time(api.list_metadata(&params)).await?;
            found.extend(page.items.into_iter().map(|item| item.metadata));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => break,
            }
        }
    }
    Ok(found)
}

fn is_written(metadata: &ObjectMeta, manager: &str) -> bool {
    let managers = metadata.managed_fields.as_deref().unwrap_or_default();
    managers.iter().any(|entry| {
        entry.manager.as_deref() == Some(manager) && entry.subresource.as_deref() == Some("status")
    })
}

fn text(error: Error) -> String {
    error.to_string()
}
