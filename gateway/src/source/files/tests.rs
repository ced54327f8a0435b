use std::{
    fs::{self, File as DiskFile},
    io::Write as _,
    os::unix::fs::symlink,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use gatehouse_routes::objects::ObjectKey;
use tempfile::TempDir;

use super::*;
use crate::state::ClusterState;

/// Long enough for the slowest machine; nothing waits for it when all is well.
const LONG: Duration = Duration::from_secs(20);
/// Long enough for a wrong event to show up.
const A_WHILE: Duration = Duration::from_millis(300);

mod saves;

fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: {address}\n"
    )
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A source that is followed, and the state that its events give.
struct Followed {
    _source: FileSource,
    events: Receiver<Event>,
    state: ClusterState,
}

impl Followed {
    fn start(paths: &[PathBuf]) -> Self {
        let (sender, events) = mpsc::channel();
        let source = FileSource::start(load(paths).unwrap(), sender).unwrap();
        let mut followed = Self { _source: source, events, state: ClusterState::new([SOURCE]) };
        while !followed.state.synced() {
            followed.next(LONG).expect("the initial objects");
        }
        // The watches are set by the time that an answer to a change can come.
        followed
    }

    /// Applies the next event, and tells what it was.
    fn next(&mut self, wait: Duration) -> Option<usize> {
        match self.events.recv_timeout(wait) {
            Ok(event) => {
                let size = if let Event::Batch(_, changes) = &event { changes.len() } else { 0 };
                self.state.apply(event);
                Some(size)
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the source ended"),
        }
    }

    fn until(&mut self, what: &str, reached: impl Fn(&ClusterState) -> bool) {
        let deadline = Instant::now() + LONG;
        while !reached(&self.state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(self.next(left).is_some(), "never reached: {what}\n{:?}", self.summary());
        }
    }

    /// Nothing may happen for a while.
    fn quiet(&mut self) {
        let event = self.events.recv_timeout(A_WHILE);
        assert!(event.is_err(), "{event:?}");
    }

    fn summary(&self) -> (Vec<String>, Vec<String>) {
        let services = self.state.objects.services.iter();
        (
            services.map(|(key, stored)| format!("{}={}", key.name, ip(&stored.object))).collect(),
            problems(&self.state).iter().map(ToString::to_string).collect(),
        )
    }
}

fn ip(service: &k8s_openapi::api::core::v1::Service) -> &str {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default()
}

fn address<'s>(state: &'s ClusterState, name: &str) -> Option<&'s str> {
    let stored = state.objects.services.get(&ObjectKey::new("default", name))?;
    Some(ip(&stored.object))
}

fn problems(state: &ClusterState) -> Vec<Problem> {
    state.problems()
}

fn reasons(state: &ClusterState) -> Vec<&'static str> {
    problems(state).iter().map(|problem| problem.reason).collect()
}

fn loaded(paths: &[PathBuf]) -> ClusterState {
    let mut state = ClusterState::new([SOURCE]);
    for event in load(paths).unwrap().events() {
        state.apply(event);
    }
    state
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn folders_are_read_recursively_and_only_manifests_in_them() {
    let (_guard, path) = folder();
    write(&path, "a.yaml", &service("a", "10.0.0.1"));
    write(&path, "deep/er/b.yml", &service("b", "10.0.0.2"));
    write(
        &path,
        "c.json",
        "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"c\"}}",
    );
    write(&path, "notes.txt", "not: [a manifest");
    write(&path, ".hidden.yaml", "not: [a manifest");
    write(&path, ".git/x.yaml", "not: [a manifest");
    let state = loaded(std::slice::from_ref(&path));
    let names: Vec<_> = state.objects.services.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["default/a", "default/b", "default/c"]);
    assert!(state.synced() && problems(&state).is_empty());
    let (_guard, empty) = folder();
    assert!(loaded(&[empty]).synced(), "an empty folder is fine");
}

