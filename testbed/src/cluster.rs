//! A real Kubernetes API for tests, without containers: etcd, the API server and, where a test asks for them,
//! the controller manager and the scheduler, as processes on loopback or on a [`Host`].
//!
//! Owns their folder, credentials and ports. `testbed/cluster/build` makes the programs; where one is missing, the
//! test fails. All of it ends with the calling process, however that ends; a [`Cluster`] that is dropped ends at
//! once. It takes about 5 s to start and 350 MB: one serves all tests of a program, with a namespace for each.

mod api_server;
mod credentials;
mod folder;
mod layout;
mod member;
mod metallb;
mod node;
mod programs;

use std::{
    ffi::OsStr,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

pub use self::{api_server::ApiServer, metallb::MetalLb, node::Node};
use self::{
    credentials::{Authority, Credential, Identity, kubeconfig, token_keys},
    folder::Folder,
    layout::Layout,
    member::Member,
    programs::program,
};
use crate::lan::{Family, Host};

/// Longest time for anything that happens by itself soon; generous, as the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a cluster has besides etcd and the API server.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    controllers: bool,
    scheduler: bool,
    host: Option<Host>,
    family: Family,
    api_flags: Vec<String>,
    controller_flags: Vec<String>,
}

impl Builder {
    /// With the controller manager: `EndpointSlice`s, Pods of `DaemonSet`s and `Deployment`s, `default`
    /// `ServiceAccount`s, garbage collection, the end of deleted namespaces, the life cycle of nodes.
    pub fn controllers(mut self, controllers: bool) -> Self {
        self.controllers = controllers;
        self
    }

    /// With the scheduler, which gives each Pod a node.
    pub fn scheduler(mut self, scheduler: bool) -> Self {
        self.scheduler = scheduler;
        self
    }

    /// On this host, where other hosts of its link reach it; on loopback otherwise.
    pub fn host(mut self, host: &Host) -> Self {
        self.host = Some(host.clone());
        self
    }

    /// With addresses of this family, and no others, for Services, nodes and Pods. Default: IPv4.
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// A further flag of the API server.
    pub fn api_flag(mut self, flag: &str) -> Self {
        self.api_flags.push(flag.to_owned());
        self
    }

    /// A further flag of the controller manager.
    pub fn controller_flag(mut self, flag: &str) -> Self {
        self.controller_flags.push(flag.to_owned());
        self
    }

    /// Starts everything and waits until it serves.
    pub fn start(self) -> anyhow::Result<Cluster> {
        let folder = Folder::new()?;
        let layout = Layout::new(self.host.as_ref(), self.family)?;
        let authority = Authority::new()?;
        write_credentials(&folder, &layout, &authority)?;

        let prefix = self.host.as_ref().map_or_else(Vec::new, |host| host.prefix().to_vec());
        let path = folder.path().to_owned();
        let start = |name: &str, flags: Vec<String>| {
            let member = Member::new(name, &prefix, &program(name)?, flags, &path);
            member.start().map(|()| member)
        };
        let etcd = start("etcd", layout.etcd_flags(&path))?;
        let flags = [layout.api_server_flags(&path), self.api_flags].concat();
        let member = start("kube-apiserver", flags)?;
        let api_server = ApiServer::new(member, layout.api, &prefix, &path);
        api_server.wait_ready()?;
        let mut others = Vec::new();
        if self.controllers {
            let flags = [layout::controller_flags(&path), self.controller_flags].concat();
            others.push(start("kube-controller-manager", flags)?);
        }
        if self.scheduler {
            others.push(start("kube-scheduler", layout::scheduler_flags(&path))?);
        }
        let cluster = Cluster {
            others,
            api_server,
            _etcd: etcd,
            _layout: layout,
            host: self.host,
            family: self.family,
            authority,
            folder,
        };
        cluster.wait_for_defaults(self.controllers)?;
        Ok(cluster)
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    // In the order in which they end.
    others: Vec<Member>,
    api_server: ApiServer,
    _etcd: Member,
    _layout: Layout,
    host: Option<Host>,
    family: Family,
    authority: Authority,
    folder: Folder,
}

impl Cluster {
    /// Starts etcd and the API server on loopback.
    pub fn start() -> anyhow::Result<Self> {
        Self::builder().start()
    }

