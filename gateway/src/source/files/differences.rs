//! From files to changes: which object wins, what the receiver does not know yet, and what to say about
//! files and duplicates.

use std::collections::{HashMap, hash_map::Entry};

use gatehouse_routes::problem::Problem;

use super::{Change, File, Object, ObjectRef, Place, Tree, file_ref, located};
use crate::source::manifest::Placed;

/// What has to be told.
pub(super) struct Differences {
    pub(super) changes: Vec<Change>,
    pub(super) problems: Vec<Problem>,
}

/// The object that wins under a name, and where it stands.
struct Winner<'t> {
    object: &'t Object,
    order: u64,
    file: &'t Place,
    line: u32,
}

/// Compares the files with what has been published, and takes the differences as published.
pub(super) fn differences(tree: &mut Tree) -> Differences {
    let mut problems = file_problems(tree);
    let mut winners: HashMap<&ObjectRef, Winner<'_>> =
        HashMap::with_capacity(tree.published.len());
    for ((place, file), number) in tree.files.iter().zip(0u64..) {
        for (Placed { object, name, line }, index) in file.manifest.objects().zip(0u64..) {
            let winner = Winner { object, order: number << 32 | index, file: place, line };
            match winners.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(winner);
                }
                Entry::Occupied(mut entry) => {
                    problems.push(duplicate(name, entry.get(), &winner));
                    entry.insert(winner);
                }
            }
        }
    }

    let mut changes: Vec<Change> = Vec::new();
    let gone = tree.published.keys().filter(|name| !winners.contains_key(*name));
    let mut gone: Vec<ObjectRef> = gone.cloned().collect();
    gone.sort_unstable();
    for name in gone {
        tree.published.remove(&name);
        changes.push(Change::Delete(name));
    }
    let mut applied: Vec<(u64, Object)> = Vec::new();
    for (name, winner) in winners {
        let order = winner.order;
        match tree.published.get_mut(name) {
            None => {
                tree.published.insert(name.clone(), (winner.object.clone(), order));
                applied.push((order, winner.object.clone()));
            }
            Some((known, known_order)) => {
                // An equal object keeps the pointer that everybody downstream knows.
                let changed = !same(known, winner.object);
                if changed {
                    *known = winner.object.clone();
                }
                if changed || *known_order != order {
                    *known_order = order;
                    applied.push((order, known.clone()));
                }
            }
        }
    }
    applied.sort_unstable_by_key(|(order, _)| *order);
    changes.extend(applied.into_iter().map(|(order, object)| Change::Apply(object, order)));
    Differences { changes, problems }
}

fn file_problems(tree: &Tree) -> Vec<Problem> {
    let missing = tree.missing.iter().map(|(path, why)| {
        Problem::error(
            &file_ref(path),
            "ManifestMissing",
            "",
            format!("{}: {why}; its last objects stay in use", path.display()),
            "put it back, or restart without it",
        )
    });
    let files = tree.files.iter().flat_map(|(place, file)| about(place, file));
    missing.chain(files).collect()
}

fn about<'t>(place: &'t Place, file: &'t File) -> impl Iterator<Item = Problem> + use<'t> {
    let unreadable = file.errors.iter().map(|error| {
        Problem::error(
            &file_ref(&place.path),
            "ManifestUnreadable",
            error.field.clone(),
            format!("{}; the last good objects of the file stay in use", located(&place.path, error)),
            "",
        )
    });
    let unsupported = file.manifest.unsupported().map(|one| {
        let (path, line) = (place.path.display(), one.line);
        Problem::warning(
            &file_ref(&place.path),
            "KindNotSupported",
            "",
            format!("{path}:{line}: {} {} is not supported", one.api_version, one.kind),
            "",
        )
    });
    unreadable.chain(unsupported)
}

fn duplicate(name: &ObjectRef, loser: &Winner<'_>, winner: &Winner<'_>) -> Problem {
    let place = |at: &Winner<'_>| format!("{}:{}", at.file.path.display(), at.line);
    Problem::warning(
        name,
        "DuplicateObject",
        "",
        format!("{} is overridden by {}", place(loser), place(winner)),
        "remove one of them",
    )
}

fn same(a: &Object, b: &Object) -> bool {
    use std::sync::Arc;
    let same_pointer = match (a, b) {
        (Object::ConfigMap(a), Object::ConfigMap(b)) => Arc::ptr_eq(a, b),
        (Object::EndpointSlice(a), Object::EndpointSlice(b)) => Arc::ptr_eq(a, b),
        (Object::Ingress(a), Object::Ingress(b)) => Arc::ptr_eq(a, b),
        (Object::IngressClass(a), Object::IngressClass(b)) => Arc::ptr_eq(a, b),
        (Object::IpAddressPool(a), Object::IpAddressPool(b)) => Arc::ptr_eq(a, b),
        (Object::L2Advertisement(a), Object::L2Advertisement(b)) => Arc::ptr_eq(a, b),
        (Object::Namespace(a), Object::Namespace(b)) => Arc::ptr_eq(a, b),
        (Object::Node(a), Object::Node(b)) => Arc::ptr_eq(a, b),
        (Object::Route(a), Object::Route(b)) => Arc::ptr_eq(a, b),
        (Object::Secret(a), Object::Secret(b)) => Arc::ptr_eq(a, b),
        (Object::Service(a), Object::Service(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    same_pointer || a == b
}
