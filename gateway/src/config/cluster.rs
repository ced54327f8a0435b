//! The settings of a process in a cluster that are about addresses and statuses.

use gatehouse_routes::objects::ObjectKey;

use super::object_key;

/// Which Services get addresses, and what statuses say.
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
}
