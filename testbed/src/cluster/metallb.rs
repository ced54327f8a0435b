//! MetalLB in a cluster: its controller, which deals addresses out, and one speaker, which announces them (layer 2).

use std::fs;

use anyhow::Context as _;

use super::{Cluster, eventually, member::Member, programs};
use crate::lan::Host;

/// Its namespace, the only one whose pools it reads.
const NAMESPACE: &str = "metallb-system";

/// The speaker leaves at once unless it finds the Pod that it runs in.
const POD: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: metallb-system}
---
apiVersion: v1
kind: Pod
metadata: {name: speaker, namespace: metallb-system}
spec: {nodeName: NODE, hostNetwork: true, containers: [{name: speaker, image: speaker}]}
";

/// A running MetalLB; killed when dropped.
#[derive(Debug)]
pub struct MetalLb {
    members: [Member; 2],
}

impl Cluster {
    /// The definitions of MetalLB's kinds, its own.
    pub fn define_metallb(&self) -> anyhow::Result<()> {
        let mut all = String::new();
        for file in fs::read_dir(programs::metallb()?.join("crds"))? {
            all += &fs::read_to_string(file?.path())?;
        }
        all +=
            &format!("---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}\n");
        self.apply(&all)?;
        eventually("MetalLB's kinds are known", || {
            Ok(self.kubectl(&["get", "ipaddresspools", "--all-namespaces"]).is_ok())
        })
    }

    /// Starts MetalLB on the cluster's host, where it takes port 7472 and 7473, as the speaker of a node that is there
    /// already. Its kinds have to be [defined](Self::define_metallb). `class`: the one `spec.loadBalancerClass`
    /// that it serves; those without a class if there is none.
    pub fn start_metallb(&self, node: &str, class: Option<&str>) -> anyhow::Result<MetalLb> {
        let host = self.host.as_ref().context("the cluster has no host")?;
        self.apply(&POD.replace("NODE", node))?;
        let folder = programs::metallb()?;
        let class = class.map(|class| format!("--lb-class={class}"));
        let start = |name: &str, flags: &[&str], more: &[(&str, &str)]| {
            let flags = flags.iter().copied().chain(class.as_deref()).map(str::to_owned).collect();
            let prefix = self.metallb_prefix(host, more);
            let (log, program) = (format!("metallb-{name}"), folder.join(name));
            let member = Member::new(&log, &prefix, &program, flags, self.folder.path());
            member.start().map(|()| member)
        };
        let controller = start(
            "controller",
            &["--webhook-mode=disabled", "--disable-cert-rotation", "--port=7472"],
            &[],
        )?;
        let address = host.v4().to_string();
        let speaker = start(
            "speaker",
            &["--port=7473"],
            &[
                ("METALLB_NODE_NAME", node),
                ("METALLB_HOST", &address),
                ("METALLB_POD_NAME", "speaker"),
            ],
        )?;
        Ok(MetalLb { members: [controller, speaker] })
    }

    fn metallb_prefix(&self, host: &Host, more: &[(&str, &str)]) -> Vec<String> {
        let config = self.kubeconfig().display().to_string();
        let common = [
            ("KUBECONFIG", &*config),
            ("METALLB_NAMESPACE", NAMESPACE),
            ("METALLB_BGP_TYPE", "native"),
        ];
        let variables = common.iter().chain(more).map(|(name, value)| format!("{name}={value}"));
        host.prefix().iter().cloned().chain(["env".to_owned()]).chain(variables).collect()
    }
}

impl MetalLb {
    /// Kills both programs.
    pub fn stop(&self) {
        self.members.iter().for_each(Member::stop);
    }

    /// Starts what does not run.
    pub fn start(&self) -> anyhow::Result<()> {
        self.members.iter().try_for_each(Member::start)
    }

    /// An error with its last words when one of them has ended by itself.
    pub fn check(&self) -> anyhow::Result<()> {
        self.members.iter().try_for_each(Member::check)
    }

    /// The last lines of the logs.
    pub fn log_tail(&self) -> String {
        self.members.iter().map(Member::log_tail).collect()
    }
}
