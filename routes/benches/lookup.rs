//! What a lookup costs: the route table beside a radix tree (`matchit`) with the same paths.
//!
//! `cargo bench -p gatehouse-routes` prints, per case, nanoseconds of one lookup: the median and the best
//! of 15 rounds, the two engines in turn. `-- CASE ENGINE COUNT` does COUNT lookups and prints nothing, for
//! a profiler: the difference of two counts is what one lookup takes in instructions.
//! `docs/ARCHITECTURE.md` says what came of it.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark reads the clock and prints"
)]

use std::{collections::HashMap, env, hint::black_box, sync::Arc, time::Instant};

use foldhash::fast::RandomState;
use gatehouse_routes::{
    compile::compile,
    matcher::RequestView,
    model::Scheme,
    objects::{ObjectKey, Objects, SourceTrust, Stored},
    options::Options,
    table::RouteTable,
};
use http::request::Parts;
use serde_json::{Value, json};

/// Rounds of each engine and case.
const ROUNDS: usize = 15;
/// Lookups of one round.
const LOOKUPS: usize = 50_000;
const HOST: &str = "shop.example.com";

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let cases = cases();
    match &*arguments {
        [case, engine, count] => {
            let case = cases.iter().find(|known| known.name == *case).expect("a case's name");
            let count = count.parse().expect("a number of lookups");
            match &**engine {
                "table" => case.table(count),
                "radix" => case.radix(count),
                _ => panic!("the engines are table and radix"),
            }
        }
        _ => cases.iter().for_each(Case::measure),
    }
}

/// Paths of one host and what is asked of them.
struct Case {
    name: String,
    table: Arc<RouteTable>,
    radix: Radix,
    requests: Vec<String>,
    parts: Parts,
}

/// A tree per host; a value is the chain of rules from the most specific to the least.
struct Radix {
    hosts: HashMap<Box<str>, matchit::Router<Box<[u32]>>, RandomState>,
}

impl Case {
    fn new(name: String, prefixes: &[String], requests: Vec<String>) -> Self {
        let (parts, ()) = http::Request::new(()).into_parts();
        let (table, radix) = (table(prefixes), Radix::new(prefixes));
        let case = Self { name, table, radix, requests, parts };
        for request in &case.requests {
            let length = |path: &str| path.strip_suffix('/').unwrap_or(path).len();
            let table = case.table.lookup(&case.view(request));
            let table = table.map(|matched| length(matched.rule.matches.path.text()));
            let radix = case.radix.find(HOST, request);
            let radix = radix.map(|rule| length(&prefixes[rule as usize]));
            assert_eq!(table, radix, "{} {request}", case.name);
        }
        case
    }

    fn view<'r>(&'r self, path: &'r str) -> RequestView<'r> {
        RequestView { scheme: Scheme::Http, host: HOST, path, parts: &self.parts }
    }

    fn measure(&self) {
        let (mut table, mut radix) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            table.push(nanoseconds(|| self.table(LOOKUPS)));
            radix.push(nanoseconds(|| self.radix(LOOKUPS)));
        }
        table.sort_by(f64::total_cmp);
        radix.sort_by(f64::total_cmp);
        println!(
            "{:<32} table {:6.1} (best {:6.1}) ns   radix {:6.1} (best {:6.1}) ns",
            self.name,
            table[ROUNDS / 2],
            table[0],
            radix[ROUNDS / 2],
            radix[0],
        );
    }

    fn table(&self, count: usize) {
        for request in self.requests.iter().cycle().take(count) {
            black_box(self.table.lookup(black_box(&self.view(request))));
        }
    }

    fn radix(&self, count: usize) {
        for request in self.requests.iter().cycle().take(count) {
            black_box(self.radix.find(black_box(HOST), request));
        }
    }
}

impl Radix {
    fn new(prefixes: &[String]) -> Self {
        let mut tree = matchit::Router::new();
        for path in prefixes {
            let parents = prefixes.iter().enumerate().filter(|(_, parent)| {
                let rest = path.strip_prefix(parent.strip_suffix('/').unwrap_or(parent));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            let mut chain: Vec<_> = parents.map(|(at, parent)| (parent.len(), at as u32)).collect();
            chain.sort_unstable_by(|a, b| b.cmp(a));
            let chain: Box<[u32]> = chain.into_iter().map(|(_, at)| at).collect();
            let key = path.strip_suffix('/').unwrap_or(path);
            if !key.is_empty() {
                tree.insert(key, chain.clone()).expect("a path of this file");
            }
            tree.insert(format!("{key}/"), chain.clone()).expect("a path of this file");
            tree.insert(format!("{key}/{{*rest}}"), chain).expect("a path of this file");
        }
        Self { hosts: [(HOST.into(), tree)].into_iter().collect() }
    }

    fn find(&self, host: &str, path: &str) -> Option<u32> {
        self.hosts.get(host)?.at(path).ok()?.value.first().copied()
    }
}

fn nanoseconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / LOOKUPS as f64
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for count in [1, 100, 10_000] {
        let flat: Vec<String> = (0..count).map(|n| format!("/api/v1/service-{n}")).collect();
        // 10 segments, every 10 rules share their parents.
        let deep: Vec<String> = (0..count)
            .map(|n| format!("/a/b/c/d/e/region-{}/g/h/i/service-{}", n / 10, n % 10))
            .collect();
        let mut nested = flat.clone();
        nested.extend(["/".to_owned(), "/api".to_owned()]);
        for (shape, rules) in [("flat", &flat), ("deep", &deep), ("nested", &nested)] {
            let some = || rules.iter().step_by((count / 100).max(1)).take(count.min(100));
            let hits = some().map(|path| format!("{path}/items").replace("//", "/")).collect();
            cases.push(Case::new(format!("{shape}-{count}-hit"), rules, hits));
            // As long as a rule's path, but its last element is no rule's.
            let other = |path: &String| match path.rsplit_once('-') {
                Some((front, _)) => format!("{front}-none/x"),
                None => "/none/of/them/x".to_owned(),
            };
            let name = if shape == "nested" { "parent" } else { "miss" };
            cases.push(Case::new(
                format!("{shape}-{count}-{name}"),
                rules,
                some().map(other).collect(),
            ));
        }
    }
    cases
}

/// The table of one Ingress with these prefixes.
fn table(prefixes: &[String]) -> Arc<RouteTable> {
    let backend = json!({ "service": { "name": "s", "port": { "number": 80 } } });
    let path = |path| json!({ "pathType": "Prefix", "path": path, "backend": backend });
    let paths: Vec<Value> = prefixes.iter().map(path).collect();
    let ingress = json!({
        "metadata": { "name": "a", "namespace": "d" },
        "spec": { "rules": [{ "host": HOST, "http": { "paths": paths } }] },
    });
    let object = serde_json::from_value(ingress).expect("an Ingress");
    let mut objects = Objects::default();
    let stored = Stored::new(Arc::new(object), 0, SourceTrust::default());
    objects.ingresses.insert(ObjectKey::new("d", "a"), stored);
    Arc::clone(&compile(&objects, &Options::default(), None).tables[0].routes)
}
