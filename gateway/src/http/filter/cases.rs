//! Answers to requests that meet a condition of a snippet.

use std::ops::ControlFlow;

use gatehouse_routes::filter::cases::{Answer, Case};

use super::{FilterRequest, Outcome, redirect};
use crate::http::{error::ProxyErrorKind, respond};

pub(super) fn on_request(cases: &[Case], request: &FilterRequest<'_>) -> Outcome {
    match Case::answer(cases, &request.view(), || request.client()) {
        None => Ok(ControlFlow::Continue(())),
        Some(Answer::Redirect(to)) => {
            let answer = redirect::answer(to, request.scheme, request.head, request.parts)?;
            Ok(ControlFlow::Break(answer.into()))
        }
        Some(Answer::Rewritten(rewritten)) => {
            let message = (request.method, request.uri, request.headers);
            let url = rewritten.target(&request.view(), |variable, out| {
                redirect::value(variable, request.scheme, request.head, message, out);
            });
            Ok(ControlFlow::Break(redirect::to(rewritten.status, url)?.into()))
        }
        Some(Answer::Refuse(403)) => Err(ProxyErrorKind::ClientBlocked),
        Some(Answer::Refuse(status)) => Ok(ControlFlow::Break(respond::text(*status, "").into())),
    }
}
