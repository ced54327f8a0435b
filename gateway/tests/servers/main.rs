//! Real servers and real clients over Services that are passed on: by this process and by the kernel, over IPv4 and
//! IPv6. The client, the gateway and the servers are hosts of their own on a link.
//!
//! Needs root, iproute2, nft, curl, PostgreSQL, OpenSSH, iperf3, nginx with its stream module, HAProxy, wireguard-go and wg.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use gatehouse_testbed::{
    gatehouse::gateway::{Gateway, Plan},
    guard,
    lan::{Host, Lan},
    namespace::Namespace,
    process::{Process, find_program},
    program::Program,
    wait::{self, comes_true},
};
use tempfile::TempDir;

mod bulk;
mod proxied;
mod wireguard;

/// Who passes on, and the addresses of the Service.
const SERVICES: [(&str, [&str; 2]); 2] =
    [("gateway", ["10.77.0.200", "fd77::200"]), ("kernel", ["10.77.0.201", "fd77::201"])];
/// The addresses of two servers, both on one host.
const SERVERS: [[&str; 2]; 2] = [["10.77.0.3", "fd77::3"], ["10.77.0.4", "fd77::4"]];

/// What is said of a server.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Ready,
    /// It goes away and still serves.
    Terminating,
}

/// All addresses of all Services.
fn vips() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().flat_map(|(_, vips)| vips).copied()
}

/// A gateway before two servers.
struct Bed {
    client: Host,
    node: Host,
    servers: Host,
    gateway: Gateway,
    /// What all Services say of their ports, their annotations and the rest.
    port: u16,
    protocols: &'static [&'static str],
    annotations: &'static str,
    spec: &'static str,
    folder: TempDir,
    _lan: Lan,
}

impl Bed {
    /// Services of a port, which the servers have as well.
    fn new(
        port: u16,
        protocols: &'static [&'static str],
        annotations: &'static str,
        spec: &'static str,
    ) -> Self {
        let (lan, [client, node, servers]) = Lan::new(["client", "gateway", "servers"]).unwrap();
        let [_, [four, six]] = SERVERS;
        servers.run(&["ip", "address", "add", &format!("{four}/16"), "dev", "eth0"]).unwrap();
        let six = format!("{six}/64");
        servers.run(&["ip", "address", "add", &six, "dev", "eth0", "nodad"]).unwrap();
        node.run(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]).unwrap();
        let prefix = node.prefix();
        let via: Vec<&str> = prefix.iter().map(String::as_str).collect();
        let gateway = Plan::default().via(&via).spawn();
        let page = format!("http://{}/readyz", gateway.admin);
        let ready = || node.output(&["curl", "-fsS", "-m", "10", &page]).unwrap().0;
        assert!(comes_true(ready), "{}", gateway.output());
        let folder = guard::folder("servers-").unwrap();
        let bed = Self {
            client,
            node,
            servers,
            gateway,
            port,
            protocols,
            annotations,
            spec,
            folder,
            _lan: lan,
        };
        bed.say([State::Ready; 2], "");
        bed
    }

    /// Gives the gateway a new configuration.
    fn say(&self, states: [State; 2], more: &str) {
        let mut text = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n\
                        metadata: {name: pool, namespace: metallb-system}\n\
                        spec: {addresses: [10.77.0.200-10.77.0.209, 'fd77::200-fd77::209']}\n---\n\
                        apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\n\
                        metadata: {name: l2, namespace: metallb-system}\nspec: {ipAddressPools: [pool]}\n---\n"
            .to_owned();
        text += more;
        let ports = self.protocols.iter().map(|protocol| {
            format!(
                "{{name: {}, port: {}, protocol: {protocol}}}",
                protocol.to_lowercase(),
                self.port
            )
        });
        let ports = ports.collect::<Vec<_>>().join(", ");
        for (mode, vips) in SERVICES {
            let _ = write!(
                text,
                "apiVersion: v1\nkind: Service\nmetadata:\n  name: {mode}\n  namespace: default\n  \
                 annotations: {{gatehouse.io/forwarding: {mode}, metallb.io/loadBalancerIPs: '{}'{}}}\n\
                 spec: {{type: LoadBalancer, ipFamilyPolicy: RequireDualStack, ports: [{ports}]{}}}\n---\n",
                vips.join(","),
                self.annotations,
                self.spec
            );
            for (family, kind) in ["IPv4", "IPv6"].into_iter().enumerate() {
                let endpoints = SERVERS.iter().zip(states).map(|(ips, state)| {
                    let conditions = match state {
                        State::Ready => "",
                        State::Terminating => {
                            ", conditions: {ready: false, serving: true, terminating: true}"
                        }
                    };
                    format!("{{addresses: ['{}'], nodeName: test-node{conditions}}}", ips[family])
                });
                let _ = write!(
                    text,
                    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                     metadata: {{name: {mode}-{family}, namespace: default, labels: {{kubernetes.io/service-name: {mode}}}}}\n\
                     addressType: {kind}\nports: [{ports}]\nendpoints: [{}]\n---\n",
                    endpoints.collect::<Vec<_>>().join(", ")
                );
            }
        }
        self.gateway.save("services.yaml", &text);
    }

    /// Whether the kernel spreads connections over so many servers, of each family.
    fn kernel_has(&self, servers: u32) -> bool {
        let url = format!("http://{}/metrics", self.gateway.admin);
        let page = self.node.output(&["curl", "-sS", "-m", "20", &url]).unwrap().1;
        ["ipv4", "ipv6"].iter().all(|family| {
            let service = "service=\"default/kernel\",protocol=\"tcp\"";
            let line =
                format!("gatehouse_kernel_endpoints{{{service},family=\"{family}\"}} {servers}");
            page.lines().any(|known| known == line)
        })
    }

    /// A server on the servers' host, whose words are in a file.
    fn serve(&self, name: &str, command: Command) -> Process {
        Process::spawn(name, command, Some(&self.folder.path().join(format!("{name}.log"))))
            .unwrap()
    }
}

