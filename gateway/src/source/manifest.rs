//! The text of one manifest file into objects: documents, kinds, lists, defaults, and errors with a line.
//!
//! Pure. [`files`](super::files) calls it with the text and the previous result, so that documents whose
//! text did not change are not parsed again.

use std::{
    borrow::Cow,
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

use gatehouse_routes::{
    annotations::{gatehouse, protecting},
    objects::ObjectRef,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::{
    Kind, Object, Read,
    fields::{self, Unread},
    salvage::{self, Remains},
};

mod admission;
mod document;
mod remains;

use admission::Understood;
use document::Format;

/// The objects of one file, and what is wrong with it.
///
/// A document that cannot be read takes no other with it. As nobody can tell what it would have said, all
/// that the file had before, and no longer names, stays until every document can be read again. Of an Ingress or a
/// Route that was not there before, what can be told of its hosts and paths stands in for it, closed.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    documents: Vec<(u32, Arc<Document>)>,
    /// What stays of the version before, with its lines there.
    kept: Vec<Held>,
    /// What stands in for objects of which there is no version before.
    closed: Vec<Held>,
}

/// An object that is not in the text, its line and its name.
type Held = (u32, Object, ObjectRef);

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
    /// Who is closed for it, unless a version before stays.
    pub stand_ins: Vec<ObjectRef>,
}

impl ManifestError {
    pub(crate) fn at(line: u32, message: String) -> Self {
        let (object, field) = (String::new(), String::new());
        Self { line, object, field, message, stand_ins: Vec::new() }
    }

    /// Object and field, as far as they are known.
    pub(crate) fn path(&self) -> String {
        let parts = [&*self.object, &*self.field].into_iter().filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(": ")
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// A document that is left out on purpose, although a user may expect it to matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsupported {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    /// `namespace/name`, as far as it could be read.
    pub(crate) name: String,
    pub(crate) line: u32,
    /// It protects, so what it would have served is closed.
    pub(crate) closed: bool,
}

impl Unsupported {
    /// The kind of ours that is probably meant.
    pub(crate) fn meant(&self) -> Option<Kind> {
        admission::meant(&self.kind)
    }
}

/// One parsed document; lines count from its own first line, as 0.
#[derive(Debug, Default)]
struct Document {
    fingerprint: u64,
    objects: Vec<(u32, Object, ObjectRef)>,
    /// What stands in for those that cannot be read.
    closed: Vec<(u32, Object, ObjectRef)>,
    unsupported: Vec<Unsupported>,
    /// Fields of objects that are served nevertheless.
    unread: Vec<(ObjectRef, Unread)>,
    /// Kinds that mean nothing to us.
    ignored: Vec<String>,
    /// What could not be read.
    errors: Vec<ManifestError>,
}

impl Manifest {
    /// Parses a text.
    #[cfg(test)]
    pub(crate) fn parse(text: &str, json: bool, previous: Option<&Self>, threads: usize) -> Self {
        Self::read((text, json, false), previous, threads)
    }

    /// Parses a file. Documents that `previous` holds too are taken from there; more than one thread is worth it for
    /// thousands of documents only. All errors of the file are found. Of a file that is not text in whole, the
    /// documents that are count.
    pub(crate) fn parse_bytes(
        bytes: &[u8],
        json: bool,
        previous: Option<&Self>,
        threads: usize,
    ) -> Self {
        match String::from_utf8_lossy(bytes) {
            Cow::Borrowed(text) => Self::read((text, json, false), previous, threads),
            Cow::Owned(text) => Self::read((&text, json, true), previous, threads),
        }
    }

    /// `lossy`: the file holds bytes that are no text, in whose place the replacement character stands.
    fn read(
        (text, json, lossy): (&str, bool, bool),
        previous: Option<&Self>,
        threads: usize,
    ) -> Self {
        let (texts, torn) = match json {
            true => document::split_json(text),
            false => (document::split_yaml(text), None),
        };
        let mut manifest = Self::default();
        let known: HashMap<u64, &Arc<Document>> = previous
            .into_iter()
            .flat_map(|previous| &previous.documents)
            .map(|(_, document)| (document.fingerprint, document))
            .collect();
        let parsed = in_parallel(texts.len(), threads, |index| {
            let text = &texts[index];
            let fingerprint = fingerprint(text.text);
            match known.get(&fingerprint) {
                // Whether a file is text or not, the document may be another.
                Some(document) if !lossy => Arc::clone(document),
                _ => Arc::new(Document::parse(text, fingerprint, lossy)),
            }
        });
        manifest.documents = texts.iter().map(|text| text.line).zip(parsed).collect();
        let torn = torn.map(|(text, error)| (text.line, Arc::new(Document::torn(&text, error))));
        manifest.documents.extend(torn);
        if manifest.errors().next().is_some() {
            (manifest.kept, manifest.closed) = manifest.stays(previous);
        }
        manifest
    }

