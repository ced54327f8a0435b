//! When endpoints are ejected for their answers, as annotations say it part by part.

use std::{num::NonZeroU32, time::Duration};

use crate::policy::ejection::{Ejection, SuccessRate, TIME};

/// Where an object does not say more: the time of Envoy, and half of the endpoints.
const INTERVAL: Duration = Duration::from_secs(10);
const SHARE: u8 = 50;
const REQUESTS: NonZeroU32 = NonZeroU32::new(20).expect("it is not 0");

/// One annotation's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EjectionSetting {
    Errors(NonZeroU32),
    SuccessRate(u8),
    Interval(Duration),
    Requests(NonZeroU32),
    Time(Duration),
    Share(u8),
}

/// What all annotations of an object say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EjectionSettings {
    errors: Option<NonZeroU32>,
    percent: Option<u8>,
    interval: Option<Duration>,
    requests: Option<NonZeroU32>,
    time: Option<Duration>,
    share: Option<u8>,
}

impl EjectionSettings {
    pub(super) fn set(&mut self, setting: EjectionSetting) {
        match setting {
            EjectionSetting::Errors(count) => self.errors = Some(count),
            EjectionSetting::SuccessRate(percent) => self.percent = Some(percent),
            EjectionSetting::Interval(time) => self.interval = Some(time),
            EjectionSetting::Requests(count) => self.requests = Some(count),
            EjectionSetting::Time(time) => self.time = Some(time),
            EjectionSetting::Share(percent) => self.share = Some(percent),
        }
    }

    /// What they come to, if they ask for anything.
    pub(super) fn ejection(&self) -> Option<Ejection> {
        let success = self.percent.map(|percent| SuccessRate {
            percent,
            interval: self.interval.unwrap_or(INTERVAL),
            requests: self.requests.unwrap_or(REQUESTS),
        });
        (self.errors.is_some() || success.is_some()).then(|| Ejection {
            errors: self.errors,
            success,
            time: self.time.unwrap_or(TIME),
            share: self.share.unwrap_or(SHARE),
        })
    }
}