/// A command, by the folder of a PostgreSQL that Debian has.
fn postgres(host: &Namespace, program: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed");
    let folders = versions.map(|folder| folder.unwrap().path().join("bin").join(program));
    let program = folders.filter(|path| path.exists()).max().expect("PostgreSQL's server");
    let mut command = host.command("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL"]);
    command.arg(program);
    command
}

/// Two servers of one content, which say their names.
fn start_databases(bed: &Bed) -> [Process; 2] {
    let folder = bed.folder.path();
    let run = |words: &[&str]| bed.servers.run(words).unwrap();
    run(&["chown", "postgres:postgres", folder.to_str().unwrap()]);
    let first = folder.join("0");
    let mut init = postgres(&bed.servers, "initdb");
    init.args(["--no-sync", "-A", "trust", "-U", "test", "-D"]).arg(&first);
    let made = init.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut rules = fs::OpenOptions::new().append(true).open(first.join("pg_hba.conf")).unwrap();
    let rule = b"host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n";
    std::io::Write::write_all(&mut rules, rule).unwrap();
    let second = folder.join("1");
    run(&["cp", "-a", first.to_str().unwrap(), second.to_str().unwrap()]);
    [0, 1].map(|n| {
        let mut server = postgres(&bed.servers, "postgres");
        server.arg("-D").arg(folder.join(n.to_string()));
        server.args(["-h", &SERVERS[n].join(","), "-p", &bed.port.to_string(), "-k", "", "-F"]);
        server.args(["-c", &format!("cluster_name=server{n}"), "-c", "shared_buffers=16MB"]);
        bed.serve(&format!("postgres{n}"), server)
    })
}

