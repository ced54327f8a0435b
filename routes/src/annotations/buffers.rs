//! What annotations say of answers that wait here for their clients, part by part (`proxy-buffering` and its sizes).

use crate::policy::buffering::AnswerBuffering;

/// Size and number of buffers, and bytes in a file, where nothing is said of them, as ingress-nginx has them.
const SIZE: u64 = 4 * 1024;
const COUNT: u32 = 4;
const FILE: u64 = 1024 * 1024 * 1024;

/// One part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerBuffer {
    On(bool),
    /// Bytes of one buffer.
    Size(u64),
    Count(u32),
    /// Bytes in a file at most.
    File(u64),
}

/// All parts of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AnswerBuffers {
    on: Option<bool>,
    size: Option<u64>,
    count: Option<u32>,
    file: Option<u64>,
}

impl AnswerBuffers {
    pub(super) fn set(&mut self, part: AnswerBuffer) {
        match part {
            AnswerBuffer::On(on) => self.on = Some(on),
            AnswerBuffer::Size(bytes) => self.size = Some(bytes),
            AnswerBuffer::Count(count) => self.count = Some(count),
            AnswerBuffer::File(bytes) => self.file = Some(bytes),
        }
    }

    /// How answers wait, if anything is said of whether they do.
    pub(super) fn buffering(&self) -> Option<AnswerBuffering> {
        let (size, count) = (self.size.unwrap_or(SIZE), self.count.unwrap_or(COUNT));
        Some(AnswerBuffering {
            on: self.on?,
            memory: size.saturating_mul(u64::from(count)),
            file: self.file.unwrap_or(FILE),
        })
    }
}
