//! Flags about bodies: how fast those of requests have to come, and where bodies wait: of requests that are read in whole, of
//! answers that are taken ahead of their clients.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How fast they come, where they wait, and how much room they have.
#[derive(Clone, Debug, clap::Args)]
pub struct BodySettings {
    /// Seconds that a client may fall behind --body-rate with the body of its request, which is the longest
    /// pause that it may make; then it gets 408.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = super::seconds, help_heading = "Traffic")]
    pub body_timeout: Duration,

    /// Bytes per second that a client has to send of the body of its request, on average; 0 means that any byte
    /// ends a pause.
    #[arg(long, value_name = "BYTES", default_value_t = 240, help_heading = "Traffic")]
    pub body_rate: u32,

    /// Folder for the files, which have no names, of bodies that are read in whole (`proxy-request-buffering`) or wait for
    /// a slow client (`proxy-buffering`) and do not fit into memory. Default: --state-dir, or that of the system for temporary files.
    #[arg(long, value_name = "FOLDER", help_heading = "Traffic")]
    pub body_dir: Option<PathBuf>,

    /// Bytes of memory that all such bodies may take, such as `64m`; what is beyond goes to files.
    #[arg(long, value_name = "SIZE", default_value = "64m", value_parser = size, help_heading = "Traffic")]
    pub body_memory: u64,

    /// Bytes that their files may take, such as `4g`; a request that would need more gets 503, an answer waits in its
    /// backend.
    #[arg(long, value_name = "SIZE", default_value = "4g", value_parser = size, help_heading = "Traffic")]
    pub body_disk: u64,
}

impl BodySettings {
    /// The folder of the files, where the state of the process is in this one.
    pub(crate) fn folder(&self, state_dir: Option<&Path>) -> PathBuf {
        let named = self.body_dir.as_deref().or(state_dir);
        named.map_or_else(std::env::temp_dir, Path::to_owned)
    }
}

/// A number of bytes, with `k`, `m` or `g` behind it for KiB, MiB and GiB.
pub(super) fn size(value: &str) -> Result<u64, String> {
    let (digits, shift) = match value.as_bytes().last().map(u8::to_ascii_lowercase) {
        Some(b'k') => (&value[..value.len() - 1], 10),
        Some(b'm') => (&value[..value.len() - 1], 20),
        Some(b'g') => (&value[..value.len() - 1], 30),
        _ => (value, 0),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.ok_or_else(|| "not a size: write bytes, or a number with k, m or g".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_unit_that_it_names() {
        for (text, bytes) in [("0", 0), ("17", 17), ("2k", 2048), ("3M", 3 << 20), ("4g", 4 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1t", "1.5m", "99999999999g", "1é"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
