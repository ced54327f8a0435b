//! The ten backends as processes of a host, and what is done to three of them.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use anyhow::Context as _;
use gatehouse_testbed::{
    lan::Host,
    process::{Signal, send},
    wait,
};

use super::{backend::Mode, fault::Fault};

/// Backends in all.
pub(super) const COUNT: usize = 10;

/// Those that fail. Not neighbours: a proxy that tries the next one would always meet another of them.
const STRUCK: [usize; 3] = [1, 4, 7];

/// Port of the first; the others follow.
const FIRST_PORT: u16 = 9000;

/// The backends. They end with this.
pub(super) struct Pods {
    host: Host,
    program: PathBuf,
    pods: Vec<Pod>,
    /// Whether those that flap are there.
    up: bool,
}

struct Pod {
    address: SocketAddr,
    log: PathBuf,
    child: Option<Child>,
}

impl Pods {
    /// Starts all and waits until they accept connections.
    pub(super) fn start(host: Host, folder: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find my own program")?;
        let pod = |port| Pod {
            address: (host.v4(), port).into(),
            log: folder.join(format!("backend-{port}.log")),
            child: None,
        };
        let pods = (FIRST_PORT..).take(COUNT).map(pod).collect();
        let mut pods = Self { host, program, pods, up: true };
        for number in 0..COUNT {
            pods.spawn(number)?;
        }
        pods.wait_open(0..COUNT)?;
        Ok(pods)
    }

    /// Where they are.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.pods.iter().map(|pod| pod.address).collect()
    }

    /// Makes three of them fail.
    pub(super) fn strike(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill => self.kill(),
            Fault::Hang => self.signal(Signal::STOP),
            Fault::Refuse => self.say(Mode::Refuse)?,
            Fault::Slow => self.say(Mode::Slow)?,
            Fault::Reset => self.say(Mode::Reset)?,
            Fault::LieShort => self.say(Mode::LieShort)?,
            Fault::LieLong => self.say(Mode::LieLong)?,
            Fault::Flap => self.up = true,
        }
        self.go_on(fault)
    }

    /// Those that flap come, or go.
    pub(super) fn go_on(&mut self, fault: Fault) -> anyhow::Result<()> {
        if fault != Fault::Flap {
            return Ok(());
        }
        self.up = !self.up;
        if self.up {
            return STRUCK.into_iter().try_for_each(|number| self.spawn(number));
        }
        self.kill();
        Ok(())
    }

    /// Makes all serve again.
    pub(super) fn repair(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill | Fault::Flap => {
                self.kill();
                STRUCK.into_iter().try_for_each(|number| self.spawn(number))?;
            }
            Fault::Hang => self.signal(Signal::CONT),
            _ => self.say(Mode::Serve)?,
        }
        self.wait_open(STRUCK.into_iter())
    }

    fn spawn(&mut self, number: usize) -> anyhow::Result<()> {
        let pod = &mut self.pods[number];
        let log = std::fs::File::create(&pod.log)?;
        let mut command = self.host.command(&self.program.to_string_lossy());
        command.args(["chaos-backend", "--listen", &pod.address.to_string()]);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        pod.child = Some(command.spawn().context("cannot start a backend")?);
        Ok(())
    }

    fn wait_open(&self, numbers: impl Iterator<Item = usize>) -> anyhow::Result<()> {
        let addresses: Vec<SocketAddr> = numbers.map(|number| self.pods[number].address).collect();
        let accepts = |address: &SocketAddr| TcpStream::connect(address).is_ok();
        let open = || wait::comes_true(|| addresses.iter().all(accepts));
        let open = self.host.enter(open)?;
        open.then_some(()).context("a backend does not accept connections")
    }

    fn struck(&mut self) -> impl Iterator<Item = &mut Pod> {
        let pods = self.pods.iter_mut().enumerate();
        pods.filter(|(number, _)| STRUCK.contains(number)).map(|(_, pod)| pod)
    }

    fn kill(&mut self) {
        self.struck().for_each(Pod::kill);
    }

    fn signal(&mut self, signal: Signal) {
        self.struck().filter_map(|pod| pod.child.as_ref()).for_each(|it| send(it.id(), signal));
    }

    fn say(&mut self, mode: Mode) -> anyhow::Result<()> {
        for input in self.struck().filter_map(|pod| pod.child.as_mut()?.stdin.as_mut()) {
            writeln!(input, "{}", mode.line())?;
        }
        Ok(())
    }
}

impl Pod {
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It fails for one that has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.pods.iter_mut().for_each(Pod::kill);
    }
}
