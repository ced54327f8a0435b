//! How fast an answer leaves: `limit-rate` and `limit-rate-after`.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gatehouse_routes::filter::Pace as Rate;
use tokio::time::{Instant, Sleep, sleep_until};

/// Longest that an answer is held back at once: short enough that it seems to flow.
const STEP: Duration = Duration::from_millis(100);

/// The pace of one answer.
pub(super) struct Pace {
    rate: Rate,
    began: Instant,
    sent: u64,
    /// What has come and may not leave yet.
    held: Bytes,
    sleep: Pin<Box<Sleep>>,
}

impl Pace {
    /// Begins now.
    pub(super) fn new(rate: Rate) -> Self {
        let began = Instant::now();
        Self { rate, began, sent: 0, held: Bytes::new(), sleep: Box::pin(sleep_until(began)) }
    }

    /// Whether something waits.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes in what has come; nothing else may wait.
    pub(super) fn take_in(&mut self, part: Bytes) {
        self.held = part;
    }

    /// What may leave now.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            let now = Instant::now();
            let may = allowance(self.rate, now.duration_since(self.began), self.sent);
            if may > 0 {
                let length = self.held.len().min(usize::try_from(may).unwrap_or(usize::MAX));
                self.sent += length as u64;
                return Poll::Ready(self.held.split_to(length));
            }
            self.sleep.as_mut().reset(now + STEP);
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// Bytes that may leave of an answer that has had so long and sent so much.
fn allowance(rate: Rate, elapsed: Duration, sent: u64) -> u64 {
    let earned = elapsed.as_millis() * u128::from(rate.bytes_per_second) / 1000;
    // What was free need not be earned, and a client that took nothing for a while has not saved up.
    let earned = u64::try_from(earned).unwrap_or(u64::MAX);
    rate.after.saturating_add(earned).saturating_sub(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_leaves_at_once_and_the_rest_at_its_rate() {
        let rate = Rate { bytes_per_second: 1000, after: 500 };
        for (millis, sent, may) in
            [(0, 0, 500), (0, 500, 0), (100, 500, 100), (1000, 500, 1000), (1000, 2000, 0)]
        {
            assert_eq!(allowance(rate, Duration::from_millis(millis), sent), may);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_as_long_as_its_rate_says() {
        let mut pace = Pace::new(Rate { bytes_per_second: 1000, after: 500 });
        let began = Instant::now();
        pace.take_in(Bytes::from(vec![b'x'; 3500]));
        let mut sent = 0;
        while pace.holds() {
            sent += std::future::poll_fn(|cx| pace.poll(cx)).await.len();
        }
        assert_eq!(sent, 3500);
        assert_eq!(began.elapsed().as_secs(), 3);
    }
}
