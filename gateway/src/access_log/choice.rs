//! Which requests are written: by status, and one of so many.

use std::str::FromStr;

/// Statuses, as `404`, `5xx` or `400-499`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses([u64; 10]);

impl Default for Statuses {
    fn default() -> Self {
        Self([u64::MAX; 10])
    }
}

impl FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self([0; 10]);
        for part in text.split(',').map(str::trim) {
            let (first, last) = range(part).ok_or_else(|| {
                format!("\"{part}\" is not a status (404), a class (5xx) or a range (400-499)")
            })?;
            for status in first..=last {
                all.0[usize::from(status) / 64] |= 1 << (status % 64);
            }
        }
        Ok(all)
    }
}

impl Statuses {
    /// A client that left before its answer counts as 499.
    pub(super) fn contain(&self, status: u16) -> bool {
        let status = usize::from(if status == 0 { 499 } else { status });
        self.0.get(status / 64).is_some_and(|word| word >> (status % 64) & 1 == 1)
    }
}

fn range(part: &str) -> Option<(u16, u16)> {
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|status| digits && (100..=599).contains(status))
    };
    if let Some(class) = part.strip_suffix("xx") {
        let first = status(&format!("{class}00"))?;
        return Some((first, first + 99));
    }
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (status(first.trim())?, status(last.trim())?);
    (first <= last).then_some((first, last))
}

/// The share of requests that is written, above 0, at most 1. Failures of ours and of backends are always.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(f64);

impl Default for Share {
    fn default() -> Self {
        Self(1.0)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(share) if share > 0.0 && share <= 1.0 => Ok(Self(share)),
            _ => Err(format!("\"{text}\" is not a share above 0 and at most 1, such as 0.1")),
        }
    }
}

/// Picks that share, evenly.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sampler {
    share: Share,
    due: f64,
}

impl Sampler {
    pub(super) fn new(share: Share) -> Self {
        Self { share, due: 0.0 }
    }

    /// Whether the next request is one of them.
    pub(super) fn takes(&mut self, status: u16) -> bool {
        if status >= 500 {
            return true;
        }
        self.due += self.share.0;
        let takes = self.due >= 1.0;
        self.due -= f64::from(u8::from(takes));
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_codes_classes_and_ranges() {
        let taken = |text: &str| {
            let statuses = text.parse::<Statuses>().unwrap();
            [0, 101, 200, 304, 400, 404, 499, 500, 599].map(|status| statuses.contain(status))
        };
        for (text, expected) in [
            ("5xx", [false, false, false, false, false, false, false, true, true]),
            ("404, 2xx", [false, false, true, false, false, true, false, false, false]),
            ("400-500", [true, false, false, false, true, true, true, true, false]),
            ("100-599", [true; 9]),
        ] {
            assert_eq!(taken(text), expected, "{text}");
        }
        for text in ["", "6xx", "99", "4x", "500-400", "404,", "+404", "ok"] {
            let error = text.parse::<Statuses>().unwrap_err();
            assert!(error.contains("is not a status"), "{text}: {error}");
        }
        assert!(Statuses::default().contain(200) && Statuses::default().contain(0));
    }

    #[test]
    fn a_share_is_taken_evenly_and_failures_always() {
        let mut sampler = Sampler::new("0.25".parse().unwrap());
        let taken: Vec<_> = (0..8).map(|_| sampler.takes(200)).collect();
        assert_eq!(taken, [false, false, false, true, false, false, false, true]);
        assert!((0..8).all(|_| sampler.takes(502)));
        assert!((0..8).all({
            let mut all = Sampler::default();
            move |_| all.takes(200)
        }));
        for text in ["0", "1.1", "-1", "NaN", "10%", ""] {
            assert!(text.parse::<Share>().unwrap_err().contains("is not a share"), "{text}");
        }
    }
}
