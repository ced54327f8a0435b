//! Annotation by annotation: what becomes of each in a migration.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::{Defaults, ObjectKind, Settings, family_of, parse_over, reader::protects_elsewhere};
use crate::{objects::ObjectRef, problem::Problem};

/// How close an object comes to what its author asks for, from whole to not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is done.
    Honoured,
    /// It is done, or nothing is lost, and there is something to know.
    Noted,
    /// Answers are not what it asks for.
    Differs,
    /// It protects and cannot be honoured: the object is closed.
    Closed,
}

/// One annotation of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Whole name.
    pub name: String,
    /// As written.
    pub value: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// What there is to know; empty: nothing.
    pub note: String,
    /// What to do about it; empty: nothing.
    pub fix: String,
}

/// What becomes of each annotation of an object that is meant for a controller.
pub fn each(object: &ObjectRef, metadata: &ObjectMeta, understand_snippets: bool) -> Vec<Judged> {
    let Some(kind) = ObjectKind::named(object.kind) else { return Vec::new() };
    let defaults = Defaults::default().with_snippets(understand_snippets);
    let (whole, _) = parse_over(&defaults, object, metadata);
    let (nothing, _) = parse_over(&defaults, object, &ObjectMeta::default());
    // A canary has its main Ingress' settings, but for who gets it and how its pods are spoken to.
    let idle = |settings: &Settings| {
        let (canary, transport) = (nothing.canary.clone(), nothing.transport.clone());
        let rest = Settings { canary, transport, ..settings.clone() };
        whole.canary.is_on() && rest != nothing
    };
    let all = metadata.annotations.iter().flatten();
    all.filter_map(|(name, value)| {
        let annotations = Some([(name.clone(), value.clone())].into());
        let alone = ObjectMeta { annotations, ..ObjectMeta::default() };
        let (settings, problems) = parse_over(&defaults, object, &alone);
        let row = family_of(name).and_then(|(family, name)| family.row(name));
        let row = row.filter(|row| row.objects.contains(&kind));
        let judged = |verdict, note: String, fix: String| Judged {
            name: name.clone(),
            value: value.clone(),
            verdict,
            note,
            fix,
        };
        match (worst(problems), row) {
            (Some(problem), _) => {
                let verdict = match problem.is_error() {
                    true if settings.deny.is_some() => Verdict::Closed,
                    true => Verdict::Differs,
                    false => Verdict::Noted,
                };
                Some(judged(verdict, problem.message, problem.hint))
            }
            (None, Some(_)) if idle(&settings) => {
                let note = "it has no effect on a canary, nor with ingress-nginx".to_owned();
                Some(judged(Verdict::Noted, note, String::new()))
            }
            (None, Some(row)) if !row.difference.is_empty() => {
                Some(judged(Verdict::Noted, row.difference.to_owned(), String::new()))
            }
            (None, Some(_)) => Some(judged(Verdict::Honoured, String::new(), String::new())),
            // Of no controller that is known.
            (None, None) => None,
        }
    })
    .collect()
}

/// The annotations of an object that keep clients out, or would if they could.
pub fn protecting<'m>(
    object: &ObjectRef,
    metadata: &'m ObjectMeta,
) -> impl Iterator<Item = &'m str> {
    let all = metadata.annotations.iter().flatten();
    let protects = |name: &str, value: &str| {
        let row = family_of(name).and_then(|(family, name)| family.row(name));
        row.is_some_and(|row| protects_elsewhere(row, value)) || {
            let annotations = Some([(name.to_owned(), value.to_owned())].into());
            let alone = ObjectMeta { annotations, ..ObjectMeta::default() };
            parse_over(&Defaults::default(), object, &alone).0.deny.is_some()
        }
    };
    all.filter(move |(name, value)| protects(name, value)).map(|(name, _)| &**name)
}

