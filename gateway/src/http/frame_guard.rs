//! HTTP/2 frames that cost us without asking for anything, and when a client has sent too many of them.
//!
//! A streaming scanner over both directions, fed by [`super::io::ClientIo`], which ends the connection once
//! the allowance is used up.

use crate::upstream::frames::{Allowance, DATA, Frames, HEADERS, PER_REQUEST, PREFACE, is_hollow};

/// Streams that a client may reset at once; each answer that it takes to the end earns it one more.
const RESET_BURST: u64 = 100;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Token bucket over the frames of a client that carry no request (P21).
#[derive(Debug)]
pub(crate) struct FrameGuard {
    inbound: Frames,
    outbound: Frames,
    idle: Allowance,
    resets: u64,
    refilled_at: u64,
    /// Requests whose end the client has not told.
    unended: u64,
    header_block_open: bool,
}

impl FrameGuard {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            inbound: Frames::after(PREFACE),
            outbound: Frames::default(),
            idle: Allowance::default(),
            resets: RESET_BURST,
            refilled_at: now_ms,
            unended: 0,
            header_block_open: false,
        }
    }

    /// Looks at bytes from the client; false once the allowance is used up.
    pub(crate) fn received(&mut self, bytes: &[u8], now_ms: u64) -> bool {
        let earned = Allowance::earned_in(now_ms.saturating_sub(self.refilled_at));
        if earned > 0 {
            self.idle.earn(earned);
            self.resets = (self.resets + earned / 10).min(RESET_BURST);
            self.refilled_at = now_ms;
        }
        let mut within = true;
        let Self { inbound, idle, resets, unended, header_block_open, .. } = self;
        inbound.feed(bytes, |kind, flags, length| match kind {
            DATA => {
                let ends = flags & END_STREAM != 0 && *unended > 0;
                *unended -= u64::from(ends);
                match length {
                    0 if ends => (),
                    _ if is_hollow(flags, length) => within &= idle.spend(),
                    _ => idle.move_bytes(length),
                }
            }
            HEADERS => {
                *unended += u64::from(flags & END_STREAM == 0);
                *header_block_open = flags & END_HEADERS == 0;
                idle.earn(PER_REQUEST);
            }
            RST_STREAM => within &= spend(resets),
            kind => {
                if kind == CONTINUATION {
                    *header_block_open = flags & END_HEADERS == 0;
                }
                within &= idle.spend();
            }
        });
        within
    }

    /// Looks at bytes to the client.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        let Self { outbound, idle, resets, .. } = self;
        outbound.feed(bytes, |kind, flags, length| {
            if kind == DATA && length > 0 {
                // Clients of gRPC measure the way with each message, however small.
                idle.earn(1);
                idle.move_bytes(length);
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                *resets = (*resets + 1).min(RESET_BURST);
            }
        });
    }

    /// True while a header block waits for its CONTINUATION.
    pub(crate) fn header_block_open(&self) -> bool {
        self.header_block_open
    }

    /// True if a frame of our own may be put on the wire now.
    pub(crate) fn may_interject(&self) -> bool {
        self.outbound.at_boundary()
    }
}

fn spend(budget: &mut u64) -> bool {
    let left = budget.checked_sub(1);
    *budget = left.unwrap_or(0);
    left.is_some()
}

/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 §6.8, §7), last stream 0.
pub(crate) const GOAWAY_CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::frames::{BURST, BYTES_PER_FRAME};

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(9 + payload, 0);
        bytes
    }

    fn guard() -> FrameGuard {
        let mut guard = FrameGuard::new(0);
        assert!(guard.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0));
        guard
    }

    #[test]
    fn every_kind_of_idle_frame_ends_the_connection_within_the_burst() {
        for (kind, flags, payload) in [
            (6, 0, 8),
            (4, 0, 0),
            (2, 0, 5),
            (8, 0, 4),
            (99, 0, 1),
            (0, 0, 0),
            // Nothing but padding.
            (0, 8, 1),
        ] {
            let mut guard = guard();
            let sent =
                (0..5_000).take_while(|_| guard.received(&frame(kind, flags, payload), 0)).count();
            assert_eq!(sent, BURST as usize, "frame type {kind} of {payload}");
        }
    }

    #[test]
    fn the_end_of_a_body_is_told_for_nothing_once_for_each_request_that_has_one() {
        let end = frame(DATA, END_STREAM, 0);
        let mut guard = guard();
        for _ in 0..5_000 {
            assert!(guard.received(&frame(HEADERS, END_HEADERS, 20), 0));
            assert!(guard.received(&end, 0));
        }
        assert!(guard.received(&frame(HEADERS, END_HEADERS | END_STREAM, 20), 0));
        let sent = (0..5_000).take_while(|_| guard.received(&end, 0)).count();
        assert_eq!(sent, BURST as usize, "of streams that are closed or never were");
    }

    #[test]
    fn rapid_reset_ends_the_connection_and_a_client_that_takes_answers_may_cancel_some() {
        let request =
            [frame(HEADERS, END_HEADERS | END_STREAM, 20), frame(RST_STREAM, 0, 4)].concat();
        let mut rapid = guard();
        assert_eq!((0..5_000).take_while(|_| rapid.received(&request, 0)).count(), 100);
        let mut polite = guard();
        for _ in 0..5_000 {
            polite.sent(&frame(DATA, END_STREAM, 10));
            assert!(polite.received(&request, 0));
        }
    }

    #[test]
    fn a_download_earns_its_window_updates() {
        let mut guard = guard();
        for _ in 0..50_000 {
            guard.sent(&frame(DATA, 0, 4096));
            assert!(guard.received(&frame(8, 0, 4), 0));
            assert!(guard.received(&frame(8, 0, 4), 0));
        }
    }

    #[test]
    fn a_client_may_measure_the_way_with_each_small_message() {
        let mut measuring = guard();
        for _ in 0..50_000 {
            measuring.sent(&frame(DATA, 0, 20));
            assert!(measuring.received(&frame(6, 0, 8), 0));
        }
        let mut more = guard();
        let passed = |guard: &mut FrameGuard| {
            guard.sent(&frame(DATA, 0, 20));
            guard.received(&frame(6, 0, 8).repeat(3), 0)
        };
        assert!((0..5_000).take_while(|_| passed(&mut more)).count() < 600);
    }

    #[test]
    fn frames_are_found_whatever_the_segmentation() {
        let mut stream = Vec::new();
        for _ in 0..100 {
            stream.extend(frame(6, 0, 8));
            stream.extend(frame(DATA, 0, 100));
            stream.extend(frame(4, 0, 33));
        }
        for piece in [1, 2, 9, 10, 743, 5_000, stream.len()] {
            let mut guard = guard();
            for part in stream.chunks(piece) {
                assert!(guard.received(part, 0));
            }
            let earned = (100 * 100) as u64 / BYTES_PER_FRAME;
            assert_eq!(guard.idle.left(), BURST - 200 + earned, "by {piece}");
        }
    }

    #[test]
    fn an_open_header_block_is_known_as_such() {
        let mut guard = guard();
        guard.received(&frame(HEADERS, 0, 3), 0);
        assert!(guard.header_block_open());
        guard.received(&frame(CONTINUATION, END_HEADERS, 3), 0);
        assert!(!guard.header_block_open());
    }
}
