//! Texts with variables of nginx, as redirects of ingress-nginx hold them: taken apart when an object is
//! read, filled in with each request, never executed.

use std::sync::Arc;

use http::HeaderName;

/// A text and the variables in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Arc<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable(Variable),
}

/// What is filled in (`ngx_http_core_module`, embedded variables).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `$request_uri`: path and query as received, but for dot segments: none of them is left.
    RequestUri,
    /// `$escaped_request_uri`: the same, to be put into a query.
    EscapedRequestUri,
    /// `$uri`: the path alone, in its canonical form.
    Uri,
    /// `$args`, `$query_string`: the query alone.
    Args,
    /// `$is_args`: `?` if there is a query.
    IsArgs,
    /// `$host`: the host without its port.
    Host,
    /// `$http_host`, `$best_http_host`: the host as received.
    HttpHost,
    /// `$scheme`, `$pass_access_scheme`: `http` or `https`.
    Scheme,
    /// `$request_method`: the method.
    Method,
}

const VARIABLES: [(&str, Variable); 12] = [
    ("request_uri", Variable::RequestUri),
    ("escaped_request_uri", Variable::EscapedRequestUri),
    ("best_http_host", Variable::HttpHost),
    ("pass_access_scheme", Variable::Scheme),
    ("uri", Variable::Uri),
    ("args", Variable::Args),
    ("query_string", Variable::Args),
    ("is_args", Variable::IsArgs),
    ("host", Variable::Host),
    ("http_host", Variable::HttpHost),
    ("scheme", Variable::Scheme),
    ("request_method", Variable::Method),
];

impl Variable {
    /// The variable of a name, without its `$`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, variable)| *variable)
    }
}

impl Template {
    /// Takes a text apart: `$name` and `${name}`.
    ///
    /// # Errors
    /// The first variable that is not known, with its `$`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = pieces(text).into_iter().map(|piece| match piece {
            Piece::Text(text) => Ok(Part::Text(text.into())),
            Piece::Name(name) => {
                Variable::named(name).map(Part::Variable).ok_or_else(|| format!("${name}"))
            }
        });
        Ok(Self { text: text.into(), parts: parts.collect::<Result<_, _>>()? })
    }

    /// The text as the object spells it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text with its variables filled in by `value`, which appends what one stands for.
    pub fn fill(&self, mut value: impl FnMut(Variable, &mut String)) -> String {
        let mut out = String::with_capacity(self.text.len() * 2);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Variable(variable) => value(*variable, &mut out),
            }
        }
        out
    }
}

/// A part of a text in nginx' syntax.
pub(crate) enum Piece<'t> {
    Text(&'t str),
    /// The name of a variable, without its `$`.
    Name(&'t str),
}

impl Piece<'_> {
    /// `$1` to `$9`: what a group of an expression has captured.
    pub(crate) fn group(&self) -> Option<usize> {
        match self {
            Self::Name(name) => match name.as_bytes() {
                [digit @ b'1'..=b'9'] => Some(usize::from(digit - b'0')),
                _ => None,
            },
            Self::Text(_) => None,
        }
    }
}

/// Takes a text apart where it holds `$name` or `${name}`. Behind a digit no name goes on: `$1x` is `$1` and `x`.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        if at > 0 {
            pieces.push(Piece::Text(&rest[..at]));
        }
        let after = &rest[at + 1..];
        let braces = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, next) = braces.unwrap_or_else(|| {
            let digit = after.starts_with(|c: char| c.is_ascii_digit());
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = after.find(|c| !word(c)).unwrap_or(after.len());
            after.split_at(if digit { 1 } else { end })
        });
        pieces.push(Piece::Name(name));
        rest = next;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// A variable whose name holds that of a part of the request (`ngx_http_core_module`, embedded variables).
pub(crate) enum Named<'n> {
    /// `$arg_NAME`: a parameter of the query.
    Argument(&'n str),
    /// `$cookie_NAME`.
    Cookie(&'n str),
    /// `$http_NAME`: a field, with underscores for hyphens.
    Header(HeaderName),
}

impl<'n> Named<'n> {
    /// Reads the name of a variable, without its `$`; `None`: it is not one of these.
    pub(crate) fn read(name: &'n str) -> Option<Self> {
        let (kind, rest) = name.split_once('_').filter(|(_, rest)| !rest.is_empty())?;
        match kind {
            "arg" => Some(Self::Argument(rest)),
            "cookie" => Some(Self::Cookie(rest)),
            "http" => {
                let field = rest.replace('_', "-").to_ascii_lowercase();
                HeaderName::try_from(field).ok().map(Self::Header)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_and_all_else_stays() {
        let fill = |text: &str| {
            Template::parse(text).map(|template| {
                template.fill(|variable, out| out.push_str(&format!("<{variable:?}>")))
            })
        };
        for (text, filled) in [
            ("https://a.test/x", "https://a.test/x"),
            ("https://a.test$request_uri", "https://a.test<RequestUri>"),
            ("$scheme://${host}x/$uri$is_args$args", "<Scheme>://<Host>x/<Uri><IsArgs><Args>"),
            ("$http_host", "<HttpHost>"),
            ("https://auth.test?rm=$request_method", "https://auth.test?rm=<Method>"),
            ("", ""),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(filled), "{text}");
        }
        for (text, unknown) in [
            ("/$1", "$1"),
            ("$", "$"),
            ("/$request_uri_", "$request_uri_"),
            ("${host", "$"),
            ("a$remote_addr/", "$remote_addr"),
        ] {
            assert_eq!(fill(text), Err(unknown.to_owned()), "{text}");
        }
    }
}
