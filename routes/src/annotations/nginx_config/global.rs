//! Keys for which there is no annotation: fields of messages, clients that are kept out, compression.

use std::sync::Arc;

use http::HeaderName;

use super::{Message, Reader, is_true};
use crate::{
    annotations::global,
    filter::{answer_fields::may_be_set, block::Pattern},
    objects::ObjectKey,
    references::Reference,
};

/// `text/html` is compressed in any case.
const HTML: &str = "text/html";

impl Reader<'_> {
    /// Fields of messages, which another ConfigMap holds.
    pub(super) fn fields(&mut self, name: &str, value: &str, message: Message) {
        let Some((namespace, map)) = value.trim().split_once('/') else {
            let message = format!("value {value:?} is not namespace/name, so no field is set");
            return self.error(
                "InvalidSetting",
                name,
                message,
                "name a ConfigMap with its namespace",
            );
        };
        let reference = Reference::config_map(self.objects, ObjectKey::new(namespace, map));
        self.defaults.refers_to(reference.object().key.clone());
        let field = format!("data[{name}]");
        let map = match reference.as_config_map(&self.object, &field, "no field is set") {
            Ok(map) => map,
            Err(problem) => return self.problems.push(*problem),
        };
        let mut edits = Vec::new();
        for (field, text) in map.data.iter().flatten() {
            let edit = HeaderName::try_from(field).ok().filter(may_be_set);
            let variable = message == Message::Request && text.contains('$');
            match edit.filter(|_| !variable).and_then(|field| global::edit(field, text)) {
                Some(edit) => edits.push(edit),
                None => {
                    let why =
                        if variable { "whose value has a variable" } else { "which cannot be set" };
                    self.error(
                        "SettingIgnored",
                        name,
                        format!(
                            "{} holds {field:?}, {why}: the field is left out",
                            reference.object()
                        ),
                        "write names of fields and plain values",
                    );
                }
            }
        }
        let global = &mut self.defaults.global;
        match message {
            Message::Request => global.request_fields = edits.into(),
            // Two keys add to them.
            Message::Answer => {
                global.answer_fields = global.answer_fields.iter().cloned().chain(edits).collect();
            }
        }
    }

    /// Clients that are kept out.
    pub(super) fn block(&mut self, name: &str, value: &str) {
        match Pattern::list(value) {
            Ok(patterns) => {
                let block = Arc::make_mut(&mut self.defaults.global.block);
                match name {
                    "block-referers" => block.referers = patterns,
                    _ => block.user_agents = patterns,
                }
            }
            Err(entry) => {
                let why = format!("{entry:?} is not an expression that is supported");
                self.close(name, &why);
            }
        }
    }

    /// Status of redirects to https.
    pub(super) fn https_status(&mut self, name: &str, value: &str) {
        match value.trim().parse() {
            Ok(status @ (301 | 302 | 307 | 308)) => {
                self.defaults.global.https_status = Some(status);
            }
            _ => self.error(
                "InvalidSetting",
                name,
                format!("value {value:?} is not 301, 302, 307 or 308; redirects to https are 308"),
                "write one of these",
            ),
        }
    }

    /// What is compressed, and how.
    pub(super) fn compression<'d>(&mut self, get: impl Fn(&str) -> Option<&'d str>) {
        let on = |name: &str| get(name).is_some_and(is_true);
        let (gzip, brotli) = (on("use-gzip"), on("enable-brotli"));
        let (codings, first, key) = match (brotli, gzip) {
            (true, true) => ("br, gzip", "gzip", "use-gzip"),
            (false, true) => ("gzip", "gzip", "use-gzip"),
            (true, false) => ("br", "brotli", "enable-brotli"),
            (false, false) => return,
        };
        self.annotation(("gatehouse.io/compress", false), codings, key);
        let of = |what: &str| {
            let other = format!("brotli-{what}");
            get(&format!("{first}-{what}")).or_else(|| get(&other).filter(|_| brotli))
        };
        if let Some(types) = of("types") {
            let types = match types.split_whitespace().any(|media| media == "*") {
                true => "*/*".to_owned(),
                false => format!("{HTML} {types}"),
            };
            self.annotation(("gatehouse.io/compress-types", false), &types, key);
        }
        if let Some(bytes) = of("min-length") {
            self.annotation(("gatehouse.io/compress-min-length", false), bytes, key);
        }
        for (name, most) in [("gzip-level", 9), ("brotli-level", 11)] {
            let Some(level) = get(name) else { continue };
            let levels = &mut self.defaults.global.levels;
            match level.parse::<u8>().ok().filter(|level| *level <= most) {
                Some(level) if most == 9 => levels.gzip = level.max(1),
                Some(level) => levels.brotli = level,
                None => {
                    let message =
                        format!("value {level:?} is not a level up to {most}, so it is 4");
                    self.error("InvalidSetting", name, message, "write a number");
                }
            }
        }
    }
}
