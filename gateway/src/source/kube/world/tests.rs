use gatehouse_routes::objects::ObjectRef;
use serde_json::{Value, json};

use super::*;
use crate::source::kube::decode::from_json;

fn object(kind: Kind, namespace: &str, name: &str, more: Value) -> Object {
    let mut value = json!({ "metadata": { "name": name } });
    if !namespace.is_empty() {
        value["metadata"]["namespace"] = json!(namespace);
    }
    merge(&mut value, more);
    from_json(kind, &value).unwrap()
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn service(namespace: &str, name: &str, port: u16) -> Object {
    object(Kind::Service, namespace, name, json!({ "spec": { "ports": [{ "port": port }] } }))
}

fn ingress(namespace: &str, name: &str) -> Object {
    object(Kind::Ingress, namespace, name, json!({}))
}

fn namespace(name: &str, phase: &str) -> Object {
    object(Kind::Namespace, "", name, json!({ "status": { "phase": phase } }))
}

fn list(kind: Kind) -> List {
    List { kind, namespace: None }
}

fn world(kinds: &[Kind]) -> World {
    World::new(kinds, Scope::default())
}

/// Tells a list in whole.
fn tell(world: &mut World, list: &List, objects: &[Object]) {
    world.hear(Heard::Begin(list.clone()));
    for object in objects {
        world.hear(Heard::Object(list.clone(), Ok(object.clone())));
    }
    world.hear(Heard::End(list.clone()));
}

fn hear(world: &mut World, object: Object) {
    world.hear(Heard::Object(list(object.kind()), Ok(object)));
}

/// The events in words: `+Service a/b`, `-Service a/b`, `synced Service`.
fn events(world: &mut World) -> String {
    let mut words = Vec::new();
    for event in world.events() {
        match event {
            Event::Batch(_, changes) => {
                words.extend(changes.into_iter().map(|change| match change {
                    Change::Apply(object, 0) => format!("+{}", object.object_ref()),
                    Change::Apply(..) => panic!("objects of a cluster have no order"),
                    Change::Delete(kind, key) => format!("-{}", ObjectRef::new(kind.name(), key)),
                    Change::Unselected(object) => format!("~{}", object.object_ref()),
                }))
            }
            Event::Synced(_, kind) => words.push(format!("synced {}", kind.name())),
            Event::Problems(_, problems) => words.push(format!("{} problems", problems.len())),
            Event::Refused(_, refused) => words.push(format!("{} refused", refused.len())),
            Event::Answered(_, answered) => words.push(format!("answered {}", answered.len())),
        }
    }
    words.join(", ")
}

fn wanted(names: &[&str]) -> Arc<References> {
    let secret = |name: &&str| (Kind::Secret, ObjectKey::new("a", *name));
    Arc::new(names.iter().map(secret).collect())
}

fn answer(world: &mut World, name: &str, answer: Answer) {
    world.hear(Heard::Answer((Kind::Secret, ObjectKey::new("a", name)), answer));
}

#[test]
fn a_kind_is_told_when_its_list_is_complete() {
    let mut world = world(&[Kind::Service, Kind::Node]);
    assert_eq!(events(&mut world), "answered 0", "nobody has asked for anything");
    let services = list(Kind::Service);
    world.hear(Heard::Begin(services.clone()));
    hear(&mut world, service("a", "b", 80));
    assert_eq!(events(&mut world), "");
    world.hear(Heard::End(services));
    assert_eq!(events(&mut world), "+Service a/b, synced Service");
    assert!(!world.is_listed());
    assert_eq!(world.waiting(), [Kind::Node].into());
    tell(&mut world, &list(Kind::Node), &[]);
    assert_eq!(events(&mut world), "synced Node");
    assert!(world.is_listed());
}

#[test]
fn a_list_that_is_told_anew_changes_only_what_differs() {
    let mut world = world(&[Kind::Service]);
    let services = list(Kind::Service);
    tell(
        &mut world,
        &services,
        &[service("a", "b", 80), service("a", "c", 80), service("a", "d", 80)],
    );
    events(&mut world);
    world.hear(Heard::Begin(services.clone()));
    hear(&mut world, service("a", "b", 80));
    hear(&mut world, service("a", "c", 81));
    assert_eq!(events(&mut world), "", "the old list counts until the new one is complete");
    // The watch broke, and the list begins once more.
    tell(&mut world, &services, &[service("a", "b", 80), service("a", "c", 82)]);
    assert_eq!(events(&mut world), "+Service a/c, -Service a/d");
    tell(&mut world, &services, &[service("a", "b", 80), service("a", "c", 82)]);
    assert_eq!(events(&mut world), "");
    hear(&mut world, service("a", "b", 80));
    assert_eq!(events(&mut world), "", "the same once more is no change");
    world.hear(Heard::Gone(services, ObjectKey::new("a", "b")));
    assert_eq!(events(&mut world), "-Service a/b");
}

#[test]
fn namespaces_that_are_watched_one_by_one_make_up_the_kind_together() {
    let scope = Scope { namespaces: vec!["a".into(), "b".into()], selected: false };
    let mut world = World::new(&[Kind::Service, Kind::Node], scope);
    let lists = world.lists();
    assert_eq!(lists.len(), 3, "{lists:?}");
    let [a, b] = ["a", "b"].map(|name| List { kind: Kind::Service, namespace: Some(name.into()) });
    assert!(lists.contains(&a) && lists.contains(&b) && lists.contains(&list(Kind::Node)));
    events(&mut world);
    tell(&mut world, &a, &[service("a", "x", 80)]);
    assert_eq!(events(&mut world), "+Service a/x");
    tell(&mut world, &b, &[service("b", "x", 80)]);
    assert_eq!(events(&mut world), "+Service b/x, synced Service");
    tell(&mut world, &a, &[]);
    assert_eq!(events(&mut world), "-Service a/x");
}

#[test]
fn a_kind_that_the_api_server_does_not_know_is_empty_and_may_come_and_go() {
    let mut world = world(&[Kind::Route]);
    let routes = list(Kind::Route);
    events(&mut world);
    world.hear(Heard::NoSuchKind(routes.clone()));
    assert_eq!(events(&mut world), "synced Route");
    assert_eq!(world.census(), [(Kind::Route, None)].into());
    tell(&mut world, &routes, &[]);
    assert_eq!(world.census(), [(Kind::Route, Some(0))].into());
    tell(
        &mut world,
        &routes,
        &[object(Kind::Route, "a", "r", json!({ "spec": { "to": { "name": "s" } } }))],
    );
    assert_eq!(events(&mut world), "+Route a/r");
    assert_eq!(world.census(), [(Kind::Route, Some(1))].into());
    world.hear(Heard::NoSuchKind(routes));
    assert_eq!(events(&mut world), "-Route a/r");
    assert_eq!(world.census(), [(Kind::Route, None)].into());
}

#[test]
fn an_object_that_makes_no_sense_leaves_its_last_good_version_and_spoils_nothing() {
    let mut world = world(&[Kind::Ingress]);
    let ingresses = list(Kind::Ingress);
    tell(&mut world, &ingresses, &[ingress("a", "x"), ingress("a", "y")]);
    events(&mut world);
    let broken = |name: &str| {
        let key = ObjectKey::new("a", name);
        let object = ObjectRef::new("Ingress", key.clone());
        let problem = Problem::error(&object, "ObjectUnreadable", "spec", "no sense", "");
        Heard::Object(list(Kind::Ingress), Err(Box::new(Broken { key, problem, stand_in: None })))
    };
    world.hear(broken("x"));
    world.hear(broken("new"));
    assert_eq!(events(&mut world), "2 problems");
    world.hear(Heard::Begin(ingresses.clone()));
    world.hear(broken("x"));
    hear(&mut world, ingress("a", "y"));
    world.hear(Heard::End(ingresses.clone()));
    assert_eq!(events(&mut world), "1 problems", "a/x is still served");
    hear(&mut world, ingress("a", "x"));
    assert_eq!(events(&mut world), "0 problems");
    world.hear(broken("x"));
    world.hear(Heard::Gone(ingresses, ObjectKey::new("a", "x")));
    assert_eq!(events(&mut world), "-Ingress a/x");
}

#[test]
fn an_object_that_makes_no_sense_and_never_did_is_closed_as_it_is_now() {
    let mut world = world(&[Kind::Route]);
    let routes = list(Kind::Route);
    tell(&mut world, &routes, &[]);
    events(&mut world);
    let route = |path: &str, weight: Value| {
        let value = json!({
            "metadata": { "namespace": "a", "name": "x" },
            "spec": { "host": "a.b", "path": path, "to": { "name": "s", "weight": weight } },
        });
        let raw: crate::source::kube::decode::Raw = serde_json::from_value(value).unwrap();
        Heard::Object(list(Kind::Route), raw.decode(Kind::Route, "route.openshift.io/v1"))
    };
    let path = |world: &World| match &world.objects()[..] {
        [object @ Object::Route(route)] => (route.spec.path.clone().unwrap(), is_stand_in(object)),
        other => panic!("{other:?}"),
    };
    for (weight, path_now, expected) in [
        (json!("much"), "/a", ("/a".to_owned(), true)),
        (json!("more"), "/b", ("/b".to_owned(), true)),
        (json!(3), "/c", ("/c".to_owned(), false)),
        (json!("much"), "/d", ("/c".to_owned(), false)),
    ] {
        world.hear(route(path_now, weight));
        events(&mut world);
        assert_eq!(path(&world), expected);
    }
}

#[test]
fn what_is_being_deleted_does_not_count_and_neither_does_its_namespace() {
    let mut world = world(&[Kind::Ingress, Kind::Namespace]);
    let (ingresses, namespaces) = (list(Kind::Ingress), list(Kind::Namespace));
    tell(&mut world, &ingresses, &[ingress("a", "x"), ingress("a", "y"), ingress("b", "x")]);
    tell(&mut world, &namespaces, &[namespace("a", "Active")]);
    events(&mut world);
    let deleted = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    hear(&mut world, object(Kind::Ingress, "a", "y", deleted));
    assert_eq!(events(&mut world), "-Ingress a/y");
    hear(&mut world, namespace("a", "Terminating"));
    assert_eq!(events(&mut world), "-Ingress a/x, +Namespace a");
    // A namespace of this name is made anew.
    world.hear(Heard::Gone(namespaces, ObjectKey::new("", "a")));
    world.hear(Heard::Gone(ingresses, ObjectKey::new("a", "x")));
    hear(&mut world, namespace("a", "Active"));
    hear(&mut world, ingress("a", "x"));
    assert_eq!(events(&mut world), "+Ingress a/x, +Namespace a");
}

#[test]
fn a_service_counts_until_it_is_gone() {
    let mut world = world(&[Kind::Service, Kind::Namespace]);
    tell(&mut world, &list(Kind::Service), &[service("a", "s", 80)]);
    tell(&mut world, &list(Kind::Namespace), &[namespace("a", "Active")]);
    events(&mut world);
    let deleted = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    hear(&mut world, object(Kind::Service, "a", "s", deleted));
    assert_eq!(events(&mut world), "+Service a/s");
    hear(&mut world, namespace("a", "Terminating"));
    assert_eq!(events(&mut world), "+Namespace a");
    world.hear(Heard::Gone(list(Kind::Service), ObjectKey::new("a", "s")));
    assert_eq!(events(&mut world), "-Service a/s");
}

#[test]
fn where_namespaces_are_selected_nothing_asks_for_hosts_in_others() {
    let scope = Scope { selected: true, ..Scope::default() };
    let mut world = World::new(&[Kind::Ingress, Kind::Service, Kind::Namespace], scope);
    tell(&mut world, &list(Kind::Ingress), &[ingress("a", "x"), ingress("b", "x")]);
    tell(&mut world, &list(Kind::Service), &[service("a", "s", 80), service("b", "s", 80)]);
    tell(&mut world, &list(Kind::Namespace), &[namespace("a", "Active")]);
    let told = events(&mut world);
    assert!(told.contains("+Ingress a/x") && !told.contains("Ingress b/x"), "{told}");
    assert!(told.contains("+Service a/s") && told.contains("+Service b/s"), "{told}");
    // Its labels have changed.
    hear(&mut world, namespace("b", "Active"));
    assert_eq!(events(&mut world), "+Ingress b/x, +Namespace b");
    world.hear(Heard::Gone(list(Kind::Namespace), ObjectKey::new("", "a")));
    assert_eq!(events(&mut world), "~Ingress a/x, -Namespace a");
    let deleted = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    hear(&mut world, object(Kind::Ingress, "a", "x", deleted));
    assert_eq!(events(&mut world), "-Ingress a/x");
}

#[test]
fn what_nobody_selected_is_told_of_as_far_as_somebody_says_that_it_is_served() {
    let scope = Scope { selected: true, ..Scope::default() };
    let mut world = World::new(&[Kind::Ingress, Kind::Namespace], scope);
    let served = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } } });
    let served = object(Kind::Ingress, "a", "served", served);
    tell(&mut world, &list(Kind::Ingress), &[ingress("a", "x"), served.clone()]);
    assert_eq!(events(&mut world), "synced Ingress, answered 0", "it may be selected");
    tell(&mut world, &list(Kind::Namespace), &[]);
    assert_eq!(events(&mut world), "~Ingress a/served, synced Namespace");
    tell(&mut world, &list(Kind::Ingress), &[ingress("a", "x"), served]);
    assert_eq!(events(&mut world), "");
    hear(&mut world, ingress("a", "served"));
    assert_eq!(events(&mut world), "~Ingress a/served", "it is served no more");
    hear(&mut world, namespace("a", "Active"));
    assert_eq!(events(&mut world), "+Ingress a/served, +Ingress a/x, +Namespace a");
    world.hear(Heard::Gone(list(Kind::Ingress), ObjectKey::new("a", "x")));
    assert_eq!(events(&mut world), "-Ingress a/x");
}

