//! The PROXY protocol with nginx and HAProxy on either side: load balancers in front that say who their client is, and
//! servers behind that are told so.

use std::{fs, process::Command};

use gatehouse_testbed::{
    gatehouse::gateway::Plan,
    guard,
    lan::{Host, Lan},
    process::Process,
    wait,
};

/// The virtual addresses.
const VIPS: [&str; 2] = ["10.77.0.200", "fd77::200"];
/// What stands in front, and the port that it listens on.
const FRONTS: [(&str, u16); 3] =
    [("HAProxy, version 1", 7001), ("HAProxy, version 2", 7002), ("nginx, version 1", 7003)];
/// What stands behind: the version that it is told in, its port as a Service and its own.
const BEHIND: [(&str, &str, u16, u16); 4] = [
    ("v1", "nginx", 8001, 9001),
    ("v2", "nginx", 8002, 9001),
    ("v1", "HAProxy", 8003, 9002),
    ("v2", "HAProxy", 8004, 9002),
];

fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

/// The host in front: for each service behind, each kind of load balancer has a port of each family.
fn front(host: &Host, folder: &std::path::Path) -> [Process; 2] {
    let mut haproxy =
        "defaults\n mode tcp\n timeout connect 20s\n timeout client 20s\n timeout server 20s\n"
            .to_owned();
    let mut nginx = String::new();
    for (at, (.., service, _)) in BEHIND.into_iter().enumerate() {
        for (family, vip) in VIPS.map(bracketed).into_iter().enumerate() {
            let own = bracketed(&[host.v4().to_string(), host.v6().to_string()][family]);
            for (front, (_, port)) in FRONTS.into_iter().enumerate() {
                let listen = format!("{own}:{}", port + 10 * at as u16);
                let send = ["send-proxy", "send-proxy-v2"].get(front);
                match send {
                    Some(send) => {
                        haproxy += &format!(
                            "listen l{at}{family}{front}\n bind {listen}\n server gateway {vip}:{service} {send}\n"
                        )
                    }
                    None => {
                        nginx += &format!(
                            " server {{ listen {listen}; proxy_pass {vip}:{service}; proxy_protocol on; }}\n"
                        )
                    }
                }
            }
        }
    }
    let modules = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let nginx = format!(
        "load_module {modules};\ndaemon off;\nmaster_process off;\npid {0}/front.pid;\nerror_log stderr;\n\
         events {{}}\nstream {{\n access_log off;\n{nginx}}}\n",
        folder.display()
    );
    start(host, folder, "front", &nginx, &haproxy)
}

/// The host behind, which says whom it takes for its client.
fn behind(host: &Host, folder: &std::path::Path) -> [Process; 2] {
    let (four, six) = (host.v4(), host.v6());
    let nginx = format!(
        "daemon off;\nmaster_process off;\npid {0}/behind.pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\n access_log off;\n server {{\n listen {four}:9001 proxy_protocol;\n listen [{six}]:9001 proxy_protocol;\n \
         location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_server_port\\n\"; }}\n }}\n}}\n",
        folder.display()
    );
    let haproxy = format!(
        "defaults\n mode http\n timeout connect 20s\n timeout client 20s\n timeout server 20s\n\
         frontend f\n bind {four}:9002 accept-proxy\n bind [{six}]:9002 accept-proxy\n \
         http-request return status 200 content-type text/plain lf-string \"%[src] %[dst_port]\\n\"\n"
    );
    start(host, folder, "behind", &nginx, &haproxy)
}

fn start(
    host: &Host,
    folder: &std::path::Path,
    name: &str,
    nginx: &str,
    haproxy: &str,
) -> [Process; 2] {
    [("nginx", nginx, "-c"), ("haproxy", haproxy, "-f")].map(|(program, config, flag)| {
        let file = folder.join(format!("{name}.{program}"));
        fs::write(&file, config).unwrap();
        let program_path = gatehouse_testbed::process::find_program(program)
            .unwrap_or_else(|| panic!("{program} is not installed"));
        let mut command: Command = host.command(program_path.to_str().unwrap());
        command.arg(flag).arg(&file);
        let log = folder.join(format!("{name}.{program}.log"));
        Process::spawn(program, command, Some(&log)).unwrap()
    })
}

