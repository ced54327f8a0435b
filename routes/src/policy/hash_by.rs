//! What of a request says which endpoint it belongs to: `upstream-hash-by` and its like.
//!
//! The annotations are read into it once; the data path asks with each request. A text with nginx's variables
//! is taken apart, never executed. The number is the same on every node and after every restart, so that a
//! client finds its endpoint wherever it comes in.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderName, header};

use crate::{
    balance::StableHash,
    cookie,
    matcher::RequestView,
    model::Scheme,
    template::{Named, Piece, pieces},
};

/// What is hashed, part by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashKey(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable(Variable),
}

/// What a request fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Variable {
    /// The address of the client, as trusted proxies tell it.
    Client,
    /// Path and query as received.
    Target,
    /// The canonical path.
    Path,
    Query,
    Host,
    Method,
    Scheme,
    Header(HeaderName),
    Cookie(Arc<str>),
    /// All fields of a name: which of several counts is not for us to say.
    Headers(HeaderName),
    /// All cookies of a name.
    Cookies(Arc<str>),
    /// A parameter of the query, by name.
    Argument(Box<str>),
}

impl HashKey {
    /// The address of the client.
    pub fn client() -> Self {
        Self([Part::Variable(Variable::Client)].into())
    }

    /// Takes a text apart: `$name` and `${name}`.
    ///
    /// # Errors
    /// The first variable that is not known, with its `$`.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_by(text, variable)
    }

    /// The same for keys that tell clients apart: all fields and cookies of a name count, and `$http_cookie` and
    /// `$remote_user` are known, too.
    ///
    /// # Errors
    /// The first variable that is not known, with its `$`.
    pub(crate) fn parse_identity(text: &str) -> Result<Self, String> {
        Self::parse_by(text, |name| match name {
            "http_cookie" => Some(Variable::Headers(header::COOKIE)),
            // The user is in there, with the password without which that proves nothing.
            "remote_user" => Some(Variable::Headers(header::AUTHORIZATION)),
            name => variable(name).map(|variable| match variable {
                Variable::Header(name) => Variable::Headers(name),
                Variable::Cookie(name) => Variable::Cookies(name),
                other => other,
            }),
        })
    }

    fn parse_by(text: &str, variable: fn(&str) -> Option<Variable>) -> Result<Self, String> {
        let parts = pieces(text).into_iter().map(|piece| match piece {
            Piece::Text(text) => Ok(Part::Text(text.into())),
            Piece::Name(name) => {
                variable(name).map(Part::Variable).ok_or_else(|| format!("${name}"))
            }
        });
        Ok(Self(parts.collect::<Result<_, _>>()?))
    }

    /// Appends all that counts of a request: what two requests append is the same only if every part is.
    pub fn append(
        &self,
        request: &RequestView<'_>,
        client: impl Fn() -> IpAddr,
        out: &mut Vec<u8>,
    ) {
        for part in &self.0 {
            let Part::Variable(variable) = part else { continue };
            let at = out.len();
            out.extend_from_slice(&[0; 4]);
            variable.tell(&mut |bytes: &[u8]| out.extend_from_slice(bytes), request, &client);
            let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
            out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
    }

    /// The number of a request. `client` is asked only where it counts.
    pub fn of(&self, request: &RequestView<'_>, client: impl Fn() -> IpAddr) -> u64 {
        let mut hash = StableHash::default();
        for part in &self.0 {
            match part {
                Part::Text(text) => hash.add(text.as_bytes()),
                Part::Variable(variable) => {
                    variable.tell(&mut |bytes: &[u8]| hash.add(bytes), request, &client);
                }
            }
        }
        hash.finish()
    }
}