#[test]
fn what_is_asked_for_by_name_is_answered_when_all_of_it_is() {
    let mut world = world(&[]);
    assert_eq!(events(&mut world), "answered 0");
    world.want(wanted(&["x", "y", "z"]));
    answer(&mut world, "x", Answer::Object(Ok(object(Kind::Secret, "a", "x", json!({})))));
    assert_eq!(events(&mut world), "+Secret a/x");
    answer(&mut world, "y", Answer::Absent);
    answer(&mut world, "z", Answer::Refused("no".to_owned()));
    assert_eq!(events(&mut world), "1 refused, answered 3");
    answer(&mut world, "x", Answer::Absent);
    assert_eq!(events(&mut world), "-Secret a/x");
    answer(&mut world, "z", Answer::Object(Ok(object(Kind::Secret, "a", "z", json!({})))));
    assert_eq!(events(&mut world), "0 refused, +Secret a/z");
    answer(&mut world, "z", Answer::Refused("not now".to_owned()));
    assert_eq!(events(&mut world), "1 refused", "what was read before stays in use");
    world.want(wanted(&["y"]));
    answer(
        &mut world,
        "z",
        Answer::Object(Ok(object(Kind::Secret, "a", "z", json!({ "type": "x" })))),
    );
    assert_eq!(
        events(&mut world),
        "0 refused, -Secret a/z, answered 1",
        "nobody asks for it any more"
    );
}

