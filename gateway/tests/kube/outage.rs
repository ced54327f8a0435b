//! An API server that is away, comes back, and has forgotten what it told; and a Pod whose token was changed
//! meanwhile.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    gatehouse::{
        gateway::{Gateway, Plan},
        manifests, tls,
    },
    wait::comes_true,
};
use tempfile::TempDir;

use crate::bed::{Bed, Load, answers, ingress, service, shows};

/// Makes the folder `$1` what a Pod finds its service account in, for one process.
const POD: &str = "mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount \
                   && mount --bind \"$1\" /run/secrets/kubernetes.io/serviceaccount && shift && exec \"$@\"";

#[test]
fn an_api_server_that_goes_and_comes_costs_no_request() {
    let bed = Bed::new();
    bed.namespace("app", &bed.one);
    let pair = tls::certificate(&["tls.test"]);
    bed.apply("app", &manifests::secret("pair", &pair));
    bed.apply("app", &ingress("web", "app.test", ""));
    bed.apply("app", &ingress("tls", "tls.test", "{hosts: [tls.test], secretName: pair}"));
    let state = TempDir::new().unwrap();
    let plan = || Plan::default().kubeconfig(bed.cluster.kubeconfig()).state_dir(state.path());
    let gateway = plan().start();
    answers(&gateway, "app.test", "one");
    let pod_folder = TempDir::new().unwrap();
    bed.account(&["app"]);
    let account = Account { bed: &bed, folder: pod_folder.path() };
    account.token("first");
    let pod = account.pod();
    answers(&pod, "app.test", "one");
    let load = Load::start(gateway.http, "app.test");
    let pod_load = Load::start(pod.http, "app.test");
    // The new token has to be found before the old one is asked for again.
    account.token("second");
    account.revoke("first");

    // A restarted one does not know what it told: every list is told anew.
    for backend in [&bed.two, &bed.one] {
        bed.cluster.api_server().restart().unwrap();
        bed.apply("app", &service(backend));
        answers(&gateway, "app.test", &backend.name);
    }

    bed.cluster.api_server().stop();
    shows(&gateway, "/readyz", "stale");
    std::thread::sleep(Duration::from_secs(60));
    shows(&gateway, "/status", "unwatched");
    let metrics = gateway.page("/metrics");
    assert!(!metrics.contains("gatehouse_source_stale_seconds 0\n"), "{metrics}");
    load.end();
    drop(gateway);

    // What the last process knew is served, certificates included.
    let begun = Instant::now();
    let gateway = plan().start();
    println!("ready {:?} after the start without an API server", begun.elapsed());
    assert!(gateway.page("/readyz").contains("stale"), "{}", gateway.page("/readyz"));
    let load = Load::start(gateway.http, "app.test");
    let shown = tls::Tls::connect(gateway.https, "tls.test", &[]).unwrap().peer();
    assert_eq!(shown, pair.der);

    bed.cluster.api_server().start().unwrap();
    let fresh = || !gateway.page("/readyz").contains("stale");
    assert!(comes_true(fresh), "{}", gateway.page("/readyz"));
    bed.apply("app", &service(&bed.two));
    answers(&gateway, "app.test", "two");
    answers(&pod, "app.test", "two");
    load.end();
    pod_load.end();
}

/// The service account of a Pod, as the kubelet shows it to the Pod.
struct Account<'b> {
    bed: &'b Bed,
    folder: &'b Path,
}

impl Account<'_> {
    /// Writes a new token, which lives as long as a Secret of that name.
    fn token(&self, name: &str) {
        self.bed.kubectl(&format!("--namespace gateway create secret generic {name}"));
        let token = self.bed.kubectl(&format!(
            "--namespace gateway create token gateway --bound-object-kind Secret --bound-object-name {name}"
        ));
        fs::copy(self.bed.cluster.authority(), self.folder.join("ca.crt")).unwrap();
        fs::write(self.folder.join("namespace"), "gateway").unwrap();
        fs::write(self.folder.join("draft"), token.trim()).unwrap();
        fs::rename(self.folder.join("draft"), self.folder.join("token")).unwrap();
    }

    /// Makes a token worthless.
    fn revoke(&self, name: &str) {
        self.bed.kubectl(&format!("--namespace gateway delete secret {name}"));
    }

    /// A gateway that knows nothing but what its Pod tells.
    fn pod(&self) -> Gateway {
        let api = self.bed.cluster.api_server().address();
        let host = format!("KUBERNETES_SERVICE_HOST={}", api.ip());
        let port = format!("KUBERNETES_SERVICE_PORT={}", api.port());
        let folder = self.folder.to_str().unwrap();
        let words = [&*host, &*port, "unshare", "--mount", "sh", "-c", POD, "sh", folder];
        Plan::default().in_pod().via(&words).start()
    }
}