fn worst(problems: Vec<Problem>) -> Option<Problem> {
    problems.into_iter().max_by_key(Problem::is_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::ObjectKey;

    #[test]
    fn an_annotation_protects_by_its_row_or_by_its_words_unless_its_value_asks_for_nothing() {
        for (kind, name, value, expected) in [
            ("Ingress", "nginx.ingress.kubernetes.io/whitelist-source-range", "10.0.0.0/8", true),
            ("Ingress", "nginx.ingress.kubernetes.io/auth-type", "basic", true),
            ("Ingress", "nginx.ingress.kubernetes.io/auth-url", "http://a.b/", true),
            ("Ingress", "nginx.ingress.kubernetes.io/auth-tls-secret", "a/b", true),
            ("Ingress", "nginx.ingress.kubernetes.io/limit-rps", "5", true),
            ("Ingress", "nginx.ingress.kubernetes.io/server-snippet", "deny all;", true),
            ("Ingress", "nginx.org/jwt-key", "k", true),
            ("Ingress", "gatehouse.io/alow-source-range", "10.0.0.0/8", true),
            ("Ingress", "nginx.ingress.kubernetes.io/proxy-read-timeout", "5", false),
            ("Ingress", "nginx.ingress.kubernetes.io/limit-rps", "0", false),
            ("Ingress", "example.com/auth", "x", false),
            ("Route", "haproxy.router.openshift.io/ip_whitelist", "10.0.0.0/8", true),
            ("Route", "haproxy.router.openshift.io/timeout", "5s", false),
        ] {
            let object = ObjectRef::new(kind, ObjectKey::new("d", "a"));
            let annotations = Some([(name.to_owned(), value.to_owned())].into());
            let metadata = ObjectMeta { annotations, ..ObjectMeta::default() };
            let found = protecting(&object, &metadata).next();
            assert_eq!(found, expected.then_some(name), "{kind} {name} {value}");
        }
    }

    #[test]
    fn each_annotation_has_its_own_verdict_and_those_of_nobody_have_none() {
        let object = ObjectRef::new("Ingress", ObjectKey::new("d", "a"));
        let nginx = |name: &str| format!("nginx.ingress.kubernetes.io/{name}");
        let annotations = [
            (nginx("proxy-body-size"), "8m"),
            (nginx("limit-rps"), "5"),
            (nginx("proxy-busy-buffers-size"), "8k"),
            (nginx("configuration-snippet"), "deny all;"),
            ("haproxy.org/rewrite-target".to_owned(), "/x"),
            ("example.com/owner".to_owned(), "me"),
        ];
        let annotations = annotations.map(|(name, value)| (name, value.to_owned()));
        let metadata =
            ObjectMeta { annotations: Some(annotations.into()), ..ObjectMeta::default() };
        let verdicts: Vec<_> = each(&object, &metadata, false)
            .into_iter()
            .map(|judged| (judged.name.rsplit_once('/').unwrap().1.to_owned(), judged.verdict))
            .collect();
        let verdicts: Vec<_> = verdicts.iter().map(|(name, verdict)| (&**name, *verdict)).collect();
        assert_eq!(
            verdicts,
            [
                ("rewrite-target", Verdict::Differs),
                ("configuration-snippet", Verdict::Closed),
                ("limit-rps", Verdict::Noted),
                ("proxy-body-size", Verdict::Honoured),
                ("proxy-busy-buffers-size", Verdict::Noted),
            ]
        );
    }

    #[test]
    fn on_a_canary_only_who_gets_it_and_how_its_pods_are_spoken_to_has_an_effect() {
        let object = ObjectRef::new("Ingress", ObjectKey::new("d", "a"));
        let judged = |canary: &str| {
            let all = [
                ("canary", canary),
                ("canary-weight", "10"),
                ("auth-url", "http://a.b/"),
                ("service-upstream", "true"),
                ("whitelist-source-range", "10.0.0.0/8"),
            ];
            let all = all.map(|(name, value)| {
                (format!("nginx.ingress.kubernetes.io/{name}"), value.to_owned())
            });
            let metadata = ObjectMeta { annotations: Some(all.into()), ..ObjectMeta::default() };
            let idle = each(&object, &metadata, false).into_iter();
            let idle = idle.filter(|one| one.note.contains("on a canary"));
            idle.map(|one| one.name.rsplit_once('/').unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(judged("true"), ["auth-url", "whitelist-source-range"]);
        assert_eq!(judged("false"), [""; 0]);
    }
}
