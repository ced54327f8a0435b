//! The settings of a process in a cluster that are about addresses and statuses, with their defaults.

use std::time::Duration;

use gatehouse_routes::objects::ObjectKey;

use super::{object_key, seconds};

/// Which Services are served, what statuses say, and which process writes them.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterSettings {
    /// The one spec.loadBalancerClass whose Services get addresses; those without a class are left alone
    /// then. Default: Services without a class and those of class gatehouse.io/vip.
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub load_balancer_class: Option<String>,

    /// Announce addresses from this node even if its Node object has the label
    /// node.kubernetes.io/exclude-from-external-load-balancers, as control-plane nodes mostly have.
    #[arg(long, help_heading = "Cluster")]
    pub ignore_exclude_lb: bool,

    /// The Service whose hostname or addresses go into the status of every Ingress and Route that is
    /// served: that of a cloud's balancer in front of this one. Default: none, the addresses that serve an
    /// Ingress do.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key, help_heading = "Cluster")]
    pub publish_service: Option<ObjectKey>,

    /// Name that leads to the addresses which serve Routes, for routerCanonicalHostname in their status: external-dns makes
    /// the hosts of Routes aliases of it. Default: the hostname of --publish-service.
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub router_canonical_hostname: Option<String>,

    /// Name of the Lease by which one process of the cluster becomes the one that allocates addresses and
    /// writes statuses.
    #[arg(long, value_name = "NAME", default_value = "gatehouse", help_heading = "Cluster")]
    pub lease_name: String,

    /// Namespace of the Lease. Default: that of this Pod, or of the kubeconfig's context.
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub lease_namespace: Option<String>,

    /// Seconds after which the Lease of a process that does not renew it is free for another one.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds, help_heading = "Cluster")]
    pub lease_duration: Duration,

    /// Seconds without a renewal after which the process that has the Lease stops to write.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Cluster")]
    pub renew_deadline: Duration,

    /// Seconds between two attempts to get or to renew the Lease.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, help_heading = "Cluster")]
    pub retry_period: Duration,
}
