//! `convert`: the manifests of one kind of router as those of another, as a stream of YAML.
//!
//! [`gatehouse_routes::convert`] makes them; here they are read and printed.

use std::process::ExitCode;

use gatehouse_routes::{
    convert::{self, Converted},
    problem::Problem,
};

use super::planned;
use crate::{
    cli::{ConvertArgs, Direction},
    compile::NodeContext,
};

/// Runs the command.
///
/// # Errors
/// Paths that are not there.
pub(super) fn run(arguments: &ConvertArgs, out: &mut String) -> anyhow::Result<ExitCode> {
    let read = planned(&arguments.paths, NodeContext::default())?;
    let objects = &read.state.objects;
    let converted = match arguments.direction {
        Direction::IngressToRoute => convert::routes(objects),
        Direction::RouteToIngress => convert::ingresses(objects, arguments.class.as_deref()),
    };
    for line in &read.unreadable {
        comment(out, &format!("not read: {line}"));
    }
    print(&converted, out)?;
    // What was not read was not converted, nor what would be open.
    let whole = read.unreadable.is_empty() && !converted.problems.iter().any(Problem::is_error);
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(converted: &Converted, out: &mut String) -> anyhow::Result<()> {
    for problem in &converted.problems {
        let Problem { object, field, message, hint, .. } = problem;
        let error = if problem.is_error() { "error: " } else { "" };
        comment(out, &format!("{error}{object} {field}: {message}; {hint}"));
    }
    for manifest in &converted.manifests {
        out.push_str("---\n");
        out.push_str(&serde_saphyr::to_string(manifest)?);
    }
    Ok(())
}

fn comment(out: &mut String, text: &str) {
    for line in text.lines() {
        out.push_str(&format!("# {line}\n"));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    #[test]
    fn what_is_printed_can_be_read_again_and_what_is_lost_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| -> PathBuf {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let service = file(
            "s.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: app, namespace: d}\nspec: {ports: [{name: web, port: 80}]}\n",
        );
        let ingress = file(
            "i.yaml",
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: shop, namespace: d}\nspec: {rules: [{host: shop.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}, {path: /x, pathType: Exact, backend: {service: {name: app, port: {number: 80}}}}]}}]}\n",
        );
        let convert = |direction, paths: Vec<PathBuf>| {
            let mut out = String::new();
            let arguments = ConvertArgs { direction, class: None, paths };
            assert_eq!(run(&arguments, &mut out).unwrap(), ExitCode::SUCCESS);
            out
        };
        let routes = convert(Direction::IngressToRoute, vec![service.clone(), ingress]);
        assert!(
            routes.contains("# Ingress d/shop spec.rules[0].http.paths[1].pathType: "),
            "{routes}"
        );
        let closed = file(
            "c.yaml",
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: closed, namespace: d, annotations: {nginx.ingress.kubernetes.io/auth-url: 'http://a.b/'}}\nspec: {rules: [{host: shop.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}]}}]}\n",
        );
        let mut out = String::new();
        let direction = Direction::IngressToRoute;
        let arguments = ConvertArgs { direction, class: None, paths: vec![closed] };
        assert_eq!(run(&arguments, &mut out).unwrap(), ExitCode::FAILURE);
        assert!(
            out.starts_with("# error: Ingress d/closed ") && !out.contains("kind: Route"),
            "{out}"
        );
        let routes = file("r.yaml", &routes);
        let back = convert(Direction::RouteToIngress, vec![service, routes]);
        let read: serde_json::Value =
            serde_saphyr::from_str(back.trim_start_matches("---\n")).unwrap();
        assert_eq!(read["spec"]["rules"][0]["host"], "shop.com", "{back}");
        let service = &read["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"];
        assert_eq!(service["port"]["number"], 80, "{back}");
    }
}
