//! The annotations of one object, read row by row: into settings, or into problems.

use super::{
    Annotation, Family, Found, ObjectKind, Settings, Status, family_of, foreign, gatehouse, nginx,
    served::{HEEDED, ServedBy},
    snippet::{self, Reach},
    transport, unknown,
    value::{self, Fault, Setting},
};
use crate::{objects::ObjectRef, problem::Problem, transport::Speaks};

/// Why the paths of an object are closed that asks for a protection which is not built.
pub(super) const NOT_SUPPORTED: &str = "ProtectionNotSupported";
/// Longest value that a message repeats, in characters.
const MAX_SHOWN: usize = 60;

/// An object under way.
pub(super) struct Reader<'o> {
    object: &'o ObjectRef,
    settings: Settings,
    /// Snippets are read, those that are understood in whole.
    snippets: bool,
    /// Who serves it, if it is a Service.
    served: ServedBy,
    problems: Vec<Problem>,
    /// How many of them, the first ones, say what closes the object.
    closing: usize,
    /// Names that have no effect.
    ignored: Vec<String>,
}

impl<'o> Reader<'o> {
    /// A reader of one object, whose settings so far are those of the defaults.
    pub(super) fn new(object: &'o ObjectRef, settings: Settings, snippets: bool) -> Self {
        let (problems, ignored) = (Vec::new(), Vec::new());
        let served = ServedBy::default();
        Self { object, settings, snippets, served, problems, closing: 0, ignored }
    }

    /// One of a Service that these serve.
    pub(super) fn served(self, served: ServedBy) -> Self {
        Self { served, ..self }
    }

