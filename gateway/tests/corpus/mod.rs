//! The HTTP/1.1 corpus as a table: raw bytes in, statuses out, and what a backend may see.
//!
//! Read by `http1_corpus.rs` and, as a source of trouble, by `storm.rs`. A case states its expectation; [`run`] plays it, probes the gateway
//! three times and judges. A case that nobody could fail does not belong here: the byte tunnel of
//! the self-test shows which ones see danger.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the kit")]

pub mod body;
pub mod fields;
pub mod framing;
pub mod host;
pub mod limits;
pub mod line;
pub mod path;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use gatehouse_testbed::gatehouse::{
    backend::{Record, Request},
    bed::{Bed, Seen},
    client::{End, Exchange, Step, Want, exchange},
    show,
};

/// In a list of statuses: the connection may be closed without an answer.
pub const CLOSED: u16 = 0;

/// What one forwarded request must look like.
pub type Check = Box<dyn Fn(&Request) -> Result<(), String> + Send + Sync>;

/// What the backends may see.
pub enum Expect {
    /// Not a byte.
    Nothing,
    /// No whole request; the beginning of one is fine (bodies are streamed).
    NoneWhole,
    /// Exactly these requests, all at one backend.
    Requests(Vec<Vec<Check>>),
    /// Either nothing or exactly one request like this.
    AtMostOne(Vec<Check>),
}

/// One row of the corpus.
pub struct Case {
    pub name: String,
    pub steps: Vec<Step>,
    /// Allowed statuses of each expected response.
    pub statuses: Vec<Vec<u16>>,
    /// The connection must end after the last response.
    pub closes: bool,
    pub expect: Expect,
    /// The backend that may see it.
    pub backend: &'static str,
    /// The peer address in `X-Forwarded-For` is checked unless a case is about it.
    pub checks_forwarded: bool,
}

/// These bytes must be refused with one of `statuses` and never reach a backend.
pub fn refuse(name: &str, bytes: impl AsRef<[u8]>, statuses: &[u16]) -> Case {
    Case {
        name: name.into(),
        steps: vec![Step::Send(bytes.as_ref().to_vec())],
        statuses: vec![statuses.to_vec()],
        closes: false,
        expect: Expect::Nothing,
        backend: "app",
        checks_forwarded: true,
    }
}

/// These bytes must be served: 200, and exactly one request that passes the checks added.
pub fn serve(name: &str, bytes: impl AsRef<[u8]>) -> Case {
    Case { expect: Expect::Requests(vec![vec![]]), ..refuse(name, bytes, &[200]) }
}

/// These bytes may be refused with one of `statuses` or served as exactly one clean request.
pub fn either(name: &str, bytes: impl AsRef<[u8]>, statuses: &[u16]) -> Case {
    let mut case = Case { expect: Expect::AtMostOne(vec![]), ..refuse(name, bytes, statuses) };
    case.statuses[0].push(200);
    case
}

impl Case {
    /// A protective timeout may be what ends it.
    pub fn may_time_out(&self) -> bool {
        self.statuses.iter().flatten().any(|status| *status == 408)
    }

    /// The connection must be closed by the gateway.
    pub fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    /// A beginning of the request may reach the backend, never the whole.
    pub fn may_begin(mut self) -> Self {
        self.expect = Expect::NoneWhole;
        self
    }

    /// Another step of the client's.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// One more response and, when it is a 200, one more request at the backend.
    pub fn and(mut self, statuses: &[u16]) -> Self {
        self.statuses.push(statuses.to_vec());
        if statuses.contains(&200)
            && let Expect::Requests(requests) = &mut self.expect
        {
            requests.push(vec![]);
        }
        self
    }

    /// Another backend than `app` serves it.
    pub fn by(mut self, backend: &'static str) -> Self {
        self.backend = backend;
        self
    }