#[test]
fn what_an_earlier_process_knew_stands_until_the_api_server_has_told() {
    let mut world = world(&[Kind::Service, Kind::Ingress]);
    let secret = object(Kind::Secret, "a", "x", json!({}));
    tell(&mut world, &list(Kind::Ingress), &[ingress("a", "now")]);
    assert_eq!(events(&mut world), "+Ingress a/now, synced Ingress, answered 0");
    world.remember(vec![
        ingress("a", "then"),
        service("a", "b", 80),
        service("a", "c", 80),
        secret.clone(),
    ]);
    assert_eq!(events(&mut world), "+Secret a/x, +Service a/b, +Service a/c, synced Service");
    world.want(wanted(&["x", "y"]));
    assert_eq!(events(&mut world), "answered 2", "there is nobody to wait for");
    assert!(!world.is_listed());
    tell(&mut world, &list(Kind::Service), &[service("a", "b", 80), service("a", "d", 80)]);
    assert_eq!(events(&mut world), "-Service a/c, +Service a/d");
    assert!(world.is_listed());
    world.found();
    answer(&mut world, "x", Answer::Object(Ok(secret)));
    assert_eq!(events(&mut world), "");
    world.want(wanted(&["x", "z"]));
    assert_eq!(events(&mut world), "", "z is waited for as usual");
    answer(&mut world, "z", Answer::Absent);
    assert_eq!(events(&mut world), "answered 2");
}

