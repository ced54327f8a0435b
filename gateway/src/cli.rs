//! The command line: subcommands and their arguments.
//!
//! `main` calls [`parse`] and dispatches; `run` and `status` belong to the process, everything else to
//! [`plan`](crate::plan). The flags of `run` are [`Settings`] themselves.

use std::{net::SocketAddr, path::PathBuf};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use gatehouse_routes::{networks::Network, objects::ObjectKey, options::EncodedSlashes};

use crate::{
    config::{Listen, RouteSettings, Settings, TlsSettings, listen, object_key, socket},
    crds,
};

/// Exit code of a command line that makes no sense (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// One process per node that owns the front door: virtual IPs, TLS, and HTTP routing from Ingress and
/// Route objects.
#[derive(Debug, Parser)]
#[command(name = "gatehouse", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: claim addresses, terminate TLS, route requests.
    Run(Box<Settings>),
    /// Dry run: addresses, routes, statuses and problems that the manifests give.
    Plan(PlanArgs),
    /// Problems only; exit code 1 if one of them is an error: closed, refused, or answered otherwise than asked.
    Check(CheckArgs),
    /// What becomes of each Ingress and each Route that another controller serves today: honoured, equal with a
    /// note, different, closed, and what to do. Exit code 1 if one of them differs or is closed.
    Migrate(MigrateArgs),
    /// Which rule answers a request, and why the others do not.
    Explain(ExplainArgs),
    /// The same in other words: Ingresses as Routes, or Routes as Ingresses. What the other kind cannot say stands
    /// in comments; where it would keep clients out, the object is left out. Exit code 1 if one is left out.
    Convert(ConvertArgs),
    /// What a running node does: addresses and their owners, group, listeners, pools, problems.
    Status(StatusArgs),
    /// The custom resource definitions as YAML, and the admission policies that belong to them.
    Crds(CrdsArgs),
    /// The version of this program.
    Version,
    /// Reference pages in Markdown, made from the tables that the program itself uses.
    #[command(hide = true)]
    Docs(DocsArgs),
}

/// What all commands that read manifests without serving them share.
#[derive(Clone, Debug, clap::Args)]
pub struct ManifestArgs {
    /// Name of an IngressClass that is served whatever its controller. May repeat.
    #[arg(long = "claim-class", value_name = "NAME")]
    pub claim_classes: Vec<String>,
    /// The ConfigMap of ingress-nginx that says what holds for every Ingress, as for `run`.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key)]
    pub nginx_config: Option<ObjectKey>,
    /// The ConfigMap with texts for errors, as for `run`.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key)]
    pub error_pages: Option<ObjectKey>,
    /// The Service that answers requests which no rule is for, as for `run`.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key)]
    pub default_backend: Option<ObjectKey>,
    /// Snippets of nginx are read, as for `run`.
    #[arg(long)]
    pub understand_snippets: bool,
    /// Domain of the hosts that are made for Routes without one.
    #[arg(long, value_name = "DOMAIN")]
    pub route_domain: Option<String>,
    /// Which Routes are served, and who may have which host.
    #[command(flatten)]
    pub routes: RouteSettings,
    /// What TLS clients may speak.
    #[command(flatten)]
    pub tls: TlsSettings,
    /// The Service whose addresses serve every IngressClass without parameters.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key)]
    pub gateway_service: Option<ObjectKey>,
    /// Address and port for clear-text HTTP, as for `run`. May repeat.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    pub http: Vec<Listen>,
    /// Address and port for HTTPS, as for `run`. May repeat.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    pub https: Vec<Listen>,
    /// What becomes of requests whose path holds an encoded slash, as for `run`.
    #[arg(long, value_name = "POLICY", default_value = "safe")]
    pub encoded_slashes: EncodedSlashes,
    /// Networks in which `spec.externalIPs` of Services may be, as for `run`.
    #[arg(long = "external-ips", value_name = "CIDR", num_args = 1, value_parser = str::parse::<Network>)]
    pub external_ips: Vec<Network>,
    /// Name of the node to plan for. Default: the host name.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Folder whose recorded addresses the Services keep. Default: none.
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Arguments of `plan`.
#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Shared by the commands that read manifests.
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// Files and folders of manifests; `-` is standard input.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// Arguments of `check`.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// Shared by the commands that read manifests.
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// Exit code 1 for warnings, too.
    #[arg(long)]
    pub strict: bool,
    /// Files and folders of manifests; `-` is standard input.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// Arguments of `migrate`.
#[derive(Clone, Debug, clap::Args)]
pub struct MigrateArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ReportForm,
    /// Shared by the commands that read manifests. Without --claim-class, the classes of ingress-nginx are read.
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// Reads the objects of this context's API server instead of files. Nothing is written there.
    #[arg(
        long,
        value_name = "CONTEXT",
        conflicts_with = "paths",
        required_unless_present = "paths"
    )]
    pub context: Option<String>,
    /// The kubeconfig file that has the context. Default: $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE", requires = "context")]
    pub kubeconfig: Option<PathBuf>,
    /// Requests to the controller that serves today.
    #[command(flatten)]
    pub shadow: ShadowArgs,
    /// Files and folders of manifests; `-` is standard input.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// Arguments of `migrate --shadow`.
