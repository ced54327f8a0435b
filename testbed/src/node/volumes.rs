//! The volumes of a Pod as folders of this machine, which containers have mounted.
//!
//! A change of a `Secret` or `ConfigMap` shows up whole, by one rename of `..data`, as on any node. A `hostPath` is
//! a folder of the node's own, which outlives Pods and goes with the node: never one of this machine. The
//! settings of its network are the kernel's, which shows each network namespace its own.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use k8s_openapi::{
    ByteString,
    api::core::v1::{
        ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection,
        Volume,
    },
};
use serde_json::{Value, json};

use super::{
    api::{Api, Change},
    spec::{Addresses, Data, field},
};

/// Of all that the kernel shows of this machine, what is a node's own.
const NETWORK_SETTINGS: &str = "/proc/sys/net";

/// Contents by path in a volume.
type Files = BTreeMap<String, Vec<u8>>;

/// Reads what a namespace has.
pub(super) struct Store<'a> {
    /// Where from.
    pub(super) api: &'a mut Api,
    /// Whose.
    pub(super) namespace: &'a str,
}

/// The volumes of one Pod.
#[derive(Debug)]
pub(super) struct Volumes {
    folder: PathBuf,
    host: PathBuf,
    /// By volume and path, with the time at which a newer one is due.
    tokens: BTreeMap<(String, String), (Vec<u8>, Instant)>,
}

impl Data for Store<'_> {
    fn secret(&mut self, name: &str) -> anyhow::Result<Option<Files>> {
        let path = format!("/api/v1/namespaces/{}/secrets/{name}", self.namespace);
        let found = self.api.get::<Secret>(&path)?;
        Ok(found.map(|secret| {
            let data = secret.data.into_iter().flatten();
            data.map(|(key, ByteString(value))| (key, value)).collect()
        }))
    }

    fn config_map(&mut self, name: &str) -> anyhow::Result<Option<Files>> {
        let path = format!("/api/v1/namespaces/{}/configmaps/{name}", self.namespace);
        let found = self.api.get::<ConfigMap>(&path)?;
        Ok(found.map(|map| {
            let text = map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
            let binary = map.binary_data.into_iter().flatten();
            text.chain(binary.map(|(key, ByteString(value))| (key, value))).collect()
        }))
    }
}

impl Volumes {
    /// None yet. `folder`: the Pod's, `host`: what a `hostPath` is below.
    pub(super) fn new(folder: &Path, host: &Path) -> Self {
        Self { folder: folder.join("volumes"), host: host.to_owned(), tokens: BTreeMap::new() }
    }

    /// Writes all of them, or what has changed in them.
    pub(super) fn write(
        &mut self,
        pod: &Pod,
        addresses: &Addresses,
        store: &mut Store<'_>,
    ) -> anyhow::Result<()> {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        for volume in volumes {
            let name = &volume.name;
            let files = self.files(pod, volume, addresses, store);
            let folder = self.source(volume);
            if !folder.starts_with(NETWORK_SETTINGS) {
                fs::create_dir_all(&folder).with_context(|| format!("volume {name}"))?;
            }
            if volume.empty_dir.is_some() {
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
            }
            if let Some(files) = files.with_context(|| format!("volume {name}"))? {
                replace(&folder, &files, mode(volume)).with_context(|| format!("volume {name}"))?;
            }
        }
        Ok(())
    }

    /// The folder to be mounted.
    pub(super) fn source(&self, volume: &Volume) -> PathBuf {
        match &volume.host_path {
            Some(path) if Path::new(&path.path).starts_with(NETWORK_SETTINGS) => {
                PathBuf::from(&path.path)
            }
            Some(path) => self.host.join(path.path.trim_start_matches('/')),
            None => self.folder.join(&volume.name),
        }
    }

