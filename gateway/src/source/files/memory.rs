//! What files said before they could no longer be read, kept over an upgrade and a restart: the process that comes
//! reads the same files, and could serve only what is in them.
//!
//! `<state-dir>/manifests.json`: `{"version":1,"files":{"/etc/gatehouse/a.yaml":{"kind":"List",…}}}`, with the objects that
//! stay in use though their file does not say so any more. While all files can be read there is no such file. It may
//! hold private keys, so it can be read by its owner only. It is a memory: a damaged file, or one of another version, is
//! as good as none.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Tree;
use crate::{
    durable_file, regular_file,
    source::{Kind, Object, manifest::Manifest},
};

const FILE: &str = "manifests.json";
/// The only form of the file so far.
const VERSION: u32 = 1;

/// Where that is kept.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
    /// Private keys are kept too.
    secrets: bool,
    /// What is kept there; `None`: not known yet.
    stored: Option<Vec<(PathBuf, Object)>>,
}

#[derive(Deserialize, Serialize)]
struct Content {
    version: u32,
    files: BTreeMap<String, Value>,
}

impl Memory {
    /// In a folder. `secrets`: with private keys.
    pub fn new(folder: &Path, secrets: bool) -> Self {
        Self { folder: folder.to_owned(), secrets, stored: None }
    }