    /// Adds a check of the last expected request.
    pub fn check(
        mut self,
        check: impl Fn(&Request) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        match &mut self.expect {
            Expect::Requests(requests) => {
                if let Some(last) = requests.last_mut() {
                    last.push(Box::new(check));
                }
            }
            Expect::AtMostOne(checks) => checks.push(Box::new(check)),
            Expect::Nothing | Expect::NoneWhole => panic!("{}: nothing to check", self.name),
        }
        self
    }

    /// The target that the backend must see.
    pub fn target(self, target: &str) -> Self {
        let target = target.to_owned();
        self.check(move |r| same("target", &r.target, &target))
    }

    /// The body that the backend must see.
    pub fn body(self, body: &[u8]) -> Self {
        let body = body.to_vec();
        self.check(move |r| same("body", &show(&r.body), &show(&body)))
    }

    /// The one value that a field must have at the backend.
    pub fn field(self, name: &'static str, value: &str) -> Self {
        let value = value.to_owned();
        self.check(move |r| same(name, &r.all(name), &vec![value.clone()]))
    }

    /// A field that must not reach the backend.
    pub fn without(self, name: &'static str) -> Self {
        self.check(move |r| same(name, &r.all(name), &Vec::<String>::new()))
    }
}

/// A GET for `good.test` with these extra field lines, each ending in CRLF.
pub fn get(target: &str, extra: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: good.test\r\n{extra}\r\n").into_bytes()
}

/// A POST for `good.test` with these extra field lines and this body.
pub fn post(extra: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = format!("POST /p HTTP/1.1\r\nHost: good.test\r\n{extra}\r\n").into_bytes();
    bytes.extend_from_slice(body.as_ref());
    bytes
}

/// Every case of the corpus.
pub fn all() -> Vec<Case> {
    let classes = [
        framing::cases(),
        body::cases(),
        line::cases(),
        fields::cases(),
        host::cases(),
        path::cases(),
        limits::cases(),
    ];
    classes.into_iter().flatten().collect()
}

/// Every case again, behind an honest request in the same segment: what looks at raw bytes must also
/// look at the second request of a connection.
pub fn all_after_an_honest_one() -> Vec<Case> {
    let honest = get("/probe-first", "");
    let to_head = |case: &Case| matches!(&case.steps[0], Step::Send(b) if b.starts_with(b"HEAD "));
    let mut cases = all();
    cases.retain(|case| !to_head(case));
    for case in &mut cases {
        case.name.push_str(" after an honest one");
        case.statuses.insert(0, vec![200]);
        if let Step::Send(bytes) = &mut case.steps[0] {
            bytes.splice(0..0, honest.iter().copied());
        }
    }
    cases
}

/// Every case again, in pieces of a few bytes: where segments end must not matter.
pub fn all_in_pieces() -> Vec<Case> {
    let mut cases = all();
    for case in &mut cases {
        case.name.push_str(" in pieces");
        let steps = std::mem::take(&mut case.steps);
        for step in steps {
            let Step::Send(bytes) = step else {
                case.steps.push(step);
                continue;
            };
            let size = if bytes.len() < 1_000 { 1 + case.name.len() % 3 } else { 997 };
            for piece in bytes.chunks(size) {
                case.steps.push(Step::Send(piece.to_vec()));
                case.steps.push(Step::Pause(Duration::from_micros(50)));
            }
        }
    }
    cases
}

