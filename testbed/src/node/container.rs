//! A container without a runtime: a process with a root folder, mounts, process ids and rights of its own.
//!
//! The root is a file system in memory with this machine's programs and libraries, read-only, and the volumes;
//! all of it is in a mount namespace that goes with the process. What runs inside is process 1, as in any container:
//! it dies of SIGTERM only if it handles it, and everything that it has started dies with it.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command as OsCommand,
    time::Duration,
};

use anyhow::Context as _;

use super::spec::{Command, Rights};
use crate::process::{Process, Signal, send};

/// What a container sees of a volume.
#[derive(Debug, Clone)]
pub(super) struct Mount {
    /// A folder or a file of this machine.
    pub(super) source: PathBuf,
    /// An absolute path in the container.
    pub(super) target: String,
    /// Whether it cannot be written to.
    pub(super) read_only: bool,
}

/// A container that has been started.
#[derive(Debug)]
pub(super) struct Container {
    /// `unshare`, whose only child is the container's first process. It ends as that does.
    process: Process,
    command: Command,
}

impl Container {
    /// Starts it. `prefix`: words that lead to its network; `folder`: for its root, which has to be there.
    pub(super) fn start(
        name: &str,
        prefix: &[String],
        command: Command,
        mounts: &[Mount],
        folder: &Path,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let root = folder.join("root");
        fs::create_dir_all(&root)?;
        let mut words: Vec<&str> = vec!["setpriv", "--pdeathsig", "KILL", "--"];
        words.extend(prefix.iter().map(String::as_str));
        words.extend(["unshare", "--pid", "--fork", "--kill-child=KILL", "--uts", "--ipc"]);
        words.extend(["--mount", "--propagation", "private", "--"]);
        let mut starter = OsCommand::new(words[0]);
        starter.args(&words[1..]).args(["sh", "-c", &script(&root, &command, mounts)]);
        let process = Process::spawn(name, starter, Some(log))?;
        Ok(Self { process, command })
    }