    /// What a volume holds; none for one that containers write to.
    fn files(
        &mut self,
        pod: &Pod,
        volume: &Volume,
        addresses: &Addresses,
        store: &mut Store<'_>,
    ) -> anyhow::Result<Option<Files>> {
        let mut files = Files::new();
        if let Some(of) = &volume.secret {
            let name = of.secret_name.clone().unwrap_or_default();
            add(&mut files, store.secret(&name)?, of.items.as_deref(), of.optional, &name)?;
        } else if let Some(of) = &volume.config_map {
            let found = store.config_map(&of.name)?;
            add(&mut files, found, of.items.as_deref(), of.optional, &of.name)?;
        } else if let Some(of) = &volume.downward_api {
            describe(&mut files, of.items.as_deref(), pod, addresses);
        } else if let Some(projected) = &volume.projected {
            for of in projected.sources.iter().flatten() {
                if let Some(of) = &of.service_account_token {
                    let token = self.token(pod, &volume.name, of, store)?;
                    files.insert(of.path.clone(), token);
                }
                if let Some(of) = &of.secret {
                    let found = store.secret(&of.name)?;
                    add(&mut files, found, of.items.as_deref(), of.optional, &of.name)?;
                }
                if let Some(of) = &of.config_map {
                    let found = store.config_map(&of.name)?;
                    add(&mut files, found, of.items.as_deref(), of.optional, &of.name)?;
                }
                if let Some(of) = &of.downward_api {
                    describe(&mut files, of.items.as_deref(), pod, addresses);
                }
            }
        } else if volume.empty_dir.is_some() || volume.host_path.is_some() {
            return Ok(None);
        } else {
            bail!("a kind of volume that this node does not know");
        }
        Ok(Some(files))
    }

    /// A token that is bound to the Pod; another one once four fifths of its time are over.
    fn token(
        &mut self,
        pod: &Pod,
        volume: &str,
        wanted: &ServiceAccountTokenProjection,
        store: &mut Store<'_>,
    ) -> anyhow::Result<Vec<u8>> {
        let key = (volume.to_owned(), wanted.path.clone());
        if let Some((token, due)) = self.tokens.get(&key)
            && Instant::now() < *due
        {
            return Ok(token.clone());
        }
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        let account = account.unwrap_or("default");
        let path =
            format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", store.namespace);
        let seconds = wanted.expiration_seconds.unwrap_or(3600);
        let (name, uid) = (&pod.metadata.name, &pod.metadata.uid);
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": wanted.audience.iter().collect::<Vec<_>>(),
                "expirationSeconds": seconds,
                "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid},
            },
        });
        let answer = store.api.send(Change::Create, &path, &request)?;
        let token = answer.as_ref().and_then(|answer| answer.pointer("/status/token"));
        let token = token.and_then(Value::as_str).context("no token for its ServiceAccount")?;
        let token = token.as_bytes().to_vec();
        let due = Instant::now() + Duration::from_secs(seconds.unsigned_abs()) * 4 / 5;
        self.tokens.insert(key, (token.clone(), due));
        Ok(token)
    }
}

/// Adds all entries, or those that are asked for, by the paths that they are asked for.
fn add(
    files: &mut Files,
    found: Option<Files>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    name: &str,
) -> anyhow::Result<()> {
    let Some(found) = found else {
        if optional == Some(true) {
            return Ok(());
        }
        bail!("{name} does not exist");
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        files.extend(found);
        return Ok(());
    };
    for item in items {
        match found.get(&item.key) {
            Some(value) => drop(files.insert(item.path.clone(), value.clone())),
            None if optional == Some(true) => {}
            None => bail!("{name} has no {}", item.key),
        }
    }
    Ok(())
}

fn describe(
    files: &mut Files,
    items: Option<&[DownwardAPIVolumeFile]>,
    pod: &Pod,
    addresses: &Addresses,
) {
    for item in items.into_iter().flatten() {
        let of = item.field_ref.as_ref();
        let value = of.and_then(|of| field(pod, &of.field_path, addresses)).unwrap_or_default();
        files.insert(item.path.clone(), value.into_bytes());
    }
}

