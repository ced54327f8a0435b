//! An Ingress that is a canary: no rules of its own, only what it asks of the rules of others.

use k8s_openapi::api::networking::v1::IngressSpec;

use super::Translator;
use crate::{canary::Canary, host, matcher::PathMatch, translate::Proposal};

impl Translator<'_, '_> {
    /// What a canary asks for, path by path.
    pub(super) fn propose(&mut self, spec: &IngressSpec) {
        for (at, rule) in spec.rules.iter().flatten().enumerate() {
            let Ok(host) = host::pattern(rule.host.as_deref().unwrap_or_default()) else {
                continue;
            };
            for (index, path) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
                let field = format!("spec.rules[{at}].http.paths[{index}]");
                let backend = match self.backend_key(&path.backend) {
                    Ok(key) => {
                        self.out.backend(key, 1, format!("{field}.backend.service"), self.slots)
                    }
                    Err((message, hint)) => {
                        self.invalid_backend(&format!("{field}.backend"), &message, hint);
                        continue;
                    }
                };
                let canary =
                    Canary { object: self.out.object.clone(), share: self.settings.canary.share() };
                self.out.proposals.push(Proposal {
                    host: host.clone(),
                    path: path.path.clone().unwrap_or_default(),
                    path_type: path.path_type.clone(),
                    backend,
                    canary,
                    field,
                });
            }
        }
    }
}

impl Proposal {
    /// Whether a rule has the path that the canary names, by text and type.
    pub(crate) fn is_for(&self, path: &PathMatch) -> bool {
        let root = |text: &str| if text.is_empty() { "/".to_owned() } else { text.to_owned() };
        let same = root(path.text()) == root(&self.path);
        same && match path {
            PathMatch::Exact(_) => self.path_type == "Exact",
            PathMatch::Prefix(_) => self.path_type != "Exact",
            PathMatch::Regex(_) => self.path_type == "ImplementationSpecific",
            PathMatch::RoutePrefix(_) | PathMatch::Default => false,
        }
    }
}
