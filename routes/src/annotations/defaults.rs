//! What holds for every Ingress that does not say otherwise: annotations that it is read as if it had them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    Settings, family_of,
    global::Global,
    table::Annotation,
    value::{AuthenticationSetting, Setting},
};
use crate::objects::ObjectKey;

/// Two names of one setting.
const TWINS: [[&str; 2]; 1] = [["allowlist-source-range", "whitelist-source-range"]];

/// What names begin with that are about the service which is asked whether a request may pass.
const AUTHENTICATION: &str = "auth-";

/// Annotations that objects are read as if they had them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Defaults {
    entries: Vec<Entry>,
    deny: Option<&'static str>,
    /// What no annotation says.
    pub(super) global: Global,
    /// The ConfigMaps that it comes from, whether or not they exist.
    config_maps: Vec<ObjectKey>,
    /// Snippets of nginx are read, those that are understood in whole.
    pub(super) snippets: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Name after the prefix.
    name: &'static str,
    /// Whole name.
    full: &'static str,
    setting: Setting,
    /// It holds beside what an object says itself.
    always: bool,
}

/// Why a default has not the effect that it asks for: a reason, what is wrong, and what to do.
pub(crate) struct Refused {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) hint: &'static str,
    /// Nothing but speed is lost.
    pub(crate) harmless: bool,
}

impl Defaults {
    /// The same, with snippets read or not.
    #[must_use]
    pub(crate) fn with_snippets(self, snippets: bool) -> Self {
        Self { snippets, ..self }
    }

    /// What ingress-nginx does of itself.
    pub(crate) fn of_nginx() -> Self {
        let mut defaults = Self::default();
        let _ = defaults.add("nginx.ingress.kubernetes.io/proxy-body-size", "1m", false);
        defaults
    }

    /// Adds an annotation by its whole name. A protection that cannot be honoured closes every object.
    pub(crate) fn add(
        &mut self,
        full: &'static str,
        value: &str,
        always: bool,
    ) -> Result<(), Refused> {
        let Some((row, name)) = row(full) else { return Ok(()) };
        match (row.parser.read)(value) {
            Ok(Setting::Nothing) => Ok(()),
            Ok(Setting::Unbuilt) => Err(self.unbuilt(row)),
            Ok(setting) => {
                self.entries.push(Entry { name, full, setting, always });
                Ok(())
            }
            Err(fault) => {
                let mut message = fault.message;
                if row.protects {
                    self.close(fault.reason);
                    message.push_str(", so every Ingress without its own is closed (503)");
                }
                Err(Refused { reason: fault.reason, message, hint: fault.hint, harmless: false })
            }
        }
    }

    fn unbuilt(&mut self, row: &Annotation) -> Refused {
        let hint = "remove it if the Ingresses may do without";
        if !row.protects {
            let message = "has no effect".to_owned();
            return Refused { reason: "SettingIgnored", message, hint, harmless: true };
        }
        self.close(super::reader::NOT_SUPPORTED);
        let message = "is not supported yet, so every Ingress is closed (503)".to_owned();
        Refused { reason: super::reader::NOT_SUPPORTED, message, hint, harmless: false }
    }

    /// Notes a ConfigMap that something of it comes from.
    pub(super) fn refers_to(&mut self, config_map: ObjectKey) {
        self.config_maps.push(config_map);
    }

    /// The ConfigMaps that it comes from.
    pub(crate) fn config_maps(&self) -> &[ObjectKey] {
        &self.config_maps
    }

    /// Closes every object.
    pub(crate) fn close(&mut self, reason: &'static str) {
        self.deny.get_or_insert(reason);
    }

    /// Puts into the settings of an object what it does not say itself.
    pub(super) fn apply(&self, metadata: &ObjectMeta, settings: &mut Settings) {
        settings.deny = settings.deny.or(self.deny);
        settings.global = self.global.clone();
        let asks_itself = asks_itself(metadata);
        for entry in &self.entries {
            if asks_itself && entry.name.starts_with(AUTHENTICATION) {
                continue;
            }
            if entry.always || !says(metadata, entry) {
                settings.put(entry.setting.clone(), entry.full);
            }
        }
    }
}

fn row(full: &'static str) -> Option<(&'static Annotation, &'static str)> {
    let (family, name) = family_of(full)?;
    Some((family.row(name)?, name))
}

/// Whether an object has a service of its own that is asked, or wants that of all others not to be.
fn asks_itself(metadata: &ObjectMeta) -> bool {
    let read = |full: &'static str| {
        let (row, _) = row(full)?;
        let (family, _) = family_of(full)?;
        let found = family.find(row, metadata)?;
        (row.parser.read)(found.value).ok()
    };
    let off = Setting::Authentication(AuthenticationSetting::Global(false));
    let own = read("nginx.ingress.kubernetes.io/auth-url");
    own.is_some_and(|own| own != Setting::Nothing)
        || read("nginx.ingress.kubernetes.io/enable-global-auth") == Some(off)
}

/// Whether an object has the annotation of a default, by whatever name.
fn says(metadata: &ObjectMeta, entry: &Entry) -> bool {
    let family = family_of(entry.full).map(|(family, _)| family);
    let twin = TWINS.iter().find(|twins| twins.contains(&entry.name));
    metadata.annotations.iter().flatten().any(|(full, value)| {
        let named = family_of(full)
            .filter(|(of, _)| family.is_some_and(|family| std::ptr::eq(*of, family)));
        !value.trim().is_empty()
            && named.is_some_and(|(_, name)| {
                name == entry.name || twin.is_some_and(|twins| twins.contains(&name))
            })
    })
}
