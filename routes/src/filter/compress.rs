//! Which answers are compressed, and how.

use http::HeaderValue;

/// What an object wants compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// The best liked first.
    pub codings: Box<[Coding]>,
    /// Media types, in lower case; `type/*` is all of a kind.
    pub types: Box<[Box<str>]>,
    /// Answers that say to be shorter pass as they are.
    pub minimum: u64,
    /// How hard is tried.
    pub levels: Levels,
}

/// How hard is tried to make answers short, by coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// As zlib counts them, 1 to 9.
    pub gzip: u8,
    /// 0 to 11.
    pub brotli: u8,
}

impl Default for Levels {
    /// Those of ingress-nginx.
    fn default() -> Self {
        Self { gzip: 1, brotli: 4 }
    }
}

/// A content coding (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its name in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

impl Compress {
    /// The coding that a client takes which accepts this; of those that it likes as much, the object's favourite.
    pub fn coding<'v>(&self, accepts: impl Iterator<Item = &'v HeaderValue>) -> Option<Coding> {
        let texts: Vec<&str> = accepts.filter_map(|value| value.to_str().ok()).collect();
        let mut best: Option<(Coding, u16)> = None;
        for coding in &self.codings {
            let quality = liking(&texts, coding.name());
            if quality > best.map_or(0, |(_, quality)| quality) {
                best = Some((*coding, quality));
            }
        }
        best.map(|(coding, _)| coding)
    }

    /// Whether answers of a media type are meant.
    pub fn takes(&self, content_type: &str) -> bool {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        self.types.iter().any(|known| match known.strip_suffix('*') {
            Some("*/") => true,
            Some(kind) => media.get(..kind.len()).is_some_and(|it| it.eq_ignore_ascii_case(kind)),
            None => media.eq_ignore_ascii_case(known),
        })
    }
}

/// How much a client wants a coding, in thousandths (RFC 9110 §12.5.3).
fn liking(accepts: &[&str], name: &str) -> u16 {
    let mut any = 0;
    for entry in accepts.iter().flat_map(|text| text.split(',')) {
        let mut parts = entry.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let quality =
            parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = quality.unwrap_or("1").parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0);
        let quality = (quality * 1000.0) as u16;
        if coding.eq_ignore_ascii_case(name) {
            return quality;
        }
        if coding == "*" {
            any = quality;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_says_which_coding_and_the_object_which_of_equals() {
        let compress = Compress {
            codings: Coding::ALL.into(),
            types: Box::default(),
            minimum: 0,
            levels: Levels::default(),
        };
        for (accepts, coding) in [
            ("gzip, deflate, br, zstd", Some(Coding::Brotli)),
            ("gzip;q=1, br;q=0.5", Some(Coding::Gzip)),
            ("GZIP", Some(Coding::Gzip)),
            ("*", Some(Coding::Brotli)),
            ("*;q=0.5, br;q=0", Some(Coding::Zstd)),
            ("gzip, zstd", Some(Coding::Zstd)),
            ("gzip, zstd;q=0.9", Some(Coding::Gzip)),
            ("identity, gzip;q=0", None),
            ("gzip;q=none", None),
            ("deflate", None),
            ("", None),
        ] {
            let value = HeaderValue::from_static(accepts);
            assert_eq!(compress.coding([&value].into_iter()), coding, "{accepts}");
        }
    }

    #[test]
    fn types_are_compared_without_parameters_and_case() {
        let types = ["text/*", "application/json"].map(Box::from).into();
        let compress =
            Compress { codings: Box::default(), types, minimum: 0, levels: Levels::default() };
        for (media, takes) in [
            ("text/html; charset=utf-8", true),
            ("Text/CSS", true),
            ("application/json", true),
            ("application/json-patch", false),
            ("image/png", false),
            ("tex", false),
            ("", false),
        ] {
            assert_eq!(compress.takes(media), takes, "{media}");
        }
    }
}