#[derive(Clone, Debug, clap::Args)]
pub struct ShadowArgs {
    /// Asks the controller that serves today at this address (`http://HOST:PORT`, or `https://HOST:PORT`: then by TLS
    /// under the name of each request's host), and tells where this gateway would
    /// answer otherwise: by status and Location, as far as the rules alone say it. Only GET and HEAD are sent, nowhere
    /// else.
    #[arg(long, value_name = "URL")]
    pub shadow: Option<String>,
    /// Asks this gateway, which runs and has the same backends, as well, and compares the whole heads of answers.
    #[arg(long, value_name = "URL", requires = "shadow")]
    pub beside: Option<String>,
    /// Certificates of https addresses are not verified, as curl has it. Default: by the authorities of this host.
    #[arg(short = 'k', long, requires = "shadow")]
    pub insecure: bool,
    /// File with requests, `HOST/PATH` or a URL in each line, `HEAD` or `GET` before it. Default: every path of every host.
    #[arg(long, value_name = "FILE", requires = "shadow")]
    pub requests: Option<PathBuf>,
    /// Requests at most.
    #[arg(long, value_name = "COUNT", default_value_t = 1000, requires = "shadow")]
    pub shadow_limit: usize,
    /// Requests per second at most.
    #[arg(long, value_name = "RATE", default_value_t = 20, requires = "shadow")]
    pub shadow_rate: u32,
    /// Seconds after which no more are sent.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "shadow")]
    pub shadow_time: u64,
}

/// How to print a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportForm {
    /// For people, at a terminal.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For people, as a page.
    Html,
}

/// Arguments of `explain`.
#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// A header of the request, such as `Host: example.com`. May repeat.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Address that the request comes from. Default: every address may pass.
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<std::net::IpAddr>,
    /// Server name (SNI) of its handshake. Default: the host of the URL, unless that is an address.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// The gateway Service to whose addresses the request comes. Default: found by the address or the port of
    /// the URL.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key)]
    pub gateway: Option<ObjectKey>,
    /// Lists the rules of other hosts, too.
    #[arg(long)]
    pub all: bool,
    /// Shared by the commands that read manifests.
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// Files and folders of manifests, `-` for standard input, and the URL of the request behind them.
    #[arg(required = true, value_name = "PATH or URL")]
    pub paths_and_url: Vec<String>,
}

/// Arguments of `convert`.
#[derive(Clone, Debug, clap::Args)]
pub struct ConvertArgs {
    /// What is to become of what.
    #[arg(value_enum, value_name = "DIRECTION")]
    pub direction: Direction,
    /// Class of the Ingresses that are made. Default: they name none.
    #[arg(long, value_name = "NAME")]
    pub class: Option<String>,
    /// Files and folders of manifests, `-` for standard input, those of the Services included: their ports are looked up.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// What is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// Ingresses become Routes, one for each path, as OpenShift makes them.
    IngressToRoute,
    /// Routes become Ingresses, with canaries for alternate backends and Secrets for certificates.
    RouteToIngress,
}

/// Arguments of `status`.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    /// Admin address of the node to ask.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9901", value_parser = socket)]
    pub admin: SocketAddr,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Prints nothing; exit code 0 if the node is alive, or ready to serve. For probes of a Pod.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub probe: Option<Probe>,
    /// With --probe: unique id of the Pod that must be the one that answers. Default: the environment
    /// variable POD_UID, or any.
    #[arg(long, value_name = "UID", env = "POD_UID", hide_env_values = true)]
    pub pod_uid: Option<String>,
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// Whether the process works at all.
    Live,
    /// Whether it serves.
    Ready,
}

/// Arguments of `crds`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct CrdsArgs {
    /// Only these: metallb.io, or route.openshift.io. Default: all.
    #[arg(long, value_enum, value_name = "GROUP")]
    pub only: Option<crds::Group>,
}

/// Arguments of `docs`.
#[derive(Clone, Debug, clap::Args)]
pub struct DocsArgs {
    /// Which page.
    #[arg(value_enum)]
    pub page: Page,
}

/// A reference page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// Command line flags (`docs/flags.md`).
    Flags,
    /// Annotations (`docs/annotations.md`).
    Annotations,
    /// Metrics (`docs/metrics.md`).
    Metrics,
    /// Keys of ingress-nginx' ConfigMap (`docs/nginx-config.md`).
    NginxConfig,
}

/// Reads the command line of this process. Does not return if it makes no sense (exit code 64) or asks
/// for help.
pub fn parse() -> Command {
    match try_parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
                _ => EXIT_USAGE,
            };
            // A closed pipe is the only way this can fail, and then there is nobody to tell.
            let _ = error.print();
            std::process::exit(code.into());
        }
    }
}

