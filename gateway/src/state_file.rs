//! The addresses that Services held, remembered over a restart in one small file.
//!
//! `<state-dir>/addresses.json`: `{"version":1,"addresses":{"default/gateway":["192.168.1.200"]},
//! "resting":{"192.168.1.201":["default/gone"]}}`; who is named with a resting address may have it again at
//! once, others only after its rest, which begins anew with the process. The process reads it once at start and stores it after a compile changed it. It is a memory, not a
//! configuration: a damaged file costs stickiness, never the start.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    net::IpAddr,
    path::Path,
};

use gatehouse_routes::objects::ObjectKey;
use gatehouse_vip::{ClaimId, Quarantined};
use serde::{Deserialize, Serialize};

use crate::{durable_file, regular_file};

/// Addresses by Service.
pub type Addresses = BTreeMap<ObjectKey, Vec<IpAddr>>;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// Who holds what.
    pub addresses: Addresses,
    /// What was let go shortly before.
    pub quarantined: Quarantined,
}

/// Reason of the problem that recorded addresses cannot be read.
pub const IGNORED: &str = "StateIgnored";
/// Name of the file in the state folder.
const FILE: &str = "addresses.json";
/// Name of the file with what session cookies are sealed with.
const SECRET: &str = "session.key";
/// The only form of the file so far.
const VERSION: u32 = 1;

#[derive(Deserialize, Serialize)]
struct Content {
    version: u32,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    resting: BTreeMap<IpAddr, Vec<String>>,
}

/// Reads the addresses of a state folder. A missing file holds none; a damaged one holds none either,
/// and the second value says what is wrong with it.
pub fn load(state_dir: &Path) -> (Recorded, Option<String>) {
    let path = state_dir.join(FILE);
    match regular_file::read(&path) {
        Ok(bytes) => match parse(&bytes) {
            Ok(recorded) => (recorded, None),
            Err(why) => (Recorded::default(), Some(ignored(&path, &why))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Recorded::default(), None),
        Err(error) => (Recorded::default(), Some(ignored(&path, &error.to_string()))),
    }
}

/// Finds out whether a state folder can be written, creating it if need be.
pub fn probe(state_dir: &Path) -> io::Result<()> {
    fs::create_dir_all(state_dir)?;
    let trial = state_dir.join(".trial");
    durable_file::create(&trial, 0o644)?;
    fs::remove_file(&trial)
}

/// Writes the addresses of a state folder, creating it if need be.
pub fn store(state_dir: &Path, recorded: &Recorded) -> io::Result<()> {
    let addresses = recorded.addresses.iter().map(|(key, ips)| (key.to_string(), ips.clone()));
    let resting = recorded
        .quarantined
        .iter()
        .map(|(ip, former)| (*ip, former.iter().map(ToString::to_string).collect::<Vec<String>>()));
    let (addresses, resting) = (addresses.collect(), resting.collect());
    let mut text = serde_json::to_vec_pretty(&Content { version: VERSION, addresses, resting })?;
    text.push(b'\n');
    durable_file::replace(&state_dir.join(FILE), 0o644, |file| file.write_all(&text))
}

/// The secret of a state folder, made if there is none.
///
/// # Errors
/// The folder cannot be written, or the system has no random numbers.
pub fn secret(state_dir: &Path) -> io::Result<[u8; 32]> {
    let path = state_dir.join(SECRET);
    if let Ok(bytes) = regular_file::read(&path)
        && let Ok(secret) = bytes.try_into()
    {
        return Ok(secret);
    }
    let secret = new_secret()?;
    durable_file::replace(&path, 0o600, |file| file.write_all(&secret))?;
    Ok(secret)
}

/// A secret of this process alone.
///
/// # Errors
/// The system has no random numbers.
pub fn new_secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).map_err(io::Error::other)?;
    Ok(secret)
}