#[test]
fn clients_are_known_by_nginx_and_haproxy_behind_nginx_and_haproxy_in_both_versions() {
    let (_lan, [client, front_host, gateway_host, server]) =
        Lan::new(["client", "front", "gateway", "server"]).unwrap();
    let folder = guard::folder("proxied-").unwrap();
    let mut text = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n\
                    metadata: {name: pool, namespace: metallb-system}\n\
                    spec: {addresses: [10.77.0.200/32, 'fd77::200/128']}\n---\n\
                    apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\n\
                    metadata: {name: l2, namespace: metallb-system}\nspec: {ipAddressPools: [pool]}\n---\n"
        .to_owned();
    for (at, (version, _, service, own)) in BEHIND.into_iter().enumerate() {
        text += &format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: s{at}\n  namespace: default\n  \
             annotations: {{gatehouse.io/proxy-protocol: {version}, metallb.io/allow-shared-ip: all, \
             metallb.io/loadBalancerIPs: '{}'}}\n\
             spec: {{type: LoadBalancer, ipFamilyPolicy: RequireDualStack, ports: [{{port: {service}}}]}}\n---\n",
            VIPS.join(",")
        );
        // The family of the way to the server is not that of the client, half of the time.
        let ip = if at % 2 == 0 { server.v4().to_string() } else { server.v6().to_string() };
        let family = if at % 2 == 0 { "IPv4" } else { "IPv6" };
        text += &format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s{at}-1, namespace: default, labels: {{kubernetes.io/service-name: s{at}}}}}\n\
             addressType: {family}\nports: [{{port: {own}}}]\nendpoints: [{{addresses: ['{ip}']}}]\n---\n"
        );
    }
    let _behind = behind(&server, folder.path());
    let _front = front(&front_host, folder.path());
    let prefix = gateway_host.prefix();
    let via: Vec<&str> = prefix.iter().map(String::as_str).collect();
    let (four, six) = (front_host.v4().to_string(), front_host.v6().to_string());
    let trust = ["--proxy-protocol-from", &four, "--proxy-protocol-from", &six];
    let gateway = Plan::default().manifest("s.yaml", text).via(&via).args(&trust).spawn();

    let own = [client.v4().to_string(), client.v6().to_string()];
    for (at, (version, server, ..)) in BEHIND.into_iter().enumerate() {
        for (name, port) in FRONTS {
            for (family, ip) in [&four, &six].into_iter().enumerate() {
                let port = port + 10 * at as u16;
                let url = format!("http://{}:{port}/", bracketed(ip));
                let text = wait::eventually(&format!("{name}, then {server} by {version}"), || {
                    let (good, text) = client.output(&["curl", "-fsS", "-m", "20", &url]).unwrap();
                    if good { Ok(text) } else { Err(text + &gateway.output()) }
                });
                // The client's address, and the port of the load balancer that it has asked.
                assert_eq!(
                    text.trim(),
                    format!("{} {port}", own[family]),
                    "{name}, then {server} by {version}"
                );
            }
        }
    }
    // Who is not trusted and sends a header is a client like others: its header is not read.
    let url = format!("http://{}:{}/", VIPS[0], BEHIND[0].2);
    let (_, text) =
        client.output(&["curl", "-sS", "-m", "20", "--haproxy-protocol", &url]).unwrap();
    assert!(!text.starts_with("10."), "{text}");
    // Who is trusted and sends none is ended.
    let (good, text) = front_host.output(&["curl", "-sS", "-m", "20", &url]).unwrap();
    assert!(!good, "{text}");
}
