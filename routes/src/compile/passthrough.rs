//! Which object has the TLS of a host: whether it ends here or is passed through.

use foldhash::{HashMap, HashSet};

use crate::{
    model::HostPattern, objects::ObjectRef, passthrough::PassThroughTable, problem::Problem,
    translate::Translation,
};

/// The table of these objects, oldest first, and what is wrong with those that do not get their host: a host is
/// either terminated or passed on, as the oldest object says that asks for its TLS.
pub(super) fn table<'t>(
    objects: impl Iterator<Item = &'t Translation>,
) -> (PassThroughTable, Vec<Problem>) {
    let (mut table, mut problems) = (PassThroughTable::default(), Vec::new());
    let mut terminated: HashSet<&HostPattern> = HashSet::default();
    let mut passed: HashMap<&HostPattern, &ObjectRef> = HashMap::default();
    for translation in objects {
        let object = &translation.object;
        let through = |host: &HostPattern, older: &ObjectRef| {
            format!("TLS of {host} is passed through for {older}, which is older")
        };
        for pass in &translation.passthrough {
            let host = &pass.host;
            if terminated.contains(host) {
                let what = format!("TLS of {host} ends here for an older object");
                problems.push(lost(object, &what, "it is not passed through"));
            } else if let Some(older) = passed.get(host) {
                problems.push(lost(object, &through(host, older), "it does not come here"));
            } else {
                passed.insert(host, object);
                table.insert(pass);
            }
        }
        for host in translation.terminates() {
            match passed.get(host) {
                None => {
                    terminated.insert(host);
                }
                Some(older) if *older != object => {
                    let so = "no request over TLS comes here";
                    problems.push(lost(object, &through(host, older), so));
                }
                Some(_) => {}
            }
        }
    }
    (table, problems)
}

fn lost(object: &ObjectRef, what: &str, so: &str) -> Problem {
    let field = if object.kind == "Route" { "spec.tls.termination" } else { "spec.tls" };
    let message = format!("{what}, so {so}");
    let hint = "choose another host, or end TLS in the same way for all objects of the host";
    Problem::error(object, "PassthroughConflict", field, message, hint)
}
