//! Values about copies of requests.

use std::sync::Arc;

use http::HeaderValue;

use super::{
    Fault, Parser, Setting,
    authentication::{authority, template},
};
use crate::filter::mirror::{MirrorTarget, Share};

/// What an annotation about copies asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MirrorSetting {
    /// They are sent there.
    To(Box<MirrorUrl>),
    /// With this `Host`.
    Host(HeaderValue),
    /// With the body of their requests.
    Body(bool),
    /// There is one of so many requests.
    Share(Share),
}

/// Where copies are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MirrorUrl {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    /// TLS is spoken there.
    pub(crate) secure: bool,
    pub(crate) target: MirrorTarget,
}

pub(in crate::annotations) const MIRROR_TARGET: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => url(value).map(|url| Setting::Mirror(MirrorSetting::To(Box::new(url)))),
    },
    nothing: &[],
};
pub(in crate::annotations) const MIRROR_HOST: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => {
            let field = authority(value, false).map(|(_, _, field)| field);
            field.map(|host| Setting::Mirror(MirrorSetting::Host(host))).ok_or_else(|| {
                Fault::new(
                    "InvalidAnnotation",
                    "is not a host",
                    "write a name such as test.example.com",
                )
            })
        }
    },
    nothing: &[],
};
/// As ingress-nginx reads it: anything but `off` is on.
pub(in crate::annotations) const MIRROR_BODY: Parser = Parser {
    read: |value| {
        Ok(Setting::Mirror(MirrorSetting::Body(!value.trim().eq_ignore_ascii_case("off"))))
    },
    nothing: &[],
};
/// A percentage, with two digits behind its point at most.
pub(in crate::annotations) const MIRROR_PERCENT: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => percent(value)
            .map(|share| Setting::Mirror(MirrorSetting::Share(share)))
            .ok_or_else(|| {
                let message = "is not a percentage from 0 to 100";
                Fault::new("InvalidAnnotation", message, "write a number such as 10 or 0.5")
            }),
    },
    nothing: &[],
};

fn percent(value: &str) -> Option<Share> {
    let value = value.strip_suffix('%').unwrap_or(value);
    let (whole, parts) = value.split_once('.').unwrap_or((value, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(parts) || parts.len() > 2 {
        return None;
    }
    let scale = if parts.len() == 1 { 10 } else { 1 };
    let of = whole.parse::<u32>().ok()?.checked_mul(100)? + parts.parse::<u32>().ok()? * scale;
    (of <= 10_000).then_some(Share { of, out_of: 10_000 })
}

fn url(value: &str) -> Result<MirrorUrl, Fault> {
    let fault = |message: &str| {
        let hint = "write a URL such as http://mirror.default.svc.cluster.local:8080, or \
                    https://test.example.com$request_uri";
        Fault::new("InvalidAnnotation", message, hint)
    };
    let (secure, rest) = match (value.strip_prefix("https://"), value.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(fault("does not begin with http:// or https://")),
    };
    let (named, path) = rest.split_at(rest.find(['/', '?', '$']).unwrap_or(rest.len()));
    let (host, port, _) = authority(named, secure).ok_or_else(|| fault("does not name a host"))?;
    let read = |path: &str| {
        template(path)
            .ok_or_else(|| fault("has a path that cannot be sent, or a variable that is not known"))
    };
    let target = match path {
        "" => MirrorTarget::Same,
        path if path.contains('$') => MirrorTarget::Filled(read(path)?),
        path if path.starts_with('/') => MirrorTarget::Path(read(path)?),
        query => MirrorTarget::Path(read(&format!("/{query}"))?),
    };
    Ok(MirrorUrl { host, port, secure, target })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    #[test]
    fn a_target_is_a_url_whose_path_may_hold_variables() {
        let read = |value: &str| {
            let MirrorUrl { host, port, secure, target } =
                url(value).map_err(|fault| fault.message)?;
            let text = |template: Template| template.text().to_owned();
            Ok::<_, String>((
                format!("{host} {port} {secure}"),
                match target {
                    MirrorTarget::Same => "same".to_owned(),
                    MirrorTarget::Path(path) => format!("path {}", text(path)),
                    MirrorTarget::Filled(path) => format!("filled {}", text(path)),
                },
            ))
        };
        for (value, host, target) in [
            ("http://mirror.test", "mirror.test 80 false", "same"),
            ("https://test.env.com/$request_uri", "test.env.com 443 true", "filled /$request_uri"),
            ("https://test.env.com$request_uri", "test.env.com 443 true", "filled $request_uri"),
            ("http://10.0.0.1:8080/a", "10.0.0.1 8080 false", "path /a"),
            ("http://[::1]:8080/a?b=c", "::1 8080 false", "path /a?b=c"),
            ("http://m.test?b=c", "m.test 80 false", "path /?b=c"),
        ] {
            assert_eq!(read(value), Ok((host.to_owned(), target.to_owned())), "{value}");
        }
        for value in [
            "mirror.test",
            "//mirror.test",
            "http://",
            "http:///x",
            "http://$host/x",
            "$scheme://m.test",
            "http://a b/",
            "http://m.test/$arg_x",
            "http://m.test/ x",
            "http://m.test/\"; x",
            "http://m.test:0/",
        ] {
            assert!(read(value).is_err(), "{value}: {:?}", read(value));
        }
    }

    #[test]
    fn a_percentage_has_two_digits_behind_its_point_at_most() {
        let read = |value| percent(value).map(|share| share.of);
        for (value, of) in [("0", 0), ("10", 1_000), ("0.5", 50), ("0.25", 25), ("100%", 10_000)] {
            assert_eq!(read(value), Some(of), "{value}");
        }
        for value in ["", "101", "100.01", "1.234", "-1", "ten", "1.", ".5", "4294967297"] {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
