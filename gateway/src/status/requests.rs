//! The requests of this folder, one function each, and what became of them.

use std::{collections::BTreeMap, time::Duration};

use gatehouse_routes::objects::{ObjectKey, ObjectRef};
use gatehouse_vip::GroupKey;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Secret, Service},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Error, Resource as _,
    api::{ApiResource, DynamicObject, ListParams, Patch as Body, PatchParams, PostParams},
    core::Request as Path,
};
use serde::Deserialize;

use super::{
    MANAGER,
    contest::{self, Rival},
    diff::{How, Patch},
    events::{Answer, Request, Verb},
    queue::Outcome,
};
use crate::{compile::GroupSecret, source::Kind};

/// Time for one request. Nothing is given away that an unanswered one could still be about: see `diff`.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Objects in one answer to a list.
const PAGE: u32 = 500;

/// Writes the status of an object.
pub(super) async fn write(client: &Client, patch: &Patch, manager: &str) -> Outcome {
    let Some(kind) = Kind::named(patch.object.kind) else {
        return Outcome::Refused(format!("{} has no status of ours", patch.object.kind));
    };
    let resource = resource(patch.api_version, kind.name(), kind.plural());
    if patch.asks {
        match rival(client, &resource, &patch.object, manager).await {
            Ok(None) => {}
            Ok(Some(rival)) => return Outcome::Contested(rival),
            Err(error) => return failure(error),
        }
    }
    let namespace = Some(&*patch.object.key.namespace).filter(|namespace| !namespace.is_empty());
    let path = Path::new(DynamicObject::url_path(&resource, namespace));
    let params = PatchParams {
        field_manager: Some(manager.to_owned()),
        force: patch.how == How::Apply,
        ..PatchParams::default()
    };
    // It stands for the body, which is JSON already.
    let empty = match patch.how {
        How::Apply | How::GiveUp => Body::Apply(()),
        How::Merge => Body::Merge(()),
    };
    let name = &patch.object.key.name;
    let mut request = match path.patch_subresource("status", name, &params, &empty) {
        Ok(request) => request,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    *request.body_mut() = patch.body.as_bytes().to_vec();
    match in_time(client.request::<Written>(request)).await {
        Ok(written) => Outcome::Done(written.metadata.resource_version),
        Err(error) => failure(error),
    }
}

/// Who has written what is ours to write. By a list, so that it needs no right that a leader does not have already.
async fn rival(
    client: &Client,
    resource: &ApiResource,
    object: &ObjectRef,
    manager: &str,
) -> Result<Option<Rival>, Error> {
    let ObjectKey { namespace, name } = &object.key;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    let named = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = in_time(api.list_metadata(&named)).await?;
    let found = found.items.first();
    Ok(found.and_then(|it| contest::rival(&it.metadata, object.kind, manager)))
}

/// What is of interest of an object that was written.
#[derive(Deserialize)]
struct Written {
    metadata: WrittenMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata {
    resource_version: String,
}

/// Writes or counts an Event.
pub(super) async fn tell(client: &Client, request: &Request) -> Answer {
    let resource = resource("events.k8s.io/v1", "Event", "events");
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &request.namespace, &resource);
    let answered = match &request.verb {
        Verb::Create(event) => match serde_json::from_value(event.clone()) {
            Ok(event) => in_time(api.create(&PostParams::default(), &event)).await,
            Err(_) => return Answer::Failed,
        },
        Verb::Count(patch) => {
            let (params, patch) = (PatchParams::default(), Body::Merge(patch));
            in_time(api.patch(&request.name, &params, &patch)).await
        }
    };
    match answered.map_err(failure) {
        Ok(_) => Answer::Done,
        Err(Outcome::Conflict) => Answer::Exists,
        Err(Outcome::Gone) => Answer::Missing,
        Err(outcome) => {
            tracing::debug!(?outcome, name = request.name, "an Event was not written");
            Answer::Failed
        }
    }
}

/// Makes the Secret of the group with a new key.
pub(super) async fn make_group_key(client: &Client, secret: &GroupSecret) -> Outcome {
    let GroupSecret { object, entry } = secret;
    let value = match GroupKey::new_secret() {
        Ok(value) => value,
        Err(error) => return Outcome::Failed(error.to_string(), None),
    };
    let labels = [("app.kubernetes.io/managed-by", MANAGER)];
    let secret = Secret {
        metadata: ObjectMeta {
            namespace: Some(object.namespace.to_string()),
            name: Some(object.name.to_string()),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        string_data: Some([(entry.clone(), value)].into()),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), &object.namespace);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match in_time(api.create(&params, &secret)).await {
        Ok(made) => Outcome::Done(made.metadata.resource_version.unwrap_or_default()),
        Err(error) => failure(error),
    }
}

/// The Lease, if there is one.
pub(super) async fn read_lease(api: &Api<Lease>, name: &str) -> Result<Option<Lease>, Error> {
    in_time(api.get_opt(name)).await
}

/// Every object that a list holds at this moment (a consistent read), page by page.
pub(super) async fn all<K>(api: &Api<K>) -> Result<Vec<K>, Error>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut params = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = in_time(api.list(&params)).await?;
        let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
        found.extend(page.items);
        match next {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

/// A Service as it is now.
pub(super) async fn service(client: &Client, key: &ObjectKey) -> Result<Option<Service>, Error> {
    let api: Api<Service> = Api::namespaced(client.clone(), &key.namespace);
    in_time(api.get_opt(&key.name)).await
}

/// The resource of a kind.
pub(super) fn resource(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// What an error means for what was asked.
pub(super) fn failure(error: Error) -> Outcome {
    let Error::Api(status) = &error else { return Outcome::Failed(error.to_string(), None) };
    let message = status.message.clone();
    match status.code {
        409 => Outcome::Conflict,
        404 => Outcome::Gone,
        400 | 403 | 405 | 415 | 422 => Outcome::Refused(message),
        _ => {
            let after = status.details.as_ref().map(|details| details.retry_after_seconds);
            let after = after.filter(|seconds| *seconds > 0);
            Outcome::Failed(message, after.map(|it| Duration::from_secs(it.into())))
        }
    }
}

/// The answer, if it comes in time.
pub(super) async fn in_time<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(answer) => answer,
        Err(late) => Err(Error::Service(late.into())),
    }
}

/// Labels as a selector.
pub(super) fn selector(labels: &BTreeMap<&str, &str>) -> String {
    let pairs = labels.iter().map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}
