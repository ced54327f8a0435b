//! What a row of the annotation table is.
//!
//! The rows stand in the files beside this one, one file for each vendor, or for each subject of one; the parent module holds them all,
//! reads objects by them and lends them to `gatehouse docs annotations`. Nothing else may compare the name
//! of an annotation: a reader outside takes the row and asks its [`Family`] for the value.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::value::Parser;

/// Annotations with the same prefix.
#[derive(Debug)]
pub struct Family {
    /// What their names begin with, `/` included.
    pub prefix: &'static str,
    /// An older spelling of the prefix, which is read where the new one is not there.
    pub older_prefix: Option<&'static str>,
    /// Kinds of objects on which a name without a row is judged.
    pub objects: &'static [ObjectKind],
    /// False: other programs use the prefix too, so a name without a row is none of our business.
    pub exclusive: bool,
    /// By subject, and by name within it.
    pub(super) subjects: &'static [&'static [Annotation]],
}

/// One annotation.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    /// Name after the prefix.
    pub name: &'static str,
    /// Kinds of objects on which it is read.
    pub objects: &'static [ObjectKind],
    /// A value that cannot be honoured closes every path of the object.
    pub protects: bool,
    /// It protects the whole host: then the other objects of the namespace are closed there, too.
    pub of_host: bool,
    /// It changes how fast or how surely answers come, not which: a value that cannot be read is no error.
    pub(super) tuning: bool,
    /// What to do where it closes; empty: what can be done about any of them.
    pub remedy: &'static str,
    /// What is done about it.
    pub status: Status,
    /// Value that stands in where the annotation is missing or cannot be read.
    pub default: &'static str,
    /// One sentence for the docs.
    pub doc: &'static str,
    /// What is not quite as the program has it that the annotation is from; empty: nothing.
    pub difference: &'static str,
    pub(super) parser: Parser,
}

/// How far an annotation is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Honoured,
    /// It has no effect, which changes no answer: tuning. The object is served, with a warning.
    Harmless,
    /// It protects and is not built: every path of the object answers 503.
    Closes,
}

/// A kind of object whose annotations are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// `networking.k8s.io` Ingress.
    Ingress,
    /// `networking.k8s.io` IngressClass.
    IngressClass,
    /// `metallb.io` IPAddressPool.
    IpAddressPool,
    /// `route.openshift.io` Route.
    Route,
    /// Service of type `LoadBalancer`.
    Service,
}

/// An annotation that an object has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'m> {
    /// Its whole name.
    pub name: &'m str,
    /// Its value, as written.
    pub value: &'m str,
}

impl Family {
    /// A family whose prefix belongs to this table alone.
    pub(super) const fn new(
        prefix: &'static str,
        objects: &'static [ObjectKind],
        subjects: &'static [&'static [Annotation]],
    ) -> Self {
        Self { prefix, older_prefix: None, objects, exclusive: true, subjects }
    }

    /// An annotation of this family on an object, in the current spelling or else in the older one. An
    /// empty value counts as none.
    pub fn find<'m>(&self, row: &Annotation, metadata: &'m ObjectMeta) -> Option<Found<'m>> {
        self.written(row, metadata).find(|found| !found.value.trim().is_empty())
    }

    /// The same with a value that is empty: where the annotation protects, its author wants to be protected.
    pub fn find_written<'m>(
        &self,
        row: &Annotation,
        metadata: &'m ObjectMeta,
    ) -> Option<Found<'m>> {
        self.find(row, metadata).or_else(|| self.written(row, metadata).next())
    }

    /// An annotation in each spelling.
    fn written<'m>(
        &self,
        row: &Annotation,
        metadata: &'m ObjectMeta,
    ) -> impl Iterator<Item = Found<'m>> {
        let prefixes = [Some(self.prefix), self.older_prefix].into_iter().flatten();
        prefixes.filter_map(|prefix| {
            let annotations = metadata.annotations.as_ref()?;
            let (name, value) = annotations.get_key_value(&format!("{prefix}{}", row.name))?;
            Some(Found { name, value })
        })
    }

    /// All rows, subject by subject.
    pub fn rows(&self) -> impl Iterator<Item = &'static Annotation> + use<> {
        self.subjects.iter().copied().flatten()
    }

    /// The rest of a whole name that begins with this prefix, in either spelling.
    pub(super) fn strip<'n>(&self, full: &'n str) -> Option<&'n str> {
        let older = || full.strip_prefix(self.older_prefix?);
        full.strip_prefix(self.prefix).or_else(older)
    }

    pub(super) fn row(&self, name: &str) -> Option<&'static Annotation> {
        self.subjects.iter().find_map(|rows| {
            rows.binary_search_by_key(&name, |row| row.name).ok().map(|at| &rows[at])
        })
    }
}