#[test]
fn at_start_every_error_of_every_file_is_told() {
    let (_guard, path) = folder();
    write(&path, "a.yaml", "a: [\n");
    write(&path, "b.yaml", &format!("{}---\nkind: Service\n", service("b", "10.0.0.1")));
    fs::write(path.join("c.yaml"), b"ok: yes\nbad: \xff\n").unwrap();
    let missing = path.join("missing");
    let error = load(&[path.clone(), missing.clone()]).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: ", missing.display())), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let lines = load(std::slice::from_ref(&path)).unwrap().unreadable();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with(&format!("{}:", path.join("a.yaml").display())), "{lines:?}");
    assert!(lines[1].starts_with(&format!("{}:7: ", path.join("b.yaml").display())), "{lines:?}");
    assert!(lines[2].ends_with("c.yaml:2: not valid UTF-8"), "{lines:?}");
    // What is good is there, as after a save.
    let state = loaded(&[path]);
    assert_eq!(address(&state, "b"), Some("10.0.0.1"));
    assert_eq!(reasons(&state), ["ManifestUnreadable"; 3]);
}

#[test]
fn of_several_objects_with_one_name_the_last_in_order_wins_and_both_places_are_named() {
    let (_guard, path) = folder();
    write(&path, "a.yaml", &service("web", "10.0.0.1"));
    write(&path, "b.yaml", &format!("---\n---\n{}", service("web", "10.0.0.2")));
    let state = loaded(std::slice::from_ref(&path));
    assert_eq!(address(&state, "web"), Some("10.0.0.2"));
    let found = problems(&state);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].reason, "DuplicateObject");
    let places = format!("{0}/a.yaml:1 is overridden by {0}/b.yaml:2", path.display());
    assert_eq!(found[0].message, places);
    // The order of the command line comes before the order of the names.
    let state = loaded(&[path.join("b.yaml"), path.join("a.yaml")]);
    assert_eq!(address(&state, "web"), Some("10.0.0.1"));
    // One file that is named twice is no duplicate.
    assert!(problems(&loaded(&[path.join("a.yaml"), path.join("a.yaml")])).is_empty());
}

#[test]
fn objects_are_numbered_in_the_order_of_files_and_documents() {
    let (_guard, path) = folder();
    write(&path, "b.yaml", &format!("{}---\n{}", service("z", ""), service("w", "")));
    write(&path, "a.yaml", &service("x", ""));
    let state = loaded(&[path]);
    let order = |name| state.objects.services[&ObjectKey::new("default", name)].order;
    assert!(order("x") < order("z"));
    assert_eq!(order("w"), order("z") + 1);
}

#[test]
fn new_and_moved_folders_are_followed() {
    let (_guard, path) = folder();
    let mut followed = Followed::start(std::slice::from_ref(&path));
    write(&path, "one/two/a.yaml", &service("a", "10.0.0.1"));
    followed.until("a file in new folders", |state| address(state, "a") == Some("10.0.0.1"));
    write(&path, "one/two/a.yaml", &service("a", "10.0.0.2"));
    followed.until("a save in it", |state| address(state, "a") == Some("10.0.0.2"));
    fs::rename(path.join("one"), path.join("three")).unwrap();
    write(&path, "three/two/a.yaml", &service("a", "10.0.0.3"));
    followed.until("a save after the move", |state| address(state, "a") == Some("10.0.0.3"));
    fs::remove_dir_all(path.join("three")).unwrap();
    followed.until("the removal", |state| address(state, "a").is_none());
}

#[test]
fn a_path_that_is_gone_keeps_its_objects_until_it_is_back() {
    let (_guard, path) = folder();
    let root = path.join("manifests");
    write(&root, "a.yaml", &service("a", "10.0.0.1"));
    let mut followed = Followed::start(std::slice::from_ref(&root));
    fs::rename(&root, path.join("away")).unwrap();
    followed.until("the problem", |state| reasons(state) == ["ManifestMissing"]);
    assert_eq!(address(&followed.state, "a"), Some("10.0.0.1"));
    write(&root, "b.yaml", &service("b", "10.0.0.2"));
    followed.until("the new folder", |state| address(state, "b") == Some("10.0.0.2"));
    followed.until("the old object's end", |state| address(state, "a").is_none());
    write(&root, "b.yaml", &service("b", "10.0.0.3"));
    followed.until("a save in it", |state| address(state, "b") == Some("10.0.0.3"));
    assert!(problems(&followed.state).is_empty());
}