    /// What stays of the version before; and what stands in for objects of which there is none, by the present
    /// version or else by the one before.
    fn stays(&self, previous: Option<&Self>) -> (Vec<Held>, Vec<Held>) {
        let mut named: HashSet<&ObjectRef> = self.objects().map(|placed| placed.name).collect();
        let held = |it: Placed<'_>| (it.line, it.object.clone(), it.name.clone());
        let closed: HashSet<&ObjectRef> =
            previous.into_iter().flat_map(|it| &it.closed).map(|(_, _, name)| name).collect();
        let before = || previous.into_iter().flat_map(Self::objects);
        let kept = before().filter(|it| !named.contains(it.name) && !closed.contains(it.name));
        let kept: Vec<Held> = kept.map(held).collect();
        named.extend(kept.iter().map(|(_, _, name)| name));
        let stand_ins = self.documents.iter().flat_map(|(start, document)| {
            let closed = document.closed.iter();
            closed.map(move |(line, object, name)| Placed { object, name, line: start + line })
        });
        let stand_ins: Vec<Held> =
            stand_ins.filter(|it| !named.contains(it.name)).map(held).collect();
        named.extend(stand_ins.iter().map(|(_, _, name)| name));
        let still = before().filter(|it| !named.contains(it.name)).map(held).collect::<Vec<_>>();
        let stand_ins = stand_ins.into_iter().chain(still).collect();
        (kept, stand_ins)
    }

    /// What a file said that nobody has read yet, as an earlier process knew it: a List in JSON.
    pub(crate) fn remembered(list: &str) -> Self {
        let manifest = Self::read((list, true, false), None, 1);
        let held = |it: Placed<'_>| (it.line, it.object.clone(), it.name.clone());
        let all = manifest.objects().map(held);
        let (closed, kept) = all.partition(|(_, object, _)| salvage::is_stand_in(object));
        Self { documents: Vec::new(), kept, closed }
    }

    /// The objects that are not in the text.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Object> {
        self.kept.iter().chain(&self.closed).map(|(_, object, _)| object)
    }

    /// Whether something stands in for an object of this name.
    pub(crate) fn is_closed(&self, name: &ObjectRef) -> bool {
        self.closed.iter().any(|(_, _, closed)| closed == name)
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
        self.documents.iter().flat_map(|(start, document)| {
            let errors = document.errors.iter();
            errors.map(move |error| ManifestError { line: start + error.line, ..error.clone() })
        })
    }