    /// What is known of files that could not be read last.
    pub(super) fn load(&self) -> HashMap<PathBuf, Manifest> {
        let path = self.folder.join(FILE);
        let content = match regular_file::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Content>(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return HashMap::new(),
            Err(error) => Err(error),
        };
        match content {
            Ok(Content { version: VERSION, files }) => {
                let of = |list: Value| Manifest::remembered(&list.to_string());
                files.into_iter().map(|(path, list)| (path.into(), of(list))).collect()
            }
            Ok(_) => HashMap::new(),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "what files said before cannot be read");
                HashMap::new()
            }
        }
    }

    /// Keeps what stays in use of files that cannot be read. Does nothing if that is what is kept.
    pub(super) fn keep(&mut self, tree: &Tree) {
        let held: Vec<(PathBuf, Object)> = tree.held().collect();
        let same = |stored: &Vec<(PathBuf, Object)>| {
            let mut pairs = stored.iter().zip(&held);
            stored.len() == held.len() && pairs.all(|(a, b)| a.0 == b.0 && a.1.is_same(&b.1))
        };
        if self.stored.as_ref().is_some_and(same) {
            return;
        }
        match self.store(&held) {
            Ok(()) => self.stored = Some(held),
            // There was nothing to take away either.
            Err(_) if held.is_empty() => self.stored = Some(held),
            Err(error) => tracing::warn!(
                %error, folder = %self.folder.display(),
                "what files said before they could not be read is not kept over a restart"
            ),
        }
    }

    fn store(&self, held: &[(PathBuf, Object)]) -> io::Result<()> {
        if held.is_empty() {
            return durable_file::remove(&self.folder.join(FILE));
        }
        let mut files: BTreeMap<String, Value> = BTreeMap::new();
        for (path, object) in held {
            let (Some(path), Some(object)) = (path.to_str(), self.item(object)) else { continue };
            let list = || json!({ "apiVersion": "v1", "kind": "List", "items": [] });
            let list = files.entry(path.to_owned()).or_insert_with(list);
            if let Some(items) = list.get_mut("items").and_then(Value::as_array_mut) {
                items.push(object);
            }
        }
        let text = serde_json::to_vec(&Content { version: VERSION, files })?;
        durable_file::replace(&self.folder.join(FILE), 0o600, |file| file.write_all(&text))
    }

    /// An object as a manifest has it.
    fn item(&self, object: &Object) -> Option<Value> {
        let kind = object.kind();
        if kind == Kind::Secret && !self.secrets {
            return None;
        }
        let mut value = object.to_json().ok()?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("apiVersion".to_owned(), kind.api_version().into());
            fields.insert("kind".to_owned(), kind.name().into());
        }
        if kind == Kind::Route
            && !self.secrets
            && let Some(Value::Object(tls)) = value.pointer_mut("/spec/tls")
        {
            // Without its key the certificate is of no use.
            tls.remove("key");
            tls.remove("certificate");
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use gatehouse_routes::objects::ObjectKey;

    use super::*;
    use crate::{
        source::{
            files::{SOURCE, load_after},
            salvage,
        },
        state::ClusterState,
    };

    const GOOD: &str = "kind: Secret\napiVersion: v1\nmetadata: {name: s}\nstringData: {a: b}\n---\nkind: Service\n\
                        apiVersion: v1\nmetadata: {name: a}\nspec: {clusterIP: 10.0.0.1}\n";
    /// An Ingress of which only the host can be read.
    const BROKEN: &str = "kind: Ingress\napiVersion: networking.k8s.io/v1\nmetadata: {name: i}\nspec: {rules: [{host: \
                          a.test, http: {paths: 1}}]}\n";

    /// What a process serves of the folder that comes after the last one, and its tree.
    fn process(folder: &Path, secrets: bool) -> (ClusterState, Tree, Memory) {
        let memory = Memory::new(&folder.join("state"), secrets);
        let loaded = load_after(&[folder.join("a.yaml")], Some(memory)).unwrap();
        let (mut tree, memory) = (loaded.tree, loaded.memory.unwrap());
        let mut state = ClusterState::new([SOURCE]);
        for event in tree.events() {
            state.apply(event);
        }
        (state, tree, memory)
    }

    /// Reads the folder again.
    fn look(tree: &mut Tree, memory: &mut Memory) {
        tree.distrust();
        tree.rescan(&mut |_| {}, &|_, _| true);
        let _ = tree.events();
        memory.keep(tree);
    }

    fn named(state: &ClusterState) -> (bool, bool, bool) {
        let key = |name| ObjectKey::new("default", name);
        let objects = &state.objects;
        (
            objects.services.contains_key(&key("a")),
            objects.secrets.contains_key(&key("s")),
            objects.ingresses.contains_key(&key("i")),
        )
    }

    #[test]
    fn what_a_file_said_before_it_was_broken_stays_in_use_with_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let (file, kept) = (folder.path().join("a.yaml"), folder.path().join("state").join(FILE));
        fs::write(&file, GOOD).unwrap();
        let (_, mut tree, mut memory) = process(folder.path(), true);
        memory.keep(&tree);
        assert!(!kept.exists(), "all files can be read");
        fs::write(&file, BROKEN).unwrap();
        look(&mut tree, &mut memory);
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);

        let (state, mut tree, mut memory) = process(folder.path(), true);
        assert_eq!(named(&state), (true, true, true));
        // What is closed stays closed, also where nobody can read any more what it was.
        fs::write(&file, "x: [").unwrap();
        look(&mut tree, &mut memory);
        let (state, mut tree, mut memory) = process(folder.path(), true);
        assert_eq!(named(&state), (true, true, true));
        let ingress = &state.objects.ingresses[&ObjectKey::new("default", "i")].object;
        assert!(salvage::is_stand_in(&Object::Ingress(ingress.clone())));

        fs::write(&file, GOOD).unwrap();
        look(&mut tree, &mut memory);
        assert!(!kept.exists(), "it is mended");
        assert_eq!(named(&process(folder.path(), true).0), (true, true, false));
    }

    #[test]
    fn private_keys_can_be_left_out_and_what_is_damaged_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (file, kept) = (folder.path().join("a.yaml"), folder.path().join("state").join(FILE));
        fs::write(&file, GOOD).unwrap();
        let (_, mut tree, mut memory) = process(folder.path(), false);
        fs::write(&file, BROKEN).unwrap();
        look(&mut tree, &mut memory);
        assert_eq!(named(&process(folder.path(), false).0), (true, false, true));
        for damaged in ["", "{\"version\":1,\"files\":{\"x\":", "{\"version\":2,\"files\":{}}"] {
            fs::write(&kept, damaged).unwrap();
            assert_eq!(named(&process(folder.path(), false).0), (false, false, true), "{damaged}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_says_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, GOOD).unwrap();
        let (_, mut tree, mut memory) = process(folder.path(), true);
        fs::remove_file(&file).unwrap();
        std::os::unix::net::UnixListener::bind(&file).unwrap();
        look(&mut tree, &mut memory);
        assert_eq!(named(&process(folder.path(), true).0), (true, true, false));
    }
}