/// Which of two databases answers at an address; or what else is said.
fn which(bed: &Bed, vip: &str) -> Result<usize, String> {
    let ip = if vip.contains(':') { format!("[{vip}]") } else { vip.to_owned() };
    let to = format!("postgresql://test@{ip}:{}/postgres?connect_timeout=20", bed.port);
    let (good, text) =
        bed.client.output(&["psql", "-XAtq", &to, "-c", "show cluster_name"]).unwrap();
    let number = text.trim().strip_prefix("server").and_then(|number| number.parse().ok());
    number.filter(|_| good).ok_or(text)
}

/// A session that stays open, and whose it is.
fn session(bed: &Bed, vip: &str) -> (Program, usize) {
    let mut command = bed.client.command("psql");
    let port = bed.port.to_string();
    command.args(["-XAtq", "-h", vip, "-p", &port, "-U", "test", "-d", "postgres"]);
    let mut session = Program::start(command);
    session.say("show cluster_name;");
    let name = session.expect(|line| line.starts_with("server"));
    (session, name.trim_start_matches("server").parse().unwrap())
}

fn counts(session: &mut Program, number: u32) {
    session.say(&format!("select {number} + 1;"));
    session.expect(|line| line.trim() == (number + 1).to_string());
}

#[test]
fn databases_are_drained_and_die_and_sessions_of_the_other_one_go_on() {
    // What is killed refuses at once; a machine that is busy must not pass for that.
    let checks = ", gatehouse.io/health-check: tcp, gatehouse.io/health-check-interval: 200ms, \
                  gatehouse.io/health-check-timeout: 5s";
    let bed = Bed::new(5432, &["TCP"], checks, "");
    let mut databases = start_databases(&bed);
    for vip in vips() {
        wait::eventually(vip, || which(&bed, vip).map_err(|why| why + &bed.gateway.output()));
    }
    // Sessions with both servers at every address.
    let mut sessions: Vec<(&str, Program, usize)> = Vec::new();
    for vip in vips() {
        let mut missing = vec![0, 1];
        for _ in 0..40 {
            let (session, server) = session(&bed, vip);
            if let Some(at) = missing.iter().position(|wanted| *wanted == server) {
                missing.remove(at);
                sessions.push((vip, session, server));
            }
            if missing.is_empty() {
                break;
            }
        }
        assert!(missing.is_empty(), "{vip} never leads to {missing:?}");
    }

    bed.say([State::Terminating, State::Ready], "");
    for vip in vips() {
        let all = || (0..3).all(|_| which(&bed, vip) == Ok(1));
        assert!(comes_true(all), "{vip}: new sessions go to the other one");
    }
    sessions.iter_mut().for_each(|(_, session, _)| counts(session, 1));

    bed.say([State::Ready; 2], "");
    for vip in vips() {
        let comes_back = || which(&bed, vip) == Ok(0);
        assert!(comes_true(comes_back), "{vip}: the server is back");
    }
    databases[0].kill_tree();
    assert!(comes_true(|| bed.kernel_has(1)), "a check takes it out: {}", bed.gateway.output());
    for vip in vips() {
        let asked: Vec<_> = (0..8).map(|_| which(&bed, vip)).collect();
        assert_eq!(asked, vec![Ok(1); 8], "{vip}: {}", bed.gateway.output());
    }
    for (vip, session, server) in &mut sessions {
        if *server == 1 {
            counts(session, 2);
        } else {
            // psql says so when it is asked for something.
            session.say("select 1;");
            session.expect_that(vip, |line| {
                line.contains("closed the connection")
                    || line.contains("connection to server was lost")
            });
        }
    }
}