    /// The objects in the order of the file; what stays of the version before comes last.
    pub(crate) fn objects(&self) -> impl Iterator<Item = Placed<'_>> {
        let documents = self.documents.iter().flat_map(|(start, document)| {
            let objects = document.objects.iter();
            objects.map(move |(line, object, name)| Placed { object, name, line: start + line })
        });
        let kept = self.kept.iter().chain(&self.closed);
        documents.chain(kept.map(|(line, object, name)| Placed { object, name, line: *line }))
    }

    /// Number of objects.
    pub(crate) fn len(&self) -> usize {
        let documents = self.documents.iter().map(|(_, document)| document.objects.len());
        documents.sum::<usize>() + self.kept.len() + self.closed.len()
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
    fn parse(text: &document::Text<'_>, fingerprint: u64, lossy: bool) -> Self {
        let mut document = Self { fingerprint, ..Self::default() };
        let head = if lossy { document::text(text) } else { Ok(()) };
        let head = head.and_then(|()| document::head(text));
        let read = head.and_then(|head| match admission::is_list(&head) {
            true => document.list(text, &head),
            false => document.object(&head, 0, &Body::new(From::Text(text))),
        });
        if let Err(error) = read {
            document.salvage(text, error);
        }
        // It is kept with its file.
        document.objects.shrink_to_fit();
        document
    }

    /// What cannot be taken apart any further.
    fn torn(text: &document::Text<'_>, error: ManifestError) -> Self {
        let mut document = Self { fingerprint: fingerprint(text.text), ..Self::default() };
        document.salvage(text, error);
        document
    }

    /// Notes that a document cannot be read, and what of it still counts: of a list what nothing is wrong with, of
    /// anything else what it keeps closed.
    fn salvage(&mut self, text: &document::Text<'_>, mut error: ManifestError) {
        if let Some(remains) = remains::of(text, error.line) {
            let head = remains.readings.last().and_then(|value| document::head_of(value, None));
            match head.filter(admission::is_list) {
                Some(list) => self.salvage_list(&list, &remains, &mut error),
                None => self.stand_in(0, &remains, None, &mut error),
            }
        }
        let kind = error.object.split(' ').next().unwrap_or_default();
        let has_paths = matches!(Kind::named(kind), Some(Kind::Ingress | Kind::Route));
        if has_paths && error.stand_ins.is_empty() {
            error.message += "; none of its hosts can be read, so nothing keeps them closed";
        }
        self.errors.push(error);
    }

    fn salvage_list(
        &mut self,
        list: &document::Head,
        remains: &Remains,
        error: &mut ManifestError,
    ) {
        let lists = remains.readings.iter().filter_map(|reading| reading.get("items")?.as_array());
        let lists: Vec<&Vec<Value>> = lists.collect();
        let count = lists.iter().map(|list| list.len()).max().unwrap_or_default();
        for index in 0..count {
            let mut readings: Vec<Value> =
                lists.iter().filter_map(|list| list.get(index)).cloned().collect();
            readings.dedup();
            let item = Remains { readings, cut: remains.cut && index + 1 == count };
            let whole = match &*item.readings {
                [only] if !item.cut => document::head_of(only, Some(list)).map(|head| (only, head)),
                _ => None,
            };
            let read =
                whole.map(|(value, head)| self.object(&head, 0, &Body::new(From::Value(value))));
            if !matches!(read, Some(Ok(()))) {
                self.stand_in(0, &item, Some(list), error);
            }
        }
    }

    /// Puts in what stands in for an object that cannot be read, if its kind has paths and its hosts are known.
    fn stand_in(
        &mut self,
        line: u32,
        remains: &Remains,
        list: Option<&document::Head>,
        error: &mut ManifestError,
    ) {
        let head = remains.readings.last().and_then(|value| document::head_of(value, list));
        let Some(head) = head else { return };
        let kind = match admission::understand(&head) {
            Understood::Kind(kind) => kind,
            // What it says of who may pass cannot be told.
            Understood::NotYet => match admission::meant(&head.kind) {
                Some(kind) => kind,
                None => return,
            },
            Understood::Foreign => return,
        };
        let why = format!("{}: {}", error.field, error.message);
        if let Some((object, name)) = self.named_stand_in(kind, remains, &why) {
            error.stand_ins.push(name.clone());
            self.closed.push((line, object, name));
        }
    }

    /// What stands in for an object that cannot be read, with a name.
    fn named_stand_in(
        &self,
        kind: Kind,
        remains: &Remains,
        why: &str,
    ) -> Option<(Object, ObjectRef)> {
        let mut object = salvage::stand_in(kind, remains, why)?;
        let metadata = object.metadata_mut();
        let usable = |name: &Option<String>| name.as_deref().is_some_and(admission::is_dns_name);
        if kind == Kind::IngressClass && !(usable(&metadata.name) && remains.agree_on_name()) {
            let annotations = metadata.annotations.get_or_insert_default();
            annotations.insert(gatehouse::unnamed(), "true".to_owned());
        }
        if !usable(&metadata.name) {
            // Nothing else may have this name, or one of both would not count.
            let before = self.closed.len() + self.objects.len();
            metadata.name = Some(format!("unnamed-{:x}-{before}", self.fingerprint));
        }
        metadata.namespace = metadata.namespace.take().filter(|name| admission::is_dns_name(name));
        admission::complete(kind, metadata).ok()?;
        let name = object.object_ref();
        Some((object, name))
    }

    /// Closes what an Ingress or a Route of a version that is not read would have protected: nothing of it is served, but
    /// something else may be at the same place. `None`: it protects nothing.
    fn close_old(&mut self, head: &document::Head, line: u32, body: &Body<'_>) -> Option<()> {
        let meant = admission::meant(&head.kind);
        let kind = meant.filter(|kind| matches!(kind, Kind::Ingress | Kind::Route))?;
        let remains = body.remains()?;
        let document::Head { api_version, kind: written } = head;
        let why = format!("apiVersion: {api_version} {written} is not read, and it protects");
        let (object, name) = self.named_stand_in(kind, &remains, &why)?;
        let mut metadata = object.metadata().clone();
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove(&gatehouse::unreadable());
        }
        // Of one that is torn nobody knows.
        if !remains.cut {
            protecting(&name, &metadata).next()?;
        }
        self.objects.push((line, object, name));
        Some(())
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
            let of_item = document::item_head(&item, head);
            if let Err(mut error) = self.object(&of_item, line, &Body::new(From::Value(&item))) {
                error.line = line;
                error.field = match error.field.as_str() {
                    "" => format!("items[{index}]"),
                    field => format!("items[{index}].{field}"),
                };
                let item = Remains { readings: vec![item], cut: false };
                self.stand_in(line, &item, Some(head), &mut error);
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
                let closed = self.close_old(head, line, body).is_some();
                self.unsupported.push(Unsupported { api_version, kind, name, line, closed });
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
            let (object, field) = (body.named(kind), one.path);
            return Err(ManifestError { object, field, ..ManifestError::at(0, message) });
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

    /// All that can be read of it.
    fn remains(&self) -> Option<Remains> {
        match self.from {
            From::Text(text) => remains::of(text, u32::MAX),
            From::Value(value) => Some(Remains { readings: vec![value.clone()], cut: false }),
        }
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
                let object = self.named(kind);
                ManifestError { object, field, ..ManifestError::at(0, error.to_string()) }
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
