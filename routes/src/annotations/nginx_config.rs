//! The ConfigMap of ingress-nginx (`--nginx-config`): what it says of every Ingress.
//!
//! Most keys stand for an annotation on every Ingress that has none of its own; the rest is a line in [`KEYS`]
//! that says where the same is set here, or that nothing is to be set. `read` is called by
//! [`crate::compile`] with the ConfigMap itself, the docs list the table.

use super::{Defaults, PROTECTING_WORDS, Refused, unknown::is_near};
use crate::{
    filter::tls_terms::GlobalTls,
    objects::{ObjectKey, ObjectRef, Objects},
    problem::Problem,
    references::Reference,
};

mod global;
mod keys;
pub mod tls;

pub use keys::KEYS;

/// A key of the ConfigMap.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As ingress-nginx spells it.
    pub name: &'static str,
    /// What is done about it.
    pub means: Means,
}

/// What is done about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// The same as this annotation (whole name) on every Ingress that does not have it.
    Annotation(&'static str),
    /// The same as this annotation on every Ingress, beside its own.
    Always(&'static str),
    /// Fields of requests or of answers that the ConfigMap of this name holds (`namespace/name`).
    Fields(Message),
    /// Clients that are kept out: values and expressions of a field.
    Block,
    /// A part of what is compressed, and how.
    Compression,
    /// The TLS of clients.
    Tls(Tls),
    /// Status of redirects to https.
    HttpsStatus,
    /// These values are what happens; others have no effect, and this happens instead.
    Only(&'static [&'static str], &'static str),
    /// A part of `Strict-Transport-Security`, which every answer over TLS has.
    Hsts,
    /// The other endpoint may get requests that should not be repeated.
    RetryNonIdempotent,
    /// Set elsewhere.
    Elsewhere(&'static str),
    /// It has no effect, and needs none, for this reason.
    NotNeeded(&'static str),
    /// It has no effect, and this happens instead.
    Differs(&'static str),
    /// Configuration of nginx, which is never executed.
    Snippet,
    /// It protects and is not built: every Ingress is closed.
    Closes,
}

/// A part of the TLS of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Versions.
    Versions,
    /// Ciphers.
    Ciphers,
    /// Groups of key exchange.
    Groups,
    /// Tickets of sessions.
    Tickets,
    /// Sessions that this process remembers.
    Cache,
    /// How long sessions are resumed.
    Lifetime,
    /// HTTP/2.
    Http2,
    /// Handshakes for unknown names fail.
    KnownNames,
}

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// To the backend.
    Request,
    /// To the client.
    Answer,
}

/// Values that ingress-nginx has where the ConfigMap says nothing, and that change answers.
const DEFAULTS: [(&str, &str); 1] = [("proxy-body-size", "1m")];
const HSTS_ANNOTATION: &str = "haproxy.router.openshift.io/hsts_header";

/// What the ConfigMap says of every Ingress, and what is wrong with it.
pub(crate) fn read(key: &ObjectKey, objects: &Objects) -> (Defaults, GlobalTls, Vec<Problem>) {
    let reference = Reference::config_map(objects, key.clone());
    let object = reference.object().clone();
    let defaults = Defaults::default();
    let tls = GlobalTls::new(object.clone());
    let mut reader = Reader { object, objects, defaults, tls, problems: Vec::new() };
    let map = match reference.as_config_map(&reader.object, "", "every Ingress is closed (503)") {
        Ok(map) => map,
        Err(problem) => {
            // What it would have said may have protected a path.
            reader.defaults.close(problem.reason);
            return (reader.defaults, reader.tls, vec![*problem]);
        }
    };
    let empty = Default::default();
    let data = map.data.as_ref().unwrap_or(&empty);
    for (name, value) in DEFAULTS {
        if !data.contains_key(name) {
            reader.key(name, value);
        }
    }
    for (name, value) in data {
        reader.key(name, value);
    }
    let get = |name: &str| data.get(name).map(|value| value.trim());
    if get("hsts").is_none_or(is_true) {
        let mut value = format!("max-age={}", get("hsts-max-age").unwrap_or("31536000"));
        if get("hsts-include-subdomains").is_none_or(is_true) {
            value.push_str("; includeSubDomains");
        }
        if get("hsts-preload").is_some_and(is_true) {
            value.push_str("; preload");
        }
        reader.annotation((HSTS_ANNOTATION, false), &value, "hsts-max-age");
    }
    reader.compression(get);
    if get("retry-non-idempotent").is_some_and(is_true) {
        let on = get("proxy-next-upstream").unwrap_or("error timeout");
        if !on.split_whitespace().any(|word| word == "off") {
            let value = format!("{on} non_idempotent");
            reader.annotation(
                ("nginx.ingress.kubernetes.io/proxy-next-upstream", false),
                &value,
                "retry-non-idempotent",
            );
        }
    }
    (reader.defaults, reader.tls, reader.problems)
}

fn is_true(value: &str) -> bool {
    value.eq_ignore_ascii_case("true")
}

struct Reader<'o> {
    object: ObjectRef,
    objects: &'o Objects,
    defaults: Defaults,
    tls: GlobalTls,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn key(&mut self, name: &str, value: &str) {
        if value.trim().is_empty() {
            return;
        }
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return self.unknown(name);
        };
        match key.means {
            Means::Annotation(full) => self.annotation((full, false), value, name),
            Means::Always(full) => self.annotation((full, true), value, name),
            Means::Hsts | Means::RetryNonIdempotent | Means::Compression | Means::NotNeeded(_) => {}
            Means::Fields(message) => self.fields(name, value, message),
            Means::Block => self.block(name, value),
            Means::Tls(part) => self.tls(part, name, value),
            Means::HttpsStatus => self.https_status(name, value),
            Means::Only(values, _)
                if values.iter().any(|same| same.eq_ignore_ascii_case(value.trim())) => {}
            Means::Only(_, instead) => {
                let message = format!("value {value:?} is not honoured: {instead}");
                let hint = "remove it if the Ingresses may do without";
                self.error("SettingIgnored", name, message, hint);
            }
            // What is off there is off here, where nobody starts it otherwise.
            Means::Elsewhere(_) if value.trim() == "false" => {}
            Means::Elsewhere(place) => {
                let message = format!("value {value:?} has no effect: it is set elsewhere");
                self.warn("SettingElsewhere", name, message, place);
            }
            Means::Differs(instead) => {
                let message = format!("value {value:?} is not honoured: {instead}");
                let hint = "remove it if the Ingresses may do without";
                self.error("SettingIgnored", name, message, hint);
            }
            Means::Snippet => self.snippet(name, value),
            Means::Closes if is_off(value) => {}
            Means::Closes => self.close(name, "it protects and is not supported"),
        }
    }

    /// Has every Ingress do as the annotation says.
    fn annotation(&mut self, (full, always): (&'static str, bool), value: &str, name: &str) {
        let Err(refused) = self.defaults.add(full, value, always) else { return };
        let Refused { reason, message, hint, harmless } = refused;
        let message = format!("value {value:?} {message}");
        match harmless {
            true => self.warn(reason, name, message, hint),
            false => self.error(reason, name, message, hint),
        }
    }

    /// Text that may keep clients out closes; other text only changes answers.
    fn snippet(&mut self, name: &str, value: &str) {
        let words = ["deny", "allow", "return", "limit_", "satisfy", "access_by", "if ", "if("];
        let protects = words.iter().chain(&PROTECTING_WORDS).any(|word| value.contains(word));
        if protects {
            return self
                .close(name, "configuration of nginx is never executed, and this may protect");
        }
        self.error(
            "SettingIgnored",
            name,
            "configuration of nginx is never executed".into(),
            "say it with settings of their own, and remove it",
        );
    }

    fn close(&mut self, name: &str, why: &str) {
        self.defaults.close("ProtectionNotSupported");
        self.error(
            "ProtectionNotSupported",
            name,
            format!("{why}, so every Ingress is closed (503)"),
            "remove it if the Ingresses may be open",
        );
    }

    fn unknown(&mut self, name: &str) {
        let near = |key: &&Key| is_near(name, key.name);
        let meant = KEYS.iter().find(near).map(|key| key.name);
        let hint = meant.map_or_else(
            || "remove it".to_owned(),
            |meant| format!("write {meant:?} if that was meant"),
        );
        let message = "the key is not known and has no effect".to_owned();
        let field = format!("data[{name}]");
        self.problems.push(Problem::warning(&self.object, "UnknownKey", field, message, hint));
    }

    fn warn(&mut self, reason: &'static str, name: &str, message: String, hint: &str) {
        let field = format!("data[{name}]");
        self.problems.push(Problem::warning(&self.object, reason, field, message, hint));
    }

    fn error(&mut self, reason: &'static str, name: &str, message: String, hint: &str) {
        let field = format!("data[{name}]");
        self.problems.push(Problem::error(&self.object, reason, field, message, hint));
    }
}

fn is_off(value: &str) -> bool {
    ["false", "off", "0", ""].contains(&value.trim())
}

#[cfg(test)]
mod tests;
