//! The group of nodes that share addresses: from flags and the key file to the speaker's settings.
//!
//! `app` calls this once at the start. A group that was asked for and cannot be formed ends the start:
//! a node that went on alone would claim what its group holds.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Context as _;
use gatehouse_routes::{objects::ObjectRef, problem::Problem};
use gatehouse_vip::{GroupKey, GroupOptions};

use crate::config::Settings;

/// Most that is read of a key file: more is another file.
const LONGEST_KEY: u64 = 64 * 1024;

/// The group that was asked for, and what is not quite right about it.
pub(crate) type Asked = (Option<GroupOptions>, Vec<Problem>);

/// The group that the settings ask for, if they ask for one, and what is not quite right about it.
///
/// # Errors
/// A key file that cannot be read or holds fewer than 16 bytes.
pub(crate) fn options(settings: &Settings, node: &ObjectRef) -> anyhow::Result<Asked> {
    let Some(file) = &settings.group_key else { return Ok((None, Vec::new())) };
    let shown = file.display();
    let secret = read(file).with_context(|| format!("cannot read --group-key {shown}"))?;
    let key = GroupKey::new(&secret)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("--group-key {shown} is of no use"))?;
    let port = settings.group_port;
    let peers = settings.peers.iter().map(|peer| peer.socket(port)).collect();
    let problems = exposed(file).map(|mode| {
        Problem::warning(
            node,
            "GroupKeyExposed",
            "",
            format!(
                "the group key {shown} may be read by every user of this host (mode {mode:03o})"
            ),
            format!("chmod 600 {shown}; whoever has the key can take over every address"),
        )
    });
    Ok((Some(GroupOptions { key, port, peers }), problems.into_iter().collect()))
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Error, ErrorKind, Read as _};
    let mut secret = Vec::new();
    fs::File::open(file)?.take(LONGEST_KEY + 1).read_to_end(&mut secret)?;
    if secret.len() as u64 > LONGEST_KEY {
        let message = format!("it is longer than {LONGEST_KEY} bytes, so it is no key");
        return Err(Error::new(ErrorKind::InvalidData, message));
    }
    Ok(secret)
}

/// The mode of a file that everybody may read.
fn exposed(file: &Path) -> Option<u32> {
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o777;
    (mode & 0o004 != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::objects::ObjectKey;

    use super::*;
    use crate::cli::{Command, try_parse};

    fn node() -> ObjectRef {
        ObjectRef::new("Node", ObjectKey::new("", "n"))
    }

    /// What the settings make of a key file with this content, and the file's path.
    fn with_key(secret: &[u8], mode: u32, arguments: &str) -> (anyhow::Result<Asked>, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, secret).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let file = file.to_str().unwrap().to_owned();
        let words = ["gatehouse", "run", "--manifests", "x", "--group-key", &file];
        let words = words.into_iter().chain(arguments.split_whitespace());
        let Command::Run(settings) = try_parse(words).unwrap() else { panic!() };
        (options(&settings, &node()), file)
    }

    #[test]
    fn peers_without_a_port_use_that_of_the_group() {
        let arguments =
            "--group-port 7000 --peer 192.0.2.1 192.0.2.2:8000 --peer fd00::3 [fd00::4]:9";
        let (made, _) = with_key(b"0123456789abcdef", 0o600, arguments);
        let (group, problems) = made.unwrap();
        let group = group.unwrap();
        let peers: Vec<_> = group.peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["192.0.2.1:7000", "192.0.2.2:8000", "[fd00::3]:7000", "[fd00::4]:9"]);
        assert_eq!((group.port, problems), (7000, Vec::new()));
    }

    #[test]
    fn a_key_that_is_missing_short_or_endless_ends_the_start() {
        let (made, file) = with_key(b"fifteen bytes..\n", 0o600, "");
        let error = format!("{:#}", made.unwrap_err());
        assert!(error.contains(&file) && error.contains("at least 16"), "{error}");
        let (made, _) = with_key(&vec![b'x'; 70_000], 0o600, "");
        let error = format!("{:#}", made.unwrap_err());
        assert!(error.contains("longer than 65536 bytes"), "{error}");
        let words = ["gatehouse", "run", "--manifests", "x", "--group-key", "/nowhere/key"];
        let Command::Run(settings) = try_parse(words).unwrap() else { panic!() };
        let error = format!("{:#}", options(&settings, &node()).unwrap_err());
        assert!(error.starts_with("cannot read --group-key /nowhere/key"), "{error}");
    }

    #[test]
    fn a_key_that_everybody_may_read_is_a_problem_of_the_node() {
        let (made, file) = with_key(b"0123456789abcdef", 0o644, "");
        let (group, problems) = made.unwrap();
        assert!(group.is_some(), "it works all the same");
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!((problem.reason, &problem.object), ("GroupKeyExposed", &node()));
        assert!(problem.message.contains(&file) && problem.message.contains("644"), "{problem}");
    }

    #[test]
    fn without_a_key_there_is_no_group() {
        let words = ["gatehouse", "run", "--manifests", "x"];
        let Command::Run(settings) = try_parse(words).unwrap() else { panic!() };
        assert!(options(&settings, &node()).unwrap().0.is_none());
    }
}