/// What files of a volume may be read by. Modes of single entries are not looked at.
fn mode(volume: &Volume) -> u32 {
    let secret = volume.secret.as_ref().and_then(|of| of.default_mode);
    let map = volume.config_map.as_ref().and_then(|of| of.default_mode);
    let projected = volume.projected.as_ref().and_then(|of| of.default_mode);
    let given = secret.or(map).or(projected);
    given.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644)
}

/// Makes these the files of a volume, at once: `name` leads to `..data/name`, `..data` to the folder of the moment.
fn replace(volume: &Path, files: &Files, mode: u32) -> anyhow::Result<()> {
    let data = volume.join("..data");
    let before = fs::read_link(&data).ok();
    let same = |(path, value): (&String, &Vec<u8>)| {
        fs::read(data.join(path)).is_ok_and(|found| found == *value)
    };
    let names: Vec<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    let entries = entries(volume)?;
    let stale = |name: &&String| !name.starts_with("..") && !names.contains(&name.as_str());
    if before.is_some() && files.iter().all(same) && !entries.iter().any(|name| stale(&name)) {
        return Ok(());
    }
    let version = before.as_ref().and_then(|before| before.to_str()?.rsplit('-').next());
    let version = version.and_then(|version| version.parse::<u64>().ok()).unwrap_or(0) + 1;
    let next = format!("..version-{version}");
    for (path, value) in files {
        let file = volume.join(&next).join(path);
        fs::create_dir_all(file.parent().unwrap_or(volume))?;
        fs::write(&file, value)?;
        fs::set_permissions(file, fs::Permissions::from_mode(mode))?;
    }
    fs::create_dir_all(volume.join(&next))?;
    let link = volume.join("..data_tmp");
    symlink(&next, &link)?;
    fs::rename(link, &data)?;
    for name in &names {
        let link = volume.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), link)?;
        }
    }
    for name in entries.iter().filter(stale) {
        fs::remove_file(volume.join(name))?;
    }
    if let Some(before) = before {
        fs::remove_dir_all(volume.join(before))?;
    }
    Ok(())
}

fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        pairs.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_change_replaces_all_files_of_a_volume_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path();
        replace(volume, &files(&[("tls.crt", "one"), ("deep/er", "x")]), 0o400).unwrap();
        assert_eq!(fs::read_to_string(volume.join("tls.crt")).unwrap(), "one");
        assert_eq!(fs::read_to_string(volume.join("deep/er")).unwrap(), "x");
        let permissions = fs::metadata(volume.join("deep/er")).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o400);
        let before = fs::read_link(volume.join("..data")).unwrap();
        replace(volume, &files(&[("tls.crt", "one"), ("deep/er", "x")]), 0o400).unwrap();
        assert_eq!(fs::read_link(volume.join("..data")).unwrap(), before, "nothing has changed");
        replace(volume, &files(&[("tls.crt", "two")]), 0o644).unwrap();
        assert_eq!(fs::read_to_string(volume.join("tls.crt")).unwrap(), "two");
        assert_eq!(entries(volume).unwrap(), ["..data", "..version-2", "tls.crt"]);
    }

    #[test]
    fn entries_may_be_asked_for_by_other_paths() {
        let item = |key: &str| KeyToPath { key: key.into(), path: "a/b".into(), mode: None };
        let found = || Some(files(&[("k", "v"), ("other", "w")]));
        let mut made = Files::new();
        add(&mut made, found(), Some(&[item("k")]), None, "app").unwrap();
        assert_eq!(made, files(&[("a/b", "v")]));
        let error = add(&mut made, found(), Some(&[item("no")]), None, "app").unwrap_err();
        assert_eq!(error.to_string(), "app has no no");
        add(&mut made, None, None, Some(true), "app").unwrap();
        assert!(add(&mut made, None, None, None, "app").is_err());
    }
}
