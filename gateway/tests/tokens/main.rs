//! Tokens (RFC 7519) made by openssl and shown by curl, and services that are asked: who passes, what the backend is
//! told, and what clients are.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend},
        gateway::{Gateway, Plan, free_address},
        issuer::{self, Issuer, Kind},
        manifests::service,
        pki::{Authority, secret},
        tls::Pair,
    },
    wait::{comes_true, eventually},
};

/// What curl got.
#[derive(Debug)]
struct Answer {
    status: u16,
    challenge: String,
}

/// Asks by curl.
fn curl(gateway: &Gateway, host: &str, more: &[&str]) -> Answer {
    let mut command = Command::new("curl");
    let format = "%{http_code} %header{www-authenticate}";
    command.args(["-sS", "-o", "/dev/null", "-w", format, "-H", &format!("Host: {host}")]);
    let output = command.args(more).arg(format!("http://{}/", gateway.http)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (status, challenge) = text.split_once(' ').unwrap();
    Answer { status: status.parse().unwrap(), challenge: challenge.to_owned() }
}

fn with_token(gateway: &Gateway, host: &str, token: &str) -> Answer {
    curl(gateway, host, &["-H", &format!("Authorization: Bearer {token}")])
}

/// An Ingress of a host of its own, named after it.
fn ingress(host: &str, annotations: &[(&str, &str)]) -> String {
    let annotations: String =
        annotations.iter().map(|(name, value)| format!("    {name}: {value:?}\n")).collect();
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {host}\n  namespace: default\n  \
         annotations:\n{annotations}spec:\n  rules:\n  - host: {host}\n    http: {{paths: [{{path: /, pathType: Prefix, \
         backend: {{service: {{name: app, port: {{number: 80}}}}}}}}]}}\n---\n"
    )
}

fn keys(kind: &str, name: &str, set: &str) -> String {
    let field = if kind == "Secret" { "stringData" } else { "data" };
    format!(
        "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\n{field}: {{jwks.json: '{set}'}}\n---\n"
    )
}

fn start(app: SocketAddr, text: &str) -> Gateway {
    Plan::default().manifest("app.yaml", service("app", &[app]) + text).start()
}

