//! Annotations about copies of requests, put together.

use http::HeaderValue;

use super::{nginx, table::Found, value::MirrorSetting};
use crate::filter::mirror::Share;

pub(crate) use super::value::MirrorUrl;

/// What the annotations of an object ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MirrorSettings {
    /// Where copies are sent; `None`: nowhere.
    pub(crate) to: Option<Box<MirrorUrl>>,
    pub(crate) host: Option<HeaderValue>,
    pub(crate) body: bool,
    pub(crate) share: Share,
}

impl MirrorSettings {
    /// Path of the annotation that names the target within its object.
    pub(crate) fn field() -> String {
        Found { name: &format!("{}mirror-target", nginx::FAMILY.prefix), value: "" }.field()
    }

    pub(super) fn set(&mut self, setting: MirrorSetting) {
        match setting {
            MirrorSetting::To(url) => self.to = Some(url),
            MirrorSetting::Host(host) => self.host = Some(host),
            MirrorSetting::Body(on) => self.body = on,
            MirrorSetting::Share(share) => self.share = share,
        }
    }
}
