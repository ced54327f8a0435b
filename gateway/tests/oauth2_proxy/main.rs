//! oauth2-proxy as the service that is asked (`auth-url`, `auth-signin`), with curl as a browser: sign in, come back, sign out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        gateway::{Gateway, Plan, free_address},
        manifests::{ingress, prefix, secret, service},
        tls::certificate,
    },
    guard, wait,
};

mod provider;

use provider::{CLIENT, Provider};

const NGINX: &str = "nginx.ingress.kubernetes.io/";
const PRIVATE: &str = "https://app.test/private?x=1&y=a%20b";
const SIGN_IN: &str = "https://app.test/oauth2/sign_in";

/// Where `testbed/oauth2-proxy/build` puts it: in `$TOOLS`, or below the target folder.
fn program() -> PathBuf {
    let folder = |variable| std::env::var_os(variable).map(PathBuf::from);
    let tests = std::env::current_exe().unwrap();
    // target/PROFILE/deps/TEST
    let above = tests.ancestors().skip(1).take(3).map(PathBuf::from);
    let targets = folder("CARGO_TARGET_DIR").into_iter().chain(above);
    let folders = folder("TOOLS").into_iter().chain(targets.map(|target| target.join("tools")));
    let mut programs = folders.map(|folder| folder.join("oauth2-proxy/oauth2-proxy"));
    programs.find(|program| program.is_file()).expect("testbed/oauth2-proxy/build has run")
}

/// oauth2-proxy, killed when dropped.
struct OAuth2Proxy(Child);

impl OAuth2Proxy {
    /// With one user, ann, whose password is `secret`.
    fn with_passwords(folder: &Path, address: SocketAddr) -> Self {
        let users = folder.join("users");
        let made = guard::command("htpasswd").args(["-nbB", "ann", "secret"]).output();
        fs::write(&users, made.expect("htpasswd is installed (.ci/setup)").stdout).unwrap();
        let file = format!("--htpasswd-file={}", users.display());
        // The provider is asked for nothing.
        Self::start(address, &[&file, "--client-id=none"])
    }

    /// With the users of a provider. A session is renewed when it is a second old.
    fn with_provider(provider: &Provider, address: SocketAddr) -> Self {
        let (url, client) = (provider.url(), format!("--client-id={CLIENT}"));
        let issuer = format!("--oidc-issuer-url={url}");
        let checked = ["--code-challenge-method=S256", "--insecure-oidc-skip-nonce=false"];
        let told = ["--set-authorization-header=true", "--cookie-refresh=1s"];
        let pages =
            ["--skip-provider-button=true", "--redirect-url=https://app.test/oauth2/callback"];
        let more = [&["--provider=oidc", &issuer, &client][..], &checked, &told, &pages];
        Self::start(address, &more.concat())
    }

    fn start(address: SocketAddr, more: &[&str]) -> Self {
        let mut command = guard::command(program());
        command
            .args(["--upstream=static://202", &format!("--http-address={address}")])
            .args(["--cookie-secret=0123456789abcdef0123456789abcdef", "--email-domain=*"])
            .arg("--client-secret=none")
            .args(more)
            .args(["--reverse-proxy=true", "--trusted-proxy-ip=127.0.0.1"])
            .arg("--set-xauthrequest=true")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let proxy = Self(command.spawn().unwrap());
        assert!(wait::comes_true(|| TcpStream::connect(address).is_ok()));
        proxy
    }
}

impl Drop for OAuth2Proxy {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// curl with the cookies of one user.
struct Browser {
    gateway: SocketAddr,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Page {
    status: u16,
    location: String,
    text: String,
}

impl Browser {
    fn of(gateway: &Gateway) -> Self {
        Self { gateway: gateway.https, folder: guard::folder("browser-").unwrap() }
    }

    /// Asks for a URL; does not follow redirects.
    fn ask(&self, more: &[&str], url: &str) -> Page {
        let [jar, body] = ["jar", "body"].map(|name| self.folder.path().join(name));
        let mut curl = guard::command("curl");
        curl.args(["--silent", "--show-error", "--insecure", "--noproxy", "*", "--max-time", "30"])
            .args(["--connect-to", &format!("::{}", self.gateway)])
            .args([Path::new("--cookie"), &jar, Path::new("--cookie-jar"), &jar])
            .args([Path::new("--output"), &body])
            .args(["--write-out", "%{http_code} %header{location}"]);
        let output = curl.args(more).arg(url).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let (status, location) = said.split_once(' ').unwrap();
        let text = fs::read_to_string(body).unwrap_or_default();
        Page { status: status.parse().unwrap(), location: location.to_owned(), text }
    }

    /// Its cookies that hold the session, by name and value.
    fn session(&self) -> BTreeSet<(String, String)> {
        let jar = fs::read_to_string(self.folder.path().join("jar")).unwrap_or_default();
        let cookies = jar.lines().filter_map(|line| {
            let mut last = line.rsplit('\t');
            let (value, name) = (last.next()?, last.next()?);
            Some((name.to_owned(), value.to_owned()))
        });
        cookies
            .filter(|(name, _)| name.starts_with("_oauth2_proxy_"))
            .filter(|(name, _)| !name.contains("csrf"))
            .collect()
    }