/// Two servers, and the words of a client that may come in.
fn start_shells(bed: &Bed) -> ([Process; 2], Vec<String>) {
    let folder = bed.folder.path();
    let path = |name: &str| folder.join(name).display().to_string();
    for name in ["host", "user"] {
        bed.client
            .run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &path(name)])
            .unwrap();
    }
    // Debian's sshd drops its rights there.
    fs::create_dir_all("/run/sshd").unwrap();
    let sshd: PathBuf = find_program("sshd").expect("sshd is not installed");
    let servers = [0, 1].map(|n| {
        let listen = SERVERS[n].map(|ip| match ip.contains(':') {
            true => format!("ListenAddress [{ip}]:{}\n", bed.port),
            false => format!("ListenAddress {ip}:{}\n", bed.port),
        });
        let config = format!(
            "{}HostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin prohibit-password\nSetEnv SERVER={n}\nMaxStartups 100\n",
            listen.concat(),
            path("host"),
            path("user.pub")
        );
        fs::write(folder.join(format!("sshd{n}")), config).unwrap();
        let mut command = bed.servers.command(sshd.to_str().unwrap());
        command.args(["-D", "-e", "-f", &path(&format!("sshd{n}"))]);
        bed.serve(&format!("ssh{n}"), command)
    });
    let options = [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "BatchMode=yes",
        "LogLevel=ERROR",
    ];
    let mut words = vec!["ssh".to_owned(), "-F".to_owned(), "none".to_owned()];
    words.extend(options.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]));
    words.extend(
        ["-l", "root", "-p", &bed.port.to_string(), "-i", &path("user")].map(str::to_owned),
    );
    (servers, words)
}

#[test]
fn a_long_shell_lives_through_changes_and_the_draining_of_its_server() {
    let bed = Bed::new(2222, &["TCP"], "", "");
    let (_servers, words) = start_shells(&bed);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ask =
        |vip, command: &str| bed.client.output(&[&words[..], &[vip, command]].concat()).unwrap();
    let mut shells: Vec<(&str, Program, usize)> = Vec::new();
    for vip in vips() {
        wait::eventually(vip, || {
            let (good, text) = ask(vip, "true");
            if good { Ok(()) } else { Err(text + &bed.gateway.output()) }
        });
        let mut command = bed.client.command(words[0]);
        command.args(&words[1..]).args([vip, "echo server $SERVER; exec cat"]);
        let shell = Program::start(command);
        let server = shell.expect(|line| line.starts_with("server "));
        shells.push((vip, shell, server[7..].parse().unwrap()));
    }
    let mut says = 0;
    let mut speak = |shells: &mut Vec<(&str, Program, usize)>| {
        for (vip, shell, _) in shells {
            says += 1;
            shell.say(&format!("words {says}"));
            shell.expect_that(vip, |line| line == format!("words {says}"));
        }
    };
    speak(&mut shells);
    // Something else comes, and what is there stays.
    let other = "apiVersion: v1\nkind: Service\nmetadata: {name: other, namespace: default}\n\
                 spec: {type: LoadBalancer, ports: [{port: 99}]}\n---\n";
    bed.say([State::Ready; 2], other);
    speak(&mut shells);
    // Each server in its turn terminates.
    for leaving in [0, 1] {
        let mut states = [State::Ready; 2];
        states[leaving] = State::Terminating;
        bed.say(states, other);
        for vip in vips() {
            let is_other = || {
                let (good, text) = ask(vip, "echo $SERVER");
                good && text.trim() == (1 - leaving).to_string()
            };
            assert!(comes_true(|| (0..3).all(|_| is_other())), "{vip}: {}", bed.gateway.output());
        }
        speak(&mut shells);
    }
    // A file of some size, by its hash.
    let file = bed.folder.path().join("file");
    let bytes: Vec<u8> =
        (0..8 << 20_u32).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&file, bytes).unwrap();
    let path = file.display();
    let sum = bed.client.run(&["sha256sum", &path.to_string()]).unwrap();
    for vip in vips() {
        let command = format!("{} {vip} sha256sum < {path}", words.join(" "));
        let there = bed.client.run(&["sh", "-c", &command]).unwrap();
        assert_eq!(there.split(' ').next(), sum.split(' ').next(), "{vip}");
    }
}
