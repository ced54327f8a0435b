//! How much memory counts against a limit, and which limit that is: that of the control group (a container's
//! `resources.limits.memory`, systemd's `MemoryMax`), or one that the operator names.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// A limit of version 1 from here on is none: pages, counted in an `i64`.
const UNLIMITED: u64 = 1 << 62;

/// What is used, and what may be, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) used: u64,
    pub(crate) limit: u64,
}

/// Where both are read.
#[derive(Debug)]
pub(crate) enum Gauge {
    /// The memory of this process itself, and a limit that was named.
    Process {
        /// Bytes.
        limit: u64,
    },
    /// That of its control group or, where that has no limit, of the nearest one around it that has.
    Group {
        /// The innermost first.
        folders: Vec<PathBuf>,
        names: &'static Names,
    },
}

/// The files of a version of control groups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    limit: &'static str,
    used: &'static str,
    /// Of `memory.stat`, the pages of files: the kernel takes them back before it kills.
    cache: [&'static str; 2],
}

const V2: Names =
    Names { limit: "memory.max", used: "memory.current", cache: ["inactive_file", "active_file"] };
const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};

impl Gauge {
    /// Of this process, with a limit in bytes that was asked for; `Some(0)`: there is to be none.
    pub(crate) fn of(asked: Option<u64>) -> Option<Self> {
        match asked {
            Some(0) => None,
            Some(limit) => Some(Self::Process { limit }),
            None => {
                let own = fs::read_to_string("/proc/self/cgroup").ok()?;
                Self::of_group(&own, Path::new(CGROUPS))
            }
        }
    }

    /// Of the control groups that `/proc/self/cgroup` names (cgroups(7)), below the folder that they are mounted on.
    fn of_group(own: &str, mounted: &Path) -> Option<Self> {
        let mut lines = own.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.split_once(':')
        });
        let of_memory = |controllers: &str| controllers.split(',').any(|name| name == "memory");
        let v1 = lines.clone().find(|(controllers, _)| of_memory(controllers));
        let (root, path, names) = match v1 {
            Some((_, path)) => (mounted.join("memory"), path, &V1),
            None => {
                let (_, path) = lines.find(|(controllers, _)| controllers.is_empty())?;
                (mounted.to_owned(), path, &V2)
            }
        };
        // Within a container its own group is the root of all that it sees, and may still be named as outside.
        let inside = root.join(path.trim_start_matches('/'));
        let innermost = if path.contains("..") || !inside.is_dir() { &root } else { &inside };
        let folders = innermost.ancestors().take_while(|folder| folder.starts_with(&root));
        Some(Self::Group { folders: folders.map(Path::to_owned).collect(), names })
    }

    /// `None`: nothing limits the memory, or it cannot be read.
    pub(crate) fn read(&self) -> Option<Reading> {
        match self {
            Self::Process { limit } => {
                let status = fs::read_to_string("/proc/self/status").ok()?;
                let kib = number_of(&status, "RssAnon:")? + number_of(&status, "RssShmem:")?;
                Some(Reading { used: kib * 1024, limit: *limit })
            }
            Self::Group { folders, names } => folders.iter().find_map(|folder| {
                let number = |name| fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok();
                // `max` is no number.
                let limit = number(names.limit).filter(|limit| *limit < UNLIMITED)?;
                let used: u64 = number(names.used)?;
                let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
                let cache = names.cache.iter().filter_map(|name| number_of(&stat, name));
                Some(Reading { used: used.saturating_sub(cache.sum()), limit })
            }),
        }
    }
}

/// The number behind a name at the begin of a line.
fn number_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Control groups with these files.
    fn groups(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn read(own: &str, files: &[(&str, &str)]) -> Option<(u64, u64)> {
        let root = groups(files);
        let reading = Gauge::of_group(own, root.path())?.read()?;
        Some((reading.used, reading.limit))
    }

    const STAT: &str = "anon 50\nfile 40\ninactive_file 20\nactive_file 10\nslab 5\n";

    #[test]
    fn a_container_has_the_limit_of_its_group_and_pages_of_files_do_not_count() {
        let files = [("memory.max", "100\n"), ("memory.current", "90\n"), ("memory.stat", STAT)];
        assert_eq!(read("0::/\n", &files), Some((60, 100)));
        assert_eq!(read("0::/../outside\n", &files), Some((60, 100)));
        assert_eq!(read("0::/kubepods/pod1/c\n", &files), Some((60, 100)), "named as outside");
    }

    #[test]
    fn a_group_without_a_limit_has_that_of_the_nearest_one_around_it() {
        let mut files = vec![
            ("a/memory.max", "1000\n"),
            ("a/memory.current", "700\n"),
            ("a/memory.stat", "active_file 100\n"),
            ("a/b.service/memory.max", "max\n"),
            ("a/b.service/memory.current", "300\n"),
        ];
        assert_eq!(read("0::/a/b.service\n", &files), Some((600, 1000)));
        files[3].1 = "500\n";
        assert_eq!(read("0::/a/b.service\n", &files), Some((300, 500)));
        files[0].1 = "max\n";
        files[3].1 = "max\n";
        assert_eq!(read("0::/a/b.service\n", &files), None);
    }

    #[test]
    fn groups_of_version_1_count_too() {
        let own = "5:cpu,cpuacct:/x\n4:memory:/pod\n0::/\n";
        let mut files = vec![
            ("memory/pod/memory.limit_in_bytes", "100\n"),
            ("memory/pod/memory.usage_in_bytes", "90\n"),
            (
                "memory/pod/memory.stat",
                "inactive_file 1\ntotal_inactive_file 20\ntotal_active_file 5\n",
            ),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.usage_in_bytes", "5000\n"),
        ];
        assert_eq!(read(own, &files), Some((65, 100)));
        files[0].1 = "9223372036854771712\n";
        assert_eq!(read(own, &files), None);
    }

    #[test]
    fn what_makes_no_sense_limits_nothing() {
        for own in ["", "junk", "0:", "7:cpu:/\n"] {
            assert_eq!(read(own, &[("memory.max", "1"), ("memory.current", "2")]), None, "{own:?}");
        }
        for (limit, used) in [("", "1"), ("-1", "1"), ("9", ""), ("9", "x")] {
            let files = [("memory.max", limit), ("memory.current", used)];
            assert_eq!(read("0::/\n", &files), None, "{files:?}");
        }
    }

    #[test]
    fn a_limit_that_is_named_is_for_the_process_alone() {
        assert!(Gauge::of(Some(0)).is_none());
        let reading = Gauge::of(Some(5)).unwrap().read().unwrap();
        assert_eq!(reading.limit, 5);
        assert!((1 << 20..1 << 40).contains(&reading.used), "{reading:?}");
    }
}
