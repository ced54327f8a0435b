//! The settings about how names of headers are spelled in messages of HTTP/1.

use std::str::FromStr;

use http::HeaderName;

/// How names of headers are spelled; in lower case by default.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct HeaderCaseSettings {
    /// Names of headers as clients and backends of HTTP/1 are to get them, such as `Host,X-Forwarded-For`: in requests
    /// for backends of objects with `haproxy.router.openshift.io/h1-adjust-case: "true"`, and in all answers. Other names
    /// are in lower case. May repeat. Default: none.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = str::parse::<Spelling>,
        help_heading = "Traffic"
    )]
    pub header_case: Vec<Spelling>,

    /// Backends of HTTP/1 get the names of headers as their client spelled them, clients as their backend did; names
    /// that come by HTTP/2 and those that this gateway adds are in lower case. Costs some time with every message.
    #[arg(long, conflicts_with = "header_case", help_heading = "Traffic")]
    pub preserve_header_case: bool,
}

/// The name of a header in the configured spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelling {
    name: HeaderName,
    text: Box<str>,
}

impl Spelling {
    /// The name itself.
    pub(crate) fn name(&self) -> &HeaderName {
        &self.name
    }

    /// How it is spelled.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for Spelling {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| format!("{text:?} is not the name of a header"))?;
        Ok(Self { name, text: text.into() })
    }
}
