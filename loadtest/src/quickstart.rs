//! `make run`: echo backends, a gateway on `examples/quickstart`, and what to try.
//!
//! Owns the quickstart's ports: its backends' are those of `examples/quickstart/10-backends.yaml`.

use std::{path::PathBuf, thread, time::Duration};

use gatehouse_testbed::{
    client::Target,
    echo::{self, Listener},
    ports,
    process::{self, Process},
};

/// Flags of `gatehouse-loadtest quickstart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The gateway's program.
    #[arg(long, value_name = "PROGRAM")]
    gatehouse: PathBuf,
    /// Folder with the manifests.
    #[arg(long, value_name = "DIR", default_value = "examples/quickstart")]
    manifests: PathBuf,
    /// Address of the gateway for HTTP.
    #[arg(long, default_value = "127.0.0.1:8080")]
    http: std::net::SocketAddr,
    /// Address of the gateway for HTTPS.
    #[arg(long, default_value = "127.0.0.1:8443")]
    https: std::net::SocketAddr,
    /// Address of the gateway's admin page.
    #[arg(long, default_value = "127.0.0.1:9901")]
    admin: std::net::SocketAddr,
    /// File for the gateway's access log, so that the terminal keeps what there is to try.
    #[arg(long, value_name = "FILE", default_value = "target/quickstart-access.log")]
    access_log: PathBuf,
}

/// Address and service of each backend.
const BACKENDS: [&str; 3] = ["127.0.0.1:9001=alpha", "127.0.0.1:9002=beta", "127.0.0.1:9090=other"];

/// Runs until SIGINT, SIGTERM or the end of the gateway.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    process::catch_signals()?;
    let listeners: Vec<Listener> =
        BACKENDS.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    echo::spawn(&listeners, 1)?;

    let (http, https, admin) =
        (options.http.to_string(), options.https.to_string(), options.admin.to_string());
    let manifests = options.manifests.to_string_lossy().into_owned();
    let access_log = options.access_log.to_string_lossy().into_owned();
    let arguments = [
        "run",
        &manifests,
        "--http",
        &http,
        "--https",
        &https,
        "--admin",
        &admin,
        "--access-log",
        &access_log,
        "--log",
        "warn",
    ];
    let mut gateway = Process::start("gatehouse", &options.gatehouse, arguments, None)?;
    let ready = Target {
        address: options.admin,
        host: "localhost".to_owned(),
        path: "/readyz".to_owned(),
        tls: None,
    };
    ports::wait_for(&ready, &mut gateway, Duration::from_secs(30))?;
    print_tries(options);
    while !process::stopping() {
        gateway.check()?;
        thread::sleep(Duration::from_millis(100));
    }
    gateway.end();
    Ok(())
}

fn print_tries(options: &Options) {
    let Options { http, https, admin, manifests, access_log, .. } = options;
    let (ip, port) = (https.ip(), https.port());
    println!(
        "
Gatehouse serves {manifests}. Try, in another terminal:

  curl -H 'Host: example.test' http://{http}/alpha
      by path, rewritten to /: alpha answers (/beta and /other likewise)
  curl -H 'Host: beta.example.test' http://{http}/any/path
      by subdomain: beta answers, the path as it came
  for i in {{1..10}}; do curl -sH 'Host: split.example.test' http://{http}/; done
      a Route split 80/20: eight times alpha, twice beta
  curl -k --resolve secure.example.test:{port}:{ip} https://secure.example.test:{port}/
      TLS with the certificate of the Secret: alpha answers
  curl -s http://{admin}/snapshot
      what is live, as JSON (/metrics and /readyz are there too)

Edit a weight or a path in that folder while it runs. Every request is a line of
{access_log}. Ctrl-C ends everything.
",
        manifests = manifests.display(),
        access_log = access_log.display(),
    );
}