/// Reads a command line, the program's name first.
pub fn try_parse<I>(arguments: I) -> Result<Command, clap::Error>
where
    I: IntoIterator,
    I::Item: Into<std::ffi::OsString> + Clone,
{
    let mut command = Cli::try_parse_from(arguments)?.command;
    match &mut command {
        Command::Run(settings) => {
            let paths = std::mem::take(&mut settings.paths);
            settings.manifests.extend(paths);
            settings.access_log.take_if(|file| file.as_os_str() == STANDARD);
        }
        Command::Plan(PlanArgs { paths, .. })
        | Command::Check(CheckArgs { paths, .. })
        | Command::Migrate(MigrateArgs { paths, .. })
        | Command::Convert(ConvertArgs { paths, .. }) => {
            let standard = paths.iter_mut().filter(|path| path.as_os_str() == STANDARD);
            standard.for_each(|path| *path = STANDARD_INPUT.into());
        }
        Command::Explain(ExplainArgs { paths_and_url, .. }) => {
            let standard = paths_and_url.iter_mut().filter(|path| *path == STANDARD);
            standard.for_each(|path| *path = STANDARD_INPUT.to_owned());
        }
        _ => (),
    }
    Ok(command)
}

/// What stands for standard input or output where a file is named.
const STANDARD: &str = "-";
/// The file that it is.
const STANDARD_INPUT: &str = "/dev/stdin";

/// The definition of all subcommands and flags, for the reference page.
pub fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn objects_come_from_manifests_or_from_the_api_server() {
        let words = "gatehouse run --manifests a --kubeconfig b";
        let error = try_parse(words.split(' ')).unwrap_err().to_string();
        assert!(error.contains("--manifests") && error.contains("--kubeconfig"), "{error}");
        assert!(try_parse(["gatehouse", "run"]).is_ok());
    }

    #[test]
    fn run_takes_its_paths_as_the_commands_do_that_only_read_them() {
        for words in [
            "run a b",
            "run --manifests a b",
            "run --manifests a --node n b",
            "run a --manifests b",
        ] {
            let words = format!("gatehouse {words} --http :80");
            let Command::Run(settings) = try_parse(words.split(' ')).unwrap() else { panic!() };
            let mut paths = settings.manifests.clone();
            paths.sort();
            assert_eq!(paths, [PathBuf::from("a"), PathBuf::from("b")], "{words}");
        }
        for flag in ["--kubeconfig", "--context", "--watch-namespace", "--namespace-selector"] {
            let error = try_parse(["gatehouse", "run", "a", flag, "b"]).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains("PATH"), "{error}");
        }
    }

    #[test]
    fn a_hyphen_is_standard_input_or_output() {
        for words in ["check - b", "plan - b", "migrate - b", "convert ingress-to-route - b"] {
            let words = format!("gatehouse {words}");
            let paths = match try_parse(words.split(' ')).unwrap() {
                Command::Check(arguments) => arguments.paths,
                Command::Plan(arguments) => arguments.paths,
                Command::Migrate(arguments) => arguments.paths,
                Command::Convert(arguments) => arguments.paths,
                _ => panic!("{words}"),
            };
            assert_eq!(paths, [PathBuf::from("/dev/stdin"), PathBuf::from("b")], "{words}");
        }
        let words = ["gatehouse", "explain", "-", "http://c/"];
        let Command::Explain(arguments) = try_parse(words).unwrap() else { panic!() };
        assert_eq!(arguments.paths_and_url, ["/dev/stdin", "http://c/"]);
        for (file, wanted) in [("-", None), ("./-", Some(PathBuf::from("./-")))] {
            let words = ["gatehouse", "run", "a", "--access-log", file];
            let Command::Run(settings) = try_parse(words).unwrap() else { panic!() };
            assert_eq!(settings.access_log, wanted);
        }
    }

    #[test]
    fn explain_takes_paths_first_and_the_url_last() {
        for words in [
            "a b http://c/ -H Host:d -o json",
            "-H Host:d a -o json b http://c/",
            "a b -o json -H Host:d http://c/",
        ] {
            let all = ["gatehouse", "explain"].into_iter().chain(words.split(' '));
            let Command::Explain(arguments) = try_parse(all).unwrap() else { panic!() };
            assert_eq!(arguments.paths_and_url, ["a", "b", "http://c/"], "{words}");
            assert_eq!(arguments.headers, ["Host:d"]);
            assert_eq!(arguments.output, Output::Json);
        }
    }

    #[test]
    fn commands_that_read_manifests_need_a_path() {
        for command in ["plan", "check"] {
            assert!(try_parse(["gatehouse", command]).is_err());
            assert!(try_parse(["gatehouse", command, "a", "b"]).is_ok());
        }
    }
}