fn parse(bytes: &[u8]) -> Result<Recorded, String> {
    let content: Content = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if content.version != VERSION {
        return Err(format!("version {} is not {VERSION}", content.version));
    }
    let entry = |(name, ips): (String, Vec<IpAddr>)| match name.split_once('/') {
        Some((namespace, name)) => Ok((ObjectKey::new(namespace, name), ips)),
        None => Err(format!("\"{name}\" is not a namespace and a name")),
    };
    let addresses = content.addresses.into_iter().map(entry).collect::<Result<_, _>>()?;
    let quarantined = content
        .resting
        .into_iter()
        .map(|(ip, former)| (ip, former.into_iter().map(|name| ClaimId(name.into())).collect()));
    Ok(Recorded { addresses, quarantined: quarantined.collect() })
}

fn ignored(path: &Path, why: &str) -> String {
    format!("{}: {why}; recorded addresses are ignored", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regular_file::tests::make_pipe;

    fn sample() -> Recorded {
        let ips = vec!["192.168.1.200".parse().unwrap(), "fd00::1".parse().unwrap()];
        let former = [ClaimId("default/gone".into())].into();
        Recorded {
            addresses: [(ObjectKey::new("default", "gateway"), ips)].into(),
            quarantined: [("192.168.1.201".parse().unwrap(), former)].into(),
        }
    }

    #[test]
    fn a_file_from_before_there_was_a_quarantine_is_read() {
        let text = r#"{"version":1,"addresses":{"default/gateway":["192.168.1.200","fd00::1"]}}"#;
        let expected = Recorded { quarantined: Quarantined::new(), ..sample() };
        assert_eq!(parse(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn what_is_stored_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("made/on/demand");
        assert_eq!(load(&state), (Recorded::default(), None));
        store(&state, &sample()).unwrap();
        assert_eq!(load(&state), (sample(), None));
        store(&state, &Recorded::default()).unwrap();
        assert_eq!(load(&state), (Recorded::default(), None));
        let names: Vec<_> = fs::read_dir(&state).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "no temporary file stays behind");
    }

    #[test]
    fn what_is_no_file_in_a_state_folder_keeps_nobody_waiting_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let names = [FILE, SECRET, ".trial", &format!(".{FILE}.new"), &format!(".{SECRET}.new")];
        for name in names {
            make_pipe(&state.join(name));
        }
        let (recorded, why) = load(state);
        assert_eq!(recorded, Recorded::default());
        assert!(why.as_ref().is_some_and(|why| why.contains("it is no regular file")), "{why:?}");
        probe(state).unwrap();
        store(state, &sample()).unwrap();
        assert_eq!(load(state), (sample(), None));
        let made = secret(state).unwrap();
        assert_eq!(secret(state).unwrap(), made);
    }

    #[test]
    fn a_secret_is_made_once_and_nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("made/on/demand");
        let made = secret(&state).unwrap();
        assert_eq!(secret(&state).unwrap(), made);
        let file = state.join(SECRET);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, "damaged").unwrap();
        let again = secret(&state).unwrap();
        assert!(again != made && again == secret(&state).unwrap());
    }

    #[test]
    fn a_damaged_file_costs_the_memory_but_not_the_start() {
        let folder = tempfile::tempdir().unwrap();
        for (content, why) in [
            ("", "EOF"),
            ("{\"version\":1,\"addresses\":{\"a/b\":[\"10.0.0.300\"]}}", "invalid IP address"),
            ("{\"version\":2,\"addresses\":{}}", "version 2 is not 1"),
            ("{\"version\":1,\"addresses\":{\"b\":[]}}", "\"b\" is not a namespace and a name"),
        ] {
            fs::write(folder.path().join(FILE), content).unwrap();
            let (recorded, warning) = load(folder.path());
            assert_eq!(recorded, Recorded::default());
            let warning = warning.unwrap();
            assert!(warning.contains(why) && warning.contains(FILE), "{warning}");
        }
    }
}
