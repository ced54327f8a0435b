//! What a container is to run, from the Pod's description: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, SecurityContext};

/// Where a program and its first arguments are, by the last part of an image's name without tag.
#[derive(Debug, Clone, Default)]
pub(super) struct Images(BTreeMap<String, Vec<String>>);

/// Addresses that a Pod may ask for.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    /// Its node's.
    pub(super) host: String,
    /// Its own.
    pub(super) pod: String,
}

/// Finds the data of `Secret`s and `ConfigMap`s of the Pod's namespace.
pub(super) trait Data {
    /// All of a `Secret`.
    fn secret(&mut self, name: &str) -> anyhow::Result<Option<BTreeMap<String, Vec<u8>>>>;
    /// All of a `ConfigMap`.
    fn config_map(&mut self, name: &str) -> anyhow::Result<Option<BTreeMap<String, Vec<u8>>>>;
}

/// A command with everything that it sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Command {
    /// The image's own program, as a path of this machine.
    pub(super) program: Option<String>,
    /// Words; the first is a path in the container or a name in its `PATH`.
    pub(super) words: Vec<String>,
    /// All of its environment.
    pub(super) environment: BTreeMap<String, String>,
    /// Where it starts.
    pub(super) folder: Option<String>,
    /// What it may do.
    pub(super) rights: Rights,
}

/// What a container may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rights {
    /// User and group, where not root.
    pub(super) user: Option<(i64, i64)>,
    /// Everything.
    pub(super) privileged: bool,
    /// Capabilities, `net_admin` and the like.
    pub(super) capabilities: Vec<String>,
    /// Whether a program with file capabilities gets them.
    pub(super) may_escalate: bool,
    /// Whether nothing but volumes can be written to.
    pub(super) read_only_root: bool,
}

/// What containers may do unless told otherwise: the default of containerd and CRI-O.
const DEFAULT_CAPABILITIES: [&str; 11] = [
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "net_bind_service",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];

impl Images {
    /// From `NAME=PROGRAM ARGUMENT…`; without a program, a container's own command is looked up in `PATH`.
    pub(super) fn new(entries: &[String]) -> anyhow::Result<Self> {
        let mut images = BTreeMap::new();
        for entry in entries {
            let Some((name, words)) = entry.split_once('=') else {
                anyhow::bail!("`{entry}`: not NAME=PROGRAM");
            };
            images.insert(name.to_owned(), words.split_whitespace().map(str::to_owned).collect());
        }
        Ok(Self(images))
    }

    fn find(&self, image: &str) -> Option<&[String]> {
        let last = image.rsplit('/').next()?;
        let name = last.split(['@', ':']).next()?;
        self.0.get(name).map(Vec::as_slice)
    }
}

/// The command of a container; none when nothing is known of its image.
pub(super) fn command(
    pod: &Pod,
    container: &Container,
    images: &Images,
    addresses: &Addresses,
    service: &BTreeMap<String, String>,
    data: &mut impl Data,
) -> anyhow::Result<Option<Command>> {
    let Some(entry) = images.find(container.image.as_deref().unwrap_or_default()) else {
        return Ok(None);
    };
    let mut environment = service.clone();
    environment.insert("PATH".to_owned(), "/:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    environment.insert("HOSTNAME".to_owned(), hostname(pod));
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let found = match (&from.secret_ref, &from.config_map_ref) {
            (Some(secret), _) => data.secret(&secret.name)?,
            (None, Some(map)) => data.config_map(&map.name)?,
            (None, None) => None,
        };
        for (name, value) in found.into_iter().flatten() {
            environment.insert(format!("{prefix}{name}"), text(&value));
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, variable, addresses, &environment, data)? {
            environment.insert(variable.name.clone(), value);
        }
    }
    let mut words = container.command.clone().unwrap_or_default();
    if words.is_empty() {
        words = entry.to_vec();
    }
    words.extend(container.args.iter().flatten().cloned());
    for word in &mut words {
        *word = expand(word, &environment);
    }
    let program = entry.first().cloned();
    // In the container the program lies at its root, as in an image that holds nothing else.
    if let (Some(program), Some(word)) = (&program, words.first_mut())
        && file_name(word) == file_name(program)
    {
        *word = format!("/{}", file_name(program));
    }
    let rights = rights(pod, container);
    let folder = container.working_dir.clone();
    Ok(Some(Command { program, words, environment, folder, rights }))
}