#[test]
fn a_folder_that_is_moved_away_right_after_a_save_keeps_its_objects() {
    let (_guard, path) = folder();
    let root = path.join("manifests");
    let names = ["a", "b", "c", "d"];
    let fill = |root: &Path, address: &str| {
        names.iter().for_each(|name| write(root, &format!("{name}.yaml"), &service(name, address)));
        write(root, "deep/e.yaml", &service("e", address));
    };
    fill(&root, "10.0.0.1");
    let mut followed = Followed::start(std::slice::from_ref(&root));
    for round in 0..20 {
        let address = format!("10.0.{round}.2");
        fill(&root, "10.0.0.9");
        fs::rename(&root, path.join("away")).unwrap();
        // Half of the rounds look in between.
        if round % 2 == 0 {
            followed.until("the problem", |state| reasons(state) == ["ManifestMissing"]);
        }
        fill(&path.join("next"), &address);
        fs::rename(path.join("next"), &root).unwrap();
        fs::remove_dir_all(path.join("away")).unwrap();
        let live = |state: &ClusterState| {
            assert_eq!(state.objects.services.len(), 5, "round {round}: nothing may be lost");
            state.objects.services.values().all(|stored| ip(&stored.object) == address)
        };
        followed.until("the new folder", live);
        followed.until("no problem", |state| problems(state).is_empty());
    }
}

#[test]
fn a_file_that_went_while_it_was_read_is_read_when_it_is_back_as_it_was() {
    let (_guard, path) = folder();
    let root = path.join("manifests");
    write(&root, "a.yaml", &service("a", "10.0.0.1"));
    let mut tree = Tree::new(std::slice::from_ref(&root));
    let look = |tree: &mut Tree| {
        tree.rescan(&mut |_| (), &|_, _| true);
        tree.all_problems().iter().map(|problem| problem.reason).collect::<Vec<_>>()
    };
    assert_eq!(look(&mut tree), [""; 0]);
    let place = tree.files.keys().next().unwrap().clone();
    let stamp = walk::stamp(&place.path).unwrap();
    let read = Err(ManifestError::at(0, "cannot be read: it is gone".to_owned()));
    tree.take(Prepared { place, stamp, read });
    fs::rename(&root, path.join("away")).unwrap();
    assert_eq!(look(&mut tree), ["ManifestMissing"]);
    fs::rename(path.join("away"), &root).unwrap();
    assert_eq!(look(&mut tree), [""; 0]);
}

#[test]
fn a_path_is_followed_through_all_links_on_it() {
    let (_guard, path) = folder();
    let publish = |version: &str, address: &str| {
        write(&path, &format!("{version}/sub/a.yaml"), &service("a", address));
        symlink(version, path.join("tmp")).unwrap();
        fs::rename(path.join("tmp"), path.join("..data")).unwrap();
    };
    publish("..v1", "10.0.0.1");
    symlink("..data/sub/a.yaml", path.join("a.yaml")).unwrap();
    symlink("..data/sub", path.join("folder")).unwrap();
    symlink(path.join("..data"), path.join("absolute")).unwrap();
    let (_guard, elsewhere) = folder();
    symlink(path.join("a.yaml"), elsewhere.join("far.yaml")).unwrap();
    let ways = [
        // A ConfigMap that is mounted, of which one file is named.
        path.join("a.yaml"),
        path.join("folder"),
        path.join("folder/a.yaml"),
        path.join("absolute/sub"),
        path.join("..data/sub/a.yaml"),
        elsewhere.join("far.yaml"),
        elsewhere,
    ];
    let mut all: Vec<Followed> =
        ways.iter().map(|way| Followed::start(std::slice::from_ref(way))).collect();
    for round in 2..5 {
        let new = format!("10.0.0.{round}");
        publish(&format!("..v{round}"), &new);
        fs::remove_dir_all(path.join(format!("..v{}", round - 1))).unwrap();
        for (followed, way) in all.iter_mut().zip(&ways) {
            let what = format!("{} in round {round}", way.display());
            followed.until(&what, |state| address(state, "a") == Some(&new));
            assert!(problems(&followed.state).is_empty(), "{what}");
        }
    }
    // A save of what stands at the end.
    fs::write(path.join("..v4/sub/a.yaml"), service("a", "10.0.0.99")).unwrap();
    for (followed, way) in all.iter_mut().zip(&ways) {
        let what = format!("{} after the save", way.display());
        followed.until(&what, |state| address(state, "a") == Some("10.0.0.99"));
    }
}

