//! The objects as they were last, kept over a restart in one file: what is served when the process starts
//! while the API server is away.
//!
//! `<state-dir>/objects.jsonl`: a line that says what the file is, then a line for each object. It holds
//! private keys unless that is forbidden, so it can be read by its owner only. It is a memory: a damaged
//! file, or one of another version, is as good as none.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::decode::from_json;
use crate::{
    durable_file, regular_file,
    source::{Kind, Object},
};

const FILE: &str = "objects.jsonl";
/// The only form of the file so far.
const VERSION: u32 = 1;

/// Where the objects are kept, and which.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    pub(super) folder: PathBuf,
    /// Private keys are kept too.
    pub(super) secrets: bool,
}

#[derive(Deserialize, Serialize)]
struct Head {
    version: u32,
}

#[derive(Deserialize, Serialize)]
struct Line {
    kind: String,
    object: Value,
}

impl Cache {
    /// Writes the objects in place of those before.
    pub(super) fn store(&self, objects: &[Object]) -> io::Result<()> {
        durable_file::replace(&self.folder.join(FILE), 0o600, |file| {
            write_line(file, &Head { version: VERSION })?;
            let mut lines = objects.iter().filter_map(|object| self.line(object));
            lines.try_for_each(|line| write_line(file, &line))
        })
    }

    /// The objects, and when they were written; nothing if there are none or they cannot be read.
    pub(super) fn load(&self) -> Option<(Vec<Object>, SystemTime)> {
        let path = self.folder.join(FILE);
        let text = match regular_file::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "last known objects cannot be read");
                return None;
            }
        };
        let written = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let Some(objects) = parse(&text) else {
            tracing::warn!(path = %path.display(), "last known objects make no sense");
            return None;
        };
        Some((objects, written.unwrap_or_else(|_| SystemTime::now())))
    }

    fn line(&self, object: &Object) -> Option<Line> {
        let kind = object.kind();
        if kind == Kind::Secret && !self.secrets {
            return None;
        }
        let mut value = object.to_json().ok()?;
        if kind == Kind::Route && !self.secrets {
            strip(&mut value);
        }
        Some(Line { kind: kind.name().to_owned(), object: value })
    }
}

/// Takes the pair off a Route; without its key the certificate is of no use.
fn strip(route: &mut Value) {
    if let Some(Value::Object(tls)) = route.pointer_mut("/spec/tls") {
        tls.remove("key");
        tls.remove("certificate");
    }
}

fn write_line(file: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

/// The objects; `None` if the file is no such file or was cut. An object that this version of the program
/// cannot read is left out.
fn parse(text: &str) -> Option<Vec<Object>> {
    let mut lines = text.lines();
    let head: Head = serde_json::from_str(lines.next()?).ok()?;
    if head.version != VERSION {
        return None;
    }
    let mut objects = Vec::new();
    for line in lines {
        let line: Line = serde_json::from_str(line).ok()?;
        let kind = Kind::named(&line.kind);
        objects.extend(kind.and_then(|kind| from_json(kind, &line.object)));
    }
    Some(objects)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn objects() -> Vec<Object> {
        let metadata = json!({ "namespace": "a", "name": "b" });
        let key = "-----BEGIN…";
        let tls = json!({ "termination": "edge", "certificate": "c", "key": key });
        [
            (Kind::Service, json!({ "metadata": metadata, "spec": { "ports": [{ "port": 80 }] } })),
            (Kind::Secret, json!({ "metadata": metadata, "data": { "tls.key": "a2V5" } })),
            (
                Kind::Route,
                json!({ "metadata": metadata, "spec": { "to": { "name": "b" }, "tls": tls } }),
            ),
            (
                Kind::IpAddressPool,
                json!({ "metadata": metadata, "spec": { "addresses": ["10.0.0.0/24"] } }),
            ),
        ]
        .map(|(kind, value)| from_json(kind, &value).unwrap())
        .into()
    }

    #[test]
    fn what_is_stored_is_loaded_again_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache { folder: folder.path().join("state"), secrets: true };
        assert!(cache.load().is_none());
        cache.store(&objects()).unwrap();
        cache.store(&objects()).unwrap();
        assert_eq!(cache.load().unwrap().0, objects());
        let mode = fs::metadata(cache.folder.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), 1);
    }

    #[test]
    fn private_keys_can_be_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache { folder: folder.path().to_owned(), secrets: false };
        cache.store(&objects()).unwrap();
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(!text.contains("a2V5") && !text.contains("BEGIN"), "{text}");
        let kinds: Vec<_> = cache.load().unwrap().0.iter().map(Object::kind).collect();
        assert_eq!(kinds, [Kind::Service, Kind::Route, Kind::IpAddressPool]);
    }

    #[test]
    fn a_file_that_is_damaged_or_of_another_version_is_none() {
        assert!(parse("").is_none());
        assert!(parse("{\"version\":2}\n").is_none());
        assert!(parse("{\"version\":1}\n{\"kind\":\"Serv").is_none());
        let strange = "{\"version\":1}\n{\"kind\":\"Gateway\",\"object\":{}}\n";
        assert_eq!(parse(strange), Some(Vec::new()));
    }
}