/// What a field of the Pod says, for environments and volumes.
pub(super) fn field(pod: &Pod, path: &str, addresses: &Addresses) -> Option<String> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    let of = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
    };
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        return match map {
            "metadata.labels" => Some(of(&meta.labels, key)),
            "metadata.annotations" => Some(of(&meta.annotations, key)),
            _ => None,
        };
    }
    match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => Some(lines(&meta.labels)),
        "metadata.annotations" => Some(lines(&meta.annotations)),
        "spec.nodeName" => spec?.node_name.clone(),
        "spec.serviceAccountName" => spec?.service_account_name.clone(),
        "status.hostIP" | "status.hostIPs" => Some(addresses.host.clone()),
        "status.podIP" | "status.podIPs" => Some(addresses.pod.clone()),
        _ => None,
    }
}

/// The host name of a Pod.
pub(super) fn hostname(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

/// Puts values in the place of `$(NAME)`; what is not known stays, `$$` is one `$`.
pub(super) fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|rest| rest.split_once(')'))
            && let Some(value) = environment.get(name)
        {
            out.push_str(value);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

fn value(
    pod: &Pod,
    variable: &EnvVar,
    addresses: &Addresses,
    environment: &BTreeMap<String, String>,
    data: &mut impl Data,
) -> anyhow::Result<Option<String>> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), environment)));
    };
    if let Some(of) = &from.field_ref {
        return Ok(field(pod, &of.field_path, addresses));
    }
    let (found, kind, name, key, optional) = match (&from.secret_key_ref, &from.config_map_key_ref)
    {
        (Some(of), _) => (data.secret(&of.name)?, "Secret", &of.name, &of.key, of.optional),
        (None, Some(of)) => {
            (data.config_map(&of.name)?, "ConfigMap", &of.name, &of.key, of.optional)
        }
        // Amounts of processors and memory: nothing is limited here.
        (None, None) => return Ok(Some("0".to_owned())),
    };
    match found.and_then(|mut found| found.remove(key)) {
        Some(value) => Ok(Some(text(&value))),
        None if optional == Some(true) => Ok(None),
        None => anyhow::bail!("{}: no {key} in {kind} {name}", variable.name),
    }
}

fn rights(pod: &Pod, container: &Container) -> Rights {
    let whole =
        pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let own: SecurityContext = container.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(whole.run_as_user).unwrap_or(0);
    let group = own.run_as_group.or(whole.run_as_group).unwrap_or(0);
    let privileged = own.privileged == Some(true);
    let mut capabilities: Vec<String> = DEFAULT_CAPABILITIES.map(str::to_owned).to_vec();
    let wanted = own.capabilities.unwrap_or_default();
    for name in wanted.drop.iter().flatten().map(|name| short(name)) {
        capabilities.retain(|have| name != "all" && *have != name);
    }
    capabilities.extend(wanted.add.iter().flatten().map(|name| short(name)));
    capabilities.sort();
    capabilities.dedup();
    Rights {
        user: (user != 0 || group != 0).then_some((user, group)),
        privileged,
        capabilities,
        may_escalate: own.allow_privilege_escalation.unwrap_or(true),
        read_only_root: own.read_only_root_filesystem == Some(true),
    }
}

fn short(capability: &str) -> String {
    let name = capability.to_lowercase();
    name.strip_prefix("cap_").unwrap_or(&name).to_owned()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn lines(map: &Option<BTreeMap<String, String>>) -> String {
    map.iter().flatten().map(|(key, value)| format!("{key}={value:?}\n")).collect()
}

#[cfg(test)]
mod tests;