    /// Fills the form of oauth2-proxy in.
    fn sign_in(&self, password: &str) -> Page {
        let form = ["username=ann", &format!("password={password}"), "rd=/private?x=1&y=a%20b"];
        let form: Vec<&str> = form.iter().flat_map(|field| ["--data-urlencode", field]).collect();
        self.ask(&form, SIGN_IN)
    }
}

/// A gateway whose host `app.test` asks oauth2-proxy, which answers below `/oauth2` there.
fn gateway(app: &Backend, proxy: SocketAddr, page: &str, fields: &str) -> Gateway {
    let asked = [
        format!("{NGINX}auth-url: \"http://{proxy}/oauth2/auth\""),
        format!("{NGINX}auth-signin: \"https://$host/oauth2/{page}?rd=$escaped_request_uri\""),
        format!("{NGINX}auth-response-headers: \"{fields}\""),
    ];
    let tls = "{hosts: [app.test], secretName: pair}";
    Plan::default()
        .manifest("app.yaml", service("app", &[app.addr]) + &service("oauth2", &[proxy]))
        .manifest("secret.yaml", secret("pair", &certificate(&["app.test"])))
        .manifest(
            "app-ingress.yaml",
            ingress("app", &asked.join(", "), tls, &[prefix("app.test", "/", "app")]),
        )
        .manifest(
            "oauth2.yaml",
            ingress("oauth2", "", tls, &[prefix("app.test", "/oauth2", "oauth2")]),
        )
        .start()
}

#[test]
fn a_user_signs_in_is_known_to_the_backend_and_signs_out() {
    let app = Backend::echo("app");
    let folder = guard::folder("oauth2-").unwrap();
    let address = free_address();
    let _proxy = OAuth2Proxy::with_passwords(folder.path(), address);
    let gateway = gateway(&app, address, "sign_in", "X-Auth-Request-User");
    let (ann, stranger) = (Browser::of(&gateway), Browser::of(&gateway));

    let sent = ann.ask(&[], PRIVATE);
    assert_eq!(sent.status, 302, "{sent:?}");
    assert_eq!(sent.location, format!("{SIGN_IN}?rd=%2Fprivate%3Fx%3D1%26y%3Da%2520b"));
    let form = ann.ask(&[], &sent.location);
    assert!(form.text.contains(r#"name="rd" value="/private?x=1&amp;y=a%20b""#), "{form:?}");
    assert_eq!(ann.sign_in("wrong").status, 401);
    assert_eq!(ann.ask(&[], PRIVATE).status, 302);
    assert_eq!(app.requests().len(), 0);

    let back = ann.sign_in("secret");
    assert_eq!((back.status, &*back.location), (302, "/private?x=1&y=a%20b"));
    let forged = ["--header", "X-Auth-Request-User: root", "--data", "an upload"];
    for (more, body) in [(&[][..], ""), (&forged, "an upload")] {
        assert_eq!(ann.ask(more, PRIVATE).status, 200);
        let request = app.requests().remove(0);
        assert_eq!(request.target, "/private?x=1&y=a%20b");
        assert_eq!(request.all("x-auth-request-user"), ["ann"]);
        assert_eq!(request.body, body.as_bytes());
    }
    assert_eq!(stranger.ask(&forged, PRIVATE).status, 302);
    assert_eq!(stranger.ask(&["--cookie", "_oauth2_proxy=forged"], PRIVATE).status, 302);

    assert_eq!(ann.ask(&[], "https://app.test/oauth2/sign_out?rd=/").status, 302);
    assert_eq!(ann.ask(&[], PRIVATE).status, 302);
    assert_eq!(app.requests().len(), 0);
}

#[test]
fn a_session_of_openid_connect_spans_cookies_and_is_renewed_on_the_way() {
    let (app, provider) = (Backend::echo("app"), Provider::start());
    let address = free_address();
    let _proxy = OAuth2Proxy::with_provider(&provider, address);
    let gateway = gateway(&app, address, "start", "Authorization, X-Auth-Request-Email");
    let ann = Browser::of(&gateway);

    let sent = ann.ask(&[], PRIVATE);
    assert_eq!(sent.status, 302, "{sent:?}");
    let to_provider = ann.ask(&[], &sent.location);
    assert_eq!(to_provider.status, 302, "{to_provider:?}");
    // A code that nobody asked for here lets nobody in.
    let callback = provider.agree(&to_provider.location);
    assert_eq!(Browser::of(&gateway).ask(&[], &callback).status, 403);
    let back = ann.ask(&[], &callback);
    assert_eq!((back.status, &*back.location), (302, "/private?x=1&y=a%20b"), "{}", back.text);
    assert!(ann.session().len() >= 2, "the session fits into one cookie: {:?}", ann.session());
    assert_eq!(app.requests().len(), 0);

    // Every cookie has to arrive, there and back: a session of which one is missing is none.
    let bearer = |ann: &Browser| {
        let page = ann.ask(&["--header", "Authorization: Bearer forged"], PRIVATE);
        assert_eq!(page.status, 200, "{page:?}");
        let request = app.requests().remove(0);
        assert_eq!(request.all("x-auth-request-email"), ["ann@example.com"]);
        request.one("authorization").expect("a token")
    };
    let (token, session) = (bearer(&ann), ann.session());
    assert!(token.starts_with("Bearer ") && token.split('.').count() == 3, "{token}");
    let renewed = wait::comes_true(|| bearer(&ann) != token);
    assert!(renewed && provider.refreshed() > 0);
    assert_ne!(ann.session(), session, "the renewed session did not reach the browser");
    bearer(&ann);
}
