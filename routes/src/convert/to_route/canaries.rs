//! Canaries of Ingresses: the other backends of the Routes that are made of those.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressServiceBackend};
use serde_json::{Value, json};

use crate::{annotations::CanarySettings, canary::Share, objects::ObjectRef, problem::Problem};

/// Backends that a Route may have besides the first.
const MOST: usize = 3;
/// Largest weight of a backend.
const MOST_WEIGHT: u64 = 256;

/// All canaries that have found nothing to be a canary of.
#[derive(Default)]
pub(super) struct Canaries<'o> {
    left: Vec<Canary<'o>>,
}

/// One path of a canary.
struct Canary<'o> {
    object: ObjectRef,
    host: &'o str,
    path: &'o HTTPIngressPath,
    field: String,
    share: Share,
}

impl<'o> Canaries<'o> {
    /// Takes up an Ingress that is one. What chooses by more than weight is told: a Route cannot.
    pub(super) fn add(
        &mut self,
        object: &ObjectRef,
        settings: &CanarySettings,
        ingress: &'o Ingress,
        problems: &mut Vec<Problem>,
    ) {
        let share = settings.share();
        if share.header.is_some() || share.cookie.is_some() {
            let message = "a Route chooses by weight only, not by header or cookie";
            let hint = "write a Route with a host of its own for those who are to try it";
            problems.push(Problem::warning(
                object,
                "NotConverted",
                "metadata.annotations",
                message,
                hint,
            ));
        }
        let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
        for (at, rule) in rules.enumerate() {
            let paths = rule.http.iter().flat_map(|http| &http.paths).enumerate();
            self.left.extend(paths.map(|(index, path)| Canary {
                object: object.clone(),
                host: rule.host.as_deref().unwrap_or_default(),
                path,
                field: format!("spec.rules[{at}].http.paths[{index}]"),
                share: share.clone(),
            }));
        }
    }

    /// The weight of the first backend of a path, and its other backends; `None`: it has no canary that takes a share.
    /// A Route has one port for all of them: `fits` tells whether a backend has it.
    pub(super) fn take(
        &mut self,
        namespace: &Arc<str>,
        (host, of): (&str, &HTTPIngressPath),
        fits: &dyn Fn(&IngressServiceBackend) -> bool,
        problems: &mut Vec<Problem>,
    ) -> Option<(u64, Value)> {
        let of_path = |one: &Canary<'_>| {
            one.object.key.namespace == *namespace
                && one.host == host
                && one.path.path == of.path
                && one.path.path_type == of.path_type
        };
        let (mine, left) = std::mem::take(&mut self.left).into_iter().partition(of_path);
        self.left = left;
        let mine: Vec<Canary<'_>> = mine;
        let total = mine.first()?.share.total.max(1);
        let mut shares: Vec<(u64, &str)> = Vec::new();
        for canary in &mine {
            let taken: u64 = shares.iter().map(|(weight, _)| weight).sum();
            let weight = u64::from(canary.share.weight.min(canary.share.total.max(1)));
            let service = canary.path.backend.service.as_ref();
            let fault = match service {
                None => "it leads to no Service",
                _ if weight == 0 => "its weight is 0",
                _ if canary.share.total.max(1) != total => {
                    "its weight is of another total than that of the first canary"
                }
                _ if taken + weight > u64::from(total) => "the canaries take more than all",
                _ if shares.len() == MOST => "a Route has no more than four backends",
                Some(service) if !fits(service) => {
                    "its port has another name than that of the first backend"
                }
                Some(service) => {
                    shares.push((weight, &service.name));
                    continue;
                }
            };
            problems.push(canary.left_out(fault));
        }
        if shares.is_empty() {
            return None;
        }
        let total = u64::from(total);
        let scaled = |weight: u64| match weight {
            0 => 0,
            _ if total <= MOST_WEIGHT => weight,
            // A share stays one, however small.
            _ => (weight * MOST_WEIGHT / total).max(1),
        };
        let own = total - shares.iter().map(|(weight, _)| weight).sum::<u64>();
        let other = |(weight, name): (u64, &str)| json!({ "kind": "Service", "name": name, "weight": scaled(weight) });
        Some((scaled(own), shares.into_iter().map(other).collect()))
    }

    /// Tells of those that are canaries of nothing.
    pub(super) fn left_over(self, problems: &mut Vec<Problem>) {
        let why = "no Route is made of an Ingress with its host, path and pathType";
        problems.extend(self.left.iter().map(|canary| canary.left_out(why)));
    }
}

impl Canary<'_> {
    fn left_out(&self, why: &str) -> Problem {
        let message = format!("the canary is left out: {why}");
        let hint =
            "by itself it would take all requests; write its Route by hand if it is to have some";
        Problem::warning(&self.object, "NotConverted", &*self.field, message, hint)
    }
}