    /// Says what else there is to be.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The API server, to be stopped and started again.
    pub fn api_server(&self) -> &ApiServer {
        &self.api_server
    }

    /// The kubeconfig of an administrator: may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The certificate of the authority that the API server's is signed by, PEM.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Runs kubectl; what it has written. An error when it fails.
    pub fn kubectl<A: AsRef<OsStr>>(&self, arguments: &[A]) -> anyhow::Result<String> {
        self.run("kubectl", arguments, "")
    }

    /// Runs helm; what it has written. An error when it fails.
    pub fn helm<A: AsRef<OsStr>>(&self, arguments: &[A]) -> anyhow::Result<String> {
        self.run("helm", arguments, "")
    }

    /// Creates or changes objects: `kubectl apply --server-side`.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        self.run("kubectl", &arguments, yaml).map(drop)
    }

    /// A token of a `ServiceAccount`, valid for an hour.
    pub fn token(&self, namespace: &str, service_account: &str) -> anyhow::Result<String> {
        let token =
            self.kubectl(&["create", "token", service_account, "--namespace", namespace])?;
        Ok(token.trim().to_owned())
    }

    /// A kubeconfig with such a token: may do what that `ServiceAccount` may.
    pub fn kubeconfig_of(&self, namespace: &str, service_account: &str) -> anyhow::Result<PathBuf> {
        let token = self.token(namespace, service_account)?;
        let text = self.kubeconfig_with(&Credential::Token(&token));
        self.folder.write(&format!("kubeconfig-{namespace}-{service_account}"), &text)
    }

    /// Where a program is that comes with the cluster: `kubectl`, `helm`.
    pub fn program(name: &str) -> anyhow::Result<PathBuf> {
        program(name)
    }

    /// A command on the cluster's host, with `KUBECONFIG` for the administrator and folders of its own for
    /// what kubectl and helm keep.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let prefix = self.host.as_ref().map_or_else(Vec::new, |host| host.prefix().to_vec());
        let mut words = prefix.iter().map(OsStr::new).chain([program.as_ref()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        // Kept lists of kinds are by address: a cluster before this one may have had the same.
        let home = self.folder.path().join("home");
        command.args(words).env("KUBECONFIG", self.kubeconfig()).env("HOME", &home);
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "KUBECACHEDIR"] {
            command.env(name, home.join(name));
        }
        command
    }

    fn kubeconfig_with(&self, credential: &Credential<'_>) -> String {
        kubeconfig(self.api_server.address(), &self.authority, credential)
    }

    fn run<A: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: &[A],
        input: &str,
    ) -> anyhow::Result<String> {
        let mut child = self
            .command(program(name)?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // It fails when the command ends before it has read all; its own words say why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let words: Vec<_> =
                arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("{name} {}: {error}{text}", words.join(" "));
        }
        Ok(text)
    }

    /// Waits for what is made once the API server is ready: namespaces, and the first `ServiceAccount`.
    fn wait_for_defaults(&self, controllers: bool) -> anyhow::Result<()> {
        let first = if controllers { "serviceaccount/default" } else { "namespace/default" };
        eventually(&format!("{first} is there"), || {
            self.others.iter().try_for_each(Member::check)?;
            Ok(self.kubectl(&["get", first, "--namespace=default"]).is_ok())
        })
    }
}

/// Asks again and again until it is so; an error when that takes longer than [`PATIENCE`].
pub fn eventually(
    what: &str,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().with_context(|| format!("while waiting: {what}"))? {
        if Instant::now() > deadline {
            bail!("not within {PATIENCE:?}: {what}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Writes what the members are told to read.
fn write_credentials(
    folder: &Folder,
    layout: &Layout,
    authority: &Authority,
) -> anyhow::Result<()> {
    let admin = authority.client("admin", "system:masters")?;
    let server = authority.server(&layout.names())?;
    let config = kubeconfig(layout.api, authority, &Credential::Certificate(&admin));
    for (name, Identity { certificate, key }) in [("admin", &admin), ("server", &server)] {
        folder.write(&format!("{name}.crt"), certificate)?;
        folder.write(&format!("{name}.key"), key)?;
    }
    let (private, public) = token_keys()?;
    folder.write("ca.crt", &authority.pem())?;
    folder.write("tokens.key", &private)?;
    folder.write("tokens.pub", &public)?;
    folder.write("kubeconfig", &config)?;
    Ok(())
}
