//! What is wrong with files, as problems whose objects are places in them.

use std::path::Path;

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};

use super::{
    super::{Kind, fields, manifest::Unsupported},
    File,
};

/// Kind of the object of a problem with a file as such.
pub const PROBLEM_KIND: &str = "File";

pub(super) fn about(path: &Path, file: &File) -> Vec<Problem> {
    let unreadable = file.errors().map(|error| {
        let hint = if error.stand_ins.iter().any(|name| file.manifest.is_closed(name)) {
            match error.stand_ins.iter().all(|name| name.kind == Kind::IngressClass.name()) {
                true => {
                    "mend it; until then its Ingresses are closed (503), and where its name cannot be read those of every \
                     class that nothing else defines"
                }
                false => "mend it; until then its hosts and paths are closed (503)",
            }
        } else {
            "mend it; until then, what the file said before and no longer names stays in use"
        };
        let object = file_ref(path, error.line);
        Problem::error(&object, "ManifestUnreadable", error.path(), error.message, hint)
    });
    let unsupported = file.manifest.unsupported().map(|one| {
        let object = file_ref(path, one.line);
        let what = format!("{} {} {} is not read", one.api_version, one.kind, one.name);
        let (reason, hint) = ("KindNotSupported", unsupported_hint(&one));
        match one.closed {
            false => Problem::warning(&object, reason, "", what, hint),
            true => {
                let what = format!("{what}, and protects, so its hosts and paths are closed (503)");
                Problem::error(&object, reason, "", what, hint)
            }
        }
    });
    let unread = file.manifest.unread().filter(|(object, one)| {
        // Those close their object, whose translation says so.
        !Kind::named(object.kind).is_some_and(|kind| fields::limits(kind, one))
    });
    let unread = unread.map(|(object, one)| {
        let message = format!("the field is not known and has no effect{}", one.advice());
        Problem::warning(
            object,
            "UnknownField",
            &*one.path,
            message,
            "correct its name, or remove it",
        )
    });
    unreadable.chain(unsupported).chain(unread).collect()
}

/// What to do about a document that nobody reads.
fn unsupported_hint(one: &Unsupported) -> String {
    if let Some(kind) = one.meant() {
        let (version, name) = (kind.api_version(), kind.name());
        let backends = match kind {
            Kind::Ingress if one.api_version.ends_with("beta1") => {
                "; there a path has a pathType, and a backend is service.name and service.port"
            }
            _ => "",
        };
        return format!("write apiVersion: {version}, kind: {name}{backends}");
    }
    let hint = match &*one.kind {
        "Endpoints" => "write an EndpointSlice with the label kubernetes.io/service-name",
        _ => {
            "say the same with an Ingress or a Route, or leave the object to the program that reads it"
        }
    };
    hint.to_owned()
}

/// Path and line that a problem with a file names; `None` for other objects.
pub(crate) fn place(object: &ObjectRef) -> Option<(&str, u32)> {
    let name: &str = (object.kind == PROBLEM_KIND).then_some(&*object.key.name)?;
    let lined = name.rsplit_once(':').and_then(|(path, line)| Some((path, line.parse().ok()?)));
    Some(lined.unwrap_or((name, 0)))
}

/// The object of a problem with a file: `file:line`; without line (0) where the file as a whole is meant.
pub(super) fn file_ref(path: &Path, line: u32) -> ObjectRef {
    let name = match line {
        0 => path.display().to_string(),
        line => format!("{}:{line}", path.display()),
    };
    ObjectRef::new(PROBLEM_KIND, ObjectKey::new("", name))
}
