//! Which requests are sent a second time by themselves: reads that failed for the moment.
//!
//! A watch is none of them: a watcher goes on from where it was.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header::RETRY_AFTER};
use kube::client::Body;
use tokio::time::{Sleep, sleep};
use tower::{BoxError, retry::Policy};

use super::requests::is_watch;

/// Times that a read is sent again.
const AGAIN: u32 = 3;
/// First pause; it doubles each time.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause that the API server may ask for.
const LONGEST: Duration = Duration::from_secs(10);

/// The policy, and how far one request has come with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    sent_again: u32,
}

impl<B> Policy<Request<Body>, Response<B>, BoxError> for Reads {
    type Future = Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut Result<Response<B>, BoxError>,
    ) -> Option<Sleep> {
        let asked = match result {
            Ok(response) if is_passing(response.status()) => asked_pause(response),
            Ok(_) => return None,
            Err(_) => None,
        };
        if self.sent_again >= AGAIN || !is_read(request) {
            return None;
        }
        let pause = asked.unwrap_or_else(|| PAUSE * 2u32.pow(self.sent_again)).min(LONGEST);
        self.sent_again += 1;
        // Nodes that failed together do not come back together.
        Some(sleep(pause.mul_f64(1.0 + fastrand::f64())))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        if !is_read(request) {
            return None;
        }
        let mut copy = Request::new(Body::empty());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        copy.headers_mut().clone_from(request.headers());
        copy.extensions_mut().clone_from(request.extensions());
        Some(copy)
    }
}

fn is_read<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET && !is_watch(request)
}

fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

fn asked_pause<B>(response: &Response<B>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, uri: &str) -> Request<Body> {
        Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn reads_that_failed_for_the_moment_are_sent_again_a_few_times() {
        let answer = |code: u16| {
            Ok(Response::builder().status(code).body(()).unwrap()) as Result<_, BoxError>
        };
        let failed = || Err(BoxError::from("connection refused"));
        let mut read = request(Method::GET, "/api/v1/secrets/a?");
        for (mut result, again) in
            [(answer(200), 0), (answer(403), 0), (answer(429), 3), (answer(503), 3), (failed(), 3)]
        {
            let mut policy = Reads::default();
            let times = (0..9).filter(|_| policy.retry(&mut read, &mut result).is_some()).count();
            assert_eq!(times, again, "{result:?}");
        }
        for mut other in [
            request(Method::POST, "/api/v1/events"),
            request(Method::GET, "/api/v1/nodes?&watch=true"),
        ] {
            let mut policy = Reads::default();
            assert!(policy.retry(&mut other, &mut failed()).is_none());
            assert!(Policy::<_, Response<()>, _>::clone_request(&mut policy, &other).is_none());
        }
    }

    #[test]
    fn the_api_server_may_ask_for_a_longer_pause() {
        let response = Response::builder().header("retry-after", "7").body(()).unwrap();
        assert_eq!(asked_pause(&response), Some(Duration::from_secs(7)));
        assert_eq!(asked_pause(&Response::new(())), None);
    }
}