#[test]
fn an_api_server_that_went_away_before_it_answered_is_not_waited_for() {
    let mut world = world(&[Kind::Service]);
    tell(&mut world, &list(Kind::Service), &[service("a", "now", 80)]);
    world.want(wanted(&["x", "y", "z"]));
    answer(&mut world, "x", Answer::Object(Ok(object(Kind::Secret, "a", "x", json!({})))));
    assert_eq!(events(&mut world), "+Secret a/x, +Service a/now, synced Service");
    assert!(world.is_listed() && !world.is_answered());
    let older = json!({ "type": "older" });
    let known = ["x", "y"].map(|name| object(Kind::Secret, "a", name, older.clone()));
    world.remember([known.as_slice(), &[service("a", "then", 80)]].concat());
    assert_eq!(events(&mut world), "+Secret a/y, answered 3", "x and the list are newer");
    assert!(world.is_answered());
    world.found();
    answer(&mut world, "z", Answer::Object(Ok(object(Kind::Secret, "a", "z", json!({})))));
    answer(&mut world, "y", Answer::Absent);
    assert_eq!(events(&mut world), "-Secret a/y, +Secret a/z");
    world.want(wanted(&["w"]));
    assert_eq!(events(&mut world), "-Secret a/x, -Secret a/z");
    assert!(!world.is_answered(), "what is asked for next is waited for as usual");
}