    /// What it ended with, as a shell tells it; none while it runs.
    pub(super) fn exit_code(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.process.wait(Duration::ZERO)?;
        Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// Asks its first process to end.
    pub(super) fn terminate(&self) {
        if let Some(pid) = self.first_process() {
            send(pid, Signal::TERM);
        }
    }

    /// Kills everything in it.
    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    /// Whether a command that runs in it succeeds within this time.
    pub(super) fn exec(&self, words: &[String], limit: Duration) -> anyhow::Result<bool> {
        let pid = self.first_process().context("it does not run")?.to_string();
        let mut enter = OsCommand::new("setpriv");
        enter.args(["--pdeathsig", "KILL", "--", "nsenter", "--target", &pid]);
        enter.args(["--mount", "--net", "--uts", "--ipc", "--pid", "--root", "--wd=/", "--"]);
        enter.args(inner(&Command { words: words.to_vec(), ..self.command.clone() }));
        let mut process = Process::spawn("exec", enter, Some(Path::new("/dev/null")))?;
        let ended = process.wait(limit);
        process.kill();
        Ok(ended.is_some_and(|status| status.success()))
    }

    fn first_process(&self) -> Option<u32> {
        let pid = self.process.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lays the root folder and starts the command in it.
fn script(root: &Path, command: &Command, mounts: &[Mount]) -> String {
    let mut text = format!(
        "set -e
mount -t tmpfs -o mode=755 tmpfs {root}
cd {root}
for dir in bin sbin lib lib32 lib64 libx32 usr; do
  if [ -L /$dir ]; then cp -P /$dir $dir
  elif [ -d /$dir ]; then mkdir $dir; mount --bind /$dir $dir; mount -o remount,bind,ro $dir; fi
done
mkdir -p proc sys dev tmp etc run var/tmp
chmod 1777 tmp var/tmp
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
for name in passwd group nsswitch.conf resolv.conf ld.so.cache alternatives ssl; do
  if [ -d /etc/$name ]; then mkdir etc/$name; mount --bind /etc/$name etc/$name
  elif [ -e /etc/$name ]; then touch etc/$name; mount --bind /etc/$name etc/$name; else continue; fi
  mount -o remount,bind,ro etc/$name
done
hostname {host}
echo \"127.0.0.1 localhost {host}\" > etc/hosts
",
        root = quoted(&root.display().to_string()),
        host = quoted(command.environment.get("HOSTNAME").map_or("pod", String::as_str)),
    );
    if let Some(program) = &command.program {
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        let name = quoted(&name);
        let _ = writeln!(text, "touch {name}; mount --bind {} {name}", quoted(program));
        let _ = writeln!(text, "mount -o remount,bind,ro {name}");
    }
    for Mount { source, target, read_only } in mounts {
        let (source, target) =
            (quoted(&source.display().to_string()), quoted(&format!("./{target}")));
        let _ = writeln!(
            text,
            "if [ -d {source} ]; then mkdir -p {target}
else mkdir -p \"$(dirname {target})\"; touch {target}; fi
mount --bind {source} {target}"
        );
        if *read_only {
            let _ = writeln!(text, "mount -o remount,bind,ro {target}");
        }
    }
    if !command.rights.privileged {
        text += "mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys\n\
                 mount -o remount,ro sys\n";
    }
    if command.rights.read_only_root {
        text += "mount -o remount,ro .\n";
    }
    let words: Vec<String> = inner(command).iter().map(|word| quoted(word)).collect();
    let _ = writeln!(text, "exec chroot . {}", words.join(" "));
    text
}

/// The command with its environment and rights, to be run where its root is.
fn inner(command: &Command) -> Vec<String> {
    let Command { words, environment, folder, rights, .. } = command;
    let mut inner = vec!["/usr/bin/env".to_owned(), "-i".to_owned()];
    if let Some(folder) = folder {
        inner.push(format!("--chdir={folder}"));
    }
    inner.extend(environment.iter().map(|(name, value)| format!("{name}={value}")));
    inner.extend(limits(rights));
    inner.extend(words.iter().cloned());
    inner
}

fn limits(rights: &Rights) -> Vec<String> {
    let mut words = vec!["setpriv".to_owned()];
    if !rights.privileged {
        let kept: String = rights.capabilities.iter().map(|name| format!(",+{name}")).collect();
        words.push(format!("--bounding-set=-all{kept}"));
        words.push("--inh-caps=-all".to_owned());
        if !rights.may_escalate {
            words.push("--no-new-privs".to_owned());
        }
    }
    if let Some((user, group)) = rights.user {
        words.extend([format!("--reuid={user}"), format!("--regid={group}")]);
        words.push("--clear-groups".to_owned());
    }
    // Another user's process no longer has the one that was set before.
    words.extend(["--pdeathsig", "KILL", "--"].map(str::to_owned));
    words
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, thread, time::Instant};

    use super::*;

    fn run(words: &[&str], rights: Rights, mounts: &[Mount]) -> (i32, String) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let command = Command {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            environment: BTreeMap::from([
                ("PATH".to_owned(), "/:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
                ("HOSTNAME".to_owned(), "web-1".to_owned()),
                ("QUOTE".to_owned(), "it's".to_owned()),
            ]),
            rights,
            ..Command::default()
        };
        let mut container =
            Container::start("test", &[], command, mounts, folder.path(), &log).unwrap();
        let started = Instant::now();
        loop {
            if let Some(code) = container.exit_code() {
                return (code, fs::read_to_string(&log).unwrap());
            }
            assert!(started.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_container_has_process_ids_a_name_volumes_and_an_environment_of_its_own() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("file"), "from outside\n").unwrap();
        let mount = |target: &str, read_only| Mount {
            source: data.path().to_owned(),
            target: target.to_owned(),
            read_only,
        };
        let script = "echo $$ $QUOTE; hostname; cat /var/run/secrets/x/file; echo in > /data/new; \
                      echo no > /var/run/secrets/x/file; ls /; exit 3";
        let mounts = [mount("/data", false), mount("/var/run/secrets/x", true)];
        let (code, output) = run(&["sh", "-c", script], Rights::default(), &mounts);
        assert_eq!(code, 3, "{output}");
        assert!(output.starts_with("1 it's\nweb-1\nfrom outside\n"), "{output}");
        assert!(output.contains("Read-only file system"), "{output}");
        assert_eq!(fs::read_to_string(data.path().join("new")).unwrap(), "in\n");
        assert!(!output.contains("home"), "{output}");
    }

    #[test]
    fn a_container_has_the_rights_that_it_is_given() {
        let script = "grep -E 'Cap(Eff|Bnd)|NoNewPrivs' /proc/self/status; id -u; touch /new";
        let capabilities = vec!["net_admin".to_owned(), "net_raw".to_owned()];
        let root = Rights { capabilities, read_only_root: true, ..Rights::default() };
        let (code, output) = run(&["sh", "-c", script], root.clone(), &[]);
        assert_eq!(code, 1, "{output}");
        let lines: Vec<_> = output.lines().map(|line| line.replace('\t', " ")).collect();
        // Bits 12 and 13 of capabilities(7).
        assert_eq!(lines[..2], ["CapEff: 0000000000003000", "CapBnd: 0000000000003000"]);
        assert_eq!(lines[2..4], ["NoNewPrivs: 1", "0"]);
        assert!(output.contains("Read-only file system"), "{output}");
        let other = Rights { user: Some((65532, 65532)), ..root };
        let (_, output) = run(&["sh", "-c", script], other, &[]);
        assert!(
            output.contains("CapEff:\t0000000000000000") && output.contains("65532"),
            "{output}"
        );
    }
}