impl Annotation {
    /// Whether the value is configuration of nginx about the requests of its paths or its host.
    pub(super) fn of_nginx(&self) -> bool {
        ["configuration-snippet", "server-snippet"].contains(&self.name)
    }

    /// Values that ask for nothing, besides the empty one.
    pub fn nothing(&self) -> &'static [&'static str] {
        self.parser.nothing
    }

    pub(super) const fn honoured(
        name: &'static str,
        objects: &'static [ObjectKind],
        parser: Parser,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        let status = Status::Honoured;
        let (protects, of_host, tuning, remedy, difference) = (false, false, false, "", "");
        Self {
            name,
            objects,
            protects,
            of_host,
            tuning,
            remedy,
            status,
            default,
            doc,
            difference,
            parser,
        }
    }

    /// The same row, closing the object where its value cannot be honoured.
    pub(super) const fn protecting(self) -> Self {
        Self { protects: true, ..self }
    }

    /// Whether no answer is another one without it.
    pub(super) fn changes_no_answer(&self) -> bool {
        self.tuning || self.status == Status::Harmless
    }

    /// The same row, changing no answer.
    pub(super) const fn tuning(self) -> Self {
        Self { tuning: true, ..self }
    }

    /// The same row, about the whole host.
    pub(super) const fn of_host(self) -> Self {
        Self { of_host: true, ..self }
    }

    /// The same row, with something to do about it.
    pub(super) const fn remedy(self, remedy: &'static str) -> Self {
        Self { remedy, ..self }
    }

    /// The same row, with what is not quite as its own program has it.
    pub(super) const fn but(self, difference: &'static str) -> Self {
        Self { difference, ..self }
    }

    pub(super) const fn harmless(
        name: &'static str,
        objects: &'static [ObjectKind],
        parser: Parser,
        doc: &'static str,
    ) -> Self {
        Self { status: Status::Harmless, ..Self::honoured(name, objects, parser, "", doc) }
    }

    pub(super) const fn closes(
        name: &'static str,
        objects: &'static [ObjectKind],
        parser: Parser,
        doc: &'static str,
    ) -> Self {
        Self { status: Status::Closes, ..Self::honoured(name, objects, parser, "", doc) }
            .protecting()
    }
}

impl ObjectKind {
    const ALL: [Self; 5] =
        [Self::Ingress, Self::IngressClass, Self::IpAddressPool, Self::Route, Self::Service];

    /// The kind as manifests spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::IpAddressPool => "IPAddressPool",
            Self::Route => "Route",
            Self::Service => "Service",
        }
    }

    /// The kind in a sentence.
    pub(super) fn with_article(self) -> String {
        let name = self.name();
        let article = if name.starts_with('I') { "an" } else { "a" };
        format!("{article} {name}")
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether objects of this kind have paths that can be closed.
    pub(super) fn has_paths(self) -> bool {
        matches!(self, Self::Ingress | Self::Route)
    }
}

impl Found<'_> {
    /// Path of the annotation within its object.
    pub fn field(&self) -> String {
        format!("metadata.annotations[{}]", self.name)
    }
}