impl Variable {
    fn tell(
        &self,
        to: &mut impl FnMut(&[u8]),
        request: &RequestView<'_>,
        client: &impl Fn() -> IpAddr,
    ) {
        let (uri, headers) = (&request.parts.uri, &request.parts.headers);
        match self {
            Self::Client => match client() {
                IpAddr::V4(ip) => to(&ip.octets()),
                IpAddr::V6(ip) => to(&ip.octets()),
            },
            Self::Target => {
                to(uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
            }
            Self::Path => to(request.path.as_bytes()),
            Self::Query => to(uri.query().unwrap_or_default().as_bytes()),
            Self::Host => to(request.host.as_bytes()),
            Self::Method => to(request.parts.method.as_str().as_bytes()),
            Self::Scheme => to(match request.scheme {
                Scheme::Http => b"http",
                Scheme::Https => b"https",
            }),
            Self::Headers(name) => {
                for value in headers.get_all(name) {
                    to(value.as_bytes());
                    to(b"\n");
                }
            }
            Self::Cookies(name) => {
                for value in cookie::values(headers, name) {
                    to(value);
                    to(b";");
                }
            }
            Self::Header(name) => {
                to(headers.get(name).map_or(b"", |value| value.as_bytes()));
            }
            Self::Cookie(name) => to(cookie::values(headers, name).next().unwrap_or(b"")),
            Self::Argument(name) => to(argument(uri.query(), name).as_bytes()),
        }
    }
}

/// The variable of a name (`ngx_http_core_module`, embedded variables; `$the_real_ip` is ingress-nginx's).
fn variable(name: &str) -> Option<Variable> {
    Some(match name {
        "binary_remote_addr" | "remote_addr" | "the_real_ip" | "realip_remote_addr" => {
            Variable::Client
        }
        "request_uri" => Variable::Target,
        "uri" | "document_uri" => Variable::Path,
        "args" | "query_string" => Variable::Query,
        "host" | "best_http_host" | "http_host" | "server_name" => Variable::Host,
        "request_method" => Variable::Method,
        "scheme" => Variable::Scheme,
        _ => match Named::read(name)? {
            Named::Argument(name) => Variable::Argument(name.into()),
            Named::Cookie(name) => Variable::Cookie(name.into()),
            // nginx joins all fields of cookies; a hash over them would change with every one of them.
            Named::Header(header::COOKIE) => return None,
            Named::Header(name) => Variable::Header(name),
        },
    })
}

/// The first value of a parameter, as received; its name counts whatever its case, as in nginx.
pub(crate) fn argument<'q>(query: Option<&'q str>, name: &str) -> &'q str {
    let mut pairs = query.unwrap_or_default().split('&');
    let value = pairs.find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.eq_ignore_ascii_case(name).then_some(value)
    });
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn what_tells_clients_apart_does_not_run_together() {
        let key = |text: &str, fields: &[(&str, &str)]| {
            let mut request = Request::builder().uri("/a");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let (scheme, host, path) = (Scheme::Http, "a.test", "/a");
            let view = RequestView { scheme, host, path, parts: &parts };
            let mut out = Vec::new();
            let key = HashKey::parse_identity(text).unwrap();
            key.append(&view, || "192.0.2.1".parse().unwrap(), &mut out);
            out
        };
        let both = "$cookie_a$cookie_b";
        assert_ne!(key(both, &[("cookie", "a=12; b=3")]), key(both, &[("cookie", "a=1; b=23")]));
        assert_ne!(key(both, &[("cookie", "a=1; a=2")]), key(both, &[("cookie", "a=1")]));
        let user = "$remote_user$http_authorization";
        assert_ne!(
            key(user, &[("authorization", "Basic YQ==")]),
            key(user, &[("authorization", "Basic Yg==")])
        );
        assert_ne!(
            key("$http_cookie", &[("cookie", "a=1"), ("cookie", "b=1")]),
            key("$http_cookie", &[("cookie", "a=1")])
        );
        assert_eq!(key(both, &[("cookie", "a=1; c=1")]), key(both, &[("cookie", "c=2; a=1")]));
        assert_eq!(HashKey::parse_identity("$jwt"), Err("$jwt".to_owned()));
    }

    fn number(key: &str, target: &str, fields: &[(&str, &str)], client: &str) -> u64 {
        let mut request = Request::builder().method("GET").uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let view = RequestView {
            scheme: Scheme::Https,
            host: "a.test",
            path: parts.uri.path(),
            parts: &parts,
        };
        HashKey::parse(key).unwrap().of(&view, || client.parse().unwrap())
    }

    #[test]
    fn what_a_key_names_makes_the_difference_and_nothing_else_does() {
        let plain = |key: &str| {
            number(key, "/a?user=1&x=2", &[("x-user", "u"), ("cookie", "b=2; sid=7")], "10.0.0.1")
        };
        let cookie = [("x-user", "u"), ("cookie", "sid=7; b=3")];
        for (key, target, fields, client, same) in [
            ("$request_uri", "/a?user=1&x=2", &[][..], "10.0.0.2", true),
            ("$request_uri", "/a?user=1&x=3", &[], "10.0.0.1", false),
            ("$uri", "/a?other", &[], "10.0.0.2", true),
            ("$args", "/b?user=1&x=2", &[], "10.0.0.2", true),
            ("$arg_user", "/b?x=5&USER=1", &[], "10.0.0.2", true),
            ("$arg_user", "/a?user=2", &[], "10.0.0.1", false),
            ("$http_x_user", "/b", &cookie, "10.0.0.2", true),
            ("$http_x_user", "/b", &[("x-user", "v")], "10.0.0.2", false),
            ("$cookie_sid", "/b", &cookie, "10.0.0.2", true),
            ("$cookie_sid", "/b", &[("cookie", "sid=8")], "10.0.0.2", false),
            ("$binary_remote_addr", "/b", &[], "10.0.0.1", true),
            ("$remote_addr", "/a?user=1&x=2", &[], "10.0.0.2", false),
            ("${host}-$scheme-$request_method", "/b", &[], "10.0.0.2", true),
            ("constant", "/b", &[], "10.0.0.2", true),
        ] {
            assert_eq!(number(key, target, fields, client) == plain(key), same, "{key} {target}");
        }
    }

    #[test]
    fn a_variable_that_is_not_known_is_named() {
        for (text, unknown) in [
            ("$request_uri$nothing", "$nothing"),
            ("$upstream_addr", "$upstream_addr"),
            ("$", "$"),
            ("$arg_", "$arg_"),
            ("$http_cookie", "$http_cookie"),
        ] {
            assert_eq!(HashKey::parse(text), Err(unknown.to_owned()));
        }
    }
}
