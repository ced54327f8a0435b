//! A provider of OpenID Connect: discovery, keys and tokens (OpenID Connect Core §3.1.3, Discovery §4). Its user is signed
//! in already; the test is the page that asks.

use std::{
    fs::File,
    io::Read as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use gatehouse_testbed::gatehouse::{
    backend::{Act, Backend},
    issuer::{Issuer, Kind, encoded, now},
};

/// What the proxy calls itself there.
pub(crate) const CLIENT: &str = "gatehouse";

/// A running provider.
pub(crate) struct Provider {
    server: Backend,
    shared: Arc<Shared>,
}

struct Shared {
    issuer: Issuer,
    /// What the last page was asked with, and what the token of its code has to repeat.
    nonce: Mutex<String>,
    /// Tokens given for a token from before.
    refreshed: AtomicUsize,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let issuer = Issuer::new(Kind::Rsa, "provider");
        let (nonce, refreshed) = (Mutex::default(), AtomicUsize::new(0));
        let shared = Arc::new(Shared { issuer, nonce, refreshed });
        let answers = Arc::clone(&shared);
        let server = Backend::scripted("provider", move |request| {
            // It is asked by the name that it is known by.
            let url = format!("http://{}", request.one("host").unwrap_or_default());
            let json = match &*request.target {
                "/.well-known/openid-configuration" => discovery(&url),
                "/keys" => Issuer::set([&answers.issuer]),
                "/token" => answers.tokens(&url, &String::from_utf8_lossy(&request.body)),
                other => panic!("{other}"),
            };
            let length = json.len();
            let kind = "Content-Type: application/json";
            let head = format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {length}\r\n\r\n");
            vec![Act::Send((head + &json).into_bytes())]
        });
        Self { server, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.addr)
    }

    /// The user agrees to what the page at `location` asks: where that leads.
    pub(crate) fn agree(&self, location: &str) -> String {
        let query = location.strip_prefix(&format!("{}/authorize?", self.url()));
        let query = query.unwrap_or_else(|| panic!("{location}"));
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).unwrap_or_else(|| panic!("{name}: {query}")).1
        };
        assert_eq!(value("client_id"), CLIENT);
        value("nonce").clone_into(&mut self.shared.nonce.lock().unwrap());
        assert_eq!(value("redirect_uri"), "https%3A%2F%2Fapp.test%2Foauth2%2Fcallback");
        format!("https://app.test/oauth2/callback?code=once&state={}", value("state"))
    }

    /// How often a session was renewed.
    pub(crate) fn refreshed(&self) -> usize {
        self.shared.refreshed.load(Ordering::Relaxed)
    }
}

fn discovery(url: &str) -> String {
    format!(
        r#"{{"issuer": "{url}", "authorization_endpoint": "{url}/authorize", "token_endpoint": "{url}/token",
            "jwks_uri": "{url}/keys", "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "code_challenge_methods_supported": ["S256"], "id_token_signing_alg_values_supported": ["RS256"]}}"#
    )
}

impl Shared {
    fn tokens(&self, url: &str, form: &str) -> String {
        let times = match form.contains("grant_type=refresh_token") {
            true => self.refreshed.fetch_add(1, Ordering::Relaxed) + 1,
            false => 0,
        };
        let (nonce, now) = (self.nonce.lock().unwrap(), now());
        let claims = format!(
            r#"{{"iss": "{url}", "aud": "{CLIENT}", "sub": "1", "email": "ann@example.com", "email_verified": true,
                "iat": {now}, "exp": {}, "nonce": "{nonce}", "times": {times}}}"#,
            now + 3600
        );
        format!(
            r#"{{"token_type": "Bearer", "expires_in": 3600, "refresh_token": "again", "access_token": "{}",
                "id_token": "{}"}}"#,
            long(),
            self.issuer.sign(&claims)
        )
    }
}

/// A token as long as those of providers that tell of groups, which cannot be compressed: the session does not fit into
/// one cookie. curl sends at most 8190 bytes of cookies.
fn long() -> String {
    let mut bytes = [0; 2500];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    encoded(bytes)
}
