//! The default backend: the Service that answers requests which no rule is for (`--default-backend`).
//!
//! It is asked for as the backends of others are that no rule refers to, behind all of them.

use std::sync::Arc;

use super::{Asked, Compiled};
use crate::{
    action::{Action, Forward, ForwardSpec, WeightedBackend},
    filter::Filters,
    matcher::{Matches, PathMatch, Schemes},
    model::{BackendKey, BackendPort, BackendProtocol, HostPattern},
    objects::ObjectRef,
    options::Options,
    policy::Policy,
    rule::RouteRule,
    table::HostRoutes,
    translate::{BackendUse, Translation},
};

/// What asks for it.
pub(super) fn asked(options: &Options) -> Option<Asked> {
    let service = options.default_backend.clone()?;
    let (port, protocol) = (BackendPort::First, BackendProtocol::Declared);
    Some(Asked {
        object: ObjectRef::new("Service", service.clone()),
        key: BackendKey { service, port, protocol, whole: false },
        field: "--default-backend".to_owned(),
        so: None,
    })
}

/// What others ask for.
pub(super) fn others<'t>(
    options: &Options,
    asked: &'t [Translation],
) -> impl Iterator<Item = &'t BackendUse> {
    let own = usize::from(options.default_backend.is_some());
    asked.iter().take(asked.len() - own).flat_map(|asked| &asked.backends)
}

/// Its rule, the previous one if that is the same.
pub(super) fn of(
    options: &Options,
    asked: &[Translation],
    previous: Option<&Compiled>,
) -> Option<Arc<HostRoutes>> {
    options.default_backend.as_ref()?;
    let asked = asked.last()?;
    let BackendUse { slot, key, .. } = asked.backends.first()?;
    let backend = WeightedBackend { slot: *slot, key: key.clone(), weight: 1 };
    let spec = ForwardSpec::of(Box::new([backend]), Policy::of_the_process());
    let rule = RouteRule {
        object: asked.object.clone(),
        host: HostPattern::Any,
        matches: Matches { path: PathMatch::Default, schemes: Schemes::BOTH },
        encoded_slashes: options.encoded_slashes,
        filters: Filters::default(),
        action: Action::Forward(Forward::new(spec)),
    };
    let kept = previous.and_then(|previous| previous.tables.first()?.routes.fallback());
    match kept.filter(|kept| kept.rules().next().is_some_and(|kept| **kept == rule)) {
        Some(kept) => Some(Arc::clone(kept)),
        None => Some(Arc::new(HostRoutes::build(HostPattern::Any, vec![Arc::new(rule)], true))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        compile::compile, model::HostPattern, objects::ObjectKey, options::Options, testing,
    };

    #[test]
    fn the_default_backend_answers_for_unknown_hosts_and_paths_and_never_in_the_place_of_a_rule() {
        let ingress = json!({"kind": "Ingress", "metadata": {"name": "a", "namespace": "d"},
            "spec": {"ingressClassName": "g", "rules": [{"host": "a.test", "http": {"paths": [
                {"path": "/a", "pathType": "Prefix",
                 "backend": {"service": {"name": "app", "port": {"number": 80}}}}]}}]}});
        let objects = testing::from_values([
            json!({"kind": "IngressClass", "metadata": {"name": "g"},
                   "spec": {"controller": "gatehouse.io/ingress"}}),
            ingress,
            json!({"kind": "Service", "metadata": {"name": "app", "namespace": "d"},
                   "spec": {"ports": [{"port": 80}]}}),
        ]);
        let default_backend = Some(ObjectKey::new("sys", "default"));
        let options = Options { default_backend, ..Options::default() };
        let compiled = compile(&objects, &options, None);
        let answer = |host: &str| testing::answer(&compiled, &format!("http://{host}"));
        assert_eq!(answer("a.test/a/b"), "app:80");
        assert_eq!(answer("a.test/other"), "default:1st");
        assert_eq!(answer("nobody.test/"), "default:1st");
        let missing = |reason| compiled.problems.iter().any(|problem| problem.reason == reason);
        assert!(missing("BackendNotFound"), "{:?}", compiled.problems);
        assert!(compiled.asked.is_empty());
        // Nothing has changed: nothing is built anew.
        let again = compile(&objects, &options, Some(&compiled));
        assert!(std::sync::Arc::ptr_eq(&again.tables[0].routes, &compiled.tables[0].routes));
        let without = compile(&objects, &Options::default(), Some(&again));
        assert_eq!(testing::answer(&without, "http://nobody.test/"), "404");
        assert!(without.tables[0].routes.host(&HostPattern::Any).is_none());
    }
}
