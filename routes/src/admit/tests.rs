use super::*;
use crate::{
    action::{Action, Reach},
    filter::Filters,
    matcher::{Matches, PathRegex, Schemes},
    model::HostPattern,
    objects::ObjectRef,
    options::EncodedSlashes,
};

fn rule(object: &str, path: PathMatch) -> Arc<RouteRule> {
    rule_of(object, Matches { path, schemes: Schemes::BOTH })
}

fn rule_of(object: &str, matches: Matches) -> Arc<RouteRule> {
    let path = &matches.path;
    let kind = if matches!(path, PathMatch::RoutePrefix(_)) { "Route" } else { "Ingress" };
    Arc::new(RouteRule {
        object: ObjectRef::new(kind, ObjectKey::new("d", object)),
        host: HostPattern::Any,
        matches,
        encoded_slashes: EncodedSlashes::default(),
        filters: Filters::default(),
        action: Action::Deny { reason: "Test", reach: Reach::Rule },
    })
}

#[test]
fn who_asks_first_keeps_the_path_and_the_others_know_who_has_it() {
    let prefix = |text: &str| PathMatch::Prefix(text.into());
    let route = |text: &str| PathMatch::RoutePrefix(text.into());
    for (first, second, collides) in [
        (prefix("/a"), prefix("/a"), true),
        (prefix("/a"), prefix("/a/"), false),
        (prefix("/a"), PathMatch::Exact("/a".into()), false),
        (prefix("/a"), PathMatch::Regex(PathRegex::new("/a").unwrap()), false),
        (prefix("/a"), route("/a"), true),
        (prefix("/~a"), prefix("/%7Ea"), true),
        (prefix("/%7Ea"), route("/~a"), true),
        (PathMatch::Exact("/é".into()), PathMatch::Exact("/%c3%a9".into()), true),
        (prefix("/"), route(""), true),
        (route(""), prefix("/"), true),
        (route(""), route("/"), true),
        (route("/"), route("/"), true),
        (PathMatch::Default, PathMatch::Default, true),
        (PathMatch::Default, prefix("/"), false),
    ] {
        let rules = [rule("one", first.clone()), rule("two", second.clone())];
        let (winners, lost) = owners(&rules);
        assert_eq!(
            (winners.len(), lost.len()),
            if collides { (1, 1) } else { (2, 0) },
            "{first:?} {second:?}"
        );
        assert!(Arc::ptr_eq(&winners[0], &rules[0]));
        if let Some(lost) = lost.first() {
            let problem = conflict(lost);
            assert_eq!(problem.object, rules[1].object);
            assert!(problem.message.contains(&rules[0].object.to_string()), "{}", problem.message);
        }
    }
}

#[test]
fn all_spellings_of_the_root_are_one_claim() {
    let route = |name, text: &str| rule(name, PathMatch::RoutePrefix(text.into()));
    let rules = [route("a", ""), route("b", "/"), rule("c", PathMatch::Prefix("/".into()))];
    let (winners, lost) = owners(&rules);
    assert_eq!((winners.len(), lost.len()), (1, 2));
    assert!(Arc::ptr_eq(&winners[0], &rules[0]));
}

#[test]
fn a_path_belongs_to_one_object_in_clear_text_and_over_tls() {
    let schemes = |http, https| Schemes { http, https };
    let path = || PathMatch::RoutePrefix("/".into());
    let clear = rule_of("clear", Matches { path: path(), schemes: schemes(true, false) });
    let secure = rule_of("secure", Matches { path: path(), schemes: schemes(false, true) });
    let (winners, lost) = owners(&[Arc::clone(&clear), secure]);
    assert!(Arc::ptr_eq(&winners[0], &clear));
    assert_eq!((winners.len(), lost.len()), (1, 1));
}
