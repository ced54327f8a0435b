//! Gatehouse under the strikes of the fail-over benchmark.

use std::{net::IpAddr, path::Path};

use anyhow::{Context as _, bail};
use gatehouse_testbed::{
    group::{Options, Site, VIPS},
    lan::Host,
    process::Signal,
};

use super::{Strike, cluster::Cluster};

/// Three gateways of one group.
pub(super) struct Group(Site);

impl Group {
    /// Starts them; ready when this returns.
    pub(super) fn start(program: &Path) -> anyhow::Result<Self> {
        Site::start(&Options::new(program)).map(Self)
    }
}

impl Cluster for Group {
    fn name(&self) -> &'static str {
        "gatehouse"
    }

    fn client(&self) -> &Host {
        &self.0.client
    }

    fn whole(&mut self, vip: IpAddr) -> anyhow::Result<usize> {
        let owners = self.0.settle()?;
        let owner = VIPS.iter().zip(owners).find(|(of, _)| **of == vip);
        owner.map(|(_, owner)| owner).with_context(|| format!("{vip} is none of the site's"))
    }

    fn strike(&mut self, node: usize, strike: Strike) -> anyhow::Result<()> {
        let Site { nodes, lan, .. } = &mut self.0;
        let node = &mut nodes[node];
        match strike {
            Strike::Kill => node.kill(),
            Strike::Stop => node.signal(Signal::STOP),
            Strike::Unplug => lan.unplug(&node.host)?,
            Strike::Term => node.signal(Signal::TERM),
        }
        Ok(())
    }

    fn repair(&mut self, node: usize, strike: Strike) -> anyhow::Result<()> {
        let Site { nodes, lan, .. } = &mut self.0;
        let node = &mut nodes[node];
        match strike {
            Strike::Kill => node.start(),
            Strike::Stop => {
                node.signal(Signal::CONT);
                Ok(())
            }
            Strike::Unplug => lan.plug(&node.host),
            Strike::Term => {
                let Some(status) = node.wait() else {
                    bail!("{} does not end: {}", node.host.name(), node.log())
                };
                if !status.success() {
                    bail!("{} ended with {status}: {}", node.host.name(), node.log());
                }
                node.start()
            }
        }
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}
