//! The group of nodes that share addresses: from flags, the key file and objects to the speaker's settings.
//!
//! `app` calls [`options`] once at the start; what the flags leave open follows the objects ([`Following`]). A group that was asked for and cannot be formed ends the start:
//! a node that went on alone would claim what its group holds.

use std::{
    fs, mem,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::Context as _;
use gatehouse_routes::{objects::ObjectRef, problem::Problem};
use gatehouse_vip::{GroupKey, GroupOptions};

use crate::{compile::GroupPlan, config::Settings, regular_file};

/// Most that is read of a key file: more is another file.
const LONGEST_KEY: u64 = 64 * 1024;

/// The group that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// `None`: there is no group.
    pub(crate) options: Option<GroupOptions>,
    /// What of it is not said for good.
    pub(crate) following: Option<Following>,
    /// What is not quite right about it.
    pub(crate) problems: Vec<Problem>,
}

/// What the flags do not say of the group, so that it follows the objects.
#[derive(Debug)]
pub(crate) struct Following {
    /// The key does.
    key: bool,
    /// The other nodes do.
    peers: bool,
    port: u16,
    /// What the speaker has.
    told: News,
}

/// What is new for the speaker: a key, unless there is none, and the other nodes.
pub(crate) type News = (Option<GroupKey>, Vec<SocketAddr>);

impl Following {
    /// What the speaker is to be told, now that the objects say this.
    pub(super) fn news(&mut self, plan: &GroupPlan) -> Option<News> {
        let (key, peers) = self.told.clone();
        let key = if self.key { plan.key.clone().or(key) } else { None };
        let socket = |ip: &IpAddr| SocketAddr::new(*ip, self.port);
        let peers = if self.peers { plan.peers.iter().map(socket).collect() } else { peers };
        let news = (key, peers);
        (mem::replace(&mut self.told, news.clone()) != news).then_some(news)
    }
}

/// The group that the settings ask for, if they ask for one, and what is not quite right about it.
///
/// # Errors
/// A key file that cannot be read or holds fewer than 16 bytes.
pub(crate) fn options(settings: &Settings, node: &ObjectRef) -> anyhow::Result<Asked> {
    let port = settings.group_port;
    let peers: Vec<_> = settings.peers.iter().map(|peer| peer.socket(port)).collect();
    let following =
        |key| Following { key, peers: peers.is_empty(), port, told: (None, peers.clone()) };
    let Some(file) = &settings.group_key else {
        if settings.group_secret.is_none() {
            return Ok(Asked::default());
        }
        let following = Some(following(true));
        let options = Some(GroupOptions { key: None, port, peers });
        return Ok(Asked { options, following, problems: Vec::new() });
    };
    let shown = file.display();
    let secret = read(file).with_context(|| format!("cannot read --group-key {shown}"))?;
    let key = GroupKey::new(&secret)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("--group-key {shown} is of no use"))?;
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
    let following = peers.is_empty().then(|| following(false));
    let options = Some(GroupOptions { key: Some(key), port, peers });
    Ok(Asked { options, following, problems: problems.into_iter().collect() })
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Error, ErrorKind, Read as _};
    let mut secret = Vec::new();
    regular_file::open(file)?.take(LONGEST_KEY + 1).read_to_end(&mut secret)?;
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
        let Asked { options, following, problems } = made.unwrap();
        let group = options.unwrap();
        assert!(following.is_none(), "the flags say it all");
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
        let Asked { options, problems, .. } = made.unwrap();
        assert!(options.is_some(), "it works all the same");
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert_eq!((problem.reason, &problem.object), ("GroupKeyExposed", &node()));
        assert!(problem.message.contains(&file) && problem.message.contains("644"), "{problem}");
    }

    #[test]
    fn without_a_key_there_is_no_group() {
        let words = ["gatehouse", "run", "--manifests", "x"];
        let Command::Run(settings) = try_parse(words).unwrap() else { panic!() };
        assert!(options(&settings, &node()).unwrap().options.is_none());
    }

    #[test]
    fn what_the_flags_leave_open_follows_the_objects_and_the_rest_does_not() {
        let asked = |arguments: &str| {
            let words = ["gatehouse", "run", "--manifests", "x", "--group-secret", "a/b"];
            let words = words.into_iter().chain(arguments.split_whitespace());
            let Command::Run(settings) = try_parse(words).unwrap() else { panic!() };
            options(&settings, &node()).unwrap()
        };
        let [one, two] = ["1", "2"].map(|it| GroupKey::new(it.repeat(16).as_bytes()).unwrap());
        let plan = |key: Option<&GroupKey>, peer: &str| GroupPlan {
            key: key.cloned(),
            missing: key.is_none(),
            peers: [peer.parse().unwrap()].into(),
        };
        let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
        let open = asked("--group-port 7000");
        assert!(open.options.unwrap().key.is_none());
        let mut open = open.following.unwrap();
        let first = open.news(&plan(Some(&one), "10.0.0.2")).unwrap();
        assert_eq!(first, (Some(one.clone()), vec![socket("10.0.0.2:7000")]));
        assert_eq!(open.news(&plan(Some(&one), "10.0.0.2")), None);
        let next = open.news(&plan(None, "10.0.0.3")).unwrap();
        assert_eq!(next, (Some(one), vec![socket("10.0.0.3:7000")]), "the key stays in use");
        assert_eq!(open.news(&plan(Some(&two), "10.0.0.3")).unwrap().0, Some(two.clone()));

        let mut said = asked("--peer 10.0.0.9").following.unwrap();
        let news = said.news(&plan(Some(&two), "10.0.0.2")).unwrap();
        assert_eq!(news, (Some(two.clone()), vec![socket("10.0.0.9:7471")]));

        let (made, _) = with_key(b"0123456789abcdef", 0o600, "");
        let mut keyed = made.unwrap().following.unwrap();
        let news = keyed.news(&plan(Some(&two), "10.0.0.2")).unwrap();
        assert_eq!(news, (None, vec![socket("10.0.0.2:7471")]));
    }
}
