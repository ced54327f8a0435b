//! The text of one manifest file into objects: documents, kinds, lists, defaults, and errors with a line.
//!
//! Pure. [`files`](super::files) calls it with the text and the previous result, so that documents whose
//! text did not change are not parsed again.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use gatehouse_routes::objects::ObjectRef;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::{
    Kind, Object, Read,
    fields::{self, Unread},
};

mod admission;
mod document;

use admission::Understood;
use document::Format;

/// The objects of one file, and what is wrong with it.
///
/// A document that cannot be read takes no other with it. As nobody can tell what it would have said, all
/// that the file had before, and no longer names, stays until every document can be read again.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    documents: Vec<(u32, Arc<Document>)>,
    /// What stays of the version before, with its lines there.
    kept: Vec<(u32, Object, ObjectRef)>,
    /// Why the file cannot even be taken apart from some line on.
    broken: Option<ManifestError>,
}

/// An object and the line of the file on which its document begins.
#[derive(Debug)]
pub(crate) struct Placed<'m> {
    pub(crate) object: &'m Object,
    pub(crate) name: &'m ObjectRef,
    pub(crate) line: u32,
}

/// What is wrong with a file, and where. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// Line in the file.
    pub line: u32,
    /// `Kind namespace/name`, as far as it could be read.
    pub object: String,
    /// Path of the field, empty if the document as a whole is meant.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.object, &self.field].into_iter().filter(|part| !part.is_empty()) {
            write!(f, "{part}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// A document that is left out on purpose, although somebody may expect it to matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsupported {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    /// `namespace/name`, as far as it could be read.
    pub(crate) name: String,
    pub(crate) line: u32,
}

/// One parsed document; lines count from its own first line, as 0.
#[derive(Debug, Default)]
struct Document {
    fingerprint: u64,
    objects: Vec<(u32, Object, ObjectRef)>,
    unsupported: Vec<Unsupported>,
    /// Fields of objects that are served nevertheless.
    unread: Vec<(ObjectRef, Unread)>,
    /// Kinds that mean nothing to us.
    ignored: Vec<String>,
    /// What could not be read.
    errors: Vec<ManifestError>,
}

impl Manifest {
    /// Parses a file. Documents that `previous` holds too are taken from there; more than one thread is
    /// worth it for thousands of documents only. All errors of the file are found.
    pub(crate) fn parse(text: &str, json: bool, previous: Option<&Self>, threads: usize) -> Self {
        let mut manifest = Self::default();
        let texts;
        (texts, manifest.broken) = match json {
            true => document::split_json(text),
            false => (document::split_yaml(text), None),
        };
        let known: HashMap<u64, &Arc<Document>> = previous
            .into_iter()
            .flat_map(|previous| &previous.documents)
            .map(|(_, document)| (document.fingerprint, document))
            .collect();
        let parsed = in_parallel(texts.len(), threads, |index| {
            let text = &texts[index];
            let fingerprint = fingerprint(text.text);
            match known.get(&fingerprint) {
                Some(document) => Arc::clone(document),
                None => Arc::new(Document::parse(text, fingerprint)),
            }
        });
        manifest.documents = texts.iter().map(|text| text.line).zip(parsed).collect();
        if let Some(previous) = previous.filter(|_| manifest.errors().next().is_some()) {
            let named: HashSet<&ObjectRef> = manifest.objects().map(|placed| placed.name).collect();
            let kept = previous.objects().filter(|placed| !named.contains(placed.name));
            manifest.kept = kept.map(|it| (it.line, it.object.clone(), it.name.clone())).collect();
        }
        manifest
    }

    /// A YAML file in which nothing is wrong.
    #[cfg(test)]
    pub(crate) fn of(yaml: &str) -> Self {
        let manifest = Self::parse(yaml, false, None, 1);
        let errors: Vec<_> = manifest.errors().collect();
        assert_eq!(errors, [], "{yaml}");
        manifest
    }

    /// What is wrong with the file, in its order.
    pub(crate) fn errors(&self) -> impl Iterator<Item = ManifestError> {
        let documents = self.documents.iter().flat_map(|(start, document)| {
            let errors = document.errors.iter();
            errors.map(move |error| ManifestError { line: start + error.line, ..error.clone() })
        });
        documents.chain(self.broken.clone())
    }

    /// The objects in the order of the file; what stays of the version before comes last.
    pub(crate) fn objects(&self) -> impl Iterator<Item = Placed<'_>> {
        let documents = self.documents.iter().flat_map(|(start, document)| {
            let objects = document.objects.iter();
            objects.map(move |(line, object, name)| Placed { object, name, line: start + line })
        });
        let kept = self.kept.iter();
        documents.chain(kept.map(|(line, object, name)| Placed { object, name, line: *line }))
    }

    /// Number of objects.
    pub(crate) fn len(&self) -> usize {
        let documents = self.documents.iter().map(|(_, document)| document.objects.len());
        documents.sum::<usize>() + self.kept.len()
    }

    /// Documents of API groups that we speak, but of a kind or version that we do not.
    pub(crate) fn unsupported(&self) -> impl Iterator<Item = Unsupported> {
        self.documents.iter().flat_map(|(start, document)| {
            let found = document.unsupported.iter();
            found.map(move |one| Unsupported { line: start + one.line, ..one.clone() })
        })
    }

    /// Fields that nobody reads, of objects that are served nevertheless.
    pub(crate) fn unread(&self) -> impl Iterator<Item = &(ObjectRef, Unread)> {
        self.documents.iter().flat_map(|(_, document)| &document.unread)
    }

    /// Kinds that mean nothing to us, with repetitions.
    pub(crate) fn ignored(&self) -> impl Iterator<Item = &str> {
        self.documents.iter().flat_map(|(_, document)| &document.ignored).map(String::as_str)
    }
}