    /// Reads all annotations of the object.
    pub(super) fn all<'m>(
        &mut self,
        kind: ObjectKind,
        annotations: impl Iterator<Item = (&'m String, &'m String)> + Clone,
    ) {
        for (name, value) in annotations.clone() {
            self.annotation(kind, name, value);
        }
        if kind.has_paths() {
            self.foreign(kind == ObjectKind::Ingress, annotations);
        }
        self.ignored();
    }

    /// What they ask for, and what is wrong with them.
    pub(super) fn done(self) -> (Settings, Vec<Problem>) {
        (self.settings, self.problems)
    }

    fn annotation(&mut self, kind: ObjectKind, full: &str, value: &str) {
        let Some((family, name)) = family_of(full) else { return };
        // Those of an Ingress are looked at on a Route, too: what protects there would protect nothing here.
        let of_paths = family.objects.iter().any(|kind| kind.has_paths());
        let judged = family.objects.contains(&kind) || (kind.has_paths() && of_paths);
        if !judged {
            return;
        }
        match family.row(name) {
            Some(row) if row.objects.contains(&kind) => self.known(row, full, value),
            Some(row) => self.misplaced(kind, row, full, value),
            None if family.exclusive => {
                let unknown = unknown::judge(name, family, kind);
                self.unknown(kind, &unknown, family, full, value);
            }
            None => {}
        }
        if !full.starts_with(family.prefix) && family.row(name).is_some() {
            let current = format!("{}{name}", family.prefix);
            self.warn(
                "DeprecatedAnnotation",
                full,
                format!("it is the old name of {current}"),
                "rename it: the new name wins where both are there".into(),
            );
        }
    }

    fn known(&mut self, row: &Annotation, full: &str, value: &str) {
        match (row.parser.read)(value) {
            Ok(Setting::Unbuilt) if row.name == gatehouse::UNREAD_FIELDS.name => self.unread(value),
            Ok(Setting::Unbuilt) if row.name == gatehouse::UNREADABLE.name => {
                self.unreadable(value);
            }
            Ok(Setting::Unbuilt) if self.snippets && row.of_nginx() => {
                self.snippet(row, full, value);
            }
            Ok(Setting::Unbuilt) if self.snippets && row.name == nginx::AUTH_SNIPPET => {
                self.question(row, full, value);
            }
            Ok(Setting::Unbuilt) => self.unbuilt(row, full, value),
            Ok(setting) => self.settings.put(setting, full),
            Err(fault) => self.invalid(row, full, value, fault),
        }
    }

    /// Does what a snippet says, if all of it has settings here.
    fn snippet(&mut self, row: &Annotation, full: &str, value: &str) {
        let reach = if row.of_host { Reach::Host } else { Reach::Paths };
        let read = snippet::understand(value, reach);
        let same =
            |name: &str| nginx::FAMILY.row(name).filter(|row| row.status == Status::Honoured);
        let settings = read.and_then(|snippet| {
            let settings = snippet.annotations.iter().map(|(name, value)| {
                let read = same(name).map(|row| (row.parser.read)(value));
                read.and_then(Result::ok).ok_or_else(|| format!("{name} {value}"))
            });
            Ok((settings.collect::<Result<Vec<_>, _>>()?, snippet))
        });
        match settings {
            Ok((settings, snippet)) => {
                settings.into_iter().for_each(|setting| self.settings.put(setting, full));
                self.settings.snippet.extend(snippet);
            }
            Err(what) => self.not_understood(row, full, &what),
        }
    }

    /// Has a service be told what a snippet says, if all of it has settings here.
    fn question(&mut self, row: &Annotation, full: &str, value: &str) {
        match snippet::question(value) {
            Ok(fields) => self.settings.authentication.external.set.extend(fields),
            Err(what) => self.not_understood(row, full, &what),
        }
    }

    fn not_understood(&mut self, row: &Annotation, full: &str, what: &str) {
        let what = format!("{} is not understood", shown(what));
        self.close(full, &what, row.nothing(), Some(row));
    }

    /// The value asks for something that is not built.
    fn unbuilt(&mut self, row: &Annotation, full: &str, value: &str) {
        if row.protects {
            let what = format!("{} is not supported yet", shown(value));
            self.close(full, &what, row.nothing(), Some(row));
        } else {
            self.ignored.push(full.to_owned());
        }
    }

    /// Fields that the reader of the object does not know.
    fn unread(&mut self, fields: &str) {
        self.settings.deny.get_or_insert("UnknownField");
        for field in fields.split_whitespace() {
            let (field, meant) = field.split_once('=').unwrap_or((field, ""));
            let meant = if meant.is_empty() { String::new() } else { format!(" ({meant}?)") };
            let message = format!(
                "the field is not known{meant} and may limit who is served, so every path is closed (503)"
            );
            let hint = "correct its name, or remove it";
            self.problems.push(Problem::error(self.object, "UnknownField", field, message, hint));
        }
    }

    /// The object only stands in for one that its reader could not read.
    fn unreadable(&mut self, why: &str) {
        const REASON: &str = gatehouse::UNREADABLE_REASON;
        self.settings.deny.get_or_insert(REASON);
        let (field, why) = why.split_once(": ").unwrap_or(("", why));
        let message = format!("the object cannot be read: {why}; so every path is closed (503)");
        let hint = "mend it where it is written";
        self.problems.push(Problem::error(self.object, REASON, field, message, hint));
    }

    fn invalid(&mut self, row: &Annotation, full: &str, value: &str, fault: Fault) {
        let Fault { reason, message, hint, leaves } = fault;
        let message = format!("value {} {message}", shown(value));
        let rest = match (&leaves, row.default) {
            (Setting::Nothing, "") => "; it has no effect".to_owned(),
            (Setting::Nothing, default) => format!("; {default:?} is used"),
            _ => String::new(),
        };
        self.settings.set(leaves);
        if row.protects {
            self.settings.deny.get_or_insert(reason);
            self.settings.deny_host |= row.of_host;
            let closed = self.closed("");
            self.error(reason, full, format!("{message}; {closed}"), hint.into());
        } else {
            let field = Found { name: full, value: "" }.field();
            let problem = if row.changes_no_answer() { Problem::warning } else { Problem::error };
            let hint = format!("{hint}{rest}");
            self.problems.push(problem(self.object, reason, field, message, hint));
        }
    }

    /// The row is read on other kinds of objects.
    fn misplaced(&mut self, kind: ObjectKind, row: &Annotation, full: &str, value: &str) {
        let kinds: Vec<_> = row.objects.iter().map(|kind| kind.name()).collect();
        let message = format!("it has no effect on {}", kind.with_article());
        let hint = format!("it belongs on {}", kinds.join(", "));
        // No other names than ours are looked at on a Service.
        let opens = kind.has_paths() || kind == ObjectKind::Service;
        if !opens || !protects_elsewhere(row, value) {
            return self.warn("AnnotationIgnored", full, message, hint);
        }
        if row.name == gatehouse::TLS_SECRET.name && kind.has_paths() {
            // Whether anything is lost without it is for who knows the hosts.
            self.settings.tls_secret = Some(full.into());
            let instead = match kind {
                ObjectKind::Route => {
                    "write certificate and key, or externalCertificate, in spec.tls"
                }
                _ => "name the Secret in spec.tls, with the hosts",
            };
            let hint = format!("{instead}, and remove the annotation");
            return self.error("AnnotationIgnored", full, message, hint);
        }
        self.settings.deny.get_or_insert(NOT_SUPPORTED);
        let message = format!("{message}, and protects, so {}", self.closed(""));
        let instead = match kind.has_paths() {
            true => "say the same with an annotation that is read here, as gatehouse convert does",
            false => "say of a Service with spec.loadBalancerSourceRanges who may come in",
        };
        let hint = format!("{hint}; {instead}, or remove it if the {} may be open", self.places());
        self.error(NOT_SUPPORTED, full, message, hint);
    }

    fn unknown(
        &mut self,
        kind: ObjectKind,
        unknown: &unknown::Unknown,
        family: &Family,
        full: &str,
        value: &str,
    ) {
        let meant = unknown.meant.map(|row| format!(": {}{} was meant?", family.prefix, row.name));
        let meant = meant.unwrap_or_default();
        match unknown.protects {
            Some(parser) if opens(kind, family) && asks(parser, value) => {
                let what = format!("{} is not known{meant}", shown(value));
                self.close(full, &what, parser.nothing, unknown.meant);
            }
            _ if meant.is_empty() => self.ignored.push(full.to_owned()),
            _ => {
                let message = format!("it is not known and has no effect{meant}");
                let tuning = unknown.meant.is_some_and(|row| row.changes_no_answer());
                let problem = if tuning { Problem::warning } else { Problem::error };
                let field = Found { name: full, value: "" }.field();
                let hint = "correct the name";
                self.problems.push(problem(self.object, "AnnotationIgnored", field, message, hint));
            }
        }
    }

    /// What has no effect and changes no answer, in one problem.
    fn ignored(&mut self) {
        let one = match &*std::mem::take(&mut self.ignored) {
            [] => return,
            [one] => Some(one.clone()),
            many => {
                let message =
                    format!("{} annotations have no effect: {}", many.len(), many.join(", "));
                let hint = format!("remove them if the {} may do without", self.object.kind);
                let field = "metadata.annotations";
                let problem =
                    Problem::warning(self.object, "AnnotationIgnored", field, message, hint);
                self.problems.push(problem);
                None
            }
        };
        if let Some(full) = one {
            let hint = format!("remove it if the {} may do without", self.object.kind);
            self.warn("AnnotationIgnored", &full, "it has no effect".into(), hint);
        }
    }

    /// Closes every path; `nothing` are values that would not.
    fn close(&mut self, full: &str, what: &str, nothing: &[&str], row: Option<&Annotation>) {
        self.settings.deny.get_or_insert(NOT_SUPPORTED);
        let hint = match (row.map_or("", |row| row.remedy), nothing) {
            _ if self.served == ServedBy::Cluster => HEEDED.to_owned(),
            ("", []) => format!("remove the annotation if the {} may be open", self.places()),
            ("", [value, ..]) => {
                let places = self.places();
                format!("remove the annotation, or write {value:?}, if the {places} may be open")
            }
            (remedy, _) => remedy.to_owned(),
        };
        let of_host = row.is_some_and(|row| row.of_host);
        self.settings.deny_host |= of_host;
        let reach = if of_host { " of its hosts" } else { "" };
        let message = format!("{what}, so {}", self.closed(reach));
        self.error(NOT_SUPPORTED, full, message, hint);
    }

    /// What is closed of an object that asks for a protection which is not in force.
    fn closed(&self, reach: &str) -> String {
        match ObjectKind::named(self.object.kind) {
            Some(ObjectKind::Service) => self.served.unprotected().to_owned(),
            _ => format!("every path{reach} is closed (503)"),
        }
    }

    fn places(&self) -> &'static str {
        match ObjectKind::named(self.object.kind) {
            Some(ObjectKind::Service) => "ports",
            _ => "paths",
        }
    }

    /// Annotations of other controllers: one problem for each prefix and effect.
    fn foreign<'m>(
        &mut self,
        of_nginx: bool,
        annotations: impl Iterator<Item = (&'m String, &'m String)> + Clone,
    ) {
        for found in foreign::judge(of_nginx, annotations) {
            let (field, who) = match &*found.names {
                [one] => (Found { name: one, value: "" }.field(), String::new()),
                many => ("metadata.annotations".to_owned(), format!("{}: ", many.join(", "))),
            };
            let who = format!("{who}read by {} only", found.program);
            let problem = match found.effect {
                foreign::Effect::Protects => {
                    self.settings.deny.get_or_insert(NOT_SUPPORTED);
                    Problem::error(
                        self.object,
                        NOT_SUPPORTED,
                        field,
                        format!("{who}, and protects, so every path is closed (503)"),
                        "remove it if the paths may be open, or give the object a class of that controller",
                    )
                }
                foreign::Effect::Answers => Problem::error(
                    self.object,
                    "AnnotationIgnored",
                    field,
                    format!("{who}; the answers are not what it asks for"),
                    "remove it, or say the same with an annotation of ingress-nginx",
                ),
                foreign::Effect::Tuning => Problem::warning(
                    self.object,
                    "AnnotationIgnored",
                    field,
                    format!("{who}, without effect here"),
                    "remove it",
                ),
            };
            self.problems.push(problem);
        }
    }

    fn warn(&mut self, reason: &'static str, full: &str, message: String, hint: String) {
        let field = Found { name: full, value: "" }.field();
        self.problems.push(Problem::warning(self.object, reason, field, message, hint));
    }

    fn error(&mut self, reason: &'static str, full: &str, message: String, hint: String) {
        let field = Found { name: full, value: "" }.field();
        // Before those that close nothing: the first one is why a Route is refused.
        let problem = Problem::error(self.object, reason, field, message, hint);
        self.problems.insert(self.closing, problem);
        self.closing += 1;
    }
}

/// Whether clients come in by objects of this kind as such names say. Those of others say where a Service is to be had.
fn opens(kind: ObjectKind, family: &Family) -> bool {
    kind.has_paths() || (kind == ObjectKind::Service && family.prefix == gatehouse::FAMILY.prefix)
}

/// Whether an annotation would keep clients out, were it on an object on which it is read.
pub(super) fn protects_elsewhere(row: &Annotation, value: &str) -> bool {
    let given = (row.parser.read)(value);
    let by_default = !row.default.is_empty() && given == (row.parser.read)(row.default);
    row.protects && !by_default && !row.nothing().contains(&value.trim()) && asks(row.parser, value)
}

/// Whether a value asks for anything but what happens anyway.
fn asks(parser: value::Parser, value: &str) -> bool {
    let clear_text = Setting::Transport(transport::Part::Speaks(Speaks::Http1));
    !matches!((parser.read)(value), Ok(Setting::Nothing)) && (parser.read)(value) != Ok(clear_text)
}

/// A value as messages repeat it.
fn shown(value: &str) -> String {
    match value.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}
