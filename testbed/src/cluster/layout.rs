//! Where the parts of a control plane listen, and what flags they have.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};

use crate::lan::{Family, Host};

/// What Services would have their addresses from. Nothing answers on them: there is no kube-proxy.
const fn service_network(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.96.0.0/16",
        Family::V6 => "fd96::/112",
    }
}

/// The first address of [`service_network`], which is that of the Service `kubernetes`.
const fn api_service(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.96.0.1",
        Family::V6 => "fd96::1",
    }
}

/// Controllers whose work tests see. `endpoints-controller`: for old clients that wait for `Endpoints`.
const CONTROLLERS: &str = "daemonset-controller,deployment-controller,disruption-controller,\
endpoints-controller,endpointslice-controller,garbage-collector-controller,job-controller,namespace-controller,\
node-lifecycle-controller,pod-garbage-collector-controller,replicaset-controller,\
root-ca-certificate-publisher-controller,serviceaccount-controller,serviceaccount-token-controller";

/// Addresses of a control plane.
#[derive(Debug)]
pub(super) struct Layout {
    /// The API server.
    pub(super) api: SocketAddr,
    etcd: SocketAddr,
    etcd_peer: SocketAddr,
    family: Family,
    /// Bound and not listening, so that the ports stay ours while nothing listens on them. The processes
    /// share them (SO_REUSEPORT).
    _held: Vec<Socket>,
}

impl Layout {
    /// Free ports on loopback, or the usual ones on a host that is ours alone.
    pub(super) fn new(host: Option<&Host>, family: Family) -> anyhow::Result<Self> {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Some(host) = host {
            return Ok(Self {
                api: SocketAddr::from((host.address(family), 6443)),
                etcd: loopback(2379),
                etcd_peer: loopback(2380),
                family,
                _held: Vec::new(),
            });
        }
        let (mut held, mut addresses) = (Vec::new(), [loopback(0); 3]);
        for address in &mut addresses {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_port(true)?;
            socket.bind(&(*address).into()).context("no free port on 127.0.0.1")?;
            *address = socket.local_addr()?.as_socket().context("no IP address")?;
            held.push(socket);
        }
        let [api, etcd, etcd_peer] = addresses;
        Ok(Self { api, etcd, etcd_peer, family, _held: held })
    }

    /// What the API server's certificate is for.
    pub(super) fn names(&self) -> Vec<String> {
        let own = self.api.ip().to_string();
        let service = api_service(self.family);
        let names = ["127.0.0.1", service, "localhost", "kubernetes.default.svc", "kubernetes"];
        names.into_iter().map(str::to_owned).chain([own]).collect()
    }

    pub(super) fn etcd_flags(&self, folder: &Path) -> Vec<String> {
        let (client, peer) = (self.etcd, self.etcd_peer);
        vec![
            format!("--data-dir={}", folder.join("etcd").display()),
            format!("--listen-client-urls=http://{client}"),
            format!("--advertise-client-urls=http://{client}"),
            format!("--listen-peer-urls=http://{peer}"),
            format!("--initial-advertise-peer-urls=http://{peer}"),
            format!("--initial-cluster=default=http://{peer}"),
            "--socket-reuse-port=true".to_owned(),
            // What it holds has no use after the run.
            "--unsafe-no-fsync=true".to_owned(),
        ]
    }

    pub(super) fn api_server_flags(&self, folder: &Path) -> Vec<String> {
        let file = |name: &str| folder.join(name).display().to_string();
        // It refuses to advertise loopback; nobody is told, as the Service `kubernetes` has no endpoints here.
        let advertised = match self.api.ip() {
            ip if !ip.is_loopback() => ip,
            _ if self.family == Family::V6 => {
                IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))
            }
            _ => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        };
        vec![
            format!("--etcd-servers=http://{}", self.etcd),
            format!("--bind-address={}", self.api.ip()),
            format!("--secure-port={}", self.api.port()),
            "--permit-port-sharing=true".to_owned(),
            format!("--advertise-address={advertised}"),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--cert-dir={}", file("certificates")),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--service-account-key-file={}", file("tokens.pub")),
            format!("--service-account-signing-key-file={}", file("tokens.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            format!("--service-cluster-ip-range={}", service_network(self.family)),
            "--allow-privileged=true".to_owned(),
            // Else `kubectl logs` looks the node's name up.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--kubelet-client-certificate={}", file("admin.crt")),
            format!("--kubelet-client-key={}", file("admin.key")),
        ]
    }
}

/// Flags of the controller manager.
pub(super) fn controller_flags(folder: &Path) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    vec![
        format!("--kubeconfig={}", file("kubeconfig")),
        format!("--service-account-private-key-file={}", file("tokens.key")),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--controllers={CONTROLLERS}"),
        "--use-service-account-credentials=true".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ]
}

/// Flags of the scheduler.
pub(super) fn scheduler_flags(folder: &Path) -> Vec<String> {
    let kubeconfig = format!("--kubeconfig={}", folder.join("kubeconfig").display());
    vec![kubeconfig, "--leader-elect=false".to_owned(), "--secure-port=0".to_owned()]
}
