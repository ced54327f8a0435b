//! What an object says about the way to its backends, besides which they are: which of their endpoints, how long
//! they may take, how often another one is tried.
//!
//! The translations make one [`Policy`] for each object, which all rules of the object share. What an object
//! does not say is `None`: the process decides.

use std::sync::{Arc, LazyLock};

pub mod affinity;
pub mod balance;
pub mod buffering;
pub mod check;
pub mod ejection;
pub mod forwarded;
pub mod hash_by;
pub mod limits;
pub(crate) mod md5;
pub mod proxy_protocol;
pub mod retries;
pub mod timeouts;
pub mod upgrades;

use affinity::Affinity;
use balance::Balance;
use buffering::{AnswerBuffering, Buffering};
use check::Check;
use ejection::Ejection;
use forwarded::ForwardedFields;
use limits::Limits;
use proxy_protocol::ProxyProtocol;
use retries::Retries;
use timeouts::Timeouts;
use upgrades::Upgrades;

/// How requests are forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// How long what may take, if the object says anything of it.
    pub timeouts: Option<Timeouts>,
    /// What becomes of the fields that say where a request comes from; `None`: the process's rule.
    pub forwarded: Option<ForwardedFields>,
    /// Names of headers are spelled for the backends as the process lists them.
    pub header_case: bool,
    /// What connections may become on request.
    pub upgrades: Upgrades,
    /// When another endpoint is tried.
    pub retries: Retries,
    /// What connections that are passed on as they are begin with.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Which endpoint gets a request.
    pub balance: Balance,
    /// How clients are kept on one endpoint, if they are.
    pub affinity: Option<Affinity>,
    /// How much each endpoint has to do at one time, if that is bounded.
    pub limits: Option<Limits>,
    /// How endpoints are checked, if they are.
    pub check: Option<Arc<Check>>,
    /// Bodies of requests are read in whole before a backend gets them; `None`: they pass as they come.
    pub buffering: Option<Buffering>,
    /// Whether answers wait here for their clients; `None`: they pass as they come, whatever the backend says of it.
    pub answers: Option<AnswerBuffering>,
    /// When endpoints are ejected for their answers, if they are.
    pub ejection: Option<Ejection>,
}

static OF_THE_PROCESS: LazyLock<Arc<Policy>> = LazyLock::new(Arc::default);

impl Policy {
    /// Whether it is the request's to say which endpoint gets it.
    pub fn asks_requests(&self) -> bool {
        self.affinity.is_some() || self.balance.hash_key().is_some()
    }

    /// That of objects that say nothing.
    pub fn of_the_process() -> Arc<Self> {
        Arc::clone(&OF_THE_PROCESS)
    }

    /// The policy in an `Arc`; objects that say nothing share one.
    pub(crate) fn shared(self) -> Arc<Self> {
        if self == **OF_THE_PROCESS { Self::of_the_process() } else { Arc::new(self) }
    }
}
