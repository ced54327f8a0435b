//! Saves of files, as editors and tools make them.

use super::*;

#[test]
fn a_save_is_followed_and_unchanged_objects_keep_their_pointer() {
    let (_guard, path) = folder();
    write(&path, "a.yaml", &service("a", "10.0.0.1"));
    write(&path, "b.yaml", &service("b", "10.0.0.2"));
    let mut followed = Followed::start(std::slice::from_ref(&path));
    let b = || ObjectKey::new("default", "b");
    let before = followed.state.objects.services[&b()].clone();
    write(&path, "a.yaml", &service("a", "10.0.0.9"));
    followed.until("the new address", |state| address(state, "a") == Some("10.0.0.9"));
    // A comment changes the text but not the value.
    write(&path, "0.yaml", &service("new", ""));
    followed.until("the new object", |state| address(state, "new").is_some());
    write(&path, "b.yaml", &format!("# same\n{}", service("b", "10.0.0.2")));
    write(&path, "a.yaml", &service("a", "10.0.0.3"));
    followed.until("the last save", |state| address(state, "a") == Some("10.0.0.3"));
    let after = &followed.state.objects.services[&b()];
    assert!(Arc::ptr_eq(&before.object, &after.object));
    assert_eq!(before.order, after.order, "a new file in front leaves the others alone");
    let order = |name| followed.state.objects.services[&ObjectKey::new("default", name)].order;
    assert!(order("new") < order("a") && order("a") < order("b"));
    fs::remove_file(path.join("a.yaml")).unwrap();
    followed.until("the removal", |state| address(state, "a").is_none());
}

#[test]
fn saves_that_belong_together_become_one_batch() {
    let (_guard, path) = folder();
    for name in ["a", "b", "c"] {
        write(&path, &format!("{name}.yaml"), &service(name, "10.0.0.1"));
    }
    let mut followed = Followed::start(std::slice::from_ref(&path));
    // A busy machine may pause between two saves for longer than the source waits, but not every time.
    let mut together = 0;
    for round in 2..22 {
        followed.quiet();
        let address = format!("10.0.0.{round}");
        for name in ["a", "b", "c"] {
            write(&path, &format!("{name}.yaml"), &service(name, &address));
        }
        together += usize::from(followed.next(LONG) == Some(3));
        let all = |state: &ClusterState| {
            state.objects.services.values().all(|stored| ip(&stored.object) == address)
        };
        followed.until("all three", all);
        if together == 2 {
            return;
        }
    }
    panic!("never one batch");
}

#[test]
fn a_file_is_not_read_before_its_writer_has_closed_it() {
    let (_guard, path) = folder();
    write(&path, "a.yaml", &service("a", "10.0.0.1"));
    write(&path, "b.yaml", &service("b", "10.0.0.1"));
    let mut followed = Followed::start(std::slice::from_ref(&path));
    followed.quiet();
    // Both are cut to nothing first, as most programs write; one is new.
    let mut old = DiskFile::create(path.join("a.yaml")).unwrap();
    let mut new = DiskFile::create(path.join("new.yaml")).unwrap();
    old.write_all(b"apiVersion: v1\nkind: Service\n").unwrap();
    new.write_all(b"apiVersion: v1\nkind: Service\n").unwrap();
    followed.quiet();
    // Not even if something else makes the source look at everything.
    fs::create_dir(path.join("folder")).unwrap();
    write(&path, "b.yaml", &service("b", "10.0.0.2"));
    followed.until("the other file", |state| address(state, "b") == Some("10.0.0.2"));
    followed.quiet();
    old.write_all(b"metadata: {name: a}\n").unwrap();
    new.write_all(b"metadata: {name: new}\n").unwrap();
    drop((old, new));
    followed.until("both files", |state| {
        address(state, "new").is_some() && address(state, "a") == Some("")
    });
    assert!(problems(&followed.state).is_empty());
}

#[test]
fn a_file_that_no_longer_parses_keeps_its_last_good_objects() {
    let (_guard, path) = folder();
    write(&path, "a.yaml", &service("a", "10.0.0.1"));
    write(&path, "b.yaml", &service("b", "10.0.0.1"));
    let mut followed = Followed::start(std::slice::from_ref(&path));
    write(&path, "a.yaml", &format!("{}  ports: 3\n", service("a", "10.0.0.2")));
    write(&path, "b.yaml", &service("b", "10.0.0.2"));
    followed.until("the problem", |state| reasons(state) == ["ManifestUnreadable"]);
    followed.until("the good file", |state| address(state, "b") == Some("10.0.0.2"));
    assert_eq!(address(&followed.state, "a"), Some("10.0.0.1"));
    let problem = &problems(&followed.state)[0];
    let told = format!("error: File {}:7: Service a: spec.ports: ", path.join("a.yaml").display());
    assert!(problem.to_string().starts_with(&told), "the place once: {problem}");
    assert!(!problem.message.contains("a.yaml"), "{problem}");
    write(&path, "a.yaml", &service("a", "10.0.0.3"));
    followed.until("the repair", |state| address(state, "a") == Some("10.0.0.3"));
    followed.until("no problem", |state| problems(state).is_empty());
}

#[test]
fn an_editor_may_rename_over_the_file_and_leave_its_own_files_about() {
    let (_guard, path) = folder();
    write(&path, "a.yaml", &service("a", "10.0.0.1"));
    // The file itself is watched, not its folder.
    let mut followed = Followed::start(&[path.join("a.yaml")]);
    write(&path, ".a.yaml.swp", "garbage: [");
    write(&path, "other.yaml", "garbage: [");
    write(&path, "a.yaml.new", &service("a", "10.0.0.2"));
    fs::rename(path.join("a.yaml.new"), path.join("a.yaml")).unwrap();
    followed.until("the new content", |state| address(state, "a") == Some("10.0.0.2"));
    fs::rename(path.join("a.yaml"), path.join("a.yaml~")).unwrap();
    write(&path, "a.yaml", &service("a", "10.0.0.3"));
    followed.until("the newer content", |state| address(state, "a") == Some("10.0.0.3"));
    followed.until("no problem", |state| problems(state).is_empty());
}

#[test]
fn a_file_that_is_written_again_right_after_a_save_keeps_what_it_said() {
    let (_guard, path) = folder();
    write(&path, "a.yaml", &service("a", "10.0.0.1"));
    let mut followed = Followed::start(std::slice::from_ref(&path));
    followed.quiet();
    for round in 2..12 {
        // It is being read when it is cut to nothing again, and so is what it holds then. A slow machine may have
        // told of the first save before.
        write(&path, "a.yaml", &service("a", "10.0.0.100"));
        let mut again = DiskFile::create(path.join("a.yaml")).unwrap();
        let stays = |followed: &Followed| {
            assert!(address(&followed.state, "a").is_some(), "it was gone for a while");
        };
        while followed.next(A_WHILE).is_some() {
            stays(&followed);
        }
        let address_now = format!("10.0.0.{round}");
        again.write_all(service("a", &address_now).as_bytes()).unwrap();
        drop(again);
        while address(&followed.state, "a") != Some(&*address_now) {
            assert!(followed.next(LONG).is_some(), "{:?}", followed.summary());
            stays(&followed);
        }
    }
    assert!(problems(&followed.state).is_empty());
}