/// Runs every case on one of `beds` (in parallel, each bed one case at a time) and returns what
/// went wrong, by case name.
pub fn run(beds: &[Bed], cases: &[Case], limit: Duration) -> Vec<(String, String)> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for bed in beds {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = run_one(bed, case, limit) {
                        failures.lock().unwrap().push((case.name.clone(), why));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    failures
}

fn run_one(bed: &Bed, case: &Case, limit: Duration) -> Result<(), String> {
    drop(bed.take());
    let want = Want { responses: case.statuses.len(), close: case.closes, limit };
    let answered = exchange(bed.http, &case.steps, want);
    let healthy = bed.probe();
    let seen = bed.take();
    let verdict = healthy
        .and_then(|()| judge_answer(case, &answered))
        .and_then(|()| judge_backends(case, &seen));
    verdict.map_err(|why| {
        let sent: Vec<u8> = case
            .steps
            .iter()
            .flat_map(|s| if let Step::Send(b) = s { &b[..] } else { &[] })
            .copied()
            .collect();
        format!(
            "{why}\n  sent: {}\n  got{}: {}\n{}",
            show(&sent),
            if answered.closed { " (then closed)" } else { "" },
            show(&answered.received),
            seen.describe()
        )
    })
}

fn judge_answer(case: &Case, answered: &Exchange) -> Result<(), String> {
    if let Some(what) = &answered.violation {
        return Err(format!("the client was sent what is no HTTP: {what}"));
    }
    for (n, allowed) in case.statuses.iter().enumerate() {
        match answered.responses.get(n) {
            Some(r) if !allowed.contains(&r.status) => {
                return Err(format!("response {n} has status {}, not {allowed:?}", r.status));
            }
            Some(r) if r.end == End::Cut => return Err(format!("response {n} is cut")),
            Some(_) => {}
            None if allowed.contains(&CLOSED) && answered.closed => return Ok(()),
            None => return Err(format!("no response {n}, expected one of {allowed:?}")),
        }
    }
    if answered.responses.len() > case.statuses.len() {
        return Err(format!("{} responses: more than were asked", answered.responses.len()));
    }
    if case.closes && !answered.closed {
        return Err("the connection was left open".into());
    }
    Ok(())
}

fn judge_backends(case: &Case, seen: &Seen) -> Result<(), String> {
    let mut mine = &Vec::new();
    for (name, records) in [("app", &seen.app), ("other", &seen.other), ("secret", &seen.secret)] {
        if name == case.backend {
            mine = records;
        } else if !records.is_empty() {
            return Err(format!("misrouted: backend {name} saw something"));
        }
    }
    let mut requests = Vec::new();
    for record in mine {
        match (record, &case.expect) {
            (Record::Violation { what, .. }, _) => return Err(format!("backend judged: {what}")),
            (Record::Incomplete { .. }, Expect::NoneWhole) => {}
            (Record::Incomplete { .. }, _) => return Err("the backend saw half a request".into()),
            (Record::Request(r), _) => requests.push(&**r),
        }
    }
    let none: &[Vec<Check>] = &[];
    let wanted = match &case.expect {
        Expect::Nothing | Expect::NoneWhole => none,
        Expect::Requests(wanted) => wanted,
        Expect::AtMostOne(_) if requests.is_empty() => none,
        Expect::AtMostOne(checks) => std::slice::from_ref(checks),
    };
    if requests.len() != wanted.len() {
        return Err(format!("{} requests at the backend, not {}", requests.len(), wanted.len()));
    }
    for (request, checks) in requests.iter().zip(wanted) {
        judge_request(case, request)?;
        for check in checks {
            check(request)?;
        }
    }
    Ok(())
}

/// What holds for every request that is forwarded, whatever the case is about.
fn judge_request(case: &Case, request: &Request) -> Result<(), String> {
    if !request.leaks.is_empty() {
        return Err(format!("relayed to the backend: {:?}", request.leaks));
    }
    if case.checks_forwarded {
        same("X-Forwarded-For", &request.all("x-forwarded-for"), &vec!["127.0.0.1".to_owned()])?;
        same("X-Forwarded-Proto", &request.all("x-forwarded-proto"), &vec!["http".to_owned()])?;
        same("X-Real-IP", &request.all("x-real-ip"), &vec!["127.0.0.1".to_owned()])?;
        same("X-Request-ID fields", &request.all("x-request-id").len(), &1)?;
        same("X-Forwarded-Host", &request.all("x-forwarded-host"), &request.all("host"))?;
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, wanted: &T) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{what} is {got:?}, not {wanted:?}")) }
}