#[test]
fn a_writer_whose_folder_was_replaced_hides_nothing() {
    let (_guard, path) = folder();
    write(&path, "sub/a.yaml", &service("a", "10.0.0.1"));
    let mut followed = Followed::start(std::slice::from_ref(&path));
    followed.quiet();
    // Never closed.
    let mut writer = DiskFile::create(path.join("sub/a.yaml")).unwrap();
    writer.write_all(b"apiVersion: v1\n").unwrap();
    followed.quiet();
    write(&path, "next/a.yaml", &service("a", "10.0.0.2"));
    fs::rename(path.join("sub"), path.join(".old")).unwrap();
    fs::rename(path.join("next"), path.join("sub")).unwrap();
    followed.until("the new file", |state| address(state, "a") == Some("10.0.0.2"));
    drop(writer);
}

#[test]
fn a_config_map_volume_is_swapped_in_one_step() {
    let (_guard, path) = folder();
    let publish = |version: &str, addresses: [&str; 2]| {
        let [a, b] = addresses;
        write(&path, &format!("..{version}/a.yaml"), &service("a", a));
        write(&path, &format!("..{version}/b.yaml"), &service("b", b));
        symlink(format!("..{version}"), path.join("..data_tmp")).unwrap();
        fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    };
    publish("v1", ["10.0.0.1", "10.0.0.1"]);
    symlink("..data/a.yaml", path.join("a.yaml")).unwrap();
    symlink("..data/b.yaml", path.join("b.yaml")).unwrap();
    let mut followed = Followed::start(std::slice::from_ref(&path));
    assert_eq!(followed.summary().0, ["a=10.0.0.1", "b=10.0.0.1"]);
    followed.quiet();
    publish("v2", ["10.0.0.2", "10.0.0.2"]);
    assert_eq!(followed.next(LONG), Some(2), "both files in one batch");
    assert_eq!(followed.summary().0, ["a=10.0.0.2", "b=10.0.0.2"]);
    fs::remove_dir_all(path.join("..v1")).unwrap();
    followed.quiet();
}

#[test]
fn a_link_back_to_a_folder_above_is_no_endless_loop() {
    let (_guard, path) = folder();
    write(&path, "sub/a.yaml", &service("a", "10.0.0.1"));
    symlink(&path, path.join("sub/loop")).unwrap();
    let state = loaded(&[path]);
    assert_eq!(state.objects.services.len(), 1);
    assert!(problems(&state).is_empty());
}

#[test]
fn what_has_no_end_is_not_read_and_keeps_nothing_waiting() {
    let (_guard, path) = folder();
    write(&path, "a.yaml", &service("a", "10.0.0.1"));
    symlink("/dev/zero", path.join("device.yaml")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(path.join("pipe.yaml")).status().unwrap();
    assert!(made.success());
    let state = loaded(&[path]);
    assert_eq!(state.objects.services.len(), 1);
    let problems = problems(&state);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems.iter().all(|it| format!("{it:?}").contains("no regular file")),
        "{problems:?}"
    );
}

#[test]
fn changes_between_load_and_watch_are_not_missed() {
    let (_guard, path) = folder();
    write(&path, "a.yaml", &service("a", "10.0.0.1"));
    let loaded = load(std::slice::from_ref(&path)).unwrap();
    write(&path, "a.yaml", &service("a", "10.0.0.22"));
    let (sender, events) = mpsc::channel();
    let source = FileSource::start(loaded, sender).unwrap();
    let mut followed = Followed { _source: source, events, state: ClusterState::new([SOURCE]) };
    followed.until("the change", |state| address(state, "a") == Some("10.0.0.22"));
}

#[test]
fn dropping_the_source_ends_it() {
    let (_guard, path) = folder();
    let (sender, events) = mpsc::channel();
    drop(FileSource::start(load(&[path]).unwrap(), sender).unwrap());
    while events.recv_timeout(LONG).is_ok() {}
    assert_eq!(events.recv_timeout(LONG).err(), Some(RecvTimeoutError::Disconnected));
}