/// The results of `work` for 0 to `count`, in order.
pub(crate) fn in_parallel<T: Send>(
    count: usize,
    threads: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    // Below this, starting threads costs more than it saves.
    const WORTH_A_THREAD: usize = 64;
    let threads = threads.min(count / WORTH_A_THREAD);
    if threads < 2 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::with_capacity(count / threads + 1);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return done;
            }
            done.push((index, work(index)));
        }
    };
    let mut results: Vec<(usize, T)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let joined = workers.into_iter().map(|worker| match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect()
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

impl Document {
    fn parse(text: &document::Text<'_>, fingerprint: u64) -> Self {
        let mut document = Self { fingerprint, ..Self::default() };
        let read = document::head(text).and_then(|head| match admission::is_list(&head) {
            true => document.list(text, &head),
            false => document.object(&head, 0, &Body::new(From::Text(text))),
        });
        document.errors.extend(read.err());
        document
    }

    /// Adds the items of a list, and what is wrong with single ones.
    fn list(
        &mut self,
        text: &document::Text<'_>,
        head: &document::Head,
    ) -> Result<(), ManifestError> {
        #[derive(Deserialize)]
        struct Items<T> {
            #[serde(default = "Vec::new")]
            items: Vec<T>,
        }
        let items: Vec<(u32, Value)> = match text.format {
            Format::Yaml => {
                let list: Items<Spanned<Value>> = document::typed(text, "List")?;
                let line = |location: serde_saphyr::Location| {
                    u32::try_from(location.line()).unwrap_or(u32::MAX).saturating_sub(1)
                };
                list.items.into_iter().map(|item| (line(item.defined), item.value)).collect()
            }
            Format::Json => {
                let list: Items<Value> = document::typed(text, "List")?;
                list.items.into_iter().map(|item| (0, item)).collect()
            }
        };
        for (index, (line, item)) in items.into_iter().enumerate() {
            let of_item = |field: &str| {
                let field = item.get(field).and_then(Value::as_str);
                field.map(str::to_owned)
            };
            // The items of an `IngressList` need not say what they are.
            let head = document::Head {
                api_version: of_item("apiVersion").unwrap_or_else(|| head.api_version.clone()),
                kind: of_item("kind")
                    .unwrap_or_else(|| head.kind.trim_end_matches("List").to_owned()),
            };
            if let Err(mut error) = self.object(&head, line, &Body::new(From::Value(&item))) {
                error.line = line;
                error.field = match error.field.as_str() {
                    "" => format!("items[{index}]"),
                    field => format!("items[{index}].{field}"),
                };
                self.errors.push(error);
            }
        }
        Ok(())
    }

    fn object(
        &mut self,
        head: &document::Head,
        line: u32,
        body: &Body<'_>,
    ) -> Result<(), ManifestError> {
        let mut object = match admission::understand(head) {
            Understood::Kind(kind) => kind.read(&head.api_version, body)?,
            Understood::NotYet => {
                let document::Head { api_version, kind } = head.clone();
                let name = body.named("").trim_start().to_owned();
                self.unsupported.push(Unsupported { api_version, kind, name, line });
                return Ok(());
            }
            Understood::Foreign => {
                self.ignored.push(format!("{} {}", head.api_version, head.kind));
                return Ok(());
            }
        };
        admission::complete(object.kind(), object.metadata_mut())?;
        let unread = body.unread.take();
        if let Err(one) = fields::close(&mut object, &unread) {
            let kind = object.kind().name();
            let message = format!(
                "the field is not known{}; it may limit who gets what, so nothing of the object counts",
                one.advice()
            );
            return Err(ManifestError {
                line: 0,
                object: body.named(kind),
                field: one.path,
                message,
            });
        }
        let name = object.object_ref();
        self.unread.extend(unread.into_iter().map(|one| (name.clone(), one)));
        self.objects.push((line, object, name));
        Ok(())
    }
}

/// An object that is being read.
struct Body<'b> {
    from: From<'b>,
    unread: RefCell<Vec<Unread>>,
}

/// Where it is read from.
enum From<'b> {
    Text(&'b document::Text<'b>),
    Value(&'b Value),
}

impl<'b> Body<'b> {
    fn new(from: From<'b>) -> Self {
        Self { from, unread: RefCell::default() }
    }

    /// `Kind namespace/name`, as far as it can be read.
    fn named(&self, kind: &str) -> String {
        let metadata = match self.from {
            From::Text(text) => document::metadata(text),
            From::Value(value) => value.get("metadata").cloned(),
        };
        document::name(kind, metadata)
    }
}

impl Read for Body<'_> {
    type Error = ManifestError;

    fn read<T: DeserializeOwned>(&self, kind: Kind) -> Result<T, ManifestError> {
        let kind = kind.name();
        let unread = &mut *self.unread.borrow_mut();
        match self.from {
            From::Text(text) => document::watched(text, kind, unread),
            From::Value(value) => fields::read_value(value, unread).map_err(|(field, error)| {
                let (object, message) = (self.named(kind), error.to_string());
                ManifestError { line: 0, object, field, message }
            }),
        }
    }
}

fn fingerprint(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