#[test]
fn a_token_of_a_known_key_passes_until_it_expires_and_says_who_its_client_is() {
    let app = Backend::echo("app");
    let issuers = [Kind::Rsa, Kind::Ec, Kind::Ed].map(|kind| Issuer::new(kind, kind.name()));
    let stranger = Issuer::new(Kind::Rsa, "RS256");
    let set = Issuer::set(&issuers);
    let annotations = [
        ("gatehouse.io/jwt-jwks-config-map", "keys"),
        ("gatehouse.io/jwt-issuer", "https://login.test"),
        ("gatehouse.io/jwt-audiences", "shop, api"),
        ("gatehouse.io/jwt-require", "role=admin|owner"),
        ("gatehouse.io/jwt-claims-to-headers", "sub=X-User, realm.groups=X-Groups"),
    ];
    let gateway =
        start(app.addr, &(keys("ConfigMap", "keys", &set) + &ingress("a.test", &annotations)));

    let claims = |more: &str| {
        let in_an_hour = issuer::now() + 3_600;
        format!(
            r#"{{"iss": "https://login.test", "aud": ["api"], "exp": {in_an_hour}, "sub": "ann", "role": "admin"{more}}}"#
        )
    };
    let answer = curl(&gateway, "a.test", &[]);
    assert_eq!((answer.status, &*answer.challenge), (401, "Bearer realm=\"a.test\""));
    for issuer in &issuers {
        let token = issuer.sign(&claims(r#", "realm": {"groups": ["dev", "ops"]}"#));
        // The second time it is remembered.
        for _ in 0..2 {
            let forged = ["-H", "X-User: root", "-H", "x_user: root", "-H", "X-Groups: root"];
            let bearer = format!("Authorization: Bearer {token}");
            let answer = curl(&gateway, "a.test", &[&["-H", &bearer], &forged[..]].concat());
            assert_eq!(answer.status, 200, "{issuer:?}: {answer:?}");
            let request = app.requests().pop().unwrap();
            let fields = ["x-user", "x-groups", "x_user"].map(|name| request.all(name).join("|"));
            assert_eq!(fields, ["ann", "dev,ops", ""], "{issuer:?}");
        }
    }
    app.take();

    let over = issuer::now() - 61;
    let soon = issuer::now() + 3_600;
    let [rsa, ec, _] = &issuers;
    let good = ec.sign(&claims(""));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let other = ec.sign(&claims(r#", "x": 1"#));
    let swapped = format!("{header}.{}.{signature}", other.split('.').nth(1).unwrap());
    let unsigned =
        format!("{}.{}.", issuer::encoded(r#"{"alg":"none"}"#), head.split('.').nth(1).unwrap());
    let by_public_key = rsa.sign_with_public_key_as_secret(&claims(""));
    for (what, token, status, why) in [
        (
            "expired",
            rsa.sign(&claims("").replace(&format!("{soon}"), &format!("{over}"))),
            401,
            "expired",
        ),
        ("not valid yet", rsa.sign(&claims(&format!(r#", "nbf": {soon}"#))), 401, "not valid yet"),
        (
            "another audience",
            rsa.sign(&claims("").replace("api", "other")),
            401,
            "another audience",
        ),
        (
            "another issuer",
            rsa.sign(&claims("").replace("login.test", "evil.test")),
            401,
            "another issuer",
        ),
        ("no role", rsa.sign(&claims("").replace("admin", "guest")), 403, "insufficient_scope"),
        ("a stranger's key of a known id", stranger.sign(&claims("")), 401, "signature"),
        ("an unknown id", Issuer::new(Kind::Ec, "x").sign(&claims("")), 401, "not known"),
        ("other claims under a signature", swapped, 401, "signature"),
        ("no signature", unsigned, 401, "malformed"),
        ("HMAC by what is public", by_public_key, 401, "not allowed"),
        ("no token at all", "x".into(), 401, "malformed"),
    ] {
        let answer = with_token(&gateway, "a.test", &token);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(answer.challenge.contains(why), "{what}: {answer:?}");
        assert!(answer.challenge.contains("error="), "{what}: {answer:?}");
    }
    assert!(app.requests().is_empty(), "the backend has seen a request that may not pass");
}

#[test]
fn a_limit_by_claim_counts_each_client_by_its_token_and_none_whose_token_is_wrong() {
    let app = Backend::echo("app");
    let [issuer, stranger] = [0, 1].map(|_| Issuer::new(Kind::Ec, "ES256"));
    let limits = [
        ("nginx.ingress.kubernetes.io/limit-rpm", "1"),
        ("nginx.ingress.kubernetes.io/limit-burst-multiplier", "1"),
        ("gatehouse.io/limit-by", "claim:user.id"),
    ];
    let keyed = [&limits[..], &[("gatehouse.io/jwt-jwks-config-map", "keys")]].concat();
    let set = Issuer::set(std::slice::from_ref(&issuer));
    let text = keys("ConfigMap", "keys", &set) + &ingress("a.test", &keyed);
    // Whose limits can count nobody is closed.
    let gateway = start(app.addr, &(text + &ingress("open.test", &limits)));
    assert_eq!(curl(&gateway, "open.test", &[]).status, 503);

    let in_an_hour = issuer::now() + 3_600;
    let claims = |of: &str| format!(r#"{{"exp": {in_an_hour}{of}}}"#);
    let [ann, bob] = [r#""ann""#, "7"].map(|id| claims(&format!(r#", "user": {{"id": {id}}}"#)));
    // Who only says that it is somebody uses up nothing of that one's.
    for _ in 0..3 {
        let forged = with_token(&gateway, "a.test", &stranger.sign(&ann));
        assert_eq!(forged.status, 401, "{forged:?}");
    }
    for client in [&ann, &bob, &claims("")] {
        let statuses = [0; 3].map(|_| with_token(&gateway, "a.test", &issuer.sign(client)).status);
        assert_eq!(statuses, [200, 200, 429], "{client}");
    }
    assert_eq!(app.requests().len(), 6);
    // Those without the claim are one client if they have one address.
    let other = claims(r#", "user": {}"#);
    assert_eq!(with_token(&gateway, "a.test", &issuer.sign(&other)).status, 429);
}

#[test]
fn keys_that_change_count_at_once_and_keys_that_are_missing_close() {
    let app = Backend::echo("app");
    let [old, new] = ["old", "new"].map(|id| Issuer::new(Kind::Ec, id));
    let rule = ingress("a.test", &[("gatehouse.io/jwt-jwks-secret", "keys")]);
    let gateway = start(app.addr, &rule);
    let claims = format!(r#"{{"exp": {}}}"#, issuer::now() + 3_600);
    let status = |issuer: &Issuer| with_token(&gateway, "a.test", &issuer.sign(&claims)).status;
    let becomes = |issuer: &Issuer, wanted: u16| {
        eventually(&format!("{wanted} for {issuer:?}"), || match status(issuer) {
            seen if seen == wanted => Ok(()),
            seen => Err(format!("{seen}")),
        });
    };
    becomes(&old, 503);
    gateway.save("keys.yaml", &keys("Secret", "keys", &Issuer::set([&old])));
    becomes(&old, 200);
    assert_eq!(status(&new), 401);
    gateway.save("keys.yaml", &keys("Secret", "keys", &Issuer::set([&new])));
    becomes(&old, 401);
    assert_eq!(status(&new), 200);
    gateway.save("keys.yaml", &keys("Secret", "keys", "{}"));
    becomes(&new, 503);
}

#[test]
fn a_route_asks_for_tokens_in_a_cookie_or_a_field_and_addresses_may_do_instead() {
    let app = Backend::echo("app");
    let issuer = Issuer::new(Kind::Ed, "k");
    let route = |host: &str, annotations: &str| {
        format!(
            "apiVersion: route.openshift.io/v1\nkind: Route\nmetadata:\n  name: {host}\n  namespace: default\n  \
             annotations: {{gatehouse.io/jwt-jwks-secret: keys, {annotations}}}\nspec: {{host: {host}, to: {{kind: \
             Service, name: app}}}}\n---\n"
        )
    };
    let text = keys("Secret", "keys", &Issuer::set([&issuer]))
        + &route("cookie.test", "gatehouse.io/jwt-from: 'cookie:sid'")
        + &route("field.test", "gatehouse.io/jwt-from: 'header:X-Token'")
        + &route("missing.test", "gatehouse.io/jwt-jwks-key: other.json")
        + &route(
            "near.test",
            "haproxy.router.openshift.io/ip_whitelist: 127.0.0.0/8, gatehouse.io/satisfy: any",
        )
        + &route(
            "far.test",
            "haproxy.router.openshift.io/ip_whitelist: 10.0.0.0/8, gatehouse.io/satisfy: any",
        );
    let gateway = start(app.addr, &text);
    let token = issuer.sign(&format!(r#"{{"exp": {}}}"#, issuer::now() + 3_600));
    let [cookie, field, bearer] = ["Cookie: a=b; sid=", "X-Token: ", "Authorization: Bearer "]
        .map(|name| format!("{name}{token}"));
    for (host, field, status) in [
        ("cookie.test", &cookie, 200),
        ("cookie.test", &field, 401),
        ("cookie.test", &bearer, 401),
        ("field.test", &field, 200),
        ("field.test", &bearer, 401),
        ("missing.test", &bearer, 503),
        ("near.test", &"X-None: 1".to_owned(), 200),
        ("far.test", &"X-None: 1".to_owned(), 401),
        ("far.test", &bearer, 200),
    ] {
        let answer = curl(&gateway, host, &["-H", field]);
        assert_eq!(answer.status, status, "{host} {field}: {answer:?}");
    }
}

#[test]
fn keys_at_a_url_are_had_once_and_again_when_a_token_names_another_and_outlive_its_silence() {
    let (app, [old, new]) =
        (Backend::echo("app"), ["old", "new"].map(|id| Issuer::new(Kind::Rsa, id)));
    let answer = Arc::new(Mutex::new(String::new()));
    let said = Arc::clone(&answer);
    let url = Backend::scripted("keys", move |_| {
        vec![Act::Send(said.lock().unwrap().clone().into_bytes())]
    });
    let say = |status: &str, text: &str| {
        let length = text.len();
        *answer.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
        );
    };
    say("500 Broken", "");
    let annotations = [("gatehouse.io/jwt-jwks-url", &*format!("http://{}/keys?x=1", url.addr))];
    let gateway = start(app.addr, &ingress("a.test", &annotations));
    let claims = format!(r#"{{"exp": {}}}"#, issuer::now() + 3_600);
    let status = |issuer: &Issuer| with_token(&gateway, "a.test", &issuer.sign(&claims)).status;
    let becomes = |issuer: &Issuer, wanted: u16| {
        eventually(&format!("{wanted} for {issuer:?}"), || match status(issuer) {
            seen if seen == wanted => Ok(()),
            seen => Err(format!("{seen}")),
        });
    };
    assert_eq!(status(&old), 503, "a URL that never answered closes");
    say("200 OK", &Issuer::set([&old]));
    becomes(&old, 200);
    let asked = url.requests().len();
    for _ in 0..20 {
        assert_eq!((status(&old), status(&new)), (200, 401));
    }
    assert!(url.requests().len() <= asked + 5, "tokens of unknown keys cause a question each");
    say("200 OK", &Issuer::set([&new]));
    // Not at once: 10 s after the last answer.
    becomes(&new, 200);
    assert_eq!(status(&old), 401);
    say("500 Broken", "");
    assert_eq!((status(&new), status(&old)), (200, 401), "what was had counts");
    assert_eq!(url.requests()[0].target, "/keys?x=1");
}

#[test]
fn keys_are_asked_of_a_service_of_the_files_by_the_name_that_it_has_in_a_cluster() {
    let (app, issuer) = (Backend::echo("app"), Issuer::new(Kind::Ec, "k"));
    let set = Issuer::set([&issuer]);
    let keys = Backend::scripted("keys", move |_| {
        let length = set.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n");
        vec![Act::Send(format!("{head}\r\n{set}").into_bytes())]
    });
    let jwks = "gatehouse.io/jwt-jwks-url";
    let route = "apiVersion: route.openshift.io/v1\nkind: Route\nmetadata: {name: r, namespace: default, annotations: \
                 {gatehouse.io/jwt-jwks-url: 'http://keys.default.svc/route'}}\nspec: {host: r.test, to: {kind: Service, \
                 name: app}}\n---\n";
    let leads_on = "apiVersion: v1\nkind: Service\nmetadata: {name: keys, namespace: other}\nspec: {type: ExternalName, \
                    externalName: keys.default.svc.cluster.local, ports: [{port: 80}]}\n---\n";
    let text = [
        service("keys", &[keys.addr]),
        leads_on.to_owned(),
        ingress("a.test", &[(jwks, "http://keys.default.svc.cluster.local/keys")]),
        ingress("b.test", &[(jwks, "http://keys.other.svc/far")]),
        ingress("gone.test", &[(jwks, "http://gone.default.svc/keys")]),
        route.to_owned(),
    ];
    let gateway = start(app.addr, &text.concat());
    let token = issuer.sign(&format!(r#"{{"exp": {}}}"#, issuer::now() + 3_600));
    for (host, status) in [("a.test", 200), ("b.test", 200), ("r.test", 200), ("gone.test", 503)] {
        let answer = with_token(&gateway, host, &token);
        assert_eq!(answer.status, status, "{host}: {answer:?}\n{}", gateway.output());
    }
    let asked = keys.requests();
    let asked: Vec<_> =
        asked.iter().map(|it| (it.one("host").unwrap_or_default(), &*it.target)).collect();
    let hosts = ["keys.default.svc.cluster.local", "keys.other.svc", "keys.default.svc"];
    let expected = hosts.map(str::to_owned).into_iter().zip(["/keys", "/far", "/route"]);
    assert_eq!(asked, expected.collect::<Vec<_>>());
}

/// Serves a folder over TLS, as `openssl s_server -WWW` does.
struct Site(Child);

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn site(folder: &Path, pair: &Pair, address: SocketAddr) -> Site {
    fs::write(folder.join("tls.pem"), pair.certificate.clone() + &pair.key).unwrap();
    let mut command = Command::new("openssl");
    command
        .current_dir(folder)
        .args(["s_server", "-quiet", "-WWW", "-cert", "tls.pem", "-key", "tls.pem"]);
    command.args(["-accept", &address.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
    let site = Site(command.stderr(Stdio::null()).spawn().unwrap());
    assert!(comes_true(|| TcpStream::connect(address).is_ok()), "nobody listens at {address}");
    site
}

#[test]
fn keys_and_answers_over_tls_count_if_the_authority_that_is_named_has_signed_the_server() {
    let app = Backend::echo("app");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (issuer, folder) = (Issuer::new(Kind::Ec, "k"), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("keys"), Issuer::set([&issuer])).unwrap();
    fs::write(folder.path().join("check"), "yes").unwrap();
    let address = free_address();
    let _site = site(folder.path(), &ours.server(&["127.0.0.1"]), address);
    let (keys, check) = (format!("https://{address}/keys"), format!("https://{address}/check"));
    let missing = format!("https://{address}/missing");
    let (by, asked) = ("gatehouse.io/jwt-jwks-ca-secret", "gatehouse.io/auth-url-ca-secret");
    let (jwks, auth) = ("gatehouse.io/jwt-jwks-url", "nginx.ingress.kubernetes.io/auth-url");
    let text = [
        secret("ours", &[("ca.crt", &ours.pem())]),
        secret("theirs", &[("ca.crt", &theirs.pem())]),
        ingress("ours.test", &[(jwks, &keys), (by, "ours")]),
        ingress("theirs.test", &[(jwks, &keys), (by, "theirs")]),
        ingress("system.test", &[(jwks, &keys)]),
        ingress("asked.test", &[(auth, &check), (asked, "ours")]),
        ingress("asked-theirs.test", &[(auth, &check), (asked, "theirs")]),
        ingress("asked-missing.test", &[(auth, &missing), (asked, "nobody")]),
    ];
    let gateway = start(app.addr, &text.concat());
    let token = issuer.sign(&format!(r#"{{"exp": {}}}"#, issuer::now() + 3_600));
    for (host, status) in [
        ("ours.test", 200),
        ("theirs.test", 503),
        ("system.test", 503),
        ("asked.test", 200),
        ("asked.test", 200),
        ("asked-theirs.test", 500),
        ("asked-missing.test", 503),
    ] {
        assert_eq!(
            with_token(&gateway, host, &token).status,
            status,
            "{host}\n{}",
            gateway.output()
        );
    }
}

#[test]
fn an_answer_counts_for_requests_of_the_same_key_and_object_unless_it_is_meant_for_one() {
    let app = Backend::echo("app");
    let auth = Backend::scripted("auth", |request| {
        let session = request.one("cookie").unwrap_or_default();
        let (status, more) = match &*session {
            "sid=ann" => ("200 OK", "X-User: ann\r\n"),
            "sid=new" => ("200 OK", "Set-Cookie: sid=ann\r\n"),
            "sid=once" => ("200 OK", "Cache-Control: private\r\n"),
            _ => ("401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n"),
        };
        vec![Act::Send(
            format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\n\r\n").into_bytes(),
        )]
    });
    let url = format!("http://{}/check", auth.addr);
    let prefix = "nginx.ingress.kubernetes.io/";
    let names = ["auth-url", "auth-response-headers", "auth-cache-key", "auth-cache-duration"]
        .map(|name| format!("{prefix}{name}"));
    let annotations: [(&str, &str); 4] = [
        (&names[0], &url),
        (&names[1], "X-User"),
        (&names[2], "$cookie_sid"),
        (&names[3], "200 1h, 401 1h"),
    ];
    let text = ingress("a.test", &annotations) + &ingress("b.test", &annotations);
    let gateway = Plan::default().manifest("app.yaml", service("app", &[app.addr]) + &text).start();
    let ask = |host: &str, session: &str| {
        let status = curl(&gateway, host, &["-H", &format!("Cookie: sid={session}")]).status;
        let user = app.requests().pop().and_then(|request| request.one("x-user"));
        app.take();
        (status, user)
    };
    let ann = (200, Some("ann".to_owned()));
    let mut asked = 0;
    for (host, session, answer, questions) in [
        ("a.test", "ann", ann.clone(), 1),
        ("a.test", "ann", ann.clone(), 1),
        ("b.test", "ann", ann.clone(), 2),
        ("a.test", "bob", (401, None), 3),
        ("a.test", "bob", (401, None), 3),
        ("a.test", "ann", ann, 3),
        ("a.test", "new", (200, None), 4),
        ("a.test", "new", (200, None), 5),
        ("a.test", "once", (200, None), 6),
        ("a.test", "once", (200, None), 7),
    ] {
        assert_eq!(ask(host, session), answer, "{host} {session}");
        asked += auth.requests().len();
        assert_eq!(asked, questions, "questions after {session} at {host}");
    }
}