#[test]
fn any_number_of_new_files_find_a_place_between_the_others() {
    let (_guard, path) = folder();
    write(&path, "a.yaml", &service("first", ""));
    write(&path, "z.yaml", &service("last", ""));
    let mut tree = Tree::new(std::slice::from_ref(&path));
    let mut state = ClusterState::new([SOURCE]);
    // Each halves the gap before `z`, so that after 31 of them everything is numbered anew.
    for index in 0..40 {
        let name = format!("n{index:02}");
        write(&path, &format!("m{index:02}.yaml"), &service(&name, ""));
        tree.rescan(&mut |_| {}, &|_, _| true);
        for event in tree.events() {
            state.apply(event);
        }
        let services = &state.objects.services;
        let mut ordered: Vec<_> =
            services.iter().map(|(key, one)| (one.order, &*key.name)).collect();
        ordered.sort_unstable();
        let names: Vec<&str> = ordered.into_iter().map(|(_, name)| name).collect();
        let expected = (0..=index).map(|index| format!("n{index:02}"));
        let expected: Vec<String> =
            ["first".to_owned()].into_iter().chain(expected).chain(["last".to_owned()]).collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn when_the_winner_of_a_name_goes_the_next_one_takes_over() {
    let (_guard, path) = folder();
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")] {
        write(&path, &format!("{name}.yaml"), &service("web", address));
    }
    let mut followed = Followed::start(std::slice::from_ref(&path));
    assert_eq!(address(&followed.state, "web"), Some("10.0.0.3"));
    assert_eq!(reasons(&followed.state), ["DuplicateObject"; 2]);
    fs::remove_file(path.join("c.yaml")).unwrap();
    followed.until("the next one", |state| address(state, "web") == Some("10.0.0.2"));
    fs::remove_file(path.join("a.yaml")).unwrap();
    followed.until("no duplicate", |state| problems(state).is_empty());
    assert_eq!(address(&followed.state, "web"), Some("10.0.0.2"));
}

#[test]
fn a_file_with_two_names_is_followed_under_both() {
    let (_guard, path) = folder();
    write(&path, "real.yaml", &service("a", "10.0.0.1"));
    symlink("real.yaml", path.join("link.yaml")).unwrap();
    let mut followed = Followed::start(std::slice::from_ref(&path));
    assert!(problems(&followed.state).is_empty(), "it is one file");
    write(&path, "real.yaml", &service("a", "10.0.0.2"));
    followed.until("a save of the target", |state| address(state, "a") == Some("10.0.0.2"));
    fs::write(path.join("link.yaml"), service("a", "10.0.0.3")).unwrap();
    followed.until("a save through the link", |state| address(state, "a") == Some("10.0.0.3"));
    write(&path, "new", &service("a", "10.0.0.4"));
    fs::rename(path.join("new"), path.join("real.yaml")).unwrap();
    followed.until("a new target", |state| address(state, "a") == Some("10.0.0.4"));
    assert!(problems(&followed.state).is_empty());
}

#[test]
fn objects_may_move_within_a_file_and_come_and_go_in_the_middle() {
    let (_guard, path) = folder();
    let file = |names: &[&str]| {
        let documents = names.iter().map(|name| service(name, "") + "---\n");
        write(&path, "a.yaml", &documents.collect::<String>());
    };
    let mut tree = Tree::new(std::slice::from_ref(&path));
    let mut state = ClusterState::new([SOURCE]);
    for (names, contested) in [
        (&["a", "b", "c"][..], 0),
        (&["a", "c"], 0),
        (&["c", "a"], 0),
        (&["x", "c", "b", "a"], 0),
        (&["a", "b", "a"], 1),
        (&["a", "a", "a"], 2),
        (&["b", "a", "a", "c"], 1),
        (&[], 0),
        (&["b"], 0),
    ] {
        file(names);
        tree.rescan(&mut |_| {}, &|_, _| true);
        for event in tree.events() {
            state.apply(event);
        }
        let services = &state.objects.services;
        let ordered: BTreeMap<u64, &str> =
            services.iter().map(|(key, one)| (one.order & 0xffff_ffff, &*key.name)).collect();
        let mut last: Vec<(u64, &str)> =
            names.iter().copied().zip(0..).map(|(n, i)| (i, n)).collect();
        last.retain(|(at, name)| !names[*at as usize + 1..].contains(name));
        assert_eq!(ordered, last.into_iter().collect(), "{names:?}");
        assert_eq!(problems(&state).len(), contested, "{names:?}");
    }
}
